//! What the fakes catch beyond the suites.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::TargetSpec;
use backout_core::ports::{
    DeadMan, ErrorClass, Router, RouterSide, StepCx, Target, TargetAction, TrafficChange,
    TrafficFrame,
};
use backout_testkit::fixtures::{ledger, process, release, step_cx, unit, version};
use backout_testkit::{FakeRouter, FakeTarget, Fault};
use jiff::Timestamp;

fn start(label: &str, slot: Slot, deployment: u64) -> TargetAction {
    let release = release(label, TargetSpec::Process(process(["serve"])));
    TargetAction::Start {
        unit: unit(slot),
        release,
        deployment,
        restore: false,
        revert: None,
        batch: None,
    }
}

#[tokio::test]
async fn two_effects_at_a_time_are_a_violation() {
    let target = FakeTarget::new(ledger("a"));
    let (one, two) = (start("v1", Slot::A, 1), start("v1", Slot::A, 1));
    let (cx_one, cx_two) = (step_cx("1"), step_cx("2"));
    let (first, second) = tokio::join!(target.apply(&one, &cx_one), target.apply(&two, &cx_two));
    assert!(first.is_ok() && second.is_err());
    assert_eq!(target.violations().len(), 1, "{:?}", target.violations());
}

#[tokio::test]
async fn old_epochs_and_changed_steps_are_violations() {
    let target = FakeTarget::new(ledger("a"));
    let newer = StepCx { epoch: 7, ..step_cx("1") };
    target.apply(&start("v1", Slot::A, 1), &newer).await.expect("started");
    target
        .apply(&start("v1", Slot::A, 1), &StepCx { epoch: 6, ..step_cx("2") })
        .await
        .expect_err("older");
    target.apply(&start("v2", Slot::B, 2), &newer).await.expect_err("another meaning");
    assert_eq!(target.violations().len(), 2, "{:?}", target.violations());
    assert_eq!(
        target.story(),
        ["start web@local#a v1", "start web@local#a v1", "start web@local#b v2"]
    );
}

#[tokio::test]
async fn faults_come_when_planned_with_or_without_effect() {
    let target = FakeTarget::new(ledger("a"));
    target
        .faults()
        .fail("start", 1, Fault::UnknownBefore)
        .fail("start", 2, Fault::UnknownAfter)
        .fail_nth(4, Fault::Transient);
    let action = start("v1", Slot::A, 1);
    let class = |r: Result<_, backout_core::ports::AdapterError>| {
        r.map_err(|e| e.class).map(|_: backout_core::ports::Receipt| ())
    };
    assert_eq!(class(target.apply(&action, &step_cx("1")).await), Err(ErrorClass::Unknown));
    assert_eq!(target.running(&unit(Slot::A)), None);
    assert_eq!(class(target.apply(&action, &step_cx("1")).await), Err(ErrorClass::Unknown));
    assert_eq!(target.running(&unit(Slot::A)), Some((version("v1"), 1)));
    assert_eq!(class(target.apply(&action, &step_cx("1")).await), Ok(()));
    assert_eq!(class(target.apply(&action, &step_cx("1")).await), Err(ErrorClass::Transient));
    target.assert_clean();
}

#[tokio::test]
async fn a_dropped_call_leaves_the_unit_free() {
    let target = FakeTarget::new(ledger("a"));
    target.faults().fail("start", 1, Fault::HangAfter);
    let (action, cx) = (start("v1", Slot::A, 1), step_cx("1"));
    let hung = tokio::time::timeout(Duration::from_millis(20), target.apply(&action, &cx)).await;
    assert!(hung.is_err());
    assert!(target.running(&unit(Slot::A)).is_some(), "its effect happened");
    target.apply(&action, &cx).await.expect("again");
    target.assert_clean();
}

fn change(a: u8, b: u8, dead_man_ms: Option<u64>) -> TrafficChange {
    let side = |label: &str, deployment| RouterSide {
        address: None,
        deployment,
        release: release(label, TargetSpec::Process(process(["serve"]))).id.clone(),
        version: version(label),
        check_path: None,
    };
    TrafficChange {
        sides: BTreeMap::from([(Slot::A, side("v1", 1)), (Slot::B, side("v2", 2))]),
        weights: BTreeMap::from([(Slot::A, a), (Slot::B, b)]),
        new_side: Slot::B,
        stage: b.to_string(),
        dead_man: dead_man_ms.map(|after_ms| DeadMan { stable: Slot::A, after_ms }),
        trip: None,
        cut: false,
        acknowledge_fired: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_not_renewed_moves_traffic_and_must_be_adopted() {
    let router = FakeRouter::new(ledger("a"));
    router.ensure(&step_cx("0")).await.expect("there");
    router.apply(&change(90, 10, Some(15_000)), &step_cx("1")).await.expect("moved");
    tokio::time::sleep(Duration::from_secs(10)).await;
    router.renew(1, 15_000).await.expect("renewed");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(router.weights()[&Slot::B], 10);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(router.weights()[&Slot::B], 0);
    let read = router.read().await.expect("read").expect("known");
    assert!(read.fired.is_some_and(|f| f.moved));
    router.renew(1, 15_000).await.expect_err("it has run out");
    router.apply(&change(90, 10, None), &step_cx("2")).await.expect_err("not adopted");
    let adopted = TrafficChange { acknowledge_fired: true, ..change(100, 0, None) };
    assert_eq!(router.apply(&adopted, &step_cx("3")).await.expect("adopted").fired, None);
    router.assert_clean();
}

#[tokio::test]
async fn the_router_refuses_old_epochs_and_odd_weights() {
    let router = FakeRouter::new(ledger("a"));
    router.apply(&change(100, 0, None), &step_cx("0")).await.expect_err("before ensure");
    router.ensure(&step_cx("0")).await.expect("there");
    router.apply(&change(100, 0, None), &StepCx { epoch: 5, ..step_cx("1") }).await.expect("moved");
    let stale = router.apply(&change(0, 100, None), &StepCx { epoch: 4, ..step_cx("2") }).await;
    assert_eq!(stale.expect_err("older").class, ErrorClass::Permanent);
    router
        .apply(&change(50, 10, None), &StepCx { epoch: 5, ..step_cx("3") })
        .await
        .expect_err("60 %");
    assert_eq!(router.violations().len(), 2, "{:?}", router.violations());
    assert_eq!(router.story(), ["0 % b (0)"]);
}

#[tokio::test]
async fn frames_reach_all_who_watch_until_the_router_is_gone() {
    let router = Arc::new(FakeRouter::new(ledger("a")));
    let mut stream = router.frames().await.expect("reached").expect("it counts");
    let frame = TrafficFrame {
        instance: "i".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        weights: BTreeMap::new(),
        sides: BTreeMap::new(),
        fired: None,
        tripped: None,
        unbound: None,
    };
    router.push_frame(frame.clone());
    assert_eq!(stream.next().await, Some(frame));
    router.end_frames();
    assert_eq!(stream.next().await, None);
}
