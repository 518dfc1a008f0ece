//! The user's own script as target: it deploys, rolls back and stops; Backout calls it and believes its exit code.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{Unit, Version};
use backout_core::model::{Release, ScriptSpec, TargetSpec};
use backout_core::ports::{
    AdapterError, Capabilities, ErrorClass, Farewell, GuardState, NamedText, Observed, Receipt,
    Rehearsal, Revert, Running, StepCx, Target, TargetAction,
};
use serde::{Deserialize, Serialize};

use super::script_call::{Answer, CallContext, ScriptCall, ScriptHome};
use super::{remote, script_remote};
use crate::host::{Finished, Hosts, create_private_dirs, read_bounded, write_atomic};

/// Asking what runs must not hold anybody up for as long as a deploy may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(60);
const FORMAT: u32 = 1;
const TAIL_BYTES: usize = 2048;

/// What the ledger knows of scripts that are remembered nowhere else: an adopted one was never called.
#[async_trait]
pub trait ScriptHistory: Send + Sync {
    /// Whether the script of this unit has printed a version when it was adopted.
    ///
    /// # Errors
    /// As the ledger.
    async fn has_reported(&self, unit: &Unit) -> Result<bool, AdapterError>;
}

/// What a [`ScriptTarget`] needs to know.
#[derive(Clone)]
pub struct ScriptTargetOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of `backout.yaml`, which is the script's working folder too.
    pub folder: PathBuf,
    /// The caller's environment.
    pub env: Vec<(OsString, OsString)>,
    /// The script that is asked where no release names one.
    pub default: Option<ScriptSpec>,
    /// There is a router: both slots can be used.
    pub side_by_side: bool,
    /// What the ledger knows; nothing without it.
    pub history: Option<Arc<dyn ScriptHistory>>,
}

/// Runs services by a script.
#[derive(Clone)]
pub struct ScriptTarget {
    home: ScriptHome,
    options: Arc<ScriptTargetOptions>,
    hosts: Hosts,
}

/// What is remembered of a service's script.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    format: u32,
    /// Its `status` has printed a version, so its silence means that nothing runs.
    reports_version: bool,
}

impl ScriptTarget {
    /// A target for one app folder.
    #[must_use]
    pub fn new(options: ScriptTargetOptions) -> Self {
        let home = ScriptHome {
            folder: options.folder.clone(),
            state_dir: options.state_dir.clone(),
            env: options.env.clone(),
        };
        Self { home, options: Arc::new(options), hosts: Hosts::default() }
    }

