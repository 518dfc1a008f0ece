//! The linter sees every mistake that it is there for.

use backout_core::ids::Slot;
use backout_core::plan::{Action, Nature, Plan, Seen, WatchMode, lint, plan_deploy};

use crate::fixtures::{How, Setup, Start, context};

fn good() -> Plan {
    let setup = Setup::legal().into_iter().find(|setup| setup.how == How::Canary).unwrap();
    let policy = setup.policy();
    let situation = Start::LiveRuns.situation(setup);
    plan_deploy(
        &context(setup, &policy, 2),
        &situation,
        &setup.release("2"),
        false,
        &Seen::default(),
    )
    .unwrap()
}

fn step(plan: &Plan, wanted: fn(&Action) -> bool) -> usize {
    plan.steps.iter().position(|step| wanted(&step.action)).unwrap()
}

fn is_ready(action: &Action) -> bool {
    matches!(action, Action::Watch { mode: WatchMode::Ready { .. }, .. })
}

fn is_traffic(action: &Action) -> bool {
    matches!(action, Action::SetTraffic(_))
}

#[test]
fn each_mistake_is_named() {
    type Mistake = fn(&mut Plan);
    let mistakes: [(&str, Mistake); 9] = [
        ("two steps have the key", |plan| plan.steps[1].key = plan.steps[0].key.clone()),
        ("has no limit", |plan| plan.steps[0].max_attempts = 0),
        ("has no limit", |plan| plan.steps[0].timeout_ms = 0),
        ("goes back after the pivot", |plan| {
            plan.steps.last_mut().unwrap().nature = Nature::Compensatable;
        }),
        ("has no way back", |plan| {
            let start = step(plan, |action| matches!(action, Action::Start { slot: Slot::B, .. }));
            plan.steps[start].compensation = None;
        }),
        ("traffic before the side is ready", |plan| {
            let (ready, traffic) = (step(plan, is_ready), step(plan, is_traffic));
            plan.steps.swap(ready, traffic);
        }),
        ("never checks whether the new side is ready", |plan| {
            let ready = step(plan, is_ready);
            plan.steps.remove(ready);
        }),
        ("without a pivot", |plan| {
            plan.steps.iter_mut().for_each(|step| step.nature = Nature::Retriable);
        }),
        ("past the last step", |plan| plan.live_at = Some(plan.steps.len())),
    ];
    assert_eq!(lint(&good()), Vec::<String>::new());
    for (words, mistake) in mistakes {
        let mut plan = good();
        mistake(&mut plan);
        let wrong = lint(&plan);
        assert!(wrong.iter().any(|line| line.contains(words)), "{words}: {wrong:?}");
    }
}
