//! Who may write.

use backout_core::ports::{AppendError, ClaimError, Holder};

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

/// Only what a claim says counts, not who asks.
pub async fn first_claim_makes_the_environment(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    assert_eq!(ledger.lease(&key).await.unwrap(), None);
    assert_eq!(ledger.environment(&key).await.unwrap(), None);
    let lease = ledger.claim(&key, &harness.holder()).await.unwrap();
    assert_eq!((lease.epoch, lease.term_ms, &lease.key), (1, harness.term_ms(), &key));
    let record = ledger.environment(&key).await.unwrap().unwrap();
    assert_eq!((record.live, record.next_number, record.key), (None, 1, key));
}

/// Also for the very same process: it has its lease already.
pub async fn a_living_holder_is_busy(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    for asking in [harness.holder(), leased.holder.clone()] {
        match leased.ledger.claim(leased.key(), &asking).await {
            Err(ClaimError::Busy(view)) => {
                assert_eq!((&view.holder, view.epoch, view.alive), (&leased.holder, 1, true));
            }
            other => panic!("{other:?}"),
        }
    }
    let view = leased.ledger.lease(leased.key()).await.unwrap().unwrap();
    assert_eq!((view.holder, view.epoch, view.alive), (leased.holder, 1, true));
}

/// No waiting for the term of a process that is gone.
pub async fn a_dead_holder_is_free_at_once(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    harness.kill(&leased.holder);
    let view = leased.ledger.lease(leased.key()).await.unwrap().unwrap();
    assert!(!view.alive);
    let next = leased.ledger.claim(leased.key(), &harness.holder()).await.unwrap();
    assert_eq!(next.epoch, 2);
}

/// A pid says nothing without its start time.
pub async fn a_reused_pid_is_another_process(harness: &dyn LedgerHarness) {
    let (ledger, key, living) =
        (harness.ledger(), samples::key("shop", "production"), harness.holder());
    let gone = Holder { pid_start: living.pid_start + 1, ..living.clone() };
    harness.kill(&gone);
    ledger.claim(&key, &gone).await.unwrap();
    assert_eq!(ledger.claim(&key, &living).await.unwrap().epoch, 2);
}

/// Nothing lives through a boot, whatever its term says.
pub async fn another_boot_is_free_at_once(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    let before = Holder { boot_id: "an earlier boot".to_owned(), ..harness.holder() };
    ledger.claim(&key, &before).await.unwrap();
    assert_eq!(ledger.claim(&key, &harness.holder()).await.unwrap().epoch, 2);
}

/// A stopped holder keeps it until its term ends, and writes nothing after somebody else claimed.
pub async fn a_term_ends(harness: &dyn LedgerHarness) {
    let stopped = Leased::new(harness).await;
    stopped.open("one").await;
    harness.advance_ms(harness.term_ms() - 1);
    let early = stopped.ledger.claim(stopped.key(), &harness.holder()).await;
    assert!(matches!(early, Err(ClaimError::Busy(_))), "{early:?}");
    harness.advance_ms(1);
    let next = stopped.ledger.claim(stopped.key(), &harness.holder()).await.unwrap();
    assert_eq!(next.epoch, 2);
    let fenced = Err(AppendError::Fenced { ours: 1, current: 2 });
    assert_eq!(stopped.ledger.renew(&stopped.lease).await, fenced);
    let commit = stopped.entries("one", 1, &["late"]);
    assert_eq!(stopped.ledger.commit(&stopped.lease, &[commit]).await, fenced);
    assert_eq!(stopped.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
}

/// The term counts from the last renewal.
pub async fn renewing_extends_the_term(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    for _ in 0..3 {
        harness.advance_ms(harness.term_ms() - 1);
        leased.ledger.renew(&leased.lease).await.unwrap();
    }
    harness.advance_ms(harness.term_ms() - 1);
    let asked = leased.ledger.claim(leased.key(), &harness.holder()).await;
    assert!(matches!(asked, Err(ClaimError::Busy(_))), "{asked:?}");
    harness.advance_ms(1);
    assert!(leased.ledger.claim(leased.key(), &harness.holder()).await.is_ok());
}

/// A term that ended unnoticed harms nobody.
pub async fn a_late_holder_goes_on_if_nobody_claimed(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    harness.advance_ms(harness.term_ms() * 10);
    assert!(!leased.ledger.lease(leased.key()).await.unwrap().unwrap().alive);
    leased.open("one").await;
    leased.ledger.renew(&leased.lease).await.unwrap();
    assert!(leased.ledger.lease(leased.key()).await.unwrap().unwrap().alive);
}

/// Who held it last stays known.
pub async fn release_frees(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.ledger.release(&leased.lease).await.unwrap();
    leased.ledger.release(&leased.lease).await.unwrap();
    let view = leased.ledger.lease(leased.key()).await.unwrap().unwrap();
    assert_eq!((view.holder, view.epoch, view.alive), (leased.holder.clone(), 1, false));
    assert_eq!(leased.ledger.claim(leased.key(), &harness.holder()).await.unwrap().epoch, 2);
}

/// Giving back what is lost takes nothing from the one who has it.
pub async fn a_lost_lease_releases_nothing(harness: &dyn LedgerHarness) {
    let lost = Leased::new(harness).await;
    harness.kill(&lost.holder);
    let next = Leased::new(harness).await;
    lost.ledger.release(&lost.lease).await.unwrap();
    let view = next.ledger.lease(next.key()).await.unwrap().unwrap();
    assert_eq!((view.holder, view.alive), (next.holder.clone(), true));
    next.ledger.renew(&next.lease).await.unwrap();
}

/// Released is lost.
pub async fn a_released_lease_writes_nothing(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    leased.ledger.release(&leased.lease).await.unwrap();
    let fenced = Err(AppendError::Fenced { ours: 1, current: 1 });
    assert_eq!(
        leased.ledger.commit(&leased.lease, &[leased.entries("one", 1, &["late"])]).await,
        fenced
    );
    assert_eq!(leased.ledger.renew(&leased.lease).await, fenced);
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
}

/// A lease that was never granted is none.
pub async fn an_unknown_lease_writes_nothing(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let mut forged = leased.lease.clone();
    forged.epoch = 7;
    assert_eq!(
        leased.ledger.renew(&forged).await,
        Err(AppendError::Fenced { ours: 7, current: 1 })
    );
    forged.key = samples::key("shop", "staging");
    assert_eq!(
        leased.ledger.commit(&forged, &[]).await,
        Err(AppendError::Fenced { ours: 7, current: 0 })
    );
}

/// Each with its own epochs.
pub async fn environments_are_apart(harness: &dyn LedgerHarness) {
    let production = Leased::new(harness).await;
    let staging = Leased::of(harness, &samples::key("shop", "staging")).await;
    let other = Leased::of(harness, &samples::key("blog", "production")).await;
    assert_eq!((production.lease.epoch, staging.lease.epoch, other.lease.epoch), (1, 1, 1));
    production.open("one").await;
    staging.open("two").await;
    other.ledger.release(&other.lease).await.unwrap();
    assert!(staging.ledger.lease(staging.key()).await.unwrap().unwrap().alive);
}

/// Whatever the order, one.
pub async fn one_of_many_claims_wins(harness: &dyn LedgerHarness) {
    let key = samples::key("shop", "production");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (ledger, key, holder) = (harness.reopen().await, key.clone(), harness.holder());
        tasks.spawn(async move { ledger.claim(&key, &holder).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(
        results.iter().all(|result| matches!(result, Ok(_) | Err(ClaimError::Busy(_)))),
        "{results:?}"
    );
}
