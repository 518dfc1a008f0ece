//! Commits of the fake.

use backout_core::ids::{EnvironmentKey, OperationId};
use backout_core::model::Deployment;
use backout_core::plan::Plan;
use backout_core::ports::audit::{AUDIT_PLAIN_FORMAT, AuditKind, audit_subject};
use backout_core::ports::{AppendError, Change, Commit, Lease, LedgerError};

use super::state::{Data, DeploymentRow, OperationRow, RECORD_FORMAT, Text};

impl Data {
    pub(super) fn apply(&mut self, lease: &Lease, commit: &Commit) -> Result<(), AppendError> {
        let operation = &commit.operation;
        let found = self.sequence_of(operation);
        if found != commit.expected_sequence {
            let expected = commit.expected_sequence;
            return Err(AppendError::Conflict { operation: operation.clone(), expected, found });
        }
        for change in &commit.changes {
            self.change(&lease.key, operation, change)?;
        }
        if !commit.entries.is_empty() {
            self.append(lease, commit)?;
        }
        Ok(())
    }

    pub(super) fn sequence_of(&self, operation: &OperationId) -> u64 {
        self.entries.get(operation).map_or(0, |entries| entries.len() as u64)
    }

    fn append(&mut self, lease: &Lease, commit: &Commit) -> Result<(), LedgerError> {
        let operation = &commit.operation;
        let closes = commit.changes.iter().any(|change| matches!(change, Change::Close));
        match self.operations.get(operation) {
            None => return Err(refuse(format!("{operation} was never opened"))),
            Some(row) if row.key != lease.key => {
                return Err(refuse(format!("{operation} belongs to {}", row.key)));
            }
            Some(row) if !row.open && !closes => {
                return Err(refuse(format!("{operation} is over")));
            }
            Some(_) => {}
        }
        for entry in &commit.entries {
            if entry.epoch != lease.epoch {
                return Err(refuse(format!("an entry of {operation} has epoch {}", entry.epoch)));
            }
            let text = Text::of(entry.format, entry)?;
            let subject = audit_subject::entry(operation, self.sequence_of(operation) + 1);
            self.log(AuditKind::Entry, subject, &text);
            self.entries.entry(operation.clone()).or_default().push(text);
        }
        Ok(())
    }

    fn change(
        &mut self,
        key: &EnvironmentKey,
        operation: &OperationId,
        change: &Change,
    ) -> Result<(), AppendError> {
        match change {
            Change::Open(plan) => self.open(key, plan)?,
            Change::Close => {
                let row =
                    self.operations.get_mut(operation).filter(|row| row.open && row.key == *key);
                row.ok_or_else(|| refuse(format!("{operation} is not open in {key}")))?.open =
                    false;
                self.log(AuditKind::Close, operation.as_str(), &Text::none());
            }
            Change::Deployment(record) => self.deployment(key, record)?,
            Change::Environment(record) => {
                same(key, &record.key)?;
                self.put_environment(key, record)?;
            }
            Change::Release(record) => {
                let text = Text::of(record.content.format, record)?;
                if !self.releases.contains_key(&record.id) {
                    self.log(AuditKind::Release, record.id.as_str(), &text);
                    self.releases.insert(record.id.clone(), text);
                }
            }
            Change::Rollback(record) => {
                same(key, &record.key)?;
                let id = record.id.to_string();
                if self.rollbacks.get(&id).is_some_and(|(owner, _, _)| owner != key) {
                    return Err(refuse(format!("{id} belongs to another environment")).into());
                }
                let text = Text::of(RECORD_FORMAT, record)?;
                self.log(AuditKind::Rollback, id.as_str(), &text);
                self.rollbacks.insert(id, (key.clone(), record.deployment_to, text));
            }
            Change::Answer(id, answer) => {
                let row = self.requests.get_mut(id);
                let row = row.filter(|row| row.key == *key && row.answer.is_none());
                let row = row.ok_or_else(|| refuse(format!("no request {id} waits in {key}")))?;
                let text = Text::of(AUDIT_PLAIN_FORMAT, answer)?;
                row.answer = Some(text.clone());
                self.log(AuditKind::Answer, id.as_str(), &text);
            }
            Change::Outbox(message) => {
                let id = self.outbox.last_key_value().map_or(1, |(id, _)| id + 1);
                self.outbox.insert(id, Text::of(RECORD_FORMAT, message)?);
            }
        }
        Ok(())
    }

    fn open(&mut self, key: &EnvironmentKey, plan: &Plan) -> Result<(), AppendError> {
        same(key, &plan.key)?;
        let open =
            self.operations.iter().find(|(_, row)| row.open && row.key == *key).map(|(id, _)| id);
        let known = self.operations.contains_key(&plan.operation).then_some(&plan.operation);
        if let Some(operation) = open.or(known) {
            let found = self.sequence_of(operation);
            return Err(AppendError::Conflict { operation: operation.clone(), expected: 0, found });
        }
        let text = Text::of(plan.format, plan)?;
        self.log(AuditKind::Plan, plan.operation.as_str(), &text);
        let row = OperationRow { key: key.clone(), open: true, plan: text };
        self.operations.insert(plan.operation.clone(), row);
        Ok(())
    }

    fn deployment(&mut self, key: &EnvironmentKey, record: &Deployment) -> Result<(), LedgerError> {
        same(key, &record.key)?;
        if !self.releases.contains_key(&record.release) {
            return Err(refuse(format!("release {} is not recorded", record.release)));
        }
        let place = (key.clone(), record.number);
        let id = record.id.to_string();
        if self.deployments.iter().any(|(other, row)| (*other == place) != (row.id == id)) {
            return Err(refuse(format!(
                "{} or its number {} is another deployment's",
                record.id, record.number
            )));
        }
        let text = Text::of(RECORD_FORMAT, record)?;
        self.log(AuditKind::Deployment, audit_subject::deployment(key, record.number), &text);
        self.deployments.insert(place, DeploymentRow { id, release: record.release.clone(), text });
        Ok(())
    }
}

fn same(lease: &EnvironmentKey, record: &EnvironmentKey) -> Result<(), LedgerError> {
    if lease == record {
        Ok(())
    } else {
        Err(refuse(format!("a record of {record} under the lease of {lease}")))
    }
}

fn refuse(why: String) -> LedgerError {
    LedgerError::Unavailable(format!("refused a commit: {why}"))
}
