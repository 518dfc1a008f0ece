//! What runs in a unit ends, and the link is as it was before the first deployment.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backout_core::ports::{AdapterError, Receipt, StepCx};

use super::Side;
use super::files::{LinkAfter, Turn};
use super::note::Note;
use crate::systemd::{Ended, Fault, Verb};

/// Connections that may be lost in the middle of one stop.
const TRIES: u32 = 3;
/// After which a unit is gone once everything in it was killed.
const KILLED: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

impl Side {
    pub(super) async fn stop(&self, cx: &StepCx) -> Result<Receipt, AdapterError> {
        let limit = Duration::from_millis(self.spec.timeout_ms).min(cx.timeout);
        let until = Instant::now() + limit;
        let nothing = || Receipt { message: "nothing ran".to_owned(), ..Receipt::default() };
        let turn = Turn::of(&self.unit, cx);
        let state = self.patient_state().await?;
        if self.note().await?.is_none() {
            // Without a note only what is behind this very link can be meant.
            if state.is_down() || !self.names_link(&state).await? {
                return Ok(nothing());
            }
            if self.host.is_some() {
                let _held = self.files.enter(&self.place, &turn, limit / 2).await?;
            }
            self.end(until).await?;
            let message = format!("{} ended", self.place.name);
            return Ok(Receipt { message, ..Receipt::default() });
        }
        let _held = self.files.enter(&self.place, &turn, limit / 2).await?;
        let found = self.found(0).await?;
        let Some(note) = found.note else { return Ok(nothing()) };
        if let Some(other) = self.other_owner(&note) {
            return Err(AdapterError::permanent(format!("failed to stop {}: {other}", self.unit)));
        }
        // Whoever had the turn before may have begun a start that the manager goes on with.
        let state = self.patient_state().await?;
        let ran = !state.is_down() || state.job != 0;
        if ran {
            self.end(until).await?;
        }
        // Nobody waits for it any more: a failure of before would only alarm people.
        let _ = self.manager.forget_failures(&self.place.name).await;
        let leads = self.leave(&note, found.link?, &turn).await?;
        let ended = if ran { "ended" } else { "did not run" };
        Ok(Receipt {
            message: format!("{} {ended}; {leads}", self.place.name),
            ..Receipt::default()
        })
    }

    /// Ends the unit. How long it may take to end by itself its own `TimeoutStopSec=` says.
    async fn end(&self, until: Instant) -> Result<(), AdapterError> {
        let name = &self.place.name;
        let fault = |fault: Fault| self.manager.unsure(&format!("stop {name}"), &fault);
        let job = async |until: Instant| {
            let ends = self.manager.listen().await?;
            self.manager.job(Verb::Stop, name, until, ends, |_| false).await
        };
        for again in 1.. {
            match job(until).await {
                Ok(Ended::As(_) | Ended::Enough) => {}
                Ok(Ended::Late) => {
                    self.manager.kill(name, SIGKILL).await.map_err(fault)?;
                    let later = Instant::now() + KILLED;
                    job(later).await.map_err(fault)?;
                }
                Err(Fault::Lost(_) | Fault::Away(_)) if again < TRIES => {}
                Err(other) => return Err(fault(other)),
            }
            let state = self.manager.state_patiently(name).await.map_err(fault)?;
            if state.is_down() {
                return Ok(());
            }
            if again >= TRIES {
                return Err(AdapterError::unknown(format!(
                    "failed to stop {name}: {}",
                    state.words()
                )));
            }
        }
        unreachable!("the last try returns")
    }

    /// Puts back what was there before, and forgets the rest.
    async fn leave(
        &self,
        note: &Note,
        leads: Option<PathBuf>,
        turn: &Turn,
    ) -> Result<String, AdapterError> {
        let shown = self.place.link.display();
        let (after, words) = match &note.before {
            // Somebody has moved it since: theirs.
            _ if leads.as_ref() != Some(&note.folder) => {
                (LinkAfter::Stays, format!("`{shown}` stays as it is"))
            }
            Some(before) => (
                LinkAfter::Back(before.clone()),
                format!("`{shown}` leads to `{}` again", before.display()),
            ),
            None => (LinkAfter::Removed, format!("`{shown}` is removed")),
        };
        self.files.leave(&self.place, &after, turn).await?;
        Ok(words)
    }
}
