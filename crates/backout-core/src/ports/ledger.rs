//! The store of everything.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentKey, LedgerId, OperationId, ReleaseId, RequestId};
use crate::model::{
    ControllerBeat, Deployment, DeploymentFilter, EnvironmentRecord, LiveHealth, ReadinessReport,
    Release, Request, RequestAnswer, RollbackRecord,
};
use crate::plan::Plan;
use crate::saga::Entry;

/// Who holds (or wants) a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `user@host:pid`, for people.
    pub label: String,
    /// Process id.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot (`/proc/PID/stat`, field 22), so that a reused pid is not mistaken.
    pub pid_start: u64,
    /// The boot it lives in.
    pub boot_id: String,
    /// What it does: `deploy`, `rollback`, `recover`, `status`, …
    pub activity: String,
    /// A person's rollback or down: only a person against a person is busy.
    pub person: bool,
    /// It is about to go back, to stop, or to end what is there: its writes may use the space that is reserved for that.
    #[serde(default)]
    pub goes_back: bool,
}

/// The right to write to one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The environment.
    pub key: EnvironmentKey,
    /// Grows with every claim.
    pub epoch: u64,
    /// Its term, milliseconds; renew at a third of it.
    pub term_ms: u64,
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Who.
    pub holder: Holder,
    /// Epoch.
    pub epoch: u64,
    /// The holder's process lives and its term has not ended.
    pub alive: bool,
    /// When it was claimed.
    pub since: Timestamp,
}

/// A standing controller as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerView {
    /// What it said last.
    pub beat: ControllerBeat,
    /// Its process lives and its term has not ended.
    pub alive: bool,
}

/// Why a claim was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A living holder has it.
    #[error("busy: {} holds this environment since {}", .0.holder.label, .0.since)]
    Busy(Box<LeaseView>),
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A failure of the ledger itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Can't be read or written now.
    #[error("failed to use the ledger: {0}")]
    Unavailable(String),
    /// Written by a newer version.
    #[error(
        "the ledger has format {found}, this version reads up to {supported}; use the newer backout"
    )]
    NewerFormat {
        /// What it has.
        found: i64,
        /// What this version knows.
        supported: i64,
    },
    /// One record can't be read; the rest can.
    #[error("failed to read {what} from the ledger: {message}")]
    CorruptRecord {
        /// Which.
        what: String,
        /// Why.
        message: String,
    },
    /// No space left.
    #[error("failed to write the ledger: no space left on the device that holds {0}")]
    DiskFull(String),
}

/// Why a commit was refused. On any of them no further effect starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended in between.
    #[error("the journal of {operation} is at {found}, not at {expected}")]
    Conflict {
        /// The operation.
        operation: OperationId,
        /// What the caller believed.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The lease was lost to a newer epoch.
    #[error("the lease with epoch {ours} was lost to epoch {current}")]
    Fenced {
        /// The caller's.
        ours: u64,
        /// The newest.
        current: u64,
    },
    /// The ledger can't be written.
    #[error(transparent)]
    Unavailable(#[from] LedgerError),
}

/// A message to be sent by whoever drains the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// What it is about: `rollback_completed`, `stuck`, …
    pub topic: String,
    /// Its content.
    pub body: serde_json::Value,
}

/// A change that commits together with entries.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new operation begins; at most one is open per environment.
    Open(Box<Plan>),
    /// The operation of the commit is over.
    Close,
    /// The row of a deployment.
    Deployment(Box<Deployment>),
    /// The row of the environment.
    Environment(Box<EnvironmentRecord>),
    /// A release, if it is new.
    Release(Box<Release>),
    /// The row of a rollback.
    Rollback(Box<RollbackRecord>),
    /// What became of a request that has no answer yet.
    Answer(RequestId, RequestAnswer),
    /// To be sent.
    Outbox(OutboxMessage),
}

/// Entries of one operation and the changes that belong to them: all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The operation whose journal grows; for `Change::Open` of another one, that one's entries come in a commit of their own.
    pub operation: OperationId,
    /// Entries it has already.
    pub expected_sequence: u64,
    /// New entries.
    pub entries: Vec<Entry>,
    /// Changes.
    pub changes: Vec<Change>,
}

