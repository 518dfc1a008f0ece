//! "One operation's end, in all the places that show it": a case for each row of that table.

use std::collections::BTreeMap;

use backout_core::ids::{Slot, Version};
use backout_core::model::{
    DeploymentKind, DeploymentStatus, Health, OperationKind, RequestKind, RollbackStatus,
    RollbackType, TargetKind, Trigger,
};
use backout_core::plan::{Action, Seen, WatchMode, plan_deploy, plan_rollback};
use backout_core::ports::Receipt;
use backout_core::saga::{
    ENTRY_FORMAT, Ending, Entry, EntryKind, fold, on_end, on_progress, opening,
};

use crate::enumeration::{Family, Job};
use crate::fixtures::{How, Routing, Setup, Shape, Start, at, context, live, wish};
use crate::sim::{After, End, Fault, Script, Sim};

use DeploymentStatus::{Baking, Failed, RolledBack, Stable, Stuck, Superseded};
use RollbackStatus::Completed;

const CANARY: Setup = Setup {
    target: TargetKind::Process,
    routing: Routing::Builtin,
    how: How::Canary,
    shape: Shape::WebAndWorker,
    hosts: 0,
};

/// Where one case stands in the rows at its end.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    /// Number of what is live.
    live: Option<u64>,
    /// Number, status and whether it is rejected, newest first: those made by the run.
    deployments: Vec<(u64, DeploymentStatus, bool)>,
    /// Status of each rollback record.
    rollbacks: Vec<RollbackStatus>,
}

fn rows(sim: &Sim, from: u64) -> Rows {
    let made = sim.store.deployments.values().rev().filter(|row| row.number >= from);
    Rows {
        live: sim.store.environment.live,
        deployments: made.map(|row| (row.number, row.status, row.rejected)).collect(),
        rollbacks: sim.store.rollbacks.values().map(|row| row.status).collect(),
    }
}

fn run(job: Job, start: Start, change: impl Fn(&mut Sim), after: After) -> (Sim, End) {
    let family = Family { setup: CANARY, start, job, tells: true };
    let mut sim = family.sim(Script::default(), None);
    change(&mut sim);
    let end = family.run(&mut sim, after).unwrap_or_else(|why| panic!("{why}"));
    (sim, end)
}

/// The number of the try in which a step is first begun when nothing goes wrong.
fn try_of(job: Job, start: Start, wanted: fn(&Action) -> bool) -> usize {
    let (sim, _) = run(job, start, |_| {}, After::Recover);
    sim.store.plans[0].steps.iter().position(|step| wanted(&step.action)).unwrap()
}

fn fails(at: usize, fault: Fault) -> impl Fn(&mut Sim) {
    move |sim| sim.script.faults = BTreeMap::from([(at, fault)])
}

fn is_bake(action: &Action) -> bool {
    matches!(action, Action::Watch { mode: WatchMode::Bake { .. }, .. })
}

fn is_hold(action: &Action) -> bool {
    matches!(action, Action::Watch { mode: WatchMode::Hold { .. }, .. })
}

fn expect(
    (sim, _): &(Sim, End),
    live: Option<u64>,
    deployments: &[(u64, DeploymentStatus, bool)],
    rollbacks: &[RollbackStatus],
) {
    let wanted = Rows { live, deployments: deployments.to_vec(), rollbacks: rollbacks.to_vec() };
    assert_eq!(rows(sim, deployments.last().map_or(2, |row| row.0)), wanted);
}

#[test]
fn done_healthy() {
    let deployed = run(Job::Deploy, Start::LiveRuns, |_| {}, After::Recover);
    expect(&deployed, Some(2), &[(2, Stable, false), (1, Stable, false)], &[]);
    let row = &deployed.0.store.deployments[&2];
    assert_eq!((row.kind, row.health), (DeploymentKind::Deploy, Health::Healthy));
    assert_eq!((row.from_number, &row.error_message), (Some(1), &None));
    assert!(row.stable_at.is_some() && row.completed_at.is_some());
}

