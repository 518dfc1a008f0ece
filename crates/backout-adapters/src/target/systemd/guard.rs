//! A start on a host that takes it back by itself: a list of commands, since nobody is there to ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::model::{Release, SystemdBus};
use backout_core::ports::{AdapterError, Host, HostCommand, HostEnded, HostRevert, Revert, Secret};

use super::Side;
use super::files::{RemoteFiles, Turn};
use super::link::{temporary, text_for};
use super::note::{Found, Note};
use crate::systemd::{Ended, UnitState};

const NOTE_BYTES: u64 = 64 << 10;

/// UNIT MANAGER: failures of another release must not keep this one from starting.
const RESTART: &str = r#"systemctl "$2" --no-ask-password reset-failed -- "$1" 2> /dev/null
exec systemctl "$2" --no-ask-password restart -- "$1""#;

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

impl Side {
    /// The manager that is meant, for `systemctl`.
    fn manager_word(&self) -> &'static str {
        if *self.manager.bus() == SystemdBus::User { "--user" } else { "--system" }
    }

    /// What `systemctl --user` needs to find the manager.
    fn manager_env(&self) -> BTreeMap<String, Secret> {
        let folder = (*self.manager.bus() == SystemdBus::User).then(|| {
            ("XDG_RUNTIME_DIR".to_owned(), Secret::new(format!("/run/user/{}", self.user)))
        });
        folder.into_iter().collect()
    }

    /// Starts the unit by a call of the host's own, so that its guard counts from the end of the start on.
    pub(super) async fn restart_there(
        &self,
        host: &Arc<dyn Host>,
        turn: &Turn,
        before: &UnitState,
        until: Instant,
    ) -> Result<Ended, AdapterError> {
        let name = &self.place.name;
        let argv = ["sh", "-c", RESTART, "sh", name, self.manager_word()];
        let limit = until.saturating_duration_since(Instant::now());
        let command = HostCommand {
            env: self.manager_env(),
            change: Some(Turn { revert: None, ..turn.clone() }.change()),
            ..HostCommand::look(argv, limit.max(Duration::from_secs(1)))
        };
        let output = host.run(&command).await?;
        match output.ended {
            HostEnded::Exited(0) => Ok(Ended::As("done".to_owned())),
            // What asked the manager is gone, and the manager goes on.
            HostEnded::TimedOut | HostEnded::Signalled(_) => Ok(Ended::Late),
            HostEnded::Exited(_) => {
                let said = crate::host::printable(&output.stderr);
                let said = said.trim();
                // What the unit is like then is somebody else's doing.
                if says_canceled(said) {
                    return Ok(Ended::As("canceled".to_owned()));
                }
                let state = self.patient_state().await?;
                if state.invocation != before.invocation || state.active == "failed" {
                    let word = if state.is_down() { "failed" } else { "done" };
                    return Ok(Ended::As(word.to_owned()));
                }
                // It was turned away by a manager that replaces itself, and that goes on with the job.
                if state.job != 0 {
                    return Ok(Ended::Late);
                }
                Err(AdapterError::permanent(format!("failed to start {name}: {said}")))
            }
        }
    }

    /// The way back of a guarded start: to the release that the guard names, else to what was there before the first.
    pub(super) async fn way_back(
        &self,
        wanted: &Note,
        revert: &Revert,
        found: &Found,
        turn: &Turn,
    ) -> Result<HostRevert, AdapterError> {
        let (commands, timeout_ms) = match &revert.back_to {
            Some(old) => self.to_release(old, wanted, found, turn).await?,
            None => (self.to_nothing(wanted), self.spec.timeout_ms),
        };
        Ok(HostRevert {
            deployment: wanted.deployment,
            within: Duration::from_millis(revert.within_ms),
            commands,
            env: self.manager_env(),
            folder: None,
            timeout: Duration::from_millis(timeout_ms),
        })
    }

    /// The commands by which the link leads somewhere.
    fn lead(&self, to: &Path) -> Vec<Vec<String>> {
        let link = &self.place.link;
        let (text, new) = (text_for(link, to).display().to_string(), temporary(link));
        let (link, new) = (link.display().to_string(), new.display().to_string());
        vec![words(["ln", "-sfn", "--", &text, &new]), words(["mv", "-fT", "--", &new, &link])]
    }

    fn to_nothing(&self, wanted: &Note) -> Vec<Vec<String>> {
        let place = &self.place;
        let shown = |path: &Path| path.display().to_string();
        let manager = self.manager_word();
        let mut commands =
            vec![words(["systemctl", manager, "--no-ask-password", "stop", "--", &place.name])];
        match &wanted.before {
            Some(before) => commands.extend(self.lead(before)),
            None => commands.push(words(["rm", "-f", "--", &shown(&place.link)])),
        }
        let (variables, note) = (shown(&place.variables), shown(&place.note));
        commands.push(words(["rm", "-f", "--", &variables, &note]));
        commands
    }

    /// The deployment that the old release ran for: a try of this start that was cut off has noted the new one already.
    async fn deployment_of(
        &self,
        old: &Release,
        wanted: &Note,
        found: &Found,
    ) -> Result<Option<u64>, AdapterError> {
        let ran_as = old.runs_as(&self.unit.service);
        let of = |note: &Note| (note.release == *ran_as).then_some(note.deployment);
        match (&found.note, &self.host) {
            (Some(note), Some(host)) if note.deployment == wanted.deployment => {
                let path = self.place.back().0.display().to_string();
                let kept = host.read(&path, NOTE_BYTES).await?;
                Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).as_ref().and_then(of))
            }
            (note, _) => Ok(note.as_ref().and_then(of)),
        }
    }

    async fn to_release(
        &self,
        old: &Release,
        wanted: &Note,
        found: &Found,
        turn: &Turn,
    ) -> Result<(Vec<Vec<String>>, u64), AdapterError> {
        let back = self.of_release(old)?;
        let place = &self.place;
        if back.place.name != place.name || back.place.link != place.link {
            return Err(AdapterError::permanent(format!(
                "failed to guard {}: release {} ran as {} behind `{}`",
                self.unit,
                old.id,
                back.place.name,
                back.place.link.display()
            ))
            .with_hint("leave `ssh.confirm` out for this one deploy"));
        }
        let deployment = self.deployment_of(old, wanted, found).await?;
        let folder = back.lay_out(old, turn).await?;
        let note = Note {
            release: old.runs_as(&self.unit.service).clone(),
            version: old.content.version_of(&self.unit.service).clone(),
            deployment: deployment.unwrap_or(wanted.deployment),
            folder: folder.clone(),
            port: back.fixed_port(),
            finished: true,
            ..wanted.clone()
        };
        if let Some(host) = &self.host {
            let files = RemoteFiles { host: Arc::clone(host) };
            files.keep_back(place, note.bytes()?, back.variables(&note), turn).await?;
        }
        let (kept_note, kept_variables) = place.back();
        let shown = |path: &Path| path.display().to_string();
        let mut commands = self.lead(&folder);
        let (from, to) = (shown(&kept_variables), shown(&place.variables));
        commands.push(words(["cp", "--", &from, &to]));
        commands.push(words(["sh", "-c", RESTART, "sh", &place.name, self.manager_word()]));
        let (from, to) = (shown(&kept_note), shown(&place.note));
        commands.push(words(["mv", "-fT", "--", &from, &to]));
        Ok((commands, back.spec.timeout_ms))
    }
}

/// Whether `systemctl` says that the manager was asked for something else meanwhile.
fn says_canceled(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("Job for ") && line.ends_with(" canceled."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canceled_job_is_told_from_a_unit_of_that_name() {
        assert!(says_canceled("Warning: its files changed.\nJob for shop.service canceled."));
        assert!(!says_canceled("Job for canceled.service failed because a timeout was exceeded."));
        assert!(!says_canceled("Failed to restart canceled.service: Unit not found."));
    }
}
