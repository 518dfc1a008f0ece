//! A stage that never sees enough traffic: what becomes of it at its deadline is a matter of policy.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::{DeploymentStatus, OnNoData, RequestKind, Trigger};
use backout_core::ports::{Ledger, SideCounters, TrafficFrame};
use backout_core::saga::{Ending, EntryKind};
use backout_engine::{ControlAnswer, Outcome, ask, deploy};
use backout_testkit::fixtures;

use crate::world::{How, World};

/// Of the twenty that are needed.
const MISSING: &str = "canary has answered 3 of 20 requests in this stage";

/// Counters of both sides in the first stage.
fn frame(world: &World, requests: u64) -> TrafficFrame {
    let side =
        |deployment, requests| SideCounters { deployment, requests, ..SideCounters::default() };
    let sides = BTreeMap::from([(Slot::A, side(1, requests * 9)), (Slot::B, side(2, requests))]);
    TrafficFrame {
        instance: "one".to_owned(),
        // The judge goes on with the latest time that it has seen.
        at: jiff::Timestamp::UNIX_EPOCH,
        weights: world.router.weights(),
        sides,
        fired: None,
        tripped: None,
        unbound: None,
    }
}

/// The weight of the new side.
fn weight(world: &World) -> u8 {
    world.router.weights().get(&Slot::B).copied().unwrap_or(0)
}

/// A deploy of v2 with three requests in its first stage of 2 to 4 s; `during` begins just before that is over.
async fn hardly_any(
    policy: OnNoData,
    during: impl AsyncFnOnce(&World),
) -> (World, Outcome, Vec<String>) {
    let mut world = World::new(How::Canary).await;
    world.on_no_data = policy;
    world.deploy("v1").await.unwrap();
    let (cx, wish) = (world.context("deploy"), World::wish("v2"));
    let (ended, ()) = tokio::join!(deploy(&cx, &wish), async {
        while weight(&world) != 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for requests in [0, 3] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.router.push_frame(frame(&world, requests));
        }
        tokio::time::sleep(Duration::from_millis(3_200)).await;
        assert_eq!(weight(&world), 10, "{policy:?}: it waits for data");
        during(&world).await;
    });
    let operation = world.row(2).await.operation;
    let entries = world.ledger.entries(&operation).await.unwrap();
    let warnings = entries.into_iter().filter_map(|entry| match entry.kind {
        EntryKind::Warning { message } => Some(message),
        _ => None,
    });
    (world, ended.unwrap(), warnings.collect())
}

#[tokio::test(start_paused = true)]
async fn it_is_promoted_and_that_is_on_record() {
    let (world, outcome, warnings) = hardly_any(OnNoData::Promote, async |_| {}).await;
    assert!(matches!(outcome, Outcome::Ended { ending: Ending::Done { .. }, .. }), "{outcome:?}");
    assert_eq!(world.row(2).await.status, DeploymentStatus::Stable);
    let said = format!("promoted without enough data: {MISSING}");
    assert!(warnings.contains(&said), "{warnings:?}");
    assert_eq!(world.serving().as_deref(), Some("v2"));
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_back_and_not_called_bad() {
    let (world, _, warnings) = hardly_any(OnNoData::Rollback, async |_| {}).await;
    let (left, back) = (world.row(2).await, world.row(3).await);
    assert_eq!((left.status, left.rejected), (DeploymentStatus::RolledBack, false), "{warnings:?}");
    assert_eq!(back.trigger, Some(Trigger::NoTraffic));
    let record = world.ledger.rollback_of(&fixtures::key(), 3).await.unwrap().unwrap();
    assert_eq!(record.evidence[0], format!("not enough data after hold_max: {MISSING}"));
    assert_eq!((world.running(), world.serving().as_deref()), (vec!["v1".to_owned()], Some("v1")));
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_person_and_stays_watched() {
    let (world, outcome, warnings) = hardly_any(OnNoData::Pause, async |world| {
        let renewed = world.router.faults().calls_of("renew");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(weight(world), 10, "it waits");
        assert_eq!(world.row(2).await.status, DeploymentStatus::InProgress);
        let renewals = world.router.faults().calls_of("renew") - renewed;
        assert!(renewals > 100, "the dead-man is renewed all the while: {renewals}");
        let answer = ask(&world.context("promote"), RequestKind::Promote, None).await.unwrap();
        assert!(matches!(answer, ControlAnswer::Accepted(_)));
    })
    .await;
    assert!(matches!(outcome, Outcome::Ended { ending: Ending::Done { .. }, .. }), "{outcome:?}");
    let told: Vec<_> = warnings.iter().filter(|said| said.contains("the rollout waits")).collect();
    assert_eq!(told.len(), 1, "said once: {warnings:?}");
    assert!(told[0].contains(MISSING) && told[0].contains("backout promote"), "{told:?}");
    assert_eq!(world.row(2).await.status, DeploymentStatus::Stable);
    world.assert_clean();
}
