//! What the fake keeps. Records are kept as text, so that what can't be written and read again fails here too.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::{EnvironmentKey, OperationId, ReleaseId, RequestId};
use backout_core::ports::audit::AuditLeaf;
use backout_core::ports::{Holder, LedgerError};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Call, CommitFault};

/// Format of records that carry none themselves.
pub(super) const RECORD_FORMAT: u32 = 1;

/// A stored record, by what finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The row of an environment.
    Environment(EnvironmentKey),
    /// A plan.
    Plan(OperationId),
    /// An entry; the first is 1.
    Entry(OperationId, u64),
    /// A deployment.
    Deployment(EnvironmentKey, u64),
    /// A release.
    Release(ReleaseId),
    /// A rollback, by id.
    Rollback(String),
    /// A request.
    Request(RequestId),
    /// A message of the outbox.
    Message(i64),
    /// Bytes; with [`Harm::Garbage`] only.
    Blob(String),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It no longer reads.
    Garbage,
    /// A newer version wrote it.
    NewerFormat,
}

/// A record as text, with its format.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub format: u32,
    pub json: String,
}

impl Text {
    pub(super) fn of<T: Serialize>(format: u32, record: &T) -> Result<Self, LedgerError> {
        let json = serde_json::to_string(record)
            .map_err(|error| LedgerError::Unavailable(error.to_string()))?;
        Ok(Self { format, json })
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        what: &str,
        supported: u32,
    ) -> Result<T, LedgerError> {
        let corrupt =
            |message: String| LedgerError::CorruptRecord { what: what.to_owned(), message };
        if self.format > supported {
            let format = self.format;
            return Err(corrupt(format!(
                "it has format {format}, this version reads up to {supported}"
            )));
        }
        serde_json::from_str(&self.json).map_err(|error| corrupt(error.to_string()))
    }

    fn harm(&mut self, harm: Harm) {
        match harm {
            Harm::Garbage => self.json = "{ not json".to_owned(),
            Harm::NewerFormat => self.format = 999,
        }
    }
}

/// A plan with its state.
#[derive(Debug, Clone)]
pub(super) struct OperationRow {
    pub key: EnvironmentKey,
    pub open: bool,
    pub plan: Text,
}

/// A deployment with what queries ask.
#[derive(Debug, Clone)]
pub(super) struct DeploymentRow {
    pub id: String,
    pub release: ReleaseId,
    pub text: Text,
}

/// A request with its answer.
#[derive(Debug, Clone)]
pub(super) struct RequestRow {
    pub sequence: usize,
    pub key: EnvironmentKey,
    pub operation: OperationId,
    pub text: Text,
    pub answer: Option<Text>,
}

/// All that a commit changes: cloned, changed and put back whole, or not at all.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub environments: BTreeMap<EnvironmentKey, Text>,
    pub operations: BTreeMap<OperationId, OperationRow>,
    pub entries: BTreeMap<OperationId, Vec<Text>>,
    pub deployments: BTreeMap<(EnvironmentKey, u64), DeploymentRow>,
    pub releases: BTreeMap<ReleaseId, Text>,
    pub rollbacks: BTreeMap<String, (EnvironmentKey, u64, Text)>,
    pub requests: BTreeMap<RequestId, RequestRow>,
    pub outbox: BTreeMap<i64, Text>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub readiness: BTreeMap<EnvironmentKey, Text>,
    pub health: BTreeMap<EnvironmentKey, Text>,
    pub audit: Vec<AuditLeaf>,
}

impl Data {
    pub(super) fn damage(&mut self, record: &Stored, harm: Harm) -> bool {
        if let Stored::Blob(digest) = record {
            return self.blobs.get_mut(digest).map(|bytes| bytes.push(0)).is_some();
        }
        let text = match record {
            Stored::Environment(key) => self.environments.get_mut(key),
            Stored::Plan(id) => self.operations.get_mut(id).map(|row| &mut row.plan),
            Stored::Entry(id, sequence) => usize::try_from(*sequence)
                .ok()
                .and_then(|sequence| self.entries.get_mut(id)?.get_mut(sequence.checked_sub(1)?)),
            Stored::Deployment(key, number) => {
                self.deployments.get_mut(&(key.clone(), *number)).map(|row| &mut row.text)
            }
            Stored::Release(id) => self.releases.get_mut(id),
            Stored::Rollback(id) => self.rollbacks.get_mut(id).map(|(_, _, text)| text),
            Stored::Request(id) => self.requests.get_mut(id).map(|row| &mut row.text),
            Stored::Message(id) => self.outbox.get_mut(id),
            Stored::Blob(_) => None,
        };
        text.map(|text| text.harm(harm)).is_some()
    }
}

/// A lease with who had it last.
#[derive(Debug, Clone)]
pub(super) struct LeaseRow {
    pub holder: Holder,
    pub epoch: u64,
    pub expires_ms: u64,
    pub released: bool,
    pub since: Timestamp,
}

/// Everything.
pub(super) struct State {
    pub term_ms: u64,
    pub boottime_ms: u64,
    pub boots: u32,
    pub boot_id: String,
    pub last_pid: u32,
    pub dead: BTreeSet<(u32, u64)>,
    pub leases: BTreeMap<EnvironmentKey, LeaseRow>,
    /// By process: the end of its term, and what it said.
    pub controllers: BTreeMap<(u32, u64), (u64, Text)>,
    /// By environment and name: in which order they were written, and what they say.
    pub documents: BTreeMap<(EnvironmentKey, String), (u64, serde_json::Value)>,
    pub data: Data,
    pub calls: Vec<Call>,
    pub commits: usize,
    pub faults: BTreeMap<usize, CommitFault>,
    pub down: Option<LedgerError>,
}

impl State {
    pub(super) fn new(term_ms: u64) -> Self {
        Self {
            term_ms,
            boottime_ms: 1_000_000,
            boots: 1,
            boot_id: "boot-1".to_owned(),
            last_pid: 1000,
            dead: BTreeSet::new(),
            leases: BTreeMap::new(),
            controllers: BTreeMap::new(),
            documents: BTreeMap::new(),
            data: Data::new(),
            calls: Vec::new(),
            commits: 0,
            faults: BTreeMap::new(),
            down: None,
        }
    }
}
