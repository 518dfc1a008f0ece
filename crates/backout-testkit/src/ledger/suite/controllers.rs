//! Standing controllers, and what is ordered of them.

use backout_core::model::{Request, RequestAnswer};
use backout_core::ports::{AppendError, Change, Commit, ControllerView};

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

/// Of one environment or of all, oldest first; gone with the answer that commits with what they begin.
pub async fn orders_wait_for_their_operation(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let staging = samples::key("shop", "staging");
    let asking = harness.reopen().await;
    let [b, a] = ["b", "a"].map(|name| samples::order(leased.key(), name));
    let other = samples::order(&staging, "other");
    for order in [&b, &other, &a] {
        asking.submit(order).await.unwrap();
    }
    // Not an order.
    let abort = samples::request(leased.key(), &samples::operation("one"), "abort");
    asking.submit(&abort).await.unwrap();
    let orders = leased.ledger.orders(Some(leased.key())).await.unwrap();
    assert_eq!(orders, [b.clone(), a.clone()]);
    assert_eq!(leased.ledger.orders(None).await.unwrap(), [b.clone(), other.clone(), a.clone()]);
    let answer = samples::answer("begun");
    let plan = leased.plan("b");
    let commit = Commit {
        changes: vec![Change::Open(Box::new(plan)), Change::Answer(b.id.clone(), answer.clone())],
        ..leased.entries("b", 0, &["opened"])
    };
    leased.commit(&[commit]).await;
    assert_eq!(leased.ledger.orders(Some(leased.key())).await.unwrap(), [a]);
    let answered = Request { answer: Some(answer), ..b.clone() };
    assert_eq!(asking.request(&b.id).await.unwrap(), Some(answered));
}

/// Whoever answers first is right: an order that was withdrawn is not begun, one that was begun is not withdrawn.
pub async fn an_order_is_answered_once(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let asking = harness.reopen().await;
    let [first, second] = ["a", "b"].map(|name| samples::order(leased.key(), name));
    for order in [&first, &second] {
        asking.submit(order).await.unwrap();
    }
    let withdrawn = RequestAnswer { accepted: false, ..samples::answer("withdrawn") };
    assert!(asking.answer(&first.id, &withdrawn).await.unwrap());
    let begin = |order: &Request, name: &str| {
        let open = Change::Open(Box::new(leased.plan(name)));
        let answer = Change::Answer(order.id.clone(), samples::answer("begun"));
        Commit { changes: vec![open, answer], ..leased.entries(name, 0, &["opened"]) }
    };
    let refused = leased.ledger.commit(&leased.lease, &[begin(&first, "a")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), None);
    leased.commit(&[begin(&second, "b")]).await;
    assert!(!asking.answer(&second.id, &withdrawn).await.unwrap());
    let answer = asking.request(&second.id).await.unwrap().unwrap().answer;
    assert_eq!(answer, Some(samples::answer("begun")));
    assert_eq!(asking.request(&first.id).await.unwrap().unwrap().answer, Some(withdrawn.clone()));
    let nobody = samples::order(leased.key(), "nobody");
    assert!(!asking.answer(&nobody.id, &withdrawn).await.unwrap());
}

fn alive(views: &[ControllerView]) -> Vec<(u32, bool)> {
    views.iter().map(|view| (view.beat.holder.pid, view.alive)).collect()
}

/// While it beats in time; a dead process is seen at once.
pub async fn a_controller_lives_by_its_beats(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    let (first, second) = (harness.holder(), harness.holder());
    let beat = samples::beat(&first, 1, std::slice::from_ref(&key));
    ledger.beat(&beat).await.unwrap();
    let reader = harness.reopen().await;
    assert_eq!(
        reader.controllers().await.unwrap(),
        [ControllerView { beat: beat.clone(), alive: true }]
    );
    harness.advance_ms(harness.term_ms() / 2);
    ledger.beat(&samples::beat(&second, 2, &[])).await.unwrap();
    harness.advance_ms(harness.term_ms() / 2);
    let views = reader.controllers().await.unwrap();
    assert_eq!(alive(&views), [(first.pid, false), (second.pid, true)]);
    ledger.beat(&beat).await.unwrap();
    let views = reader.controllers().await.unwrap();
    assert_eq!(alive(&views), [(first.pid, true), (second.pid, true)]);
    assert!(views[0].beat.tends(&key).is_some() && views[1].beat.tends(&key).is_none());
    harness.kill(&second);
    let views = reader.controllers().await.unwrap();
    assert!(!alive(&views).contains(&(second.pid, true)), "{views:?}");
}

/// Who leaves in order is not listed, and whoever leaves twice does no harm.
pub async fn a_controller_leaves(harness: &dyn LedgerHarness) {
    let ledger = harness.ledger();
    let (first, second) = (harness.holder(), harness.holder());
    ledger.beat(&samples::beat(&second, 2, &[])).await.unwrap();
    ledger.beat(&samples::beat(&first, 1, &[])).await.unwrap();
    assert_eq!(
        alive(&ledger.controllers().await.unwrap()),
        [(first.pid, true), (second.pid, true)]
    );
    ledger.leave(&first).await.unwrap();
    ledger.leave(&first).await.unwrap();
    assert_eq!(alive(&ledger.controllers().await.unwrap()), [(second.pid, true)]);
}
