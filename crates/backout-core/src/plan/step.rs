//! The parts of a plan.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{
    DeploymentId, EnvironmentKey, HostName, OperationId, ReleaseId, RollbackId, ServiceName, Slot,
    Version, hex,
};
use crate::model::{
    OnNoData, OperationKind, ReplicaBatch, RollbackType, Stage, Surface, Trigger, TripRule,
};

/// Newest format of [`Plan`] that this version reads and writes.
pub const PLAN_FORMAT: u32 = 1;

/// A live deployment as a plan names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Its number.
    pub number: u64,
    /// Its release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// Where it runs.
    pub slot: Slot,
}

/// What an operation will do, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format.
    pub format: u32,
    /// The operation.
    pub operation: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The deployment it makes; none for `down`.
    pub deployment: Option<u64>,
    /// Global id of that deployment.
    pub deployment_id: Option<DeploymentId>,
    /// The rollback record it makes.
    pub rollback_id: Option<RollbackId>,
    /// The release that shall be live; none for `down`.
    pub release: Option<ReleaseId>,
    /// Its label.
    pub version: Option<Version>,
    /// The services that it was asked for; none: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// The slot it uses.
    pub slot: Slot,
    /// What is live as it begins. A deploy goes back to this.
    pub from: Option<Live>,
    /// For rollbacks: the deployment that is left (the bad one), if another than `from`.
    pub left: Option<Live>,
    /// The left release counts as bad: a verdict failed, or a person says so.
    pub reject_left: bool,
    /// The target was stable before.
    pub target_was_stable: bool,
    /// For rollbacks.
    pub rollback_type: Option<RollbackType>,
    /// For rollbacks, and for a `down` that takes a first deployment back.
    pub trigger: Option<Trigger>,
    /// Through which door it came.
    pub surface: Surface,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: Option<String>,
    /// `--force` or a person's confirmation.
    pub forced: bool,
    /// Lifted checks.
    pub overrides: Vec<String>,
    /// The sentences behind the verdict that caused it.
    pub evidence: Vec<String>,
    /// What a person should know before it begins.
    pub warnings: Vec<String>,
    /// Limit of its own work, milliseconds; holds and bake do not count.
    pub work_timeout_ms: u64,
    /// Name of the strategy.
    pub strategy: String,
    /// A failing verdict takes it back by itself.
    pub automatic_rollback: bool,
    /// When it was made.
    pub planned_at: Timestamp,
    /// Index of the step with whose outcome its deployment becomes the live one.
    pub live_at: Option<usize>,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Digest over all that is done, to what, and which safety is lifted: what an approval binds to. Ids, times, who
    /// asked and the sentences beside it are not part of it.
    ///
    /// # Panics
    /// Never: plans have only string keys, so they always serialize.
    #[must_use]
    pub fn digest(&self) -> String {
        const NOT_APPROVED: [&str; 9] = [
            "operation",
            "deployment_id",
            "rollback_id",
            "planned_at",
            "surface",
            "requested_by",
            "reason",
            "evidence",
            "warnings",
        ];
        let mut value = serde_json::to_value(self).expect("plans have only string keys");
        if let Some(fields) = value.as_object_mut() {
            NOT_APPROVED.iter().for_each(|name| drop(fields.remove(*name)));
        }
        let bytes = serde_json::to_vec(&value).expect("a value always serializes");
        format!("sha256:{}", hex(&Sha256::digest(&bytes)))
    }

    /// Effect key of a step: the same for every try.
    #[must_use]
    pub fn effect_key(&self, step: &Step) -> String {
        format!("{}/{}", self.operation, step.key)
    }

    /// The steps that are done at the same time as this one, itself among them.
    #[must_use]
    pub fn wave_of(&self, step: usize) -> std::ops::Range<usize> {
        let same = |other: &Step| {
            self.steps.get(step).is_some_and(|this| this.wave.is_some() && other.wave == this.wave)
        };
        let before = self.steps.iter().take(step).rev().take_while(|other| same(other)).count();
        let after = self.steps.iter().skip(step + 1).take_while(|other| same(other)).count();
        step - before..step + after + 1
    }

    /// Index of the step with a key.
    #[must_use]
    pub fn step_index(&self, key: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.key == key)
    }

    /// Whether one of its steps lets the router go back by itself: the judge beside it then has less to spend.
    #[must_use]
    pub fn arms_trip(&self) -> bool {
        let armed = |step: &Step| matches!(&step.action, Action::SetTraffic(t) if t.trip.is_some());
        self.steps.iter().any(armed)
    }

    /// Whether a failing verdict of this operation leads to a way back (deploys do; rollbacks never loop).
    #[must_use]
    pub fn can_be_taken_back(&self) -> bool {
        self.kind == OperationKind::Deploy
    }
}

