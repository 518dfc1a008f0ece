//! Golden plans of the drill and of the eject, and what holds of each.

use std::fmt::Write as _;

use backout_core::ids::Slot;
use backout_core::plan::{Action, Plan, lint, not_beside, plan_drill, plan_eject, preview};

use crate::fixtures::{Setup, Start, context, live};

/// A plan as people see it, with what failure means.
fn text(out: &mut String, title: &str, plan: &Plan) {
    writeln!(out, "== {title}: {} in slot {}", plan.kind, plan.slot).unwrap();
    for (step, shown) in plan.steps.iter().zip(preview(plan)) {
        writeln!(out, "{} {}: {} => {}", shown.name, shown.subject, shown.before, shown.after)
            .unwrap();
        let wave = step.wave.map_or(String::new(), |wave| format!(" | wave {wave}"));
        writeln!(
            out,
            "    {:?} {:?} | {} x {} ms{wave}",
            step.nature, step.phase, step.max_attempts, step.timeout_ms
        )
        .unwrap();
    }
    assert_eq!(lint(plan), Vec::<String>::new(), "{title}");
    out.push('\n');
}

/// What the drill of every setup does in every situation, or why it is refused.
fn drills(setup: Setup) -> String {
    let (mut out, policy) = (String::new(), setup.policy());
    let cx = context(setup, &policy, 3);
    let old = setup.release("0");
    let target = live(0, &old, Slot::A);
    let beside = not_beside(&cx).is_none();
    for start in Start::ALL.into_iter().filter(|start| start.fits(setup)) {
        let situation = start.situation(setup);
        let title = format!("drill, {}", start.label());
        match plan_drill(&cx, &situation, &target, &old, beside) {
            Ok(plan) => {
                touches_nothing_that_serves(&plan, situation.users_on());
                text(&mut out, &title, &plan);
            }
            Err(refusal) => {
                writeln!(
                    out,
                    "== {title}: refused: {}; {}\n",
                    refusal.message,
                    refusal.hint.unwrap_or_default()
                )
                .unwrap();
            }
        }
    }
    if let Some(why) = not_beside(&cx) {
        writeln!(out, "nothing is started: {why}").unwrap();
    }
    out
}

/// Nothing happens where users are, no traffic moves, and what is started is stopped again, the last one first.
fn touches_nothing_that_serves(plan: &Plan, users_on: Option<Slot>) {
    let (mut started, mut stopped) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        match &step.action {
            Action::Start { service, host, slot, .. } => {
                assert_ne!(Some(*slot), users_on, "{}", step.key);
                started.push((service.clone(), host.clone()));
            }
            Action::Stop { service, host, slot, .. } => {
                assert_ne!(Some(*slot), users_on, "{}", step.key);
                stopped.push((service.clone(), host.clone()));
            }
            Action::Rehearse { slot, .. } => assert_ne!(Some(*slot), users_on, "{}", step.key),
            other => panic!("a drill does not {other:?}"),
        }
    }
    stopped.reverse();
    assert_eq!(started, stopped);
    assert_eq!((&plan.deployment, &plan.deployment_id), (&None, &None), "it is no deployment");
}

#[test]
fn every_drill_in_every_situation() {
    for setup in Setup::legal() {
        insta::assert_snapshot!(format!("drills_{}", setup.label()), drills(setup));
    }
}

#[test]
fn an_eject_lets_go_and_nothing_else() {
    let (mut out, mut seen) = (String::new(), Vec::new());
    for setup in Setup::legal() {
        let policy = setup.policy();
        let cx = context(setup, &policy, 3);
        for start in Start::ALL.into_iter().filter(|start| start.fits(setup)) {
            let situation = start.situation(setup);
            let release = setup.release("1");
            let slot = situation.live.as_ref().map_or(Slot::A, |live| live.slot);
            let plan = plan_eject(&cx, situation.live.clone(), (&release.id, slot));
            assert!(
                matches!(plan.steps[..], [ref step] if matches!(step.action, Action::LetGo { .. }))
            );
            assert_eq!((&plan.deployment, &plan.from), (&None, &situation.live));
            let mut one = String::new();
            text(&mut one, &format!("eject, {}", start.label()), &plan);
            // What it does depends on the target's adapter alone.
            if !seen.contains(&one) {
                out.push_str(&one);
                seen.push(one);
            }
        }
    }
    insta::assert_snapshot!("ejects", out);
}
