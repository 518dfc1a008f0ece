//! What really runs in a unit.

use std::net::{Ipv4Addr, SocketAddr};

use backout_core::ids::{ReleaseId, Version};
use backout_core::model::Release;
use backout_core::ports::{AdapterError, GuardState, NamedText, Observed, OwnHealth, Running};
use jiff::Timestamp;

use super::note::{Found, Note};
use super::parts::Adopted;
use super::{Side, unmanaged};
use crate::systemd::UnitState;
use crate::target::words_of;

/// Bytes of output in an observation.
const TAIL_BYTES: usize = 2048;

impl Side {
    pub(super) async fn state(&self) -> Result<UnitState, AdapterError> {
        let doing = format!("ask for {}", self.place.name);
        let state = self.manager.state(&self.place.name).await;
        state.map_err(|fault| self.manager.unreachable(&doing, &fault))
    }

    /// The same from a manager that may be busy for a while.
    pub(super) async fn patient_state(&self) -> Result<UnitState, AdapterError> {
        let doing = format!("ask for {}", self.place.name);
        let state = self.manager.state_patiently(&self.place.name).await;
        state.map_err(|fault| self.manager.unreachable(&doing, &fault))
    }

    /// The state of a unit that can be started.
    pub(super) async fn usable_state(&self) -> Result<UnitState, AdapterError> {
        let state = self.patient_state().await?;
        match self.unusable(&state) {
            None => Ok(state),
            Some(why) => Err(AdapterError::permanent(format!("failed to use {why}"))),
        }
    }

    /// Why a unit can't be started, whatever is behind the link.
    pub(super) fn unusable(&self, state: &UnitState) -> Option<String> {
        let name = &self.place.name;
        Some(match state.load.as_str() {
            "loaded" => return None,
            "not-found" => format!(
                "{name}: systemd has no such unit; put it to /etc/systemd/system, or link it with \
                 `systemctl link`, and run `systemctl daemon-reload`"
            ),
            "masked" => format!("{name}: it is masked; `systemctl unmask {name}`"),
            other if state.load_error.is_empty() => format!("{name}: its definition is {other}"),
            _ => format!("{name}: {}; `systemd-analyze verify {name}` says more", state.load_error),
        })
    }

    pub(super) async fn observe(
        &self,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        let Some(host) = &self.host else { return self.look(release).await };
        let guard = host.guard(&self.unit).await?;
        if guard.as_ref().is_some_and(|guard| guard.state == GuardState::Reverting) {
            return Ok(Observed { guard, ..Observed::unknown() });
        }
        let seen = self.look(release).await?;
        let said = guard.as_ref().and_then(|guard| words_of(host.as_ref(), guard));
        Ok(Observed { tail: said.or(seen.tail.clone()), guard, ..seen })
    }

    /// What the manager, the note and the link say together.
    async fn look(&self, release: Option<&Release>) -> Result<Observed, AdapterError> {
        let pid = self.state().await?.pid;
        let found = self.found(pid).await?;
        // After the note: a state of before it may be that of another release.
        let state = self.state().await?;
        let program = found.program.clone().filter(|_| state.pid == pid);
        let found = Found { program, ..found };
        let Some(note) = &found.note else { return self.foreign(&state, &found, release).await };
        if self.other_owner(note).is_some() {
            // Somebody else's: neither its state nor its output is for us.
            let marker = note.marker().filter(|marker| marker.ledger != self.options.ledger);
            return Ok(Observed { marker, ..Observed::nothing() });
        }
        if !note.finished {
            return Ok(Observed { marker: note.marker(), ..Observed::unknown() });
        }
        let mut seen = Observed {
            version: Some(note.version.clone()),
            release: Some(note.release.clone()),
            deployment: Some(note.deployment),
            address: note.port.and_then(|port| self.on_loopback(port)),
            gave_up: state.is_down(),
            marker: note.marker(),
            ..of_state(&state)
        };
        if let Some(other) = self.elsewhere(note, &found, &state) {
            seen.release = Some(unmanaged());
            seen.version = None;
            seen.tail = Some(other);
        } else if seen.running != Running::Yes {
            seen.tail = Some(self.tail(&state, Some(note.since)).await);
        }
        Ok(seen)
    }