    /// Calls it on other hosts too, where a unit is there.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    fn spec<'a>(
        &'a self,
        unit: &Unit,
        release: Option<&'a Release>,
    ) -> Result<Option<&'a ScriptSpec>, AdapterError> {
        let Some(release) = release else { return Ok(self.options.default.as_ref()) };
        match release.content.services.get(&unit.service).map(|s| &s.target) {
            Some(TargetSpec::Script(spec)) => Ok(Some(spec)),
            _ => Err(AdapterError::permanent(format!(
                "failed to use {unit}: release {} has no service `{}` of target `script`",
                release.id, unit.service
            ))),
        }
    }

    async fn call(
        &self,
        unit: &Unit,
        release: &Release,
        deployment: Option<u64>,
        verb: &str,
        revert: Option<&Revert>,
        cx: &StepCx,
    ) -> Result<Answer, AdapterError> {
        let spec = self
            .spec(unit, Some(release))?
            .ok_or_else(|| AdapterError::permanent("failed to find the script"))?;
        let call = ScriptCall {
            home: &self.home,
            spec,
            words: vec![verb.to_owned()],
            context: CallContext {
                key: &unit.key,
                service: &unit.service,
                slot: unit.slot,
                version: Some(&release.content.version),
                release: Some(&release.id),
                deployment,
                cx: Some(cx),
            },
            timeout: Duration::from_millis(spec.timeout_ms).min(cx.timeout),
            changes: true,
        };
        let Some(host) = self.hosts.of(unit)? else {
            return match revert {
                Some(_) => Err(super::not_guarded(unit)),
                None => call.run().await,
            };
        };
        // From here on its looks are remembered, as where it is called on this machine.
        create_private_dirs(&self.home.folder_of(&unit.key)).map_err(|e| {
            AdapterError::transient(format!("failed to make a folder for {unit}: {e}"))
        })?;
        let revert = revert
            .zip(deployment)
            .map(|(revert, number)| script_remote::way_back(unit, release, number, revert, cx))
            .transpose()?;
        script_remote::run(&call, host.as_ref(), unit, revert).await
    }

    fn memory_path(&self, unit: &Unit) -> PathBuf {
        let name = match unit.host.is_local() {
            true => format!("{}.json", unit.service),
            false => format!("{}@{}.json", unit.service, unit.host),
        };
        self.home.folder_of(&unit.key).join(name)
    }

    fn is_remembered(&self, unit: &Unit) -> bool {
        read_bounded(&self.memory_path(unit), 64 << 10)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok())
            .is_some_and(|memory| memory.reports_version)
    }

    /// Whether its silence means that nothing runs.
    async fn has_reported(&self, unit: &Unit) -> Result<bool, AdapterError> {
        match &self.options.history {
            _ if self.is_remembered(unit) => Ok(true),
            Some(history) => history.has_reported(unit).await,
            None => Ok(false),
        }
    }

    /// Beside what calls have left only: looking at what is not ours, or was let go, leaves nothing.
    fn remember_report(&self, unit: &Unit) {
        let path = self.memory_path(unit);
        if self.is_remembered(unit) || !self.home.folder_of(&unit.key).is_dir() {
            return;
        }
        let bytes = serde_json::to_vec(&Memory { format: FORMAT, reports_version: true });
        let kept = bytes.map_err(std::io::Error::from);
        // A read-only caller may not write here; the next one does.
        if let Err(e) = kept.and_then(|bytes| write_atomic(&path, &bytes, 0o600)) {
            tracing::debug!("Could not remember that the script of {unit} reports versions: {e}");
        }
    }

    /// Reads the answer of `status`.
    async fn read_status(
        &self,
        unit: &Unit,
        finished: &Finished,
    ) -> Result<Observed, AdapterError> {
        let head = finished.stdout.head();
        let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(AdapterError::permanent(format!(
                "failed to ask the script of {unit}: `status` printed bytes that are no text"
            ))
            .with_hint("print the running version as the first line, or exit 64"));
        };
        let text = text.trim();
        if text.contains(char::is_control) {
            return Err(AdapterError::permanent(format!("failed to ask the script of {unit}: the first line of `status` holds control characters"))
                .with_hint("print the running version as the first line, or exit 64"));
        }
        if text.is_empty() {
            if self.has_reported(unit).await? {
                return Ok(Observed::nothing());
            }
            let note =
                "`status` printed nothing and has never printed a version: what runs can't be told";
            return Ok(Observed { tail: Some(note.to_owned()), ..Observed::unknown() });
        }
        let tail = Some(finished.stdout.last_text(TAIL_BYTES)).filter(|t| !t.is_empty());
        match Version::new(text) {
            Ok(version) => {
                self.remember_report(unit);
                Ok(Observed {
                    running: Running::Yes,
                    version: Some(version),
                    tail,
                    ..Observed::nothing()
                })
            }
            // Something runs, but what was printed is no version label.
            Err(_) => Ok(Observed { running: Running::Yes, tail, ..Observed::nothing() }),
        }
    }
}

