//! Commands end as the interface says.

use std::time::Duration;

use backout_core::model::{DeploymentStatus, RequestKind, RollbackType, Trigger};
use backout_core::ports::Ledger;
use backout_core::saga::Ending;
use backout_engine::{
    ControlAnswer, EngineError, Interrupt, Outcome, ask, deploy, down, recover, resolve,
};
use backout_testkit::{Fault, fixtures};

use crate::world::{How, World};

fn ending(outcome: &Outcome) -> &Ending {
    match outcome {
        Outcome::Ended { ending, .. } => ending,
        other => panic!("it did not end: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_release_becomes_stable() {
    for how in How::ALL {
        let world = World::new(how).await;
        for version in ["v1", "v2"] {
            let outcome = world.deploy(version).await.unwrap();
            assert_eq!(ending(&outcome), &Ending::Done { healthy: true }, "{how:?}");
            assert_eq!(world.serving().as_deref(), Some(version), "{how:?}");
            assert_eq!(world.running(), [version], "{how:?}: the old side is gone after bake");
        }
        assert_eq!(world.row(2).await.status, DeploymentStatus::Stable);
        assert_eq!(world.live().await, Some(2));
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_taken_back_by_itself() {
    for how in How::ALL {
        let world = World::new(how).await;
        world.deploy("v1").await.unwrap();
        world.is_bad("v2");
        let outcome = world.deploy("v2").await.unwrap();
        assert!(matches!(ending(&outcome), Ending::TakenBack { failure: Some(_), .. }), "{how:?}");
        assert_eq!(world.serving().as_deref(), Some("v1"), "{how:?}");
        assert_eq!(world.running(), ["v1"], "{how:?}");
        let (bad, back) = (world.row(2).await, world.row(3).await);
        assert_eq!((bad.status, bad.rejected), (DeploymentStatus::RolledBack, true), "{how:?}");
        assert_eq!(
            (back.status, back.version.as_str()),
            (DeploymentStatus::Stable, "v1"),
            "{how:?}"
        );
        assert_eq!(back.rollback_type, Some(RollbackType::Automatic));
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_fails_leaves_nothing() {
    for how in How::ALL {
        let world = World::new(how).await;
        world.is_bad("v1");
        let outcome = world.deploy("v1").await.unwrap();
        assert!(matches!(ending(&outcome), Ending::TakenBack { .. }), "{how:?}");
        assert!(world.running().is_empty(), "{how:?}");
        assert_eq!(world.live().await, None);
        let row = world.row(1).await;
        assert_eq!((row.status, row.rejected), (DeploymentStatus::Failed, true), "{how:?}");
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn with_automatic_rollback_off_it_stays_live() {
    let mut world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    world.automatic = false;
    world.is_bad("v2");
    let outcome = world.deploy("v2").await.unwrap();
    assert!(matches!(ending(&outcome), Ending::FailedLive { .. }));
    assert_eq!(world.row(2).await.status, DeploymentStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_second_rollback_never_returns_to_the_rejected_release() {
    let world = World::new(How::Canary).await;
    for version in ["v1", "v2", "v3"] {
        world.deploy(version).await.unwrap();
    }
    world.rollback().await.unwrap();
    assert_eq!(world.serving().as_deref(), Some("v2"));
    world.rollback().await.unwrap();
    assert_eq!(world.serving().as_deref(), Some("v1"));
    let refused = world.rollback().await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused(_)), "{refused}");
    assert_eq!(world.serving().as_deref(), Some("v1"));
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_persons_rollback_takes_a_running_deploy_over() {
    for how in [How::BlueGreen, How::Canary] {
        let world = World::new(how).await;
        world.deploy("v1").await.unwrap();
        let cx = world.context("deploy");
        let wish = World::wish("v2");
        let (first, second) = tokio::join!(deploy(&cx, &wish), async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            world.rollback().await
        });
        assert!(matches!(first.unwrap(), Outcome::Yielded { superseded: false, .. }), "{how:?}");
        assert_eq!(ending(&second.unwrap()), &Ending::Done { healthy: true }, "{how:?}");
        let row = world.row(2).await;
        assert_eq!((row.status, row.rejected), (DeploymentStatus::RolledBack, false), "{how:?}");
        assert_eq!(world.running(), ["v1"], "{how:?}");
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deploy_supersedes_a_baking_one_and_goes_back_to_it() {
    let world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    world.is_bad("v3");
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (first, second) = tokio::join!(deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        world.deploy("v3").await
    });
    assert!(matches!(first.unwrap(), Outcome::Yielded { superseded: true, .. }));
    assert!(matches!(ending(&second.unwrap()), Ending::TakenBack { .. }));
    assert_eq!(world.row(2).await.status, DeploymentStatus::Superseded);
    assert_eq!(world.serving().as_deref(), Some("v2"), "back to what was live as it began");
    assert_eq!(world.row(4).await.status, DeploymentStatus::Baking, "v2 was never stable");
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_was_never_stable_is_settled_by_the_next_command() {
    let world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    world.is_bad("v3");
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (first, second) = tokio::join!(deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        world.deploy("v3").await
    });
    first.unwrap();
    second.unwrap();
    assert_eq!(world.row(4).await.status, DeploymentStatus::Baking);
    recover(&world.context("recover")).await.unwrap();
    assert_eq!(world.row(4).await.status, DeploymentStatus::Baking, "its bake time is not over");
    tokio::time::sleep(Duration::from_secs(5)).await;
    recover(&world.context("recover")).await.unwrap();
    let row = world.row(4).await;
    assert_eq!(row.status, DeploymentStatus::Stable);
    assert!(row.warnings.contains(&"bake unwatched".to_owned()), "{:?}", row.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_in_its_stages_is_busy_for_another() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (first, second) = tokio::join!(deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        world.deploy("v3").await
    });
    let Err(EngineError::Busy(view)) = second else { panic!("{second:?}") };
    assert_eq!(view.holder.label, cx.holder.label);
    assert_eq!(ending(&first.unwrap()), &Ending::Done { healthy: true });
}

#[tokio::test(start_paused = true)]
async fn promote_pause_resume_and_abort_are_answered_by_the_holder() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (first, ()) = tokio::join!(deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for kind in [RequestKind::Pause, RequestKind::Resume, RequestKind::Promote] {
            let answer = ask(&world.context(kind.as_str()), kind, None).await.unwrap();
            assert!(matches!(answer, ControlAnswer::Accepted(_)), "{kind:?}");
        }
        let refused = ask(&world.context("retry"), RequestKind::Retry, None).await.unwrap_err();
        assert!(matches!(refused, EngineError::Refused(_)));
        ask(&world.context("abort"), RequestKind::Abort, Some("enough".to_owned())).await.unwrap();
    });
    let first = first.unwrap();
    let Ending::TakenBack { failure: Some(failure), .. } = ending(&first) else {
        panic!("{first:?}")
    };
    assert_eq!(failure.trigger, Trigger::Manual);
    assert!(!world.row(2).await.rejected, "an abort says nothing about the release");
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_signal_aborts_stages_and_only_ends_the_watch_in_bake() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (stopped, ()) = tokio::join!(deploy(&cx, &wish), async {
        while world.row_status(2).await != Some(DeploymentStatus::Baking) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.interrupt.send(Interrupt::Signal).unwrap();
    });
    assert!(matches!(stopped.unwrap(), Outcome::Stopped { .. }));
    assert_eq!(world.running().len(), 2, "the old side stays warm");
    world.interrupt.send(Interrupt::None).unwrap();
    recover(&world.context("recover")).await.unwrap();
    assert_eq!(world.row(2).await.status, DeploymentStatus::Stable);
    assert_eq!(world.running(), ["v2"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_dead_man_that_fired_is_adopted_and_rejects_nothing() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let holder = cx.holder.clone();
    let wish = World::wish("v2");
    let killed = tokio::time::timeout(Duration::from_millis(2_500), deploy(&cx, &wish)).await;
    assert!(killed.is_err(), "it is in its first stage");
    world.ledger.kill(&holder);
    world.router.fire_dead_man();
    recover(&world.context("recover")).await.unwrap();
    let (left, back) = (world.row(2).await, world.row(3).await);
    assert_eq!((left.status, left.rejected), (DeploymentStatus::RolledBack, false));
    assert_eq!(back.trigger, Some(Trigger::Timeout));
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn stuck_is_left_by_retry_recover_resolve_and_rollback() {
    for way in ["retry", "recover", "resolve", "rollback"] {
        let world = World::new(How::Recreate).await;
        world.deploy("v1").await.unwrap();
        world.is_bad("v2");
        // The start of v2 works, the one that brings v1 back does not.
        let starts = world.target.faults().calls_of("start");
        world.target.faults().fail("start", starts + 2, Fault::Permanent);
        let outcome = world.deploy("v2").await;
        let outcome = outcome.unwrap();
        assert!(matches!(outcome.last(), Outcome::Stuck { .. }), "{way}");
        assert_eq!(world.row(3).await.status, DeploymentStatus::Stuck, "{way}");
        world.target.faults().clear();
        match way {
            "retry" => {
                ask(&world.context("retry"), RequestKind::Retry, None).await.unwrap();
            }
            "recover" => {
                recover(&world.context("recover")).await.unwrap();
            }
            "resolve" => {
                resolve(&world.context("resolve"), "started by hand").await.unwrap();
                assert!(world.ledger.open_operation(&fixtures::key()).await.unwrap().is_none());
                continue;
            }
            _ => {
                world.rollback().await.unwrap();
            }
        }
        assert_eq!(world.running(), ["v1"], "{way}");
        assert!(world.ledger.open_operation(&fixtures::key()).await.unwrap().is_none(), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn down_stops_everything_and_deploy_brings_it_back() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    down(&world.context("down"), None).await.unwrap();
    assert!(world.running().is_empty());
    assert_eq!(world.live().await, None);
    assert_eq!(world.row(1).await.status, DeploymentStatus::Stable);
    world.deploy("v1").await.unwrap();
    assert_eq!(world.serving().as_deref(), Some("v1"));
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn config_goes_back_with_the_release_and_shipping_it_again_is_asked() {
    let world = World::new(How::BlueGreen).await;
    world.config_files.put("app.conf", b"limit=1\nAPI_KEY=old\n", 0o640);
    world.deploy("v1").await.unwrap();
    world.config_files.put("app.conf", b"limit=2\nAPI_KEY=new\n", 0o600);
    world.is_bad("v2");
    world.deploy("v2").await.unwrap();
    let bytes = world.config_files.bytes("app.conf").unwrap();
    assert_eq!(bytes, b"limit=1\nAPI_KEY=new\n", "the old file with today's secret");
    let refused = world.deploy("v3").await.unwrap_err();
    assert!(refused.to_string().contains("app.conf"), "{refused}");
    let mut wish = World::wish("v3");
    wish.config = Some(backout_engine::ConfigChoice::Of(2));
    deploy(&world.context("deploy"), &wish).await.unwrap();
    assert_eq!(world.config_files.bytes("app.conf").unwrap(), b"limit=2\nAPI_KEY=new\n");
    world.assert_clean();
}

impl World {
    async fn row_status(&self, number: u64) -> Option<DeploymentStatus> {
        self.ledger.deployment(&fixtures::key(), number).await.unwrap().map(|row| row.status)
    }
}
