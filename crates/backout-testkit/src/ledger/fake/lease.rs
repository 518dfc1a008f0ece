//! Leases of the fake.

use backout_core::ids::EnvironmentKey;
use backout_core::model::EnvironmentRecord;
use backout_core::ports::audit::{AuditKind, audit_subject};
use backout_core::ports::{AppendError, ClaimError, Holder, Lease, LeaseView, LedgerError};

use super::state::{LeaseRow, RECORD_FORMAT, State, Text};
use crate::ledger::samples;

impl State {
    pub(super) fn claim(
        &mut self,
        key: &EnvironmentKey,
        holder: &Holder,
    ) -> Result<Lease, ClaimError> {
        if let Some(view) = self.view(key).filter(|view| view.alive) {
            return Err(ClaimError::Busy(Box::new(view)));
        }
        if !self.data.environments.contains_key(key) {
            let text = Text::of(RECORD_FORMAT, &EnvironmentRecord::new(key.clone()))?;
            self.data.log(AuditKind::Environment, audit_subject::environment(key), &text);
            self.data.environments.insert(key.clone(), text);
        }
        Ok(self.grant(key, holder))
    }

    /// The next epoch, whoever has it.
    pub(super) fn grant(&mut self, key: &EnvironmentKey, holder: &Holder) -> Lease {
        let epoch = self.leases.get(key).map_or(0, |row| row.epoch) + 1;
        let seconds = i64::try_from(self.boottime_ms / 1000).unwrap_or(0);
        let row = LeaseRow {
            holder: holder.clone(),
            epoch,
            expires_ms: self.boottime_ms + self.term_ms,
            released: false,
            since: samples::at(seconds),
        };
        self.leases.insert(key.clone(), row);
        Lease { key: key.clone(), epoch, term_ms: self.term_ms }
    }

    pub(super) fn view(&self, key: &EnvironmentKey) -> Option<LeaseView> {
        let row = self.leases.get(key)?;
        let lives = row.holder.boot_id == self.boot_id
            && !self.dead.contains(&(row.holder.pid, row.holder.pid_start));
        let alive = !row.released && lives && self.boottime_ms < row.expires_ms;
        Some(LeaseView { holder: row.holder.clone(), epoch: row.epoch, alive, since: row.since })
    }

    pub(super) fn renew(&mut self, lease: &Lease) -> Result<(), AppendError> {
        self.check(lease)?;
        let expires_ms = self.boottime_ms + self.term_ms;
        if let Some(row) = self.leases.get_mut(&lease.key) {
            row.expires_ms = expires_ms;
        }
        Ok(())
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), LedgerError> {
        if let Some(row) = self.leases.get_mut(&lease.key).filter(|row| row.epoch == lease.epoch) {
            row.released = true;
        }
        Ok(())
    }

    pub(super) fn check(&self, lease: &Lease) -> Result<(), AppendError> {
        match self.leases.get(&lease.key) {
            Some(row) if row.epoch == lease.epoch && !row.released => Ok(()),
            row => Err(AppendError::Fenced {
                ours: lease.epoch,
                current: row.map_or(0, |row| row.epoch),
            }),
        }
    }
}
