//! Golden plans: what people are shown and what is done, for every setup in every situation.

use std::fmt::Write as _;

use backout_core::ids::Slot;
use backout_core::model::Trigger;
use backout_core::plan::{
    Action, Plan, Seen, Situation, WatchMode, lint, plan_adopt, plan_deploy, plan_down,
    plan_rollback, preview,
};
use backout_core::ports::Running;

use crate::fixtures::{How, OnHosts, Setup, Start, context, live, name, whole, wish};

/// An action in a few words.
fn words(action: &Action) -> String {
    match action {
        Action::Snapshot => "snapshot".to_owned(),
        Action::PinArtifacts { .. } => "pin".to_owned(),
        Action::EnsureRouter => "ensure router".to_owned(),
        Action::Start { service, slot, deployment, restore, .. } => {
            let how = if *restore { "restore" } else { "start" };
            format!("{how} {service} in {slot} for #{deployment}")
        }
        Action::Stop { service, slot, .. } => format!("stop {service} in {slot}"),
        Action::Drain { slot } => format!("drain {slot}"),
        Action::SetTraffic(t) => {
            let rest = t.rest.map_or("-", Slot::as_str);
            let guards = [(t.dead_man, " dead-man"), (t.trip.is_some(), " trip")];
            let flags = guards.into_iter().chain([(t.gate, " gate"), (t.cut, " cut")]);
            let flags: String = flags.filter(|(on, _)| *on).map(|(_, word)| word).collect();
            format!("traffic {} {} rest {rest}{flags} stage {}", t.side, t.percent, t.stage)
        }
        Action::RemoveRoute => "remove route".to_owned(),
        Action::Watch { mode, side, baseline, .. } => {
            let mode = match mode {
                WatchMode::Ready { .. } => "ready",
                WatchMode::Hold { .. } => "hold",
                WatchMode::Bake { .. } => "bake",
                WatchMode::Verify { .. } => "verify",
                WatchMode::Keep { .. } => "keep",
                WatchMode::Pause { .. } => "pause",
            };
            format!("watch {mode} {side} against {}", baseline.map_or("-", Slot::as_str))
        }
        Action::Confirm { service, host, .. } => format!("confirm {service} on {host}"),
        Action::RestoreConfig { .. } => "restore config".to_owned(),
        Action::Prune => "prune".to_owned(),
        Action::LetGo { slot, .. } => format!("let go of {slot}"),
        Action::Rehearse { slot, beside, .. } => format!("rehearse in {slot} beside {beside}"),
        Action::KeepEvidence { slot, deployment, limit_ms, .. } => {
            format!("keep evidence of #{deployment} in {slot} within {limit_ms} ms")
        }
    }
}

/// A plan as text: the preview, the action, its undo and what failure means.
fn text(out: &mut String, title: &str, plan: &Plan) {
    let live_at = plan.live_at.map_or("-".to_owned(), |index| plan.steps[index].key.clone());
    writeln!(out, "== {title}: slot {}, live at {live_at}", plan.slot).unwrap();
    for (step, shown) in plan.steps.iter().zip(preview(plan)) {
        let undo = step.compensation.as_ref().map_or("-".to_owned(), words);
        writeln!(out, "{} {}: {} => {}", shown.name, shown.subject, shown.before, shown.after)
            .unwrap();
        writeln!(
            out,
            "    {} | undo: {undo} | {:?} {:?} | {} x {} ms",
            words(&step.action),
            step.nature,
            step.phase,
            step.max_attempts,
            step.timeout_ms
        )
        .unwrap();
    }
    assert_eq!(lint(plan), Vec::<String>::new(), "{title}");
    out.push('\n');
}

/// The situation with the live side gone, as after a crash of its programs.
fn dead(mut situation: Situation) -> Situation {
    if let Some(side) = situation.live.as_ref().and_then(|l| situation.slots.get_mut(&l.slot)) {
        side.running = Running::No;
    }
    situation
}

/// The situation in which #3 is being rolled out beside what was live.
fn in_rollout(setup: Setup, start: Start) -> Situation {
    let mut situation = start.situation(setup);
    let Some(from) = situation.live.clone() else { return situation };
    let slot = if setup.in_place() { from.slot } else { from.slot.other() };
    let side = whole(3, &setup.release("3"), Running::Yes).on(&setup.host_names());
    situation.slots.insert(slot, side);
    if setup.how == How::Recreate && !setup.in_place() {
        situation.slots.remove(&from.slot);
    }
    if let Some(side) = situation.slots.get_mut(&from.slot).filter(|side| side.deployment != 3) {
        side.services.remove(&name("jobs"));
    }
    if let (Some(weights), true) = (&mut situation.weights, setup.side_by_side()) {
        weights.insert(from.slot, 50);
        weights.insert(slot, 50);
    }
    situation
}

fn plans(setup: Setup) -> String {
    let mut out = String::new();
    let (policy, new) = (setup.policy(), setup.release("3"));
    let cx = context(setup, &policy, 3);
    let back_cx = context(setup, &policy, 4);
    for start in Start::ALL.into_iter().filter(|start| start.fits(setup)) {
        let situation = start.situation(setup);
        let title = |what: &str| format!("{what}, {}", start.label());
        let plan = plan_deploy(&cx, &situation, &new, false, &Seen::default()).unwrap();
        text(&mut out, &title("deploy"), &plan);
        let Some(from) = situation.live.clone() else { continue };
        let plan =
            plan_deploy(&cx, &dead(situation.clone()), &new, true, &Seen::default()).unwrap();
        text(&mut out, &title("deploy with restored config over a dead side"), &plan);
        let rollout = in_rollout(setup, start);
        let target = setup.release(from.version.as_str());
        let left = live(3, &new, plan.slot);
        let wanted = wish(&target, Some(left.clone()));
        let plan = plan_rollback(&back_cx, &rollout, &wanted).unwrap();
        text(&mut out, &title("take back"), &plan);
        let taken_back = Some((left, Trigger::Analysis, Vec::new(), true));
        let plan = plan_down(&back_cx, &rollout, taken_back);
        text(&mut out, &title("down"), &plan);
        let plan = plan_rollback(&back_cx, &dead(situation), &wish(&target, None)).unwrap();
        text(&mut out, &title("start again what is live"), &plan);
    }
    text(&mut out, "adopt", &plan_adopt(&context(setup, &policy, 0), &new));
    out
}

#[test]
fn every_setup_in_every_situation() {
    for setup in Setup::legal() {
        insta::assert_snapshot!(format!("plans_{}", setup.label()), plans(setup));
    }
}
