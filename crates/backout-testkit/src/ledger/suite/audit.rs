//! Everything that is written is logged, with its write.

use std::collections::BTreeSet;

use backout_core::ids::LedgerId;
use backout_core::model::EnvironmentRecord;
use backout_core::ports::audit::{
    AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor, audit_digest,
};
use backout_core::ports::{Change, Commit, Ledger};

use super::{Leased, LedgerHarness};
use crate::ledger::{audit_head_of, samples};

/// What a ledger shows of itself.
#[derive(Default)]
struct Shown {
    ledger: Option<LedgerId>,
    head: AuditHead,
    leaves: Vec<AuditLeaf>,
    records: Vec<AuditRecord>,
}

impl AuditVisitor for Shown {
    fn head(&mut self, ledger: &LedgerId, head: AuditHead) {
        assert!(self.ledger.is_none() && self.leaves.is_empty(), "the head comes first, and once");
        self.ledger = Some(ledger.clone());
        self.head = head;
    }

    fn leaf(&mut self, leaf: AuditLeaf) {
        assert!(self.records.is_empty(), "leaves come before records");
        self.leaves.push(leaf);
    }

    fn record(&mut self, record: AuditRecord) {
        self.records.push(record);
    }
}

impl Shown {
    fn subjects(&self, kind: AuditKind) -> Vec<&str> {
        let ours = self.leaves.iter().filter(|leaf| leaf.kind == kind.as_str());
        ours.map(|leaf| leaf.subject.as_str()).collect()
    }
}

/// Shows a ledger, and fails unless log and records agree.
async fn agreed(ledger: &dyn Ledger) -> Shown {
    let mut shown = Shown::default();
    ledger.audit_scan(&mut shown).await.unwrap();
    let id = shown.ledger.clone().unwrap();
    assert_eq!(id, ledger.id().await.unwrap());
    assert_eq!(shown.head, audit_head_of(&shown.leaves));
    assert!(shown.leaves.iter().zip(0..).all(|(leaf, place)| leaf.index == place));
    assert_eq!(
        (shown.leaves[0].kind.as_str(), shown.leaves[0].subject.as_str()),
        ("ledger", id.as_str())
    );
    let mut subjects = BTreeSet::new();
    for AuditRecord { kind, subject, format, json, odd } in &shown.records {
        let about = |leaf: &&AuditLeaf| leaf.kind == kind.as_str() && leaf.subject == *subject;
        let newest = shown.leaves.iter().rev().find(about);
        let newest = newest.unwrap_or_else(|| panic!("{kind:?} {subject} was not logged"));
        assert_eq!(newest.digest, audit_digest(json), "{kind:?} {subject}");
        assert_eq!(newest.format, *format, "{kind:?} {subject}");
        assert_eq!(*odd, None, "{kind:?} {subject}");
        assert!(
            subjects.insert((kind.as_str(), subject.as_str())),
            "{kind:?} {subject} comes twice"
        );
    }
    for leaf in shown.leaves.iter().filter(|leaf| leaf.kind != AuditKind::Note.as_str()) {
        let key = (leaf.kind.as_str(), leaf.subject.as_str());
        assert!(subjects.contains(&key), "{key:?} was logged and has no record");
    }
    shown
}

/// One of every kind, and those that change once more.
async fn one_of_each(leased: &Leased) {
    let operation = samples::operation("one");
    leased.open("one").await;
    let release = leased.release("1.0.0");
    let deployment = samples::deployment(leased.key(), &operation, 7, &release);
    let rollback = samples::rollback("one", &deployment);
    let request = samples::request(leased.key(), &operation, "abort");
    leased.ledger.submit(&request).await.unwrap();
    let environment = EnvironmentRecord::new(leased.key().clone());
    let changes = vec![
        Change::Release(Box::new(release)),
        Change::Deployment(Box::new(deployment.clone())),
        Change::Rollback(Box::new(rollback.clone())),
        Change::Environment(Box::new(environment)),
        Change::Answer(request.id.clone(), samples::answer("done")),
        Change::Outbox(samples::message("stuck")),
    ];
    leased.commit(&[Commit { changes, ..leased.entries("one", 1, &["a", "b"]) }]).await;
    let deployment = backout_core::model::Deployment { rejected: true, ..deployment };
    let rollback = backout_core::model::RollbackRecord { notification_sent: true, ..rollback };
    let changes = vec![
        Change::Deployment(Box::new(deployment)),
        Change::Rollback(Box::new(rollback)),
        Change::Close,
    ];
    leased.commit(&[Commit { changes, ..leased.entries("one", 3, &["c"]) }]).await;
}

