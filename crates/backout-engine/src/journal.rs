//! One operation in memory: its plan, journal, state and rows, kept in step with the ledger.

use std::collections::BTreeMap;

use backout_core::ids::{DeploymentId, EnvironmentKey, OperationId, RequestId, RollbackId};
use backout_core::model::{EnvironmentRecord, Health, RequestAnswer};
use backout_core::plan::Plan;
use backout_core::ports::{AppendError, Change, Commit, Lease, Ledger, LedgerError};
use backout_core::saga::{
    CorruptJournal, ENTRY_FORMAT, Ending, Entry, EntryKind, Opening, State, fold, on_end,
    on_progress, opening,
};
use jiff::Timestamp;

use crate::context::Context;
use crate::faults::{boundary, mutant};

/// Why the journal can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The commit was refused: no further effect may start.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Reading failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The records of this operation make no sense; it is quarantined.
    #[error("{0}; see it with `backout inspect`, end it with `backout resolve --reason TEXT`")]
    Corrupt(#[from] CorruptJournal),
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pub plan: Plan,
    pub state: State,
    pub rows: Opening,
    entries: Vec<Entry>,
    durable: usize,
    changes: Vec<Change>,
    rows_changed: bool,
}

impl Journal {
    /// An operation that is about to be opened, and the commit that opens it.
    pub fn open(
        cx: &Context,
        plan: Plan,
        environment: &EnvironmentRecord,
        left: Option<backout_core::model::Deployment>,
        epoch: u64,
    ) -> Result<Self, CorruptJournal> {
        let rows = opening(&plan, environment, left, &cx.folder);
        let mut journal = Self {
            state: fold(&plan, &[])?,
            rows,
            entries: Vec::new(),
            durable: 0,
            changes: Vec::new(),
            rows_changed: true,
            plan,
        };
        journal.changes.push(Change::Open(Box::new(journal.plan.clone())));
        journal.note(cx.now(), epoch, EntryKind::Claimed { holder: cx.holder.label.clone() })?;
        Ok(journal)
    }

    /// An operation as the ledger has it.
    pub async fn load(ledger: &dyn Ledger, plan: Plan) -> Result<Self, JournalError> {
        let entries = ledger.entries(&plan.operation).await?;
        let state = fold(&plan, &entries)?;
        let environment = ledger
            .environment(&plan.key)
            .await?
            .unwrap_or_else(|| EnvironmentRecord::new(plan.key.clone()));
        let (mut deployment, mut left, mut rollback) = (None, None, None);
        if let Some(number) = plan.deployment {
            deployment = ledger.deployment(&plan.key, number).await?;
            rollback = ledger.rollback_of(&plan.key, number).await?;
        }
        if let Some(live) = &plan.left {
            left = ledger.deployment(&plan.key, live.number).await?;
        }
        let durable = entries.len();
        let rows = Opening { environment, deployment, left, rollback };
        Ok(Self { plan, state, rows, entries, durable, changes: Vec::new(), rows_changed: false })
    }

    /// Adds a fact in memory. Nothing may act on it before [`Journal::flush`].
    pub fn note(
        &mut self,
        at: Timestamp,
        epoch: u64,
        kind: EntryKind,
    ) -> Result<(), CorruptJournal> {
        let entry = Entry { format: ENTRY_FORMAT, at, epoch, kind };
        let mut entries = std::mem::take(&mut self.entries);
        entries.push(entry);
        // Folding anew keeps one single definition of state; journals have a few dozen entries.
        let folded = fold(&self.plan, &entries);
        self.entries = entries;
        match folded {
            Ok(state) => {
                self.state = state;
                let entry = self.entries.last().expect("it was just pushed");
                self.rows_changed |= on_progress(&self.plan, &mut self.rows, entry);
                Ok(())
            }
            Err(error) => {
                self.entries.pop();
                Err(error)
            }
        }
    }

    /// How many have claimed it, one after the other, since anything became of it: none of them came to a step.
    pub fn idle_claims(&self) -> usize {
        let idle = |entry: &&Entry| {
            matches!(
                entry.kind,
                EntryKind::Claimed { .. } | EntryKind::Warning { .. } | EntryKind::Failing { .. }
            )
        };
        let idle = self.entries.iter().rev().take_while(idle);
        idle.filter(|entry| matches!(entry.kind, EntryKind::Claimed { .. })).count()
    }

    /// How many have held it, the one who began it among them.
    pub fn holders(&self) -> usize {
        let claimed = |entry: &&Entry| matches!(entry.kind, EntryKind::Claimed { .. });
        self.entries.iter().filter(claimed).count()
    }

