//! `rollback --to TIME` goes to what users had then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout_core::model::DeploymentStatus;
use backout_core::saga::Ending;
use backout_engine::{
    EngineError, Outcome, PreparedRollback, RollbackTarget, RollbackWishes, prepare_rollback,
};
use jiff::Timestamp;

use crate::world::{How, World};

/// What was live at a time.
type Moment = (Timestamp, Option<u64>);

async fn to(world: &World, at: Timestamp) -> Result<PreparedRollback, EngineError> {
    let wishes = RollbackWishes { target: RollbackTarget::At(at), ..World::back() };
    prepare_rollback(&world.context("rollback"), &wishes).await
}

fn now(world: &World) -> Timestamp {
    (world.context("status").clock)()
}

/// Notes what is live, all the time while `work` is done.
async fn noting<T>(world: &World, moments: &mut Vec<Moment>, work: impl Future<Output = T>) -> T {
    let over = AtomicBool::new(false);
    let (result, ()) = tokio::join!(
        async {
            let result = work.await;
            over.store(true, Ordering::SeqCst);
            result
        },
        async {
            while !over.load(Ordering::SeqCst) {
                moments.push((now(world), world.live().await));
                tokio::time::sleep(Duration::from_millis(173)).await;
            }
        }
    );
    result
}

/// Each of those moments leads to what was live then.
async fn all_are_found(world: &World, moments: &[Moment]) {
    let live = world.live().await;
    for (at, then) in moments {
        let target = to(world, *at).await.map(|prepared| prepared.target.number);
        match then {
            Some(number) if Some(*number) == live => {
                assert!(matches!(target, Err(EngineError::Refused(_))), "#{number} is live now");
            }
            Some(number) => assert_eq!(target.unwrap(), *number, "{:?} at {at}", world.how),
            None => {
                let Err(EngineError::Refused(refused)) = target else { panic!("{target:?}") };
                assert!(refused.message.contains("live at"), "{refused:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stages_and_bake_lead_to_the_side_that_had_the_users() {
    for how in How::ALL {
        let world = World::new(how).await;
        let mut moments = Vec::new();
        for version in ["v1", "v2", "v3"] {
            let ended = noting(&world, &mut moments, world.deploy(version)).await.unwrap();
            assert!(matches!(ended, Outcome::Ended { ending: Ending::Done { .. }, .. }));
        }
        let mut seen: Vec<Option<u64>> = moments.iter().map(|(_, live)| *live).collect();
        seen.dedup();
        assert_eq!(seen, [None, Some(1), Some(2), Some(3)], "{how:?}");
        all_are_found(&world, &moments).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_deploy_was_live_only_if_it_had_all_users() {
    for how in How::ALL {
        let world = World::new(how).await;
        let mut moments = Vec::new();
        noting(&world, &mut moments, world.deploy("v1")).await.unwrap();
        world.is_bad("v2");
        noting(&world, &mut moments, world.deploy("v2")).await.unwrap();
        assert_eq!(world.row(2).await.status, DeploymentStatus::RolledBack, "{how:?}");
        noting(&world, &mut moments, world.deploy("v3")).await.unwrap();
        // #3 is the way back to v1.
        assert!(moments.iter().any(|(_, live)| *live == Some(3)) || how != How::Recreate);
        all_are_found(&world, &moments).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_brought_back_was_live_then() {
    let world = World::new(How::BlueGreen).await;
    let mut moments = Vec::new();
    for version in ["v1", "v2"] {
        noting(&world, &mut moments, world.deploy(version)).await.unwrap();
    }
    noting(&world, &mut moments, world.rollback()).await.unwrap();
    noting(&world, &mut moments, tokio::time::sleep(Duration::from_secs(5))).await;
    noting(&world, &mut moments, world.deploy("v4")).await.unwrap();
    let mut seen: Vec<Option<u64>> = moments.iter().map(|(_, live)| *live).collect();
    seen.dedup();
    assert_eq!(seen, [None, Some(1), Some(2), Some(3), Some(4)]);
    all_are_found(&world, &moments).await;
    // What was live then, and was rolled back from since, is named and refused, not passed over in silence.
    let at = moments.iter().rfind(|(_, live)| *live == Some(2)).unwrap().0;
    let prepared = to(&world, at).await.unwrap();
    let status = prepared.checks.iter().find(|check| check.name == "target_status").unwrap();
    assert!(status.message.contains("was rolled back from"), "{status:?}");
}

/// In the middle of a deploy that has all users already there is no way back to itself.
#[tokio::test(start_paused = true)]
async fn the_deploy_that_is_left_is_not_where_it_goes() {
    let world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (_, refused) = tokio::join!(backout_engine::deploy(&cx, &wish), async {
        while world.live().await != Some(2) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        to(&world, now(&world)).await
    });
    let Err(EngineError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert!(refused.message.contains("#2 v2"), "{refused:?}");
}