/// Under the subject that every ledger gives it, in the order of its commits.
pub async fn every_record_is_logged(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    one_of_each(&leased).await;
    let shown = agreed(leased.ledger.as_ref()).await;
    assert_eq!(shown.subjects(AuditKind::Environment), ["shop/production"; 2]);
    assert_eq!(shown.subjects(AuditKind::Plan), ["op_one"]);
    assert_eq!(shown.subjects(AuditKind::Close), ["op_one"]);
    let entries = ["op_one/1", "op_one/2", "op_one/3", "op_one/4"];
    assert_eq!(shown.subjects(AuditKind::Entry), entries);
    assert_eq!(shown.subjects(AuditKind::Release), [leased.release("1.0.0").id.as_str()]);
    assert_eq!(shown.subjects(AuditKind::Deployment), ["shop/production/7"; 2]);
    assert_eq!(shown.subjects(AuditKind::Rollback), ["rb_one"; 2]);
    assert_eq!(shown.subjects(AuditKind::Request), ["rq_abort"]);
    assert_eq!(shown.subjects(AuditKind::Answer), ["rq_abort"]);
    assert_eq!(shown.leaves.len(), 1 + 2 + 1 + 1 + 4 + 1 + 2 + 2 + 1 + 1);
}

/// What stays as it was has no leaf of its own.
pub async fn what_changes_nothing_is_not_logged(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    one_of_each(&leased).await;
    let before = agreed(leased.ledger.as_ref()).await.leaves.len();
    leased
        .commit(&[leased.changes(vec![Change::Release(Box::new(leased.release("1.0.0")))])])
        .await;
    let request = samples::request(leased.key(), &samples::operation("one"), "abort");
    leased.ledger.submit(&request).await.unwrap();
    leased.ledger.renew(&leased.lease).await.unwrap();
    leased.commit(&[]).await;
    leased.ledger.put_blob(b"bytes").await.unwrap();
    leased.ledger.release(&leased.lease).await.unwrap();
    Leased::new(harness).await;
    assert_eq!(agreed(leased.ledger.as_ref()).await.leaves.len(), before);
}

/// Neither a conflict in the last commit of several nor a lost lease leaves a leaf behind.
pub async fn a_refused_commit_logs_nothing(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let before = agreed(leased.ledger.as_ref()).await.leaves.len();
    let commits = [leased.entries("one", 1, &["a"]), leased.entries("one", 1, &["b"])];
    leased.ledger.commit(&leased.lease, &commits).await.unwrap_err();
    harness.kill(&leased.holder);
    let next = Leased::new(harness).await;
    leased.ledger.commit(&leased.lease, &[leased.entries("one", 1, &["a"])]).await.unwrap_err();
    assert_eq!(agreed(leased.ledger.as_ref()).await.leaves.len(), before);
    next.commit(&[next.entries("one", 1, &["a"])]).await;
    assert_eq!(agreed(leased.ledger.as_ref()).await.leaves.len(), before + 1);
}

/// Two processes write to one log.
pub async fn writers_share_the_log(harness: &dyn LedgerHarness) {
    let mut other = Leased::of(harness, &samples::key("shop", "staging")).await;
    other.ledger = harness.reopen().await;
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    other.open("two").await;
    for sequence in 1..12 {
        let (ours, theirs) = tokio::join!(
            async { leased.commit(&[leased.entries("one", sequence, &["a"])]).await },
            async { other.commit(&[other.entries("two", sequence, &["b"])]).await },
        );
        let ((), ()) = (ours, theirs);
    }
    let shown = agreed(leased.ledger.as_ref()).await;
    assert_eq!(shown.subjects(AuditKind::Entry).len(), 24);
    assert_eq!(agreed(other.ledger.as_ref()).await.leaves, shown.leaves);
}

/// A commit with more entries than go in with one statement.
pub async fn a_large_commit_is_logged_whole(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let messages: Vec<String> = (0..333).map(|number| number.to_string()).collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    leased.commit(&[leased.entries("one", 1, &messages)]).await;
    let shown = agreed(leased.ledger.as_ref()).await;
    let expected: Vec<String> = (1..=334).map(|number| format!("op_one/{number}")).collect();
    assert_eq!(shown.subjects(AuditKind::Entry), expected);
}
