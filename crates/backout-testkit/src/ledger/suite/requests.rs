//! What others ask, tell and keep.

use std::collections::BTreeMap;

use backout_core::model::{Health, LiveHealth, ReadinessCheck, ReadinessReport, Request, Severity};
use backout_core::ports::{AppendError, Change, Commit};

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

/// Written without a lease, oldest first, gone from the list with the answer that commits with its entry.
pub async fn requests_wait_for_answers(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    // Not in the order of their ids.
    let requests = ["b", "c", "a"].map(|name| samples::request(leased.key(), &operation, name));
    let asking = harness.reopen().await;
    for request in &requests {
        asking.submit(request).await.unwrap();
    }
    asking
        .submit(&samples::request(leased.key(), &samples::operation("two"), "other"))
        .await
        .unwrap();
    assert_eq!(leased.ledger.pending_requests(&operation).await.unwrap(), requests);
    let answer = samples::answer("done");
    let commit = Commit {
        changes: vec![Change::Answer(requests[1].id.clone(), answer.clone())],
        ..leased.entries("one", 1, &["aborting"])
    };
    leased.commit(&[commit]).await;
    let pending = leased.ledger.pending_requests(&operation).await.unwrap();
    assert_eq!(pending, [requests[0].clone(), requests[2].clone()]);
    let answered = Request { answer: Some(answer), ..requests[1].clone() };
    assert_eq!(asking.request(&requests[1].id).await.unwrap(), Some(answered));
    assert_eq!(asking.request(&requests[0].id).await.unwrap(), Some(requests[0].clone()));
}

/// Who is not sure whether it arrived may send it again; an answer stays.
pub async fn a_request_comes_once(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let request = samples::request(leased.key(), &samples::operation("one"), "a");
    leased.ledger.submit(&request).await.unwrap();
    leased.ledger.submit(&request).await.unwrap();
    let pending = leased.ledger.pending_requests(&request.operation).await.unwrap();
    assert_eq!(pending, std::slice::from_ref(&request));
    let change = Change::Answer(request.id.clone(), samples::answer("done"));
    leased.commit(&[leased.changes(vec![change])]).await;
    leased.ledger.submit(&request).await.unwrap();
    assert_eq!(leased.ledger.pending_requests(&request.operation).await.unwrap(), vec![]);
}

/// None to what nobody asked.
pub async fn answers_need_a_request(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let request = samples::request(leased.key(), &samples::operation("one"), "a");
    let change = Change::Answer(request.id, samples::answer("done"));
    let result = leased.ledger.commit(&leased.lease, &[leased.changes(vec![change])]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
}

/// The lease of one environment answers nothing of another.
pub async fn answers_stay_in_their_environment(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let request =
        samples::request(&samples::key("shop", "staging"), &samples::operation("one"), "a");
    leased.ledger.submit(&request).await.unwrap();
    let change = Change::Answer(request.id.clone(), samples::answer("done"));
    let result = leased.ledger.commit(&leased.lease, &[leased.changes(vec![change])]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    assert_eq!(leased.ledger.request(&request.id).await.unwrap(), Some(request));
}

/// With rising numbers, at most as many as asked for.
pub async fn messages_come_oldest_first(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let messages = ["z", "a", "m"].map(samples::message);
    let changes = messages.iter().cloned().map(Change::Outbox).collect();
    leased.commit(&[leased.changes(changes)]).await;
    let listed = leased.ledger.outbox(10).await.unwrap();
    assert!(listed.is_sorted_by(|(first, _), (second, _)| first < second), "{listed:?}");
    assert_eq!(listed.into_iter().map(|(_, message)| message).collect::<Vec<_>>(), messages);
    assert_eq!(leased.ledger.outbox(2).await.unwrap().len(), 2);
    assert_eq!(leased.ledger.outbox(0).await.unwrap(), vec![]);
}

/// The newest of each name, and no more than 200 of them.
pub async fn documents_are_replaced_and_bounded(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    let other = samples::key("shop", "staging");
    assert_eq!(ledger.document(&key, "judge/1").await.unwrap(), None);
    for number in 1..=3 {
        let document = serde_json::json!({ "number": number, "text": "ä\u{0}" });
        ledger.put_document(&key, "judge/1", &document).await.unwrap();
        assert_eq!(harness.reopen().await.document(&key, "judge/1").await.unwrap(), Some(document));
    }
    ledger.put_document(&other, "judge/1", &serde_json::json!(7)).await.unwrap();
    let large = serde_json::Value::String("x".repeat(300 << 10));
    ledger.put_document(&key, "large", &large).await.unwrap_err();
    for number in 1..=201 {
        let name = format!("more/{number:03}");
        ledger.put_document(&key, &name, &serde_json::json!(number)).await.unwrap();
    }
    assert_eq!(ledger.document(&key, "judge/1").await.unwrap(), None, "written longest ago");
    let newest = ledger.document(&key, "more/201").await.unwrap();
    assert_eq!(newest, Some(serde_json::json!(201)));
    assert_eq!(ledger.document(&other, "judge/1").await.unwrap(), Some(serde_json::json!(7)));
}

/// The last of each, per environment.
pub async fn readiness_and_health_are_replaced(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    for (second, health) in [(1, Health::Healthy), (2, Health::Failing)] {
        let check = ReadinessCheck {
            name: "artifact_available".to_owned(),
            status: Severity::Pass,
            message: String::new(),
        };
        let report = ReadinessReport {
            deployment: 4,
            version: samples::release(&key.app, "1.0.0").content.version,
            ready: true,
            checked_at: samples::at(second),
            checks: vec![check],
            expected_ms: Some(1800),
            found: None,
        };
        let live = LiveHealth {
            overall: health,
            services: BTreeMap::from([("web".to_owned(), health)]),
            checked_at: samples::at(second),
            fresh_for_ms: 2000,
            hosts: BTreeMap::new(),
        };
        ledger.put_readiness(&key, &report).await.unwrap();
        ledger.put_health(&key, &live).await.unwrap();
        let again = harness.reopen().await;
        assert_eq!(again.readiness(&key).await.unwrap(), Some(report));
        again.forget_readiness(&samples::key("shop", "staging")).await.unwrap();
        assert!(again.readiness(&key).await.unwrap().is_some(), "only of that environment");
        again.forget_readiness(&key).await.unwrap();
        assert_eq!(again.readiness(&key).await.unwrap(), None);
        assert_eq!(again.health(&key).await.unwrap(), Some(live));
    }
    assert_eq!(ledger.readiness(&samples::key("shop", "staging")).await.unwrap(), None);
    assert_eq!(ledger.health(&samples::key("shop", "staging")).await.unwrap(), None);
}
