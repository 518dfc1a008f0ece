//! The proxy goes back by itself: whoever hears of it, and however late, adopts it as a verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::{DeploymentStatus, RequestKind, Surface, Trigger};
use backout_core::ports::{Ledger, TrafficFrame};
use backout_core::saga::Ending;
use backout_engine::{Outcome, ask, deploy, down, recover, rollback};
use backout_testkit::{Fault, fixtures};

use crate::world::{How, World};

const EVIDENCE: &str = "canary errors 50.0 % of 6 requests, baseline 0.0 % of 54";

/// A world in which v1 is live and v2 is in its first stage; then `during` happens.
async fn in_its_first_stage(during: impl AsyncFnOnce(&World)) -> (World, Option<Outcome>) {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let (holder, wish) = (cx.holder.clone(), World::wish("v2"));
    let limit = Duration::from_secs(120);
    let (ended, ()) = tokio::join!(tokio::time::timeout(limit, deploy(&cx, &wish)), async {
        while world.router.weights().get(&Slot::B).copied().unwrap_or(0) != 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        during(&world).await;
    });
    world.ledger.kill(&holder);
    (world, ended.ok().and_then(Result::ok))
}

/// As above, with a watcher that is killed at once.
async fn left_alone_in_its_stages() -> World {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let cx = world.context("deploy");
    let holder = cx.holder.clone();
    let killed =
        tokio::time::timeout(Duration::from_millis(2_500), deploy(&cx, &World::wish("v2"))).await;
    assert!(killed.is_err(), "it is in its stages");
    world.ledger.kill(&holder);
    assert!(world.router.traffic().unwrap().trip.is_some(), "the split stands with its trip");
    world
}

fn frame(world: &World) -> TrafficFrame {
    let now = world.router.traffic().unwrap();
    TrafficFrame {
        instance: "one".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
        weights: now.weights,
        sides: BTreeMap::new(),
        fired: now.fired,
        tripped: now.tripped,
        unbound: None,
    }
}