#[test]
fn a_deploy_that_failed_before_any_change() {
    let failed = run(Job::Deploy, Start::LiveRuns, fails(0, Fault::Permanent), After::Recover);
    expect(&failed, Some(1), &[(2, Failed, false)], &[]);
    let row = &failed.0.store.deployments[&2];
    assert!(row.error_message.as_ref().unwrap().contains("pin_artifacts"), "{row:?}");
    assert!(matches!(failed.1, End::Over(Ending::NothingChanged { .. })));
}

#[test]
fn a_warning_that_each_stage_gives_is_kept_once() {
    let setup = CANARY;
    let (policy, old, new) = (setup.policy(), setup.release("1"), setup.release("3"));
    let situation = Start::LiveRuns.situation(setup);
    let cx = context(setup, &policy, 3);
    let left = live(2, &new, Slot::B);
    let plan = plan_rollback(&cx, &situation, &wish(&old, Some(left))).unwrap();
    let entry = |kind| Entry { format: ENTRY_FORMAT, at: at(5), epoch: 1, kind };
    let says = |message: &str| entry(EntryKind::Warning { message: message.to_owned() });
    let claimed = entry(EntryKind::Claimed { holder: "ann@host:1".to_owned() });
    let entries = [claimed, says("no traffic"), says("no traffic"), says("no baseline")];
    let state = fold(&plan, &entries).unwrap();
    assert_eq!(state.warnings, ["no traffic", "no baseline"]);
}

#[test]
fn a_rollback_that_failed_before_any_change() {
    let setup = CANARY;
    let (policy, old, new) = (setup.policy(), setup.release("1"), setup.release("3"));
    let situation = Start::LiveRuns.situation(setup);
    let left = live(2, &new, Slot::B);
    let cx = context(setup, &policy, 3);
    let plan = plan_rollback(&cx, &situation, &wish(&old, Some(left))).unwrap();
    let sim = Sim::new(setup, Start::Baking);
    let environment = sim.store.environment.clone();
    let left = sim.store.deployments[&2].clone();
    let before = left.status;
    let mut rows = opening(&plan, &environment, Some(left), "/srv/shop");
    let state = fold(&plan, &[]).unwrap();
    let ending = Ending::NothingChanged { message: "refused".to_owned() };
    on_end(&plan, &state, &mut rows, &ending, &BTreeMap::new(), at(5));
    assert_eq!(rows.deployment.unwrap().status, Failed);
    let rollback = rows.rollback.unwrap();
    assert_eq!(rollback.status, RollbackStatus::Failed);
    assert_eq!(rollback.error_message.as_deref(), Some("refused"));
    assert_eq!(rows.left.unwrap().status, before, "what was left stays what it was");
    assert_eq!(rows.environment.live, environment.live);
}

#[test]
fn a_first_deployment_that_failed_and_was_removed_again() {
    let removed = run(Job::DeployBad, Start::NothingLive, |_| {}, After::Recover);
    expect(&removed, None, &[(1, Failed, true)], &[]);
    assert_eq!(removed.0.store.environment.slots, BTreeMap::new());
    assert_eq!(removed.0.store.plans.last().unwrap().kind, OperationKind::Down);
}

#[test]
fn a_deploy_that_was_taken_back_and_is_healthy() {
    let back = run(Job::DeployBad, Start::LiveRuns, |_| {}, After::Recover);
    let made = [(3, Stable, false), (2, RolledBack, true), (1, Stable, false)];
    expect(&back, Some(3), &made, &[Completed]);
    let row = &back.0.store.deployments[&3];
    assert_eq!(row.kind, DeploymentKind::Rollback);
    assert_eq!(row.version, Version::new("1").unwrap());
    let record = &back.0.store.rollbacks[&3];
    assert_eq!(record.rollback_type, RollbackType::Automatic);
    assert_eq!((record.trigger, record.deployment_from), (Trigger::Analysis, Some(2)));
    assert_eq!(record.changes_reverted, ["traffic", "release", "config"]);
    assert!(record.traffic_safe_at.is_some() && record.duration_ms.is_some());
    assert!(record.steps.iter().all(|step| step.status == "done" && step.attempts == 1));
    assert_eq!(record.resources_deleted.len(), 2, "{:?}", record.resources_deleted);
}

