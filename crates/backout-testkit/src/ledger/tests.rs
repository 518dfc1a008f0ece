//! The fake behaves as every ledger; its failures are the ones that were ordered.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{AppendError, Holder, Ledger, LedgerError};

use super::suite::{Leased, LedgerHarness};
use super::{Call, CommitFault, FakeLedger, Harm, Stored, samples};

struct Harness(Arc<FakeLedger>);

async fn harness() -> Harness {
    Harness(Arc::new(FakeLedger::new()))
}

#[async_trait]
impl LedgerHarness for Harness {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.0.clone()
    }

    async fn reopen(&self) -> Arc<dyn Ledger> {
        self.0.clone()
    }

    fn term_ms(&self) -> u64 {
        self.0.term_ms()
    }

    fn advance_ms(&self, ms: u64) {
        self.0.advance_ms(ms);
    }

    fn holder(&self) -> Holder {
        self.0.holder("deploy", false)
    }

    fn kill(&self, holder: &Holder) {
        self.0.kill(holder);
    }

    async fn damage(&self, record: &Stored, harm: Harm) {
        self.0.damage(record, harm);
    }
}

mod conformance {
    crate::ledger_conformance!(crate::ledger::tests::harness);
}

#[tokio::test]
async fn commits_fail_as_ordered() {
    let harness = harness().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let fake = &harness.0;
    fake.fail_commit(1, CommitFault::UnavailableBefore);
    fake.fail_commit(2, CommitFault::DiskFull);
    fake.fail_commit(3, CommitFault::UnavailableAfter);
    fake.fail_commit(5, CommitFault::Fenced);
    let append = async |expected| {
        let result =
            leased.ledger.commit(&leased.lease, &[leased.entries("one", expected, &["x"])]).await;
        (result, leased.ledger.entries(&samples::operation("one")).await.unwrap().len())
    };
    let unavailable = |(result, count): (Result<(), AppendError>, usize)| {
        assert!(
            matches!(result, Err(AppendError::Unavailable(LedgerError::Unavailable(_)))),
            "{result:?}"
        );
        count
    };
    assert_eq!(unavailable(append(1).await), 1);
    let (result, count) = append(1).await;
    assert!(
        matches!(result, Err(AppendError::Unavailable(LedgerError::DiskFull(_)))),
        "{result:?}"
    );
    assert_eq!(count, 1);
    assert_eq!(unavailable(append(1).await), 2, "written all the same");
    assert_eq!(append(2).await, (Ok(()), 3));
    let fenced = AppendError::Fenced { ours: 1, current: 2 };
    assert_eq!(append(3).await, (Err(fenced.clone()), 3));
    assert_eq!(append(3).await, (Err(fenced), 3), "lost for good");
    assert_eq!(fake.commits(), 7);
}

#[tokio::test]
async fn a_ledger_that_is_down_answers_nothing() {
    let harness = harness().await;
    let leased = Leased::new(&harness).await;
    let error = LedgerError::Unavailable("gone".to_owned());
    harness.0.set_down(Some(error.clone()));
    assert_eq!(leased.ledger.environments(None).await, Err(error.clone()));
    assert_eq!(leased.ledger.renew(&leased.lease).await, Err(AppendError::Unavailable(error)));
    harness.0.set_down(None);
    leased.open("one").await;
}

#[tokio::test]
async fn a_reboot_frees_every_lease() {
    let harness = harness().await;
    let leased = Leased::new(&harness).await;
    harness.0.reboot();
    assert!(!leased.ledger.lease(leased.key()).await.unwrap().unwrap().alive);
    assert_eq!(Leased::new(&harness).await.lease.epoch, 2);
}

#[tokio::test]
async fn calls_are_remembered_in_order() {
    let harness = harness().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    leased.ledger.put_blob(b"x").await.unwrap();
    leased.ledger.renew(&leased.lease).await.unwrap();
    leased.ledger.release(&leased.lease).await.unwrap();
    let calls = harness.0.calls();
    let key = leased.key().clone();
    assert_eq!(calls[0], Call::Claim(key.clone(), leased.holder.clone()));
    assert!(
        matches!(&calls[1], Call::Commit(commits) if commits[0].entries == [leased.entry("opened")])
    );
    assert_eq!(calls[2..], [Call::Put("blob"), Call::Renew(key.clone()), Call::Release(key)]);
}
