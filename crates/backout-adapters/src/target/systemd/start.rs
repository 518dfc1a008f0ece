//! A release starts in a unit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::model::{PortSpec, Release};
use backout_core::ports::{AdapterError, Receipt, StepCx};
use jiff::Timestamp;

use super::note::Note;
use super::place::writing;
use super::{Side, link};
use crate::host::{free_port, write_atomic};
use crate::systemd::{Ended, Fault, UnitState, Verb};

/// Connections that may be lost in the middle of one start.
const TRIES: u32 = 3;
const POLL: Duration = Duration::from_millis(100);

impl Side {
    pub(super) async fn start(
        &self,
        release: &Arc<Release>,
        deployment: u64,
        restore: bool,
        cx: &StepCx,
    ) -> Result<Receipt, AdapterError> {
        let limit = Duration::from_millis(self.spec.timeout_ms).min(cx.timeout);
        let until = Instant::now() + limit;
        self.usable_state().await?;
        std::fs::create_dir_all(self.place.parent()).map_err(|e| writing(&e))?;
        let _lock = self.place.enter(limit / 2).await?;
        // Whoever held the lock before may have changed it.
        let state = self.usable_state().await?;
        let before = self.note()?;
        if let Some(other) = before.as_ref().and_then(|note| self.other_owner(note)) {
            return Err(AdapterError::permanent(format!("failed to start {}: {other}", self.unit)));
        }
        let leads = link::target(&self.place.link).map_err(|e| no_link(&e))?;
        let wanted = Note {
            format: Note::FORMAT,
            of: self.unit.clone(),
            ledger: self.options.ledger.clone(),
            unit: self.place.name.clone(),
            release: release.runs_as(&self.unit.service).clone(),
            version: release.content.version_of(&self.unit.service).clone(),
            deployment,
            folder: PathBuf::new(),
            port: None,
            since: Timestamp::now(),
            finished: false,
            before: before.as_ref().map_or_else(|| leads.clone(), |note| note.before.clone()),
        };
        let same = before
            .as_ref()
            .filter(|note| note.release == wanted.release && note.deployment == wanted.deployment);
        if same.is_some_and(|note| runs(note, &state, leads.as_deref())) {
            let message = format!("{} runs {} already", self.place.name, wanted.version);
            return Ok(Receipt { message, ..Receipt::default() });
        }
        let held = before.as_ref().filter(|note| restore && note.release == wanted.release);
        if let Some(held) = held.filter(|note| runs(note, &state, leads.as_deref())) {
            return self.take_over(Note { folder: held.folder.clone(), port: held.port, ..wanted });
        }
        let occupied = before.as_ref().is_none_or(|note| note.release != wanted.release);
        if self.options.beside && occupied && !state.is_down() {
            return Err(AdapterError::permanent(format!(
                "failed to start {}: another release runs in {}",
                self.unit, self.place.name
            )));
        }
        let folder = self.lay_out(release).await?;
        let port = self.port(same)?;
        let note = Note { folder, port, ..wanted };
        self.point(&note, leads.as_deref())?;
        let warnings = self.read_again(&state).await?;
        let ended = self.restart(&state, until).await?;
        self.write_note(&Note { finished: true, ..note.clone() })?;
        self.verdict(&note, ended, warnings).await
    }

    /// Going back to what was never stopped: it is noted for whom it runs now, and nobody meets a restart.
    fn take_over(&self, note: Note) -> Result<Receipt, AdapterError> {
        let message = format!("{} was never stopped: it runs {}", self.place.name, note.version);
        self.write_note(&Note { finished: true, ..note })?;
        Ok(Receipt { message, ..Receipt::default() })
    }

    /// The same one for a start that comes again: the program may hold it.
    fn port(&self, same: Option<&Note>) -> Result<Option<u16>, AdapterError> {
        match self.spec.port {
            None => Ok(None),
            Some(PortSpec::Fixed(port)) => Ok(Some(port)),
            Some(PortSpec::Auto) => match same.and_then(|note| note.port) {
                Some(port) => Ok(Some(port)),
                None => {
                    let other = self.in_slot(self.unit.slot.other()).note().ok().flatten();
                    let taken: Vec<u16> = other.into_iter().filter_map(|note| note.port).collect();
                    free_port(&taken).map(Some).map_err(AdapterError::transient)
                }
            },
        }
    }

    /// Notes what is begun, hands the unit its variables, and lets the link lead to the release.
    fn point(&self, note: &Note, leads: Option<&Path>) -> Result<(), AdapterError> {
        self.write_note(note)?;
        write_atomic(&self.place.variables, self.variables(note).as_bytes(), 0o644)
            .map_err(|e| writing(&e))?;
        if leads != Some(note.folder.as_path()) {
            link::switch(&self.place.link, &note.folder).map_err(|e| no_link(&e))?;
        }
        Ok(())
    }

