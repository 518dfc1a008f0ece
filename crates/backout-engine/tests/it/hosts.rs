//! One service on several hosts: caps, mixed outcomes, batches, hosts that go back by themselves.

use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::{DeploymentStatus, HostsPolicy};
use backout_core::saga::Ending;
use backout_engine::Outcome;
use backout_testkit::{Fault, fixtures};
use jiff::Timestamp;

use crate::world::{How, World, on_hosts};

async fn world(hosts: usize, at_once: usize) -> World {
    let mut world = World::new(How::Rolling).await;
    world.hosts = HostsPolicy { names: on_hosts(hosts), at_once, jitter_ms: 20, confirm_ms: None };
    world
}

fn started(world: &World, version: &str) -> Vec<String> {
    let calls = world.target.calls().into_iter();
    let of = calls.filter(|call| call.verb == "start" && call.version.as_str() == version);
    of.map(|call| call.unit.host.to_string()).collect()
}

fn failure(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ended { ending: Ending::TakenBack { failure: Some(failure), .. }, .. } => {
            failure.evidence.join("; ")
        }
        other => panic!("it was not taken back: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_at_once_as_the_cap_allows_and_no_more() {
    for (at_once, batch_of_two) in [(1, 1), (10, 2)] {
        let world = world(5, at_once).await;
        world.deploy("v1").await.unwrap();
        assert_eq!(world.running(), ["v1"]);
        assert_eq!(started(&world, "v1").len(), 5, "each host once");
        assert_eq!(world.target.most_at_once(), batch_of_two);
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_mixed_outcome_is_no_success_and_goes_back_on_the_hosts_that_had_it() {
    let world = world(5, 10).await;
    world.deploy("v1").await.unwrap();
    // The second host of the second batch refuses.
    world.target.faults().fail("start", 5 + 4, Fault::Permanent);
    let outcome = world.deploy("v2").await.unwrap();
    let why = failure(&outcome);
    assert!(why.contains("start mixed, done on 1 of 2; failed: web@web"), "{why}");
    assert_eq!(world.running(), ["v1"]);
    let tried = started(&world, "v2");
    assert!(!tried.contains(&"web5".to_owned()), "the third batch was not begun: {tried:?}");
    let back: Vec<String> = started(&world, "v1").split_off(5);
    assert!(!back.contains(&"web5".to_owned()), "and it is not gone back on: {back:?}");
    let position = |host: &str| back.iter().position(|other| other == host).unwrap();
    let (first, second) =
        (position("web1").min(position("web2")), position("web3").max(position("web4")));
    assert!(second < first, "the batches go back in reverse: {back:?}");
    assert_eq!(world.row(2).await.status, DeploymentStatus::RolledBack);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn what_hosts_need_is_on_all_of_them_before_any_of_them_changes() {
    let world = world(5, 2).await;
    // What fails once is tried again, and what is there then is no work.
    world.target.faults().fail("prepare", 3, Fault::Transient);
    world.deploy("v1").await.unwrap();
    let mut prepared: Vec<String> =
        world.target.prepared().iter().map(|unit| unit.host.to_string()).collect();
    assert_eq!(prepared.len(), 4 + 5, "the others were not left out for it: {prepared:?}");
    prepared.sort();
    prepared.dedup();
    assert_eq!(prepared.len(), 5);
    // Whoever mends it reads of all of them at once.
    for nth in [2, 4] {
        world.target.faults().fail("prepare", 10 + nth, Fault::Permanent);
    }
    let outcome = world.deploy("v2").await.unwrap();
    let Outcome::Ended { ending, .. } = &outcome else { panic!("{outcome:?}") };
    let Ending::NothingChanged { message } = ending else { panic!("{outcome:?}") };
    assert_eq!(message.matches("prepare").count(), 2, "{message}");
    assert_eq!(started(&world, "v2"), [""; 0]);
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_its_checks_is_the_last_one() {
    let world = world(5, 10).await;
    world.deploy("v1").await.unwrap();
    world.is_bad("v2");
    let outcome = world.deploy("v2").await.unwrap();
    failure(&outcome);
    assert_eq!(started(&world, "v2").len(), 2, "the others never saw it");
    assert_eq!(world.running(), ["v1"]);
    assert!(world.row(2).await.rejected);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_one_host_refuses_is_stuck_by_name_and_goes_on_from_there() {
    let world = world(3, 10).await;
    world.deploy("v1").await.unwrap();
    world.deploy("v2").await.unwrap();
    for nth in 0..4 {
        world.target.faults().fail("start", 6 + 3 + nth, Fault::Transient);
    }
    let outcome = world.rollback().await.unwrap();
    let Outcome::Stuck { reason, .. } = outcome.last() else { panic!("{outcome:?}") };
    assert!(reason.contains("web@web"), "{reason}");
    backout_engine::recover(&world.context("recover")).await.unwrap();
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn hosts_are_told_that_it_is_good_and_one_that_went_back_takes_all_back() {
    let mut world = world(3, 10).await;
    world.hosts.confirm_ms = Some(60_000);
    world.deploy("v1").await.unwrap();
    let confirmed = world.target.calls().iter().filter(|call| call.verb == "confirm").count();
    assert_eq!(confirmed, 3);

    let (target, key) = (world.target.clone(), world.hosts.names[0].clone());
    let goes_back = tokio::spawn(async move {
        let unit = backout_core::ids::Unit { host: key, ..fixtures::unit(Slot::A) };
        while !target.take_back(&unit, Timestamp::from_second(1_800_000_000).unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let outcome = world.deploy("v2").await.unwrap();
    goes_back.await.unwrap();
    let why = failure(&outcome);
    assert!(why.contains("took it back"), "{why}");
    assert_eq!(world.running(), ["v1"]);
    assert!(!world.row(2).await.rejected, "a cut link says nothing of the release");
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_person_takes_over_while_hosts_hang() {
    let world = world(4, 10).await;
    world.deploy("v1").await.unwrap();
    world.target.faults().fail("start", 5, Fault::HangAfter);
    world.target.faults().fail("start", 6, Fault::HangBefore);
    let cx = world.context("deploy");
    let deploying =
        tokio::spawn(async move { backout_engine::deploy(&cx, &World::wish("v2")).await });
    while started(&world, "v2").len() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.rollback().await.unwrap();
    assert!(matches!(deploying.await.unwrap().unwrap(), Outcome::Yielded { .. }));
    assert_eq!(world.running(), ["v1"]);
    world.assert_clean();
}