#[test]
fn taken_back_and_unhealthy() {
    let both_bad = |sim: &mut Sim| {
        // The old side passes the check before the move, and fails when it is verified.
        let ready = try_of(Job::DeployBad, Start::LiveRuns, |action| {
            matches!(action, Action::Watch { mode: WatchMode::Ready { .. }, .. })
        });
        let (healthy, _) = run(Job::DeployBad, Start::LiveRuns, |_| {}, After::Recover);
        let back = &healthy.store.plans[1];
        let verify = back.steps.iter().position(|step| step.name == "verify").unwrap();
        sim.script.faults.insert(ready + 1 + verify, Fault::Permanent);
    };
    let back = run(Job::DeployBad, Start::LiveRuns, both_bad, After::Recover);
    let made = [(3, Failed, false), (2, RolledBack, true)];
    expect(&back, Some(3), &made, &[Completed]);
    assert_eq!(back.0.store.deployments[&3].health, Health::Failing);
    assert!(matches!(back.1, End::Over(Ending::Done { healthy: false })));
}

#[test]
fn failing_with_automatic_rollback_switched_off() {
    let off = |sim: &mut Sim| sim.policy.rollback.automatic = false;
    let at_once = run(Job::DeployBad, Start::LiveRuns, off, After::Recover);
    expect(&at_once, Some(1), &[(2, Failed, true)], &[]);
    assert!(matches!(at_once.1, End::Over(Ending::FailedLive { .. })));
    let hold = try_of(Job::Deploy, Start::LiveRuns, is_hold);
    let off_in_stages = |sim: &mut Sim| {
        off(sim);
        fails(hold, Fault::Permanent)(sim);
    };
    let in_stages = run(Job::Deploy, Start::LiveRuns, off_in_stages, After::Recover);
    expect(&in_stages, Some(2), &[(2, Failed, true)], &[]);
    let bake = try_of(Job::Deploy, Start::LiveRuns, is_bake);
    let off_in_bake = |sim: &mut Sim| {
        off(sim);
        fails(bake, Fault::Permanent)(sim);
    };
    let in_bake = run(Job::Deploy, Start::LiveRuns, off_in_bake, After::Recover);
    expect(&in_bake, Some(2), &[(2, Failed, true)], &[]);
}

#[test]
fn aborted_or_taken_over() {
    let hold = try_of(Job::Deploy, Start::LiveRuns, is_hold);
    let asks = |kind| move |sim: &mut Sim| sim.script.request = Some((hold, kind));
    for kind in [RequestKind::Abort, RequestKind::TakeOver] {
        let back = run(Job::Deploy, Start::LiveRuns, asks(kind), After::Recover);
        let made = [(3, Stable, false), (2, RolledBack, false)];
        expect(&back, Some(3), &made, &[Completed]);
        assert_eq!(back.0.store.rollbacks[&3].trigger, Trigger::Manual);
    }
    let ready = hold - 2;
    let both = |sim: &mut Sim| {
        // Killed while it goes back from a failed verdict: a person takes that over.
        sim.script.faults =
            BTreeMap::from([(ready, Fault::Permanent), (ready + 3, Fault::CrashBefore)]);
    };
    let back = run(Job::Deploy, Start::LiveRuns, both, After::Rollback);
    let made = [(4, Stable, false), (3, Superseded, false), (2, RolledBack, true)];
    expect(&back, Some(4), &made, &[RollbackStatus::Failed, Completed]);
}

#[test]
fn a_rollback_by_hand_of_a_live_release() {
    let back = run(Job::Rollback, Start::Baking, |_| {}, After::Recover);
    expect(&back, Some(3), &[(3, Stable, false), (2, RolledBack, true)], &[Completed]);
    let record = &back.0.store.rollbacks[&3];
    assert_eq!(record.rollback_type, RollbackType::BlueGreenSwitch);
    assert_eq!((record.status, record.deployment_to), (Completed, 3));
    let never_stable = |sim: &mut Sim| {
        sim.store.deployments.get_mut(&1).unwrap().stable_at = None;
    };
    let back = run(Job::Rollback, Start::Baking, never_stable, After::Recover);
    expect(&back, Some(3), &[(3, Baking, false), (2, RolledBack, true)], &[Completed]);
}

