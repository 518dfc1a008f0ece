//! What runs a service.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::AdapterError;
use super::host::HostGuard;
use super::step_cx::StepCx;
use crate::ids::{LedgerId, ReleaseId, Unit, Version};
use crate::model::{Artifact, ConfigFile, ReadinessCheck, Release, ReplicaBatch, Service};

/// What a target can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Two releases of a service can run side by side.
    pub side_by_side: bool,
    /// A start replaces what runs, without a stop before it.
    pub replaces_in_place: bool,
    /// Instances have an address of their own.
    pub addressable: bool,
    /// It sees what runs in a unit although Backout did not start it, so that it can be adopted.
    pub sees_foreign: bool,
}

/// Whether something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// Seen running.
    Yes,
    /// Seen not running.
    No,
    /// Can't be told.
    Unknown,
}

/// What a target's own health check says, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnHealth {
    /// There is none.
    #[default]
    None,
    /// It has neither passed nor failed since the start.
    Starting,
    /// It passes.
    Passing,
    /// It fails.
    Failing,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if one ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Timestamp,
}

/// Names the ledger that manages a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The ledger.
    pub ledger: LedgerId,
}

/// What really runs in a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether it runs.
    pub running: Running,
    /// The version that runs, if it can be told.
    pub version: Option<Version>,
    /// The release that runs, if it can be told.
    pub release: Option<ReleaseId>,
    /// The deployment that started it, if it can be told.
    pub deployment: Option<u64>,
    /// What the target's own health check says.
    #[serde(default)]
    pub health: OwnHealth,
    /// Its own address.
    pub address: Option<SocketAddr>,
    /// Process id of the program.
    pub pid: Option<u32>,
    /// Restarts since its start.
    pub restarts: u32,
    /// Last end of the program.
    pub last_exit: Option<Exit>,
    /// The supervisor has given up restarting.
    pub gave_up: bool,
    /// It runs, and nothing would start it again: what supervised it is gone.
    #[serde(default)]
    pub orphaned: bool,
    /// Last lines of output, for messages; at most 2 KiB.
    pub tail: Option<String>,
    /// The ledger that manages it.
    pub marker: Option<Marker>,
    /// The guard of its last change: what its host did, or will do, by itself.
    #[serde(default)]
    pub guard: Option<HostGuard>,
}

impl Observed {
    /// Nothing is there.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            running: Running::No,
            version: None,
            release: None,
            deployment: None,
            health: OwnHealth::None,
            address: None,
            pid: None,
            restarts: 0,
            last_exit: None,
            gave_up: false,
            orphaned: false,
            tail: None,
            marker: None,
            guard: None,
        }
    }

    /// Nothing can be told.
    #[must_use]
    pub fn unknown() -> Self {
        Self { running: Running::Unknown, ..Self::nothing() }
    }
}

/// A host takes the change back by itself unless [`TargetAction::Confirm`] reaches it in time.
#[derive(Debug, Clone)]
pub struct Revert {
    /// What it goes back to; `None`: nothing runs then.
    pub back_to: Option<Arc<Release>>,
    /// Counted from the end of the change, milliseconds.
    pub within_ms: u64,
}

/// An idempotent effect on a unit.
#[derive(Debug, Clone)]
pub enum TargetAction {
    /// Make this release run in the unit. Returns once the program was started, not once it is ready.
    Start {
        /// Where.
        unit: Unit,
        /// What.
        release: Arc<Release>,
        /// The deployment it runs for.
        deployment: u64,
        /// Going back: a script is called with `rollback` where the plan replaces in place.
        restore: bool,
        /// Armed before the change is made. Only for units on other hosts.
        revert: Option<Revert>,
        /// Replace only some of its instances, and return when those are ready and what they replace has ended. Only
        /// where [`crate::model::TargetSpec::replicas`] tells that the release can be replaced so.
        batch: Option<ReplicaBatch>,
    },
    /// The change that a guarded start has made stays. Idempotent; refused as permanent once the host has taken it back.
    Confirm {
        /// Where.
        unit: Unit,
        /// What was started.
        release: Arc<Release>,
        /// The deployment it was started for.
        deployment: u64,
    },
    /// Make nothing run in the unit. The release is handed in so that its definition says how.
    Stop {
        /// Where.
        unit: Unit,
        /// What runs there.
        release: Arc<Release>,
        /// Between asking and forcing, milliseconds.
        grace_ms: u64,
    },
}

/// What a release is made from.
#[derive(Debug, Clone, Copy)]
pub enum PartsOf<'a> {
    /// What the definition on disk names now.
    Disk,
    /// What the definition among these recorded config files names.
    Recorded(&'a [ConfigFile]),
    /// What runs now, whoever started it: for `adopt`.
    Running,
    /// The same as another, for a plan that nobody has agreed to: nothing that costs room or time is fetched.
    Ahead(&'a PartsOf<'a>),
}