/// The store of everything.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Its id, written into the markers of what it manages.
    async fn id(&self) -> Result<LedgerId, LedgerError>;

    /// A secret of this ledger for keyed hashes of secret values.
    async fn hash_key(&self) -> Result<Vec<u8>, LedgerError>;

    /// Claims an environment with the next epoch. A dead holder's lease is free at once, a stopped or hung
    /// one's when its term (by a clock that runs through suspend and is never set) ends.
    async fn claim(&self, key: &EnvironmentKey, holder: &Holder) -> Result<Lease, ClaimError>;

    /// Extends the term.
    ///
    /// # Errors
    /// `Fenced` when it was lost.
    async fn renew(&self, lease: &Lease) -> Result<(), AppendError>;

    /// Gives it back. Losing it before is fine.
    async fn release(&self, lease: &Lease) -> Result<(), LedgerError>;

    /// Who holds an environment now or held it last.
    async fn lease(&self, key: &EnvironmentKey) -> Result<Option<LeaseView>, LedgerError>;

    /// Commits, in order, all or nothing; checks the epoch in the same transaction.
    ///
    /// # Errors
    /// On any error nothing was written, but for one: `Unavailable` says so when the answer of a server was lost and
    /// could not be found out in time. Then either all of it is there or nothing, and whoever goes on sees which: the
    /// same commit once more conflicts where it is.
    async fn commit(&self, lease: &Lease, commits: &[Commit]) -> Result<(), AppendError>;

    /// All environments known, or those of one app.
    async fn environments(
        &self,
        app: Option<&crate::ids::AppName>,
    ) -> Result<Vec<EnvironmentRecord>, LedgerError>;

    /// One environment.
    async fn environment(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<EnvironmentRecord>, LedgerError>;

    /// The open operation of an environment.
    async fn open_operation(&self, key: &EnvironmentKey) -> Result<Option<Plan>, LedgerError>;

    /// The id of the open operation of an environment, also where its plan can't be read.
    async fn open_operation_id(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<OperationId>, LedgerError>;

    /// One operation, open or not.
    async fn operation(&self, operation: &OperationId) -> Result<Option<Plan>, LedgerError>;

    /// The journal of an operation, in order.
    async fn entries(&self, operation: &OperationId) -> Result<Vec<Entry>, LedgerError>;

    /// How many entries the journal of an operation has, readable or not.
    async fn journal_length(&self, operation: &OperationId) -> Result<u64, LedgerError>;

    /// Deployments, newest first.
    async fn deployments(
        &self,
        key: &EnvironmentKey,
        filter: &DeploymentFilter,
    ) -> Result<Vec<Deployment>, LedgerError>;

    /// One deployment by number.
    async fn deployment(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<Deployment>, LedgerError>;

    /// One deployment by its global id, of any environment.
    async fn deployment_by_id(&self, id: &str) -> Result<Option<Deployment>, LedgerError>;

    /// One release.
    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError>;

    /// All releases that any deployment of an app names (for pruning: pins are counted over environments).
    async fn releases_of(&self, app: &crate::ids::AppName) -> Result<Vec<Release>, LedgerError>;

    /// The record of the rollback that made a deployment.
    async fn rollback_of(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<RollbackRecord>, LedgerError>;

    /// A rollback record by id.
    async fn rollback_by_id(&self, id: &str) -> Result<Option<RollbackRecord>, LedgerError>;

    /// Stores bytes by content (`sha256:…`), at most 10 MiB. Idempotent.
    async fn put_blob(&self, bytes: &[u8]) -> Result<String, LedgerError>;

    /// The bytes of a digest, verified against it.
    async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Writes a request row. Needs no lease.
    async fn submit(&self, request: &Request) -> Result<(), LedgerError>;

    /// Requests to an operation without an answer, oldest first.
    async fn pending_requests(&self, operation: &OperationId) -> Result<Vec<Request>, LedgerError>;

    /// One request.
    async fn request(&self, id: &RequestId) -> Result<Option<Request>, LedgerError>;

    /// Deploys that were ordered and that nobody has begun or answered, oldest first; of one environment, or of all.
    async fn orders(&self, key: Option<&EnvironmentKey>) -> Result<Vec<Request>, LedgerError>;

    /// Answers a request that nobody has answered, without a lease: an order that is refused or withdrawn.
    /// Returns whether this was the answer.
    async fn answer(&self, id: &RequestId, answer: &RequestAnswer) -> Result<bool, LedgerError>;

    /// A controller lives: until its term (that of a lease) ends, its process does, or it leaves.
    async fn beat(&self, beat: &ControllerBeat) -> Result<(), LedgerError>;

    /// A controller leaves.
    async fn leave(&self, holder: &Holder) -> Result<(), LedgerError>;

    /// Controllers, the one that has run longest first; those that are gone may be left out.
    async fn controllers(&self) -> Result<Vec<ControllerView>, LedgerError>;

    /// Last rollback readiness of an environment.
    async fn readiness(&self, key: &EnvironmentKey)
    -> Result<Option<ReadinessReport>, LedgerError>;

    /// Keeps it.
    async fn put_readiness(
        &self,
        key: &EnvironmentKey,
        report: &ReadinessReport,
    ) -> Result<(), LedgerError>;

    /// Forgets it: there is nothing to go back to any more. Needs no lease.
    async fn forget_readiness(&self, key: &EnvironmentKey) -> Result<(), LedgerError>;

    /// Last health seen of what is live.
    async fn health(&self, key: &EnvironmentKey) -> Result<Option<LiveHealth>, LedgerError>;

    /// Keeps it.
    async fn put_health(
        &self,
        key: &EnvironmentKey,
        health: &LiveHealth,
    ) -> Result<(), LedgerError>;

    /// A small document beside the history, by name; it may be lost without harm.
    async fn document(
        &self,
        key: &EnvironmentKey,
        name: &str,
    ) -> Result<Option<serde_json::Value>, LedgerError>;

    /// Keeps it in place of the one before: at most 256 KiB, and the 200 newest of an environment. Needs no lease.
    async fn put_document(
        &self,
        key: &EnvironmentKey,
        name: &str,
        document: &serde_json::Value,
    ) -> Result<(), LedgerError>;

    /// Shows the audit log and every record that it covers, as of one moment.
    async fn audit_scan(
        &self,
        visitor: &mut dyn super::audit::AuditVisitor,
    ) -> Result<(), LedgerError>;

    /// Unsent outbox messages, oldest first, at most `limit`.
    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxMessage)>, LedgerError>;
}