    fn variables(&self, note: &Note) -> String {
        let mut all = vec![
            ("BACKOUT_APP", self.unit.key.app.to_string()),
            ("BACKOUT_ENVIRONMENT", self.unit.key.environment.to_string()),
            ("BACKOUT_SERVICE", self.unit.service.to_string()),
            ("BACKOUT_VERSION", note.version.to_string()),
            ("BACKOUT_RELEASE", note.release.to_string()),
            ("BACKOUT_SLOT", self.unit.slot.to_string()),
            ("BACKOUT_DEPLOYMENT", note.deployment.to_string()),
        ];
        all.extend(note.port.map(|port| ("PORT", port.to_string())));
        let mut text = "# Written by Backout with each start.\n".to_owned();
        for (name, value) in all {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            text.push_str(&format!("{name}=\"{value}\"\n"));
        }
        text
    }

    /// Files that came back with the release, or that somebody has written, are read before the start and not some day.
    async fn read_again(&self, state: &UnitState) -> Result<Vec<String>, AdapterError> {
        let mut warnings = Vec::new();
        let fault = |fault: Fault| {
            let doing = format!("prepare {}", self.place.name);
            self.manager.unreachable(&doing, &fault)
        };
        if state.must_reload {
            self.manager.reload().await.map_err(fault)?;
            warnings.push(format!(
                "unit files of {} were newer than what systemd had read: it has read all unit files again",
                self.place.name
            ));
        }
        // Failures of an older release say nothing about this one, and must not keep it from starting.
        self.manager.forget_failures(&self.place.name).await.map_err(fault)?;
        Ok(warnings)
    }

    /// Starts the unit anew. Where the connection is lost, the unit itself tells whether it was asked to.
    async fn restart(&self, before: &UnitState, until: Instant) -> Result<Ended, AdapterError> {
        let name = &self.place.name;
        let begun = |state: &UnitState| {
            state.is_beginning() && state.pid != 0 && state.invocation != before.invocation
        };
        let fault =
            |fault: Fault| fault.while_changing(&format!("start {name}"), self.manager.bus());
        for again in 1.. {
            let lost = match self.manager.job(Verb::Restart, name, until, begun).await {
                Ok(ended) => return Ok(ended),
                Err(lost @ (Fault::Lost(_) | Fault::Away(_))) if again < TRIES => lost,
                Err(other) => return Err(fault(other)),
            };
            tracing::debug!(unit = %name, why = lost.words(), "asks again for a start");
            loop {
                let state = self.manager.state_patiently(name).await.map_err(fault)?;
                if begun(&state) {
                    return Ok(Ended::Enough);
                }
                if state.job == 0 && state.invocation != before.invocation {
                    let word = if state.is_down() { "failed" } else { "done" };
                    return Ok(Ended::As(word.to_owned()));
                }
                if state.job == 0 {
                    break;
                }
                if Instant::now() >= until {
                    return Ok(Ended::Late);
                }
                tokio::time::sleep(POLL).await;
            }
        }
        unreachable!("the last try returns")
    }

    /// What came of it.
    async fn verdict(
        &self,
        note: &Note,
        ended: Ended,
        mut warnings: Vec<String>,
    ) -> Result<Receipt, AdapterError> {
        let name = &self.place.name;
        let doing = format!("ask for {name}");
        let state = self.manager.state_patiently(name).await;
        let state = state.map_err(|fault| self.manager.unreachable(&doing, &fault))?;
        let at = note.port.map(|port| format!(" at 127.0.0.1:{port}")).unwrap_or_default();
        let well = match &ended {
            Ended::Enough => true,
            Ended::As(word) => word == "done" && state.active != "failed",
            Ended::Late => {
                return Err(AdapterError::unknown(format!(
                    "failed to learn how the start of {name} goes: {}",
                    state.words()
                )));
            }
        };
        if well || state.is_awaiting_restart() {
            if !well {
                warnings.push(state.words());
            }
            let message = format!("{name} started with {}{at}", note.version);
            return Ok(Receipt { message, warnings, ..Receipt::default() });
        }
        if ended == Ended::As("canceled".to_owned()) {
            return Err(AdapterError::transient(format!(
                "failed to start {name}: somebody else asked systemd for something else meanwhile"
            )));
        }
        let said = self.tail(&state, Some(note.since)).await;
        Err(AdapterError::permanent(format!("failed to start {name}: {said}"))
            .with_hint(format!("`journalctl -u {name}` has all that it said")))
    }
}

/// It runs, or its manager is about to start it again.
fn runs(note: &Note, state: &UnitState, leads: Option<&Path>) -> bool {
    note.finished && leads == Some(note.folder.as_path()) && !state.is_down()
}

/// A link that can't be used or written.
pub(super) fn no_link(error: &std::io::Error) -> AdapterError {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        return AdapterError::permanent(error.to_string()).with_hint(
            "move the folder away and put a link in its place, such as `mv current first && ln -s first current`",
        );
    }
    writing(error)
}
