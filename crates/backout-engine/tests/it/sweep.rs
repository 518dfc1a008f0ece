//! Every effect of every operation fails in every way, and the process is killed before and after each.
//! After recovery the invariants hold.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::model::DeploymentStatus;
use backout_core::ports::Ledger;
use backout_engine::{Outcome, deploy, recover, rollback};
use backout_testkit::ledger::CommitFault;
use backout_testkit::{Fault, fixtures};

use crate::world::{How, World};

/// More effects than any of these operations makes.
const MOST_EFFECTS: u64 = 14;
/// More commits than any of these operations makes.
const MOST_COMMITS: usize = 60;
/// Longer than any of these operations takes, in virtual time.
const LONG: Duration = Duration::from_secs(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    GoodDeploy,
    BadDeploy,
    FirstDeploy,
    Rollback,
}

impl Run {
    const ALL: [Run; 4] = [Run::GoodDeploy, Run::BadDeploy, Run::FirstDeploy, Run::Rollback];
}

async fn prepared(how: How, run: Run) -> World {
    let world = World::new(how).await;
    if run != Run::FirstDeploy {
        world.deploy("v1").await.unwrap();
    }
    if run == Run::Rollback {
        world.deploy("v2").await.unwrap();
    }
    if run == Run::BadDeploy {
        world.is_bad("v2");
    }
    world
}

/// Runs it in a process of its own; `None` if it hung and was killed.
async fn run_killable(world: &World, run: Run) -> Option<Outcome> {
    let activity = if run == Run::Rollback { "rollback" } else { "deploy" };
    let cx = world.context(activity);
    let holder = cx.holder.clone();
    let ended = match run {
        Run::Rollback => tokio::time::timeout(LONG, rollback(&cx, &World::back())).await,
        _ => tokio::time::timeout(LONG, deploy(&cx, &World::wish("v2"))).await,
    };
    world.ledger.kill(&holder);
    ended.ok().and_then(Result::ok)
}

pub async fn check(world: &World, case: &str) {
    let open = world.ledger.open_operation(&fixtures::key()).await.unwrap();
    let open = open.map(|plan| plan.operation);
    assert!(open.is_none(), "{case}: {open:?} is still open");
    let running = world.running();
    assert!(running.len() <= 1, "{case}: {running:?} run");
    let live = world.live().await;
    match live {
        Some(number) => {
            let row = world.row(number).await;
            assert_eq!(
                world.serving().as_deref(),
                Some(row.version.as_str()),
                "{case}: live is not what serves"
            );
            assert!(!row.rejected, "{case}: users are on a rejected release");
        }
        None => assert!(running.is_empty(), "{case}: {running:?} runs, but nothing is live"),
    }
    for row in world.history().await {
        let over = !matches!(
            row.status,
            DeploymentStatus::InProgress | DeploymentStatus::Pending | DeploymentStatus::Stuck
        );
        assert!(over, "{case}: #{} is still {}", row.number, row.status);
    }
    world.assert_clean();
}

/// Brings what was interrupted to an end, as a person would: recover, and again once the fault is gone.
async fn settle(world: &World, case: &str) {
    for _ in 0..4 {
        if world.ledger.open_operation(&fixtures::key()).await.unwrap().is_none() {
            return;
        }
        // Whoever seems to hold it never comes back.
        world.ledger.advance_ms(3 * world.ledger.term_ms());
        let cx = world.context("recover");
        let holder = cx.holder.clone();
        let result = tokio::time::timeout(LONG, recover(&cx)).await;
        world.ledger.kill(&holder);
        world.target.faults().clear();
        world.router.faults().clear();
        assert!(result.is_ok(), "{case}: recover hung");
    }
}

async fn sweep_effects(how: How, of: &str, name: &str) {
    for run in Run::ALL {
        for nth in 1..=MOST_EFFECTS {
            let faults = [
                Fault::Transient,
                Fault::Permanent,
                Fault::UnknownBefore,
                Fault::UnknownAfter,
                Fault::HangBefore,
                Fault::HangAfter,
            ];
            let mut reached = false;
            for fault in faults {
                let world = prepared(how, run).await;
                let plan =
                    if of == "target" { world.target.faults() } else { world.router.faults() };
                let before = plan.calls_of(name);
                plan.fail(name, before + nth, fault);
                run_killable(&world, run).await;
                reached |= plan.calls_of(name) >= before + nth;
                let case = format!("{how:?} {run:?}: {fault:?} at {name} {nth}");
                settle(&world, &case).await;
                check(&world, &case).await;
            }
            if !reached {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_start_fails_in_every_way() {
    for how in How::ALL {
        sweep_effects(how, "target", "start").await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_stop_fails_in_every_way() {
    for how in How::ALL {
        sweep_effects(how, "target", "stop").await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_traffic_move_fails_in_every_way() {
    for how in [How::BlueGreen, How::Canary] {
        sweep_effects(how, "router", "apply").await;
        sweep_effects(how, "router", "drain").await;
        sweep_effects(how, "router", "ensure").await;
    }
}

/// The ledger fails at each commit: before it (nothing written), after it (written, but nobody knows), and fenced.
#[tokio::test(start_paused = true)]
async fn every_commit_fails_in_every_way() {
    let mut commits_seen: BTreeMap<String, usize> = BTreeMap::new();
    for how in How::ALL {
        for run in Run::ALL {
            for nth in 1..=MOST_COMMITS {
                let mut reached = false;
                for fault in [
                    CommitFault::UnavailableBefore,
                    CommitFault::UnavailableAfter,
                    CommitFault::Fenced,
                ] {
                    let world = prepared(how, run).await;
                    let before = world.ledger.commits();
                    let words = format!("{fault:?}");
                    world.ledger.fail_commit(nth, fault);
                    run_killable(&world, run).await;
                    reached |= world.ledger.commits() >= before + nth;
                    let case = format!("{how:?} {run:?}: {words} at commit {nth}");
                    settle(&world, &case).await;
                    check(&world, &case).await;
                }
                if !reached {
                    break;
                }
                commits_seen.insert(format!("{how:?} {run:?}"), nth);
            }
        }
    }
    assert!(
        commits_seen.values().all(|seen| *seen >= 4),
        "the sweep reached too little: {commits_seen:?}"
    );
}
