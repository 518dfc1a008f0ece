//! A release starts in a unit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::model::{PortSpec, Release};
use backout_core::ports::{AdapterError, Receipt, Revert, StepCx};
use jiff::Timestamp;

use super::Side;
use super::files::{Layout, Point, Turn};
use super::note::{Found, Note};
use crate::host::free_port;
use crate::systemd::{Ended, Ends, Fault, UnitState, Verb};

/// Connections that may be lost in the middle of one start.
const TRIES: u32 = 3;
const POLL: Duration = Duration::from_millis(100);

/// What is to be started.
pub(super) struct Wanted<'a> {
    pub release: &'a Arc<Release>,
    pub deployment: u64,
    pub restore: bool,
    pub revert: Option<&'a Revert>,
}

impl Side {
    pub(super) async fn start(
        &self,
        wanted: Wanted<'_>,
        cx: &StepCx,
    ) -> Result<Receipt, AdapterError> {
        let limit = Duration::from_millis(self.spec.timeout_ms).min(cx.timeout);
        let turn = Turn::of(&self.unit, cx);
        if !self.files.is_known(&self.place) {
            self.usable_state().await?;
        }
        let _held = self.files.enter(&self.place, &turn, limit / 2).await?;
        let layout = self.layout(wanted.release);
        let whole = async {
            match &layout {
                Ok(layout) => self.files.is_whole(layout).await,
                Err(_) => Ok(false),
            }
        };
        // Neither needs the other, and whoever held the turn before may have changed any of it.
        let (state, found, whole) = tokio::join!(self.usable_state(), self.found(0), whole);
        let (state, found) = (state?, found?);
        if let Some(other) = found.note.as_ref().and_then(|note| self.other_owner(note)) {
            return Err(AdapterError::permanent(format!("failed to start {}: {other}", self.unit)));
        }
        let leads = found.link.clone()?;
        let note = self.begun(&wanted, &found, leads.clone());
        let mine = found.note.as_ref().filter(|held| held.release == note.release);
        let same = mine.filter(|held| held.deployment == note.deployment);
        if same.is_some_and(|held| runs(held, &state, leads.as_deref())) {
            let message = format!("{} runs {} already", self.place.name, note.version);
            return Ok(Receipt { message, ..Receipt::default() });
        }
        let held = mine.filter(|_| wanted.restore);
        if let Some(held) = held.filter(|held| runs(held, &state, leads.as_deref())) {
            let note = Note { folder: held.folder.clone(), port: held.port, ..note };
            return self.take_over(note, &turn).await;
        }
        if self.options.beside && mine.is_none() && !state.is_down() {
            return Err(AdapterError::permanent(format!(
                "failed to start {}: another release runs in {}",
                self.unit, self.place.name
            )));
        }
        let layout = layout?;
        if !whole? {
            self.make(&layout, &turn).await?;
        }
        let note = Note { port: self.port(same).await?, folder: layout.folder.clone(), ..note };
        let turn = match wanted.revert {
            Some(revert) => {
                let back = self.way_back(&note, revert, &found, &turn).await?;
                Turn { revert: Some(back), ..turn }
            }
            None => turn,
        };
        // What had to be brought here first was no part of the start.
        let until = Instant::now() + limit;
        let (ended, warnings) =
            self.switch_and_restart(&note, &layout, leads.as_deref(), &state, &turn, until).await?;
        let finished = Note { finished: true, ..note.clone() }.bytes()?;
        let turn = Turn { revert: None, ..turn };
        let (noted, state) =
            tokio::join!(self.files.note(&self.place, finished, &turn), self.patient_state());
        noted?;
        self.verdict(&note, &state?, ended, warnings).await
    }

    /// The note of a start that has begun, but for where.
    fn begun(&self, wanted: &Wanted<'_>, found: &Found, leads: Option<PathBuf>) -> Note {
        let release = wanted.release;
        Note {
            format: Note::FORMAT,
            of: self.unit.clone(),
            ledger: self.options.ledger.clone(),
            unit: self.place.name.clone(),
            release: release.runs_as(&self.unit.service).clone(),
            version: release.content.version_of(&self.unit.service).clone(),
            deployment: wanted.deployment,
            folder: PathBuf::new(),
            port: None,
            since: Timestamp::now(),
            finished: false,
            before: found.note.as_ref().map_or(leads, |note| note.before.clone()),
        }
    }