/// What an effect has to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// For people, one line; may be empty.
    #[serde(default)]
    pub message: String,
    /// What a person should know although it worked.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// For later steps.
    #[serde(default)]
    pub data: serde_json::Value,
    /// How long the effect took, microseconds: by the engine, once its intent was durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// A text of an incident bundle: the last of a log, or a state in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedText {
    /// Of letters, digits, `.`, `-` and `_`; unique for its unit.
    pub name: String,
    /// The text.
    pub text: String,
    /// What came before it is missing, so that its first line may be half a line.
    pub cut: bool,
}

/// What was rehearsed of a start without making it, for people, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rehearsal {
    /// What was tried, and went well.
    pub rehearsed: Vec<String>,
    /// What can't be tried without touching what runs.
    pub left_out: Vec<String>,
}

/// What was there before a release of which the ledger knows no older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// A label for it.
    pub version: Version,
    /// The definition that brings it back.
    pub service: Service,
    /// What it is made of.
    pub artifacts: Vec<Artifact>,
    /// Which it is and how it was found, for people: whoever goes back there confirms this.
    pub found: String,
}

/// What happens to a unit when Backout goes, for people, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Farewell {
    /// What is removed.
    pub removed: Vec<String>,
    /// What stays, and what to know about it.
    pub stays: Vec<String>,
    /// What runs needs the copies in the state folder.
    pub keeps_copies: bool,
}

/// Runs services.
#[async_trait]
pub trait Target: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// What really runs in a unit; `release` is what the ledger believes to be there.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError>;

    /// Completes the definition of the service in `unit` for a release of `version`, and names what such a release
    /// is made of. `None`: of files, which the caller finds by itself.
    ///
    /// # Errors
    /// Permanent when the definition is wrong or something that it names is missing: nothing was changed.
    async fn parts(
        &self,
        _unit: &Unit,
        _service: &mut Service,
        _version: &Version,
        _of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        Ok(None)
    }

    /// What was in `unit` before the ledger, where the target can tell by itself: none of `besides`, the digests of
    /// what is live and of what was rolled back from. `service` is the definition that is live. Nothing is changed.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn earlier(
        &self,
        _unit: &Unit,
        _service: &Service,
        _besides: &[String],
    ) -> Result<Option<Earlier>, AdapterError> {
        Ok(None)
    }

    /// The release in `unit` has passed its bake: for targets that name it for people. Idempotent.
    ///
    /// # Errors
    /// Transient; users do not depend on it.
    async fn mark_stable(&self, _unit: &Unit, _release: &Release) -> Result<(), AdapterError> {
        Ok(())
    }

    /// What else than its artifacts and its config going back to `release` in `unit` needs, each thing proven or not.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn restorable(
        &self,
        _unit: &Unit,
        _release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        Ok(Vec::new())
    }

    /// Last words of `release` in `unit`, for an incident bundle: logs, each at most `limit_bytes`, and what else
    /// tells why it failed. Values of secrets are taken out by the caller. Nothing is changed.
    ///
    /// # Errors
    /// Transient when nothing can be told now.
    async fn evidence(
        &self,
        _unit: &Unit,
        _release: &Release,
        _limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        Ok(Vec::new())
    }

    /// Why `release` can't be started in `unit` beside what runs without touching that; `None`: it can.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn not_beside(
        &self,
        _unit: &Unit,
        _release: &Release,
    ) -> Result<Option<String>, AdapterError> {
        Ok(None)
    }

    /// Brings what a start of `release` in `unit` needs to where it will run, so that the start itself need not wait for
    /// it. Nothing that runs changes. Idempotent; what came over before goes on from there.
    ///
    /// # Errors
    /// Transient when it could not be brought in whole now.
    async fn prepare(
        &self,
        _unit: &Unit,
        _release: &Release,
        _cx: &StepCx,
    ) -> Result<(), AdapterError> {
        Ok(())
    }

    /// Tries as much of a start of `release` in `unit` as touches nothing that runs, and leaves nothing behind.
    ///
    /// # Errors
    /// Permanent with what would fail.
    async fn rehearse(
        &self,
        unit: &Unit,
        release: &Release,
        _cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        let version = &release.content.version;
        let left_out = vec![format!("{version} was not started as {}", unit.service)];
        Ok(Rehearsal { rehearsed: Vec::new(), left_out })
    }

    /// What goes and what stays when Backout lets the unit go; with `act`, the step that does it, it is removed. What
    /// runs goes on. Idempotent.
    ///
    /// # Errors
    /// Transient when it can't be told or done now.
    async fn farewell(
        &self,
        unit: &Unit,
        _release: &Release,
        _act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        let stays = vec![format!("{} goes on as it is", unit.service)];
        Ok(Farewell { stays, ..Farewell::default() })
    }

    /// Makes an effect. Dropping the future ends what it runs; the outcome is then unknown.
    ///
    /// # Errors
    /// Says whether the effect may have happened.
    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError>;

    /// Anything outside of Backout that is in the way of starting `release` in `unit`, such as another
    /// program on its fixed port: for people, one line each.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError>;
}