/// How results of a rollback are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Ending what ran.
    Stop,
    /// Artifacts and traffic: which code answers.
    Code,
    /// Config files.
    Config,
    /// Databases and state.
    Data,
    /// Starting and verifying.
    Start,
}

impl Phase {
    /// The word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Stop => "stop",
            Phase::Code => "code",
            Phase::Config => "config",
            Phase::Data => "data",
            Phase::Start => "start",
        }
    }
}

/// What failure of a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// Failure goes back.
    Compensatable,
    /// The last step whose failure goes back.
    Pivot,
    /// After the pivot: only forward.
    Retriable,
}

/// One idempotent effect, or one watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan: ordinal, name, service and host.
    pub key: String,
    /// What it does, as `status` shows it: `start`, `shift_traffic`, `bake`, …
    pub name: String,
    /// Group in results.
    pub phase: Phase,
    /// What it is done to.
    pub subject: String,
    /// State before, for the preview; also its precondition.
    pub before: String,
    /// State after, for the preview; also its postcondition.
    pub after: String,
    /// The effect.
    pub action: Action,
    /// The effect that undoes it; none if nothing is left behind.
    pub compensation: Option<Action>,
    /// What failure means.
    pub nature: Nature,
    /// Limit of one try, milliseconds; for a watch, of its work part.
    pub timeout_ms: u64,
    /// Tries before it counts as failed.
    pub max_attempts: u32,
    /// Neighbours with the same number are done at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands in a reference
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// What the watch loop of a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchMode {
    /// The side has passed its checks so many times in a row.
    Ready {
        /// Passes in a row; at least 1.
        passes: u32,
        /// And so long at least, milliseconds.
        #[serde(default, skip_serializing_if = "is_zero")]
        hold_ms: u64,
    },
    /// A canary stage's hold.
    Hold {
        /// The stage.
        stage: Stage,
        /// What too little data means in the end.
        on_no_data: OnNoData,
    },
    /// The watch after 100 %.
    Bake {
        /// Its time, milliseconds.
        bake_ms: u64,
        /// And at least so many passes in a row.
        passes: u32,
    },
    /// A rollback's proof that users are served again.
    Verify {
        /// Passes in a row on every service.
        passes: u32,
        /// Failing past this since the rollback began: completed, unhealthy. Milliseconds.
        deadline_ms: u64,
    },
    /// Nothing is judged: the old side stays for a time.
    Keep {
        /// How long, milliseconds.
        keep_ms: u64,
    },
    /// Nothing is judged: the next batch waits. What it finds has to be ready still.
    Pause {
        /// How long, milliseconds.
        pause_ms: u64,
    },
}

/// A wanted split of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStep {
    /// The side whose share is told.
    pub side: Slot,
    /// Its share, percent.
    pub percent: u8,
    /// The side that gets the rest; none: nobody else is there.
    pub rest: Option<Slot>,
    /// Arm the dead-man with the same command.
    pub dead_man: bool,
    /// Arm the trip with the same command: by this rule the router goes back to `rest` by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trip: Option<TripRule>,
    /// The side must be known healthy before it gets this.
    pub gate: bool,
    /// Requests that hang on a side that goes to 0 are cut.
    pub cut: bool,
    /// Name of the stage, for scripts.
    pub stage: String,
}

/// What a host does by itself when nobody confirms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertStep {
    /// The release that it goes back to; none: it stops what was started.
    pub back_to: Option<ReleaseId>,
    /// Counted from the start, milliseconds.
    pub within_ms: u64,
}