    /// Going back to what was never stopped: it is noted for whom it runs now, and nobody meets a restart.
    async fn take_over(&self, note: Note, turn: &Turn) -> Result<Receipt, AdapterError> {
        let message = format!("{} was never stopped: it runs {}", self.place.name, note.version);
        let note = Note { finished: true, ..note }.bytes()?;
        self.files.note(&self.place, note, turn).await?;
        Ok(Receipt { message, ..Receipt::default() })
    }

    pub(super) fn fixed_port(&self) -> Option<u16> {
        match self.spec.port {
            Some(PortSpec::Fixed(port)) => Some(port),
            _ => None,
        }
    }

    /// The same one for a start that comes again: the program may hold it.
    async fn port(&self, same: Option<&Note>) -> Result<Option<u16>, AdapterError> {
        if self.spec.port != Some(PortSpec::Auto) {
            return Ok(self.fixed_port());
        }
        if self.host.is_some() {
            return Err(AdapterError::permanent(format!(
                "failed to start {}: which port is free is known of this machine only",
                self.unit
            ))
            .with_hint("write a number as `port`"));
        }
        if let Some(port) = same.and_then(|note| note.port) {
            return Ok(Some(port));
        }
        let other = self.in_slot(self.unit.slot.other()).note().await.ok().flatten();
        let taken: Vec<u16> = other.into_iter().filter_map(|note| note.port).collect();
        free_port(&taken).map(Some).map_err(AdapterError::transient)
    }

    /// Notes what is begun, hands the unit its variables, lets the link lead to the release, and starts the unit.
    async fn switch_and_restart(
        &self,
        note: &Note,
        layout: &Layout,
        leads: Option<&Path>,
        state: &UnitState,
        turn: &Turn,
        until: Instant,
    ) -> Result<(Ended, Vec<String>), AdapterError> {
        let point = Point {
            note: note.bytes()?,
            variables: self.variables(note),
            to: (leads != Some(layout.folder.as_path())).then(|| layout.folder.clone()),
        };
        let written = self.files.begin(&self.place, point, turn);
        let (written, prepared) = tokio::join!(written, self.ready(state));
        written?;
        let (warnings, ends) = prepared?;
        let ended = match (&self.host, &turn.revert) {
            (Some(host), Some(_)) => self.restart_there(host, turn, state, until).await?,
            _ => self.restart(ends, state, until).await?,
        };
        Ok((ended, warnings))
    }

    pub(super) fn variables(&self, note: &Note) -> String {
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
    async fn ready(&self, state: &UnitState) -> Result<(Vec<String>, Ends), AdapterError> {
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
        let ends = self.manager.listen().await.map_err(fault)?;
        Ok((warnings, ends))
    }

    /// Starts the unit anew. Where the connection is lost, the unit itself tells whether it was asked to.
    async fn restart(
        &self,
        ends: Ends,
        before: &UnitState,
        until: Instant,
    ) -> Result<Ended, AdapterError> {
        let name = &self.place.name;
        let begun = |state: &UnitState| {
            state.is_beginning() && state.pid != 0 && state.invocation != before.invocation
        };
        let fault = |fault: Fault| self.manager.unsure(&format!("start {name}"), &fault);
        let mut ends = Some(ends);
        for again in 1.. {
            let asked = async {
                let ends = match ends.take() {
                    Some(ends) => ends,
                    None => self.manager.listen().await?,
                };
                self.manager.job(Verb::Restart, name, until, ends, begun).await
            };
            let lost = match asked.await {
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
        state: &UnitState,
        ended: Ended,
        mut warnings: Vec<String>,
    ) -> Result<Receipt, AdapterError> {
        let name = &self.place.name;
        let at = match (note.port, &self.host) {
            (Some(port), None) => format!(" at 127.0.0.1:{port}"),
            _ => String::new(),
        };
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
        let said = self.tail(state, Some(note.since)).await;
        Err(AdapterError::permanent(format!("failed to start {name}: {said}"))
            .with_hint(format!("`journalctl -u {name}` has all that it said")))
    }
}

/// It runs, or its manager is about to start it again.
fn runs(note: &Note, state: &UnitState, leads: Option<&Path>) -> bool {
    let goes_on = !state.is_down() && !state.is_being_stopped();
    note.finished && leads == Some(note.folder.as_path()) && goes_on
}