async fn adopted_as_a_verdict(world: &World, case: &str) {
    let (left, back) = (world.row(2).await, world.row(3).await);
    assert_eq!((left.status, left.rejected), (DeploymentStatus::RolledBack, true), "{case}");
    assert_eq!(back.trigger, Some(Trigger::Analysis), "{case}");
    assert_eq!(back.surface, Surface::Proxy, "{case}");
    let record = world.ledger.rollback_of(&fixtures::key(), 3).await.unwrap().unwrap();
    assert_eq!(record.evidence[0], EVIDENCE, "{case}: {:?}", record.evidence);
    assert!(record.evidence[1].contains("the proxy's trip fired at"), "{:?}", record.evidence);
    assert_eq!(world.running(), ["v1"], "{case}");
    assert_eq!(world.serving().as_deref(), Some("v1"), "{case}");
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_living_watcher_hears_of_it_and_takes_the_release_back() {
    let (world, outcome) = in_its_first_stage(async |world| {
        world.router.fire_trip(EVIDENCE);
        world.router.push_frame(frame(world));
    })
    .await;
    let outcome = outcome.expect("it ends");
    let Outcome::Ended { ending: Ending::TakenBack { failure: Some(failure), .. }, .. } = &outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(failure.by_router && failure.release_is_bad);
    adopted_as_a_verdict(&world, "living").await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_hears_of_nothing_finds_out_when_it_moves_traffic() {
    // No frame tells: the hold ends in peace, and the next weights are refused.
    let (world, outcome) = in_its_first_stage(async |world| world.router.fire_trip(EVIDENCE)).await;
    assert!(matches!(outcome, Some(Outcome::Ended { .. })), "{outcome:?}");
    adopted_as_a_verdict(&world, "deaf").await;
}

#[tokio::test(start_paused = true)]
async fn recover_and_every_other_way_to_go_on_adopts_it() {
    for way in ["recover", "retry", "deploy"] {
        let world = left_alone_in_its_stages().await;
        world.router.fire_trip(EVIDENCE);
        match way {
            "recover" => {
                recover(&world.context(way)).await.unwrap();
            }
            "retry" => {
                ask(&world.context(way), RequestKind::Retry, None).await.unwrap();
            }
            _ => {
                // What was left is taken back first; then the new one comes.
                world.deploy("v3").await.unwrap();
                let (left, back) = (world.row(2).await, world.row(3).await);
                assert!(left.rejected && back.trigger == Some(Trigger::Analysis));
                assert_eq!(world.serving().as_deref(), Some("v3"));
                continue;
            }
        }
        adopted_as_a_verdict(&world, way).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_or_aborts_rejects_what_the_proxy_found_bad() {
    for way in ["rollback", "abort", "down"] {
        let world = left_alone_in_its_stages().await;
        world.router.fire_trip(EVIDENCE);
        match way {
            "rollback" => {
                world.rollback().await.unwrap();
            }
            "abort" => {
                ask(&world.context(way), RequestKind::Abort, None).await.unwrap();
            }
            _ => {
                down(&world.context(way), None).await.unwrap();
            }
        }
        assert!(world.row(2).await.rejected, "{way}");
        let running = world.running();
        assert_eq!(running.is_empty(), way == "down", "{way}: {running:?}");
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fires_after_it_was_taken_over_is_kept_in_the_record() {
    let world = left_alone_in_its_stages().await;
    // Nobody had heard of anything when the rollback began; its first move of traffic fails, and then it fires.
    world.router.faults().fail_next("apply", Fault::Transient);
    let before = world.router.faults().calls_of("apply");
    let limit = Duration::from_secs(120);
    let (rolled_back, ()) = tokio::join!(tokio::time::timeout(limit, world.rollback()), async {
        while world.router.faults().calls_of("apply") == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.router.fire_trip(EVIDENCE);
    });
    rolled_back.unwrap().unwrap();
    let record = world.ledger.rollback_of(&fixtures::key(), 3).await.unwrap().unwrap();
    let kept: Vec<_> = record.warnings.iter().filter(|w| w.contains(EVIDENCE)).collect();
    assert_eq!(kept.len(), 1, "once: {:?}", record.warnings);
    assert!(kept[0].starts_with("while it was being taken back: "), "{}", kept[0]);
    assert!(kept[0].contains("the proxy's trip fired at"), "{}", kept[0]);
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn one_that_was_adopted_by_somebody_who_died_then_is_told_by_whoever_goes_on() {
    for (dies, fault) in [("before", Fault::HangBefore), ("after", Fault::HangAfter)] {
        let world = left_alone_in_its_stages().await;
        world.router.faults().fail_next("apply", Fault::Transient);
        let before = world.router.faults().calls_of("apply");
        let cx = world.context("rollback");
        let wishes = World::back();
        let limit = Duration::from_secs(10);
        let (killed, ()) =
            tokio::join!(tokio::time::timeout(limit, rollback(&cx, &wishes)), async {
                while world.router.faults().calls_of("apply") == before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // The move that adopts it is the last thing that is done.
                world.router.faults().fail_next("apply", fault);
                world.router.fire_trip(EVIDENCE);
            });
        assert!(killed.is_err(), "{dies}: {killed:?}");
        let forgotten = world.router.traffic().unwrap().tripped.is_none();
        assert_eq!(forgotten, dies == "after", "the router forgets what is adopted");
        world.ledger.kill(&cx.holder);
        recover(&world.context("recover")).await.unwrap();
        let record = world.ledger.rollback_of(&fixtures::key(), 3).await.unwrap().unwrap();
        let kept: Vec<_> = record.warnings.iter().filter(|w| w.contains(EVIDENCE)).collect();
        assert_eq!(kept.len(), 1, "{dies}: {:?}", record.warnings);
        assert_eq!(world.running(), ["v1"], "{dies}");
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_way_back_began_with_is_not_told_twice() {
    let world = left_alone_in_its_stages().await;
    world.router.fire_trip(EVIDENCE);
    recover(&world.context("recover")).await.unwrap();
    let record = world.ledger.rollback_of(&fixtures::key(), 3).await.unwrap().unwrap();
    assert_eq!(record.evidence[0], EVIDENCE);
    assert!(!record.warnings.iter().any(|w| w.contains(EVIDENCE)), "{:?}", record.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_trip_that_held_is_a_verdict_all_the_same() {
    let world = left_alone_in_its_stages().await;
    world.router.set_stable_is_healthy(false);
    world.router.fire_trip(EVIDENCE);
    assert!(world.router.weights()[&Slot::B] > 0, "nothing moved");
    recover(&world.context("recover")).await.unwrap();
    let (left, back) = (world.row(2).await, world.row(3).await);
    assert_eq!((left.status, left.rejected), (DeploymentStatus::RolledBack, true));
    assert_eq!((back.trigger, back.surface), (Some(Trigger::Analysis), Surface::Cli));
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn where_nothing_goes_back_by_itself_no_trip_is_armed() {
    let mut world = World::new(How::Canary).await;
    world.automatic = false;
    world.deploy("v1").await.unwrap();
    world.deploy("v2").await.unwrap();
    let applied = world.router.applied();
    assert!(applied.len() >= 4 && applied.iter().all(|change| change.trip.is_none()));
    assert!(
        applied.iter().any(|change| change.dead_man.is_some()),
        "the dead-man is another matter"
    );
}

#[tokio::test(start_paused = true)]
async fn every_split_and_nothing_else_stands_with_its_trip() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    world.deploy("v2").await.unwrap();
    let applied = world.router.applied();
    for change in &applied {
        let split = change.weights.values().any(|weight| (1..100).contains(weight));
        assert_eq!(change.trip.is_some(), split, "{change:?}");
    }
    let rules: Vec<_> = applied.iter().filter_map(|change| change.trip).collect();
    assert!(rules.len() >= 2 && rules.iter().all(|trip| *trip == rules[0]), "one rule, one test");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_can_t_listen_is_said_and_promotes_nothing() {
    let why = "failed to listen on 127.0.0.1:80: the address is in use";
    let (world, outcome) = in_its_first_stage(async |world| {
        let cut_off = TrafficFrame { unbound: Some(why.to_owned()), ..frame(world) };
        // Far longer than the hold lasts.
        for _ in 0..200 {
            world.router.push_frame(cut_off.clone());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(world.router.weights()[&Slot::B], 10, "users can't come in");
        world.router.push_frame(frame(world));
    })
    .await;
    let outcome = outcome.expect("it goes on");
    let warnings: Vec<_> =
        outcome.operation().state.warnings.iter().filter(|w| w.contains(why)).collect();
    assert_eq!(warnings.len(), 1, "said once: {:?}", outcome.operation().state.warnings);
    assert_eq!(world.serving().as_deref(), Some("v2"));
}
