//! What runs in a unit ends, and the link is as it was before the first deployment.

use std::time::{Duration, Instant};

use backout_core::ports::{AdapterError, Receipt, StepCx};

use super::note::Note;
use super::place::writing;
use super::start::no_link;
use super::{Side, link};
use crate::host::{remove_file_if_there, sync_dir};
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
        let doing = format!("ask for {}", self.place.name);
        let state = self.manager.state_patiently(&self.place.name).await;
        let state = state.map_err(|fault| self.manager.unreachable(&doing, &fault))?;
        if self.note()?.is_none() {
            // Without a note only what is behind this very link can be meant.
            if state.is_down() || !self.names_link(&state) {
                return Ok(nothing());
            }
            self.end(until).await?;
            let message = format!("{} ended", self.place.name);
            return Ok(Receipt { message, ..Receipt::default() });
        }
        let _lock = self.place.enter(limit / 2).await?;
        let Some(note) = self.note()? else { return Ok(nothing()) };
        if let Some(other) = self.other_owner(&note) {
            return Err(AdapterError::permanent(format!("failed to stop {}: {other}", self.unit)));
        }
        let ran = !state.is_down();
        if ran {
            self.end(until).await?;
        }
        // Nobody waits for it any more: a failure of before would only alarm people.
        let _ = self.manager.forget_failures(&self.place.name).await;
        let leads = self.leave(&note)?;
        let ended = if ran { "ended" } else { "did not run" };
        Ok(Receipt {
            message: format!("{} {ended}; {leads}", self.place.name),
            ..Receipt::default()
        })
    }

    /// Ends the unit. How long it may take to end by itself its own `TimeoutStopSec=` says.
    async fn end(&self, until: Instant) -> Result<(), AdapterError> {
        let name = &self.place.name;
        let fault =
            |fault: Fault| fault.while_changing(&format!("stop {name}"), self.manager.bus());
        for again in 1.. {
            match self.manager.job(Verb::Stop, name, until, |_| false).await {
                Ok(Ended::As(_) | Ended::Enough) => {}
                Ok(Ended::Late) => {
                    self.manager.kill(name, SIGKILL).await.map_err(fault)?;
                    let later = Instant::now() + KILLED;
                    self.manager.job(Verb::Stop, name, later, |_| false).await.map_err(fault)?;
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
    fn leave(&self, note: &Note) -> Result<String, AdapterError> {
        let place = &self.place;
        let shown = place.link.display();
        let leads = link::target(&place.link).map_err(|e| no_link(&e))?;
        let words = match &note.before {
            // Somebody has moved it since: theirs.
            _ if leads.as_ref() != Some(&note.folder) => format!("`{shown}` stays as it is"),
            Some(before) => {
                link::switch(&place.link, before).map_err(|e| writing(&e))?;
                format!("`{shown}` leads to `{}` again", before.display())
            }
            None => {
                link::remove_link(&place.link)
                    .and_then(|()| sync_dir(place.parent()))
                    .map_err(|e| writing(&e))?;
                format!("`{shown}` is removed")
            }
        };
        remove_file_if_there(&place.variables).map_err(|e| writing(&e))?;
        self.remove_note()?;
        Ok(words)
    }
}