#[test]
fn replaced_by_a_newer_deploy_while_baking() {
    let bake = try_of(Job::Deploy, Start::LiveRuns, is_bake);
    let asks = |sim: &mut Sim| sim.script.request = Some((bake, RequestKind::Supersede));
    let newer = run(Job::Deploy, Start::LiveRuns, asks, After::Recover);
    expect(&newer, Some(3), &[(3, Stable, false), (2, Superseded, false), (1, Stable, false)], &[]);
}

#[test]
fn what_could_not_continue_is_stuck_until_it_can() {
    let drain = try_of(Job::Deploy, Start::LiveRuns, |a| matches!(a, Action::Drain { .. }));
    let mut stuck =
        run(Job::Deploy, Start::LiveRuns, fails(drain, Fault::Permanent), After::Recover);
    expect(&stuck, Some(2), &[(2, Stuck, false)], &[]);
    let row = &stuck.0.store.deployments[&2];
    assert!(row.error_message.as_ref().unwrap().contains("drain"), "{row:?}");
    stuck.0.go_on(After::Recover).unwrap();
    expect(&stuck, Some(2), &[(2, Stable, false)], &[]);
    assert_eq!(stuck.0.store.deployments[&2].error_message, None);

    let mut stuck = run(Job::Rollback, Start::Baking, fails(1, Fault::Permanent), After::Recover);
    expect(&stuck, Some(2), &[(3, Stuck, false)], &[RollbackStatus::Stuck]);
    assert!(stuck.0.store.rollbacks[&3].error_message.is_some());
    stuck.0.go_on(After::Recover).unwrap();
    expect(&stuck, Some(3), &[(3, Stable, false), (2, RolledBack, true)], &[Completed]);
    let record = &stuck.0.store.rollbacks[&3];
    assert_eq!(record.error_message, None, "a reason that was cured is no reason");
    assert_eq!(record.steps[1].attempts, 2);
}

#[test]
fn whoever_watches_stops_and_nothing_changes() {
    let bake = try_of(Job::Deploy, Start::LiveRuns, is_bake);
    let mut sim = Sim::new(CANARY, Start::LiveRuns);
    sim.script.faults = BTreeMap::from([(bake, Fault::CrashBefore)]);
    sim.deploy("3").expect_err("its watcher was killed");
    let watched = (sim, End::Stuck(String::new()));
    expect(&watched, Some(2), &[(2, Baking, false)], &[]);
}

/// What is live and what the slots hold, after every single step of a canary and of its way back.
#[test]
fn live_and_slots_after_every_step() {
    let (policy, new) = (CANARY.policy(), CANARY.release("3"));
    let sim = Sim::new(CANARY, Start::LiveRuns);
    let situation = Start::LiveRuns.situation(CANARY);
    let plan = plan_deploy(&context(CANARY, &policy, 2), &situation, &new, false, &Seen::default())
        .unwrap();
    let mut rows = opening(&plan, &sim.store.environment, None, "/srv/shop");
    let mut lines = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let started = EntryKind::StepStarted { step: index, attempt: 1 };
        let done = EntryKind::StepDone { step: index, adopted: false, receipt: Receipt::default() };
        for (what, kind) in [("begun", started), ("done", done)] {
            let entry = Entry { format: ENTRY_FORMAT, at: at(0), epoch: 1, kind };
            on_progress(&plan, &mut rows, &entry);
            let slots = rows.environment.slots.iter().map(|(slot, record)| {
                let services: Vec<_> = record.services.iter().map(|s| s.as_str()).collect();
                format!("{slot}: #{} {:?} {}", record.deployment, record.state, services.join("+"))
            });
            let slots: Vec<String> = slots.collect();
            let status = rows.deployment.as_ref().unwrap().status;
            let live = rows.environment.live.unwrap();
            lines.push(format!(
                "{} {what}: live #{live}, {status}, {}",
                step.key,
                slots.join(", ")
            ));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}
