//! What a deploy has begun on which hosts.

use std::collections::BTreeSet;

use backout_core::plan::{Action, Seen, plan_deploy};
use backout_core::ports::{ErrorClass, Receipt};
use backout_core::saga::{ENTRY_FORMAT, Entry, EntryKind, fold, untouched_hosts};

use crate::fixtures::{Setup, Start, at, context};

fn entry(kind: EntryKind) -> Entry {
    Entry { format: ENTRY_FORMAT, at: at(0), epoch: 1, kind }
}

fn failed(step: usize, class: ErrorClass) -> EntryKind {
    EntryKind::StepFailed { step, class, message: "no".to_owned() }
}

/// A host whose first try may have had an effect is brought back, whatever came of the tries after it.
#[test]
fn only_a_host_that_was_never_reached_is_left_alone() {
    let [setup, _] = Setup::on_hosts();
    let (policy, release) = (setup.policy(), setup.release("2"));
    let cx = context(setup, &policy, 9);
    let situation = Start::LiveRuns.situation(setup);
    let plan = plan_deploy(&cx, &situation, &release, false, &Seen::default()).unwrap();
    let first = plan.steps.iter().position(|step| matches!(step.action, Action::Start { .. }));
    let first = first.unwrap();
    let [lost, crashed, down] = [first, first + 1, first + 2];
    let started = |step, attempt| EntryKind::StepStarted { step, attempt };
    let mut kinds: Vec<EntryKind> = (0..first)
        .flat_map(|step| {
            let receipt = Receipt::default();
            [started(step, 1), EntryKind::StepDone { step, adopted: false, receipt }]
        })
        .collect();
    // The link broke in the middle, and then nobody got through any more.
    kinds.extend([started(lost, 1), failed(lost, ErrorClass::Unknown)]);
    kinds.extend([EntryKind::StepNotApplied { step: lost }, started(lost, 2)]);
    kinds.push(failed(lost, ErrorClass::Transient));
    // The holder died in the middle, and the next one did not get through.
    kinds.extend([started(crashed, 1), EntryKind::StepNotApplied { step: crashed }]);
    kinds.extend([started(crashed, 2), failed(crashed, ErrorClass::Transient)]);
    kinds.extend([started(down, 1), failed(down, ErrorClass::Transient)]);
    kinds.extend([started(down, 2), failed(down, ErrorClass::Transient)]);
    let entries: Vec<Entry> = kinds.into_iter().map(entry).collect();
    let state = fold(&plan, &entries).unwrap();
    let untouched = untouched_hosts(&plan, &state, plan.from.as_ref().unwrap());
    assert_eq!(untouched, BTreeSet::from([setup.host_names()[2].clone()]));
}