    /// What runs and is not what was started: the link was moved, or the unit runs something beside it.
    fn elsewhere(&self, note: &Note, found: &Found, state: &UnitState) -> Option<String> {
        let shown = self.place.link.display();
        match &found.link {
            Ok(Some(to)) if *to == note.folder => {}
            Ok(Some(to)) => {
                return Some(format!("`{shown}` leads to `{}`: somebody moved it", to.display()));
            }
            Ok(None) => return Some(format!("`{shown}` is gone")),
            Err(error) => return Some(error.message.clone()),
        }
        let program = found.program.as_ref()?;
        let other = program.starts_with(&self.place.releases) && !program.starts_with(&note.folder);
        other.then(|| {
            format!("{} runs `{}`, another release's program", state.name, program.display())
        })
    }

    /// What somebody else has started, if it is about this link at all.
    async fn foreign(
        &self,
        state: &UnitState,
        found: &Found,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        if state.is_down() || !state.is_loaded() || !self.names_link(state).await? {
            return Ok(Observed::nothing());
        }
        let adopted = self.adopted(found);
        let id = release.map(|release| self.identity(release, adopted.as_ref()));
        let same =
            release.filter(|release| id.as_ref() == Some(release.runs_as(&self.unit.service)));
        let version: Option<Version> =
            same.map(|release| release.content.version_of(&self.unit.service).clone());
        let address = self.fixed_port().and_then(|port| self.on_loopback(port));
        Ok(Observed { release: id, version, address, ..of_state(state) })
    }

    /// What was adopted is known by where the link led to: nothing else says which release it is.
    fn identity(&self, release: &Release, adopted: Option<&Adopted>) -> ReleaseId {
        let adopted = adopted.is_some_and(|adopted| {
            release.content.artifacts.iter().any(|artifact| {
                artifact.service == self.unit.service && artifact.digest == adopted.digest
            })
        });
        if adopted { release.runs_as(&self.unit.service).clone() } else { unmanaged() }
    }

    /// Where a port is reached from here: what another host has on its loopback is not.
    fn on_loopback(&self, port: u16) -> Option<SocketAddr> {
        self.host.is_none().then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// How the unit is and what it said last.
    pub(super) async fn tail(&self, state: &UnitState, since: Option<Timestamp>) -> String {
        let mut text = state.words();
        let room = TAIL_BYTES.saturating_sub(text.len() + 1);
        if let Some(last) = self.journal.last(&self.place.name, since, room).await {
            text.push('\n');
            text.push_str(&last.text);
        }
        let mut end = TAIL_BYTES.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }

    /// For an incident bundle: what the unit said, how it is, and by which files.
    pub(super) async fn evidence(
        &self,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        let state = self.state().await?;
        let since =
            self.note().await?.filter(|note| note.release == *release.runs_as(&self.unit.service));
        let since = since.map(|note| note.since);
        let mut texts = Vec::new();
        if let Some(last) = self.journal.last(&self.place.name, since, limit_bytes).await {
            texts.push(NamedText { name: "journal".to_owned(), text: last.text, cut: last.cut });
        }
        let mut words = vec![state.words(), format!("restarts: {}", state.restarts)];
        words.extend(state.files.iter().map(|path| format!("defined by {path}")));
        if let Ok(now) = self.files_of(&state).await {
            words.extend(super::definition::difference(&self.recorded_here(), &now));
        }
        let mut text = words.join("\n");
        let mut end = limit_bytes.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = end < text.len();
        text.truncate(end);
        texts.push(NamedText { name: "unit".to_owned(), text, cut });
        Ok(texts)
    }
}

fn of_state(state: &UnitState) -> Observed {
    let up = state.is_up();
    let running = match () {
        () if up || state.is_beginning() => Running::Yes,
        () if state.is_down() || state.is_awaiting_restart() => Running::No,
        // It is on its way from one to the other.
        () => Running::Unknown,
    };
    let health = match () {
        () if state.is_beginning() => OwnHealth::Starting,
        () if up && state.tells_readiness() => OwnHealth::Passing,
        () => OwnHealth::None,
    };
    Observed {
        running,
        health,
        pid: Some(state.pid).filter(|pid| *pid > 0 && running == Running::Yes),
        restarts: state.restarts,
        last_exit: state.exit,
        ..Observed::nothing()
    }
}