/// An effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Save the present: config files as they are on disk.
    Snapshot,
    /// Copy the artifacts of the release.
    PinArtifacts {
        /// The release.
        release: ReleaseId,
    },
    /// Start the proxy if it is absent.
    EnsureRouter,
    /// Start a service.
    Start {
        /// The service.
        service: ServiceName,
        /// The host.
        host: HostName,
        /// The slot.
        slot: Slot,
        /// The release.
        release: ReleaseId,
        /// The deployment it runs for.
        deployment: u64,
        /// Going back.
        restore: bool,
        /// The host takes it back by itself unless it hears otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revert: Option<RevertStep>,
        /// Only some of its instances, the others go on; none: all of them together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<ReplicaBatch>,
    },
    /// Tell a host that what it started is good: it does not go back by itself any more.
    Confirm {
        /// The service.
        service: ServiceName,
        /// The host.
        host: HostName,
        /// The slot.
        slot: Slot,
        /// The release.
        release: ReleaseId,
        /// The deployment it runs for.
        deployment: u64,
    },
    /// Stop a service.
    Stop {
        /// The service.
        service: ServiceName,
        /// The host.
        host: HostName,
        /// The slot.
        slot: Slot,
        /// The release that runs there.
        release: ReleaseId,
    },
    /// Wait until nothing is in flight on a side without weight.
    Drain {
        /// The side.
        slot: Slot,
    },
    /// Move traffic.
    SetTraffic(TrafficStep),
    /// Forget the route, and end the proxy if nothing else uses it.
    RemoveRoute,
    /// Watch without an effect.
    Watch {
        /// What it waits for.
        mode: WatchMode,
        /// The side that is judged.
        side: Slot,
        /// The side it is compared with.
        baseline: Option<Slot>,
        /// The hosts that are judged; empty: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hosts: Vec<HostName>,
    },
    /// Put the config files of a release back.
    RestoreConfig {
        /// The release.
        release: ReleaseId,
    },
    /// Forget artifact copies beyond `keep`.
    Prune,
    /// Remove what is Backout's own; what runs goes on.
    LetGo {
        /// Where it runs.
        slot: Slot,
        /// The release.
        release: ReleaseId,
    },
    /// Prove that a release could be gone back to; of a drill.
    Rehearse {
        /// Where it was started, if it was.
        slot: Slot,
        /// The release.
        release: ReleaseId,
        /// Its deployment.
        deployment: u64,
        /// It was started; else only what can be looked at.
        beside: bool,
    },
    /// Keep an incident bundle of what is left, before it is stopped.
    KeepEvidence {
        /// The slot of what is left.
        slot: Slot,
        /// Its release.
        release: ReleaseId,
        /// Its deployment.
        deployment: u64,
        /// How long collecting may take, milliseconds; then what is there so far is kept.
        limit_ms: u64,
    },
}

impl Action {
    /// Whether it changes anything outside of the ledger that users or operators could notice.
    /// Snapshots and artifact copies are ours alone.
    #[must_use]
    pub fn has_outside_effect(&self) -> bool {
        !matches!(
            self,
            Action::Snapshot
                | Action::PinArtifacts { .. }
                | Action::Watch { .. }
                | Action::Prune
                | Action::KeepEvidence { .. }
                | Action::Rehearse { .. }
        )
    }

    /// Whether its failure is only a warning.
    #[must_use]
    pub fn is_advisory(&self, kind: OperationKind) -> bool {
        matches!(self, Action::Prune | Action::KeepEvidence { .. } | Action::Rehearse { .. })
            || (matches!(self, Action::Start { .. }) && kind == OperationKind::Drill)
            || (matches!(self, Action::Snapshot) && kind != OperationKind::Deploy)
    }

    /// Whether it waits rather than works: its time does not count against the work limit.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        matches!(
            self,
            Action::Watch {
                mode: WatchMode::Hold { .. }
                    | WatchMode::Bake { .. }
                    | WatchMode::Keep { .. }
                    | WatchMode::Pause { .. },
                ..
            }
        )
    }
}
