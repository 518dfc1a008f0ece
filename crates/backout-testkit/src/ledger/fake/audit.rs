//! The audit log of the fake, with a tree of its own: plain recursion, so that it can't share a mistake.

use backout_core::ids::{EnvironmentKey, LedgerId};
use backout_core::model::EnvironmentRecord;
use backout_core::ports::LedgerError;
use backout_core::ports::audit::{
    AUDIT_PLAIN_FORMAT, AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor, audit_identity,
    audit_subject,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::state::{Data, RECORD_FORMAT, Text};

/// Id of every fake ledger.
pub(super) fn id() -> LedgerId {
    LedgerId::from_entropy([7; 12])
}

const CREATED_AT: &str = "2026-01-01T00:00:00Z";

/// Root of the tree over leaves (RFC 6962, 2.1).
fn root(leaves: &[AuditLeaf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    match leaves {
        [] => {}
        [leaf] => {
            hash.update([0]);
            hash.update(leaf.bytes());
        }
        _ => {
            let mut middle = 1;
            while middle * 2 < leaves.len() {
                middle *= 2;
            }
            hash.update([1]);
            hash.update(root(&leaves[..middle]));
            hash.update(root(&leaves[middle..]));
        }
    }
    hash.finalize().into()
}

/// The head over leaves: a peak for each power of two in their number.
#[must_use]
pub fn head_of(leaves: &[AuditLeaf]) -> AuditHead {
    let (mut rest, mut peaks) = (leaves, Vec::new());
    for bit in (0..usize::BITS).rev() {
        if leaves.len() & (1 << bit) != 0 {
            let (part, others) = rest.split_at(1 << bit);
            peaks.push(root(part));
            rest = others;
        }
    }
    AuditHead { size: leaves.len() as u64, peaks }
}

impl Text {
    /// Of what has no record.
    pub(super) fn none() -> Self {
        Self { format: AUDIT_PLAIN_FORMAT, json: String::new() }
    }
}

impl Data {
    /// A ledger that has just been made.
    pub(super) fn new() -> Self {
        let mut data = Self::default();
        let json = audit_identity(id().as_str(), CREATED_AT);
        let text = Text { format: AUDIT_PLAIN_FORMAT, json };
        data.log(AuditKind::Ledger, id().as_str(), &text);
        data
    }

    pub(super) fn log(&mut self, kind: AuditKind, subject: impl Into<String>, text: &Text) {
        let leaf = AuditLeaf::new(kind, subject, text.format, &text.json, Timestamp::UNIX_EPOCH);
        self.audit.push(AuditLeaf { index: self.audit.len() as u64, ..leaf });
    }

    pub(super) fn put_environment(
        &mut self,
        key: &EnvironmentKey,
        record: &EnvironmentRecord,
    ) -> Result<(), LedgerError> {
        let text = Text::of(RECORD_FORMAT, record)?;
        self.log(AuditKind::Environment, audit_subject::environment(key), &text);
        self.environments.insert(key.clone(), text);
        Ok(())
    }

    pub(super) fn scan(&self, visitor: &mut dyn AuditVisitor) {
        visitor.head(&id(), head_of(&self.audit));
        self.audit.iter().for_each(|leaf| visitor.leaf(leaf.clone()));
        let mut show = |kind, subject: String, text: &Text| {
            let Text { format, json } = text.clone();
            visitor.record(AuditRecord { kind, subject, format, json, odd: None });
        };
        let json = audit_identity(id().as_str(), CREATED_AT);
        show(AuditKind::Ledger, id().to_string(), &Text { format: AUDIT_PLAIN_FORMAT, json });
        for (key, text) in &self.environments {
            show(AuditKind::Environment, audit_subject::environment(key), text);
        }
        for (id, row) in &self.operations {
            show(AuditKind::Plan, id.to_string(), &row.plan);
            if !row.open {
                show(AuditKind::Close, id.to_string(), &Text::none());
            }
        }
        for (id, texts) in &self.entries {
            for (sequence, text) in (1..).zip(texts) {
                show(AuditKind::Entry, audit_subject::entry(id, sequence), text);
            }
        }
        for (id, text) in &self.releases {
            show(AuditKind::Release, id.to_string(), text);
        }
        for ((key, number), row) in &self.deployments {
            show(AuditKind::Deployment, audit_subject::deployment(key, *number), &row.text);
        }
        for (id, (_, _, text)) in &self.rollbacks {
            show(AuditKind::Rollback, id.clone(), text);
        }
        for (id, row) in &self.requests {
            show(AuditKind::Request, id.to_string(), &row.text);
            if let Some(answer) = &row.answer {
                show(AuditKind::Answer, id.to_string(), answer);
            }
        }
    }
}