#[async_trait]
impl Target for ScriptTarget {
    fn capabilities(&self) -> Capabilities {
        let side_by_side = self.options.side_by_side;
        Capabilities {
            side_by_side,
            replaces_in_place: !side_by_side,
            addressable: false,
            sees_foreign: true,
        }
    }

    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        let Some(spec) = self.spec(unit, release)? else { return Ok(Observed::unknown()) };
        let host = self.hosts.of(unit)?;
        let (at_work, guard) = match &host {
            Some(host) => {
                let (at_work, guard) = tokio::join!(host.is_at_work(unit), host.guard(unit));
                (at_work?, guard?)
            }
            None => (self.home.leftover(&unit.key, &unit.service).is_at_work(), None),
        };
        let reverting = guard.as_ref().is_some_and(|it| it.state == GuardState::Reverting);
        let said = host.as_ref().zip(guard.as_ref());
        let said = said.and_then(|(host, guard)| remote::words_of(host.as_ref(), guard));
        if at_work || reverting {
            let note = "a call whose caller is gone is still at work: what runs can't be told yet";
            let tail = said.or_else(|| Some(note.to_owned()));
            return Ok(Observed { tail, guard, ..Observed::unknown() });
        }
        let call = ScriptCall {
            home: &self.home,
            spec,
            words: vec!["status".to_owned()],
            context: CallContext {
                key: &unit.key,
                service: &unit.service,
                slot: unit.slot,
                version: release.map(|r| &r.content.version),
                release: release.map(|r| &r.id),
                deployment: None,
                cx: None,
            },
            timeout: Duration::from_millis(spec.timeout_ms).min(STATUS_TIMEOUT),
            changes: false,
        };
        let asked = match &host {
            Some(host) => script_remote::run(&call, host.as_ref(), unit, None).await,
            None => call.run().await,
        };
        match asked {
            Ok(Answer::Done(finished)) => {
                let seen = self.read_status(unit, &finished).await?;
                Ok(Observed { tail: said.or(seen.tail.clone()), guard, ..seen })
            }
            Ok(Answer::UnknownVerb) => Ok(Observed { tail: said, guard, ..Observed::unknown() }),
            // Asking changes nothing: whatever went wrong, it may be asked again.
            Err(e) if e.class == ErrorClass::Unknown => {
                Err(AdapterError { class: ErrorClass::Transient, ..e })
            }
            Err(e) => Err(e),
        }
    }

    async fn rehearse(
        &self,
        unit: &Unit,
        release: &Release,
        _cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        let Some(spec) = self.spec(unit, Some(release))? else { return Ok(Rehearsal::default()) };
        match self.hosts.of(unit)? {
            Some(host) => script_remote::rehearse(host.as_ref(), spec).await,
            None => self.home.look_at(spec),
        }
    }

    async fn farewell(
        &self,
        unit: &Unit,
        _release: &Release,
        act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        self.home.farewell(unit, act.is_some())
    }

    async fn evidence(
        &self,
        unit: &Unit,
        _release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        match self.hosts.of(unit)? {
            Some(host) => script_remote::last_words(host.as_ref(), unit, limit_bytes).await,
            None => Ok(self.home.last_words(unit, limit_bytes)),
        }
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, restore, revert, .. } => {
                let verb = if *restore { "rollback" } else { "deploy" };
                let revert = revert.as_ref();
                match self.call(unit, release, Some(*deployment), verb, revert, cx).await? {
                    Answer::Done(finished) => Ok(receipt(verb, &finished)),
                    Answer::UnknownVerb => Err(AdapterError::permanent(format!(
                        "failed to start {unit}: the script does not know `{verb}` (exit 64)"
                    ))
                    .with_hint(format!("teach the script `{verb}`"))),
                }
            }
            TargetAction::Confirm { unit, deployment, .. } => match self.hosts.of(unit)? {
                Some(host) => remote::confirm(host.as_ref(), unit, *deployment).await,
                None => Err(super::not_guarded(unit)),
            },
            TargetAction::Stop { unit, release, .. } => {
                match self.call(unit, release, None, "stop", None, cx).await? {
                    Answer::Done(finished) => Ok(receipt("stop", &finished)),
                    Answer::UnknownVerb => Ok(Receipt {
                        message: "the script does not know `stop`".to_owned(),
                        warnings: vec![format!(
                            "{unit} may still run: the script does not know `stop` (exit 64)"
                        )],
                        ..Receipt::default()
                    }),
                }
            }
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        let Some(spec) = self.spec(unit, Some(release))? else { return Ok(Vec::new()) };
        if let Some(host) = self.hosts.of(unit)? {
            return script_remote::obstacles(host.as_ref(), spec).await;
        }
        let program = self.home.program(spec);
        Ok(match std::fs::metadata(&program) {
            Err(e) => vec![format!("the script `{}` can't be used: {e}", spec.program)],
            Ok(m) if !m.is_file() => vec![format!("the script `{}` is not a file", spec.program)],
            Ok(m) if m.permissions().mode() & 0o111 == 0 => {
                vec![format!(
                    "the script `{}` is not executable; run `chmod +x {}`",
                    spec.program, spec.program
                )]
            }
            Ok(_) => Vec::new(),
        })
    }
}

fn receipt(verb: &str, finished: &Finished) -> Receipt {
    let said = finished.stdout.last_text(200);
    let last = said.lines().last().unwrap_or_default();
    let message =
        if last.is_empty() { format!("the script did `{verb}`") } else { last.to_owned() };
    Receipt { message, ..Receipt::default() }
}