    /// How many entries it has.
    pub fn length(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Adds a change that commits with the next entries.
    pub fn add(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// An operation whose journal can't be read, only to be closed.
    pub async fn quarantined(ledger: &dyn Ledger, plan: Plan) -> Result<Self, JournalError> {
        let environment = environment(ledger, &plan.key).await?;
        let deployment = match plan.deployment {
            Some(number) => ledger.deployment(&plan.key, number).await?,
            None => None,
        };
        let rows = Opening { environment, deployment, left: None, rollback: None };
        let state = fold(&plan, &[])?;
        let durable =
            usize::try_from(ledger.journal_length(&plan.operation).await?).unwrap_or(usize::MAX);
        Ok(Self {
            plan,
            state,
            rows,
            entries: Vec::new(),
            durable,
            changes: Vec::new(),
            rows_changed: false,
        })
    }

    /// Closes it as it is; a quarantined one gets no entry, since nothing can be added to what can't be read.
    pub fn close_as(
        &mut self,
        at: Timestamp,
        epoch: u64,
        ending: &Ending,
        health: &BTreeMap<String, Health>,
    ) -> Result<(), CorruptJournal> {
        if self.entries.len() == self.durable {
            return self.end(at, epoch, ending, health);
        }
        let messages = on_end(&self.plan, &self.state, &mut self.rows, ending, health, at);
        self.rows_changed = true;
        self.changes.push(Change::Close);
        self.changes.extend(messages.into_iter().map(Change::Outbox));
        Ok(())
    }

    /// Adds what became of a request.
    pub fn answer(&mut self, id: RequestId, accepted: bool, message: &str, at: Timestamp) {
        let message = message.to_owned();
        let answer = RequestAnswer { accepted, message, answered_at: at, busy: false };
        self.changes.push(Change::Answer(id, answer));
    }

    /// Adds the end, and brings the rows to it.
    pub fn end(
        &mut self,
        at: Timestamp,
        epoch: u64,
        ending: &Ending,
        health: &BTreeMap<String, Health>,
    ) -> Result<(), CorruptJournal> {
        self.note(at, epoch, EntryKind::Ended { ending: ending.clone() })?;
        let messages = on_end(&self.plan, &self.state, &mut self.rows, ending, health, at);
        self.rows_changed = true;
        self.changes.push(Change::Close);
        self.changes.extend(messages.into_iter().map(Change::Outbox));
        Ok(())
    }

    /// What is not durable yet, as a commit; `None` if there is nothing.
    pub fn commit(&self) -> Option<Commit> {
        if self.durable >= self.entries.len() && self.changes.is_empty() && !self.rows_changed {
            return None;
        }
        let mut changes = self.changes.clone();
        if self.rows_changed {
            // The operation must exist before rows refer to it.
            changes.extend(self.rows.changes());
        }
        Some(Commit {
            operation: self.plan.operation.clone(),
            expected_sequence: self.durable as u64,
            entries: self.entries.get(self.durable..).unwrap_or_default().to_vec(),
            changes,
        })
    }

    /// Marks everything durable after its commit was acknowledged.
    pub fn committed(&mut self) {
        self.durable = self.durable.max(self.entries.len());
        self.changes.clear();
        self.rows_changed = false;
    }

    /// Makes everything durable.
    pub async fn flush(&mut self, ledger: &dyn Ledger, lease: &Lease) -> Result<(), JournalError> {
        if let Some(mut commit) = self.commit() {
            let mut later = Vec::new();
            if mutant("outbox_apart") {
                let outbox = |change: &Change| matches!(change, Change::Outbox(_));
                (later, commit.changes) = commit.changes.into_iter().partition(outbox);
            }
            ledger.commit(lease, std::slice::from_ref(&commit)).await?;
            if !later.is_empty() {
                boundary("before_outbox", "outbox");
                let expected_sequence = self.entries.len() as u64;
                let outbox =
                    Commit { expected_sequence, entries: Vec::new(), changes: later, ..commit };
                ledger.commit(lease, &[outbox]).await?;
            }
            self.committed();
        }
        Ok(())
    }
}

/// Fresh ids for a new operation.
pub(crate) fn new_ids(cx: &Context) -> (OperationId, DeploymentId, RollbackId) {
    (
        OperationId::from_entropy((cx.entropy)()),
        DeploymentId::from_entropy((cx.entropy)()),
        RollbackId::from_entropy((cx.entropy)()),
    )
}

/// The row of an environment, or a new one.
pub(crate) async fn environment(
    ledger: &dyn Ledger,
    key: &EnvironmentKey,
) -> Result<EnvironmentRecord, LedgerError> {
    Ok(ledger.environment(key).await?.unwrap_or_else(|| EnvironmentRecord::new(key.clone())))
}
