//! The network falls silent: every wait ends, nothing new is written, and the lease runs out for others.

use std::sync::Arc;
use std::time::Duration;

use backout_core::ports::{AppendError, ClaimError, Ledger};
use backout_ledger::{DatabaseUrl, Limits, OpenMode, PostgresLedger};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};
use backout_testkit::postgres::{Cut, Proxy, shared};

use super::harness::{connect, fresh};
use crate::harness::logged;

/// Short, so that the test is, and long enough for a machine under load.
fn impatient() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        reconnect: Duration::from_secs(2),
        statement: Duration::from_secs(2),
        large: Duration::from_secs(5),
        lock: Duration::from_secs(4),
        settle: Duration::from_secs(4),
    }
}

/// No call takes longer than the sum of its limits, on a slow machine too.
const BOUND: Duration = Duration::from_secs(60);

async fn bounded<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, call).await.expect("every wait ends")
}

#[tokio::test]
async fn a_holder_in_a_hole_writes_nothing_and_is_replaced_after_its_term() {
    let harness = fresh().await;
    let proxy = Proxy::new(shared());
    let ledger: Arc<dyn Ledger> =
        Arc::new(connect(&proxy.url(harness.database()), harness.world(), impatient()).await);
    let (key, holder) = (samples::key("shop", "production"), harness.holder());
    let lease = ledger.claim(&key, &holder).await.unwrap();
    let held = Leased { ledger: ledger.clone(), lease, holder };
    held.open("one").await;
    proxy.fall_silent();
    let commit = held.entries("one", 1, &["in the hole"]);
    let results = [
        bounded(ledger.commit(&held.lease, &[commit])).await,
        bounded(ledger.renew(&held.lease)).await,
    ];
    for result in results {
        assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    }
    assert!(bounded(ledger.pending_requests(&samples::operation("one"))).await.is_err());
    assert!(bounded(ledger.put_blob(b"x")).await.is_err());
    // Others wait for its term, and no longer.
    let other = harness.ledger();
    assert!(matches!(other.claim(&key, &harness.holder()).await, Err(ClaimError::Busy(_))));
    harness.advance_ms(harness.term_ms());
    assert_eq!(other.claim(&key, &harness.holder()).await.unwrap().epoch, 2);
    assert_eq!(other.entries(&samples::operation("one")).await.unwrap().len(), 1);
    // Out of the hole it learns that it lost.
    proxy.come_back();
    let commit = held.entries("one", 1, &["late"]);
    let fenced = Err(AppendError::Fenced { ours: 1, current: 2 });
    assert_eq!(bounded(ledger.commit(&held.lease, &[commit])).await, fenced);
    assert_eq!(bounded(ledger.renew(&held.lease)).await, fenced);
    assert_eq!(other.entries(&samples::operation("one")).await.unwrap().len(), 1);
}

/// Silence from some message of a commit on. Whether it is there may not be known at first; then it is seen, whole.
#[tokio::test]
async fn a_commit_into_the_hole_is_whole_or_not_there_and_locks_nobody_out() {
    let harness = fresh().await;
    let proxy = Proxy::new(shared());
    let limits = Limits { lock: Duration::from_secs(2), ..impatient() };
    let ledger = connect(&proxy.url(harness.database()), harness.world(), limits).await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    let mut length = 1;
    let commit = |length| [leased.entries("one", length, &["a", "b"])];
    // The statements are known to the connection after the first, and a commit sends as many messages each time.
    for _ in 0..2 {
        proxy.count();
        ledger.commit(&leased.lease, &commit(length)).await.unwrap();
        length += 2;
    }
    let messages = proxy.counted();
    let rests = proxy.rests();
    assert!(rests.len() > 5 && rests.last() == Some(&messages), "{messages} messages, {rests:?}");
    // What belongs together is sent at once, so that the network breaks off between two answers: before each.
    for pass in std::iter::once(0).chain(rests).take_while(|pass| *pass < messages) {
        proxy.arm(pass, Cut::Silence);
        let result = bounded(ledger.commit(&leased.lease, &commit(length))).await;
        assert!(proxy.disarm(), "it sends {pass} messages and more");
        assert!(matches!(result, Err(AppendError::Unavailable(_))), "{pass}: {result:?}");
        // Another writer waits until the server has given the silent one up.
        bounded(leased.ledger.renew(&leased.lease)).await.unwrap();
        let found = leased.ledger.journal_length(&operation).await.unwrap();
        assert_eq!(found, length, "message {pass} never came");
        proxy.come_back();
        bounded(ledger.commit(&leased.lease, &commit(length))).await.unwrap();
        length += 2;
    }
    // The COMMIT gets there, and its answer does not come back.
    proxy.arm(messages - 1, Cut::AnswerSilent);
    let result = bounded(ledger.commit(&leased.lease, &commit(length))).await;
    assert!(proxy.disarm());
    let Err(AppendError::Unavailable(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(leased.ledger.journal_length(&operation).await.unwrap(), length + 2);
    proxy.come_back();
    assert_eq!(bounded(ledger.journal_length(&operation)).await.unwrap(), length + 2);
    assert_eq!(logged(&ledger).await, length + 2);
}

#[tokio::test]
async fn opening_in_the_hole_ends_too() {
    let server = shared();
    let proxy = Proxy::new(server);
    let database = server.database();
    proxy.fall_silent();
    let url: DatabaseUrl = proxy.url(&database).parse().unwrap();
    let opened = bounded(PostgresLedger::connect(&url, OpenMode::ReadWrite)).await;
    let Err(error) = opened else { panic!("there was nobody") };
    assert!(error.to_string().contains("no answer within"), "{error}");
}
