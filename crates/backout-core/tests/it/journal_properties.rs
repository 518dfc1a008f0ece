//! `fold` and `decide` on journals that nobody wrote: an answer or `CorruptJournal`, never a panic.

use std::sync::Arc;

use backout_core::ids::{OperationId, RequestId};
use backout_core::model::{RequestKind, Trigger};
use backout_core::plan::{Plan, Seen, plan_adopt, plan_deploy, plan_down, plan_rollback};
use backout_core::ports::{ErrorClass, Receipt};
use backout_core::saga::{
    Decision, ENTRY_FORMAT, Ending, Entry, EntryKind, Failure, StepPhase, Try, decide, fold,
    on_end, on_progress, opening, step_records,
};
use proptest::prelude::*;

use crate::fixtures::{Setup, Start, at, context, key, live, wish};

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for setup in Setup::legal() {
        let (policy, old, new) = (setup.policy(), setup.release("1"), setup.release("3"));
        let cx = context(setup, &policy, 3);
        let situation = Start::LiveRuns.situation(setup);
        plans.push(plan_deploy(&cx, &situation, &new, true, &Seen::default()).unwrap());
        let left = Some(live(2, &new, backout_core::ids::Slot::B));
        plans.push(plan_rollback(&cx, &situation, &wish(&old, left)).unwrap());
        plans.push(plan_down(&cx, &situation, None));
        plans.push(plan_adopt(&cx, &Arc::clone(&old)));
    }
    plans
}

fn failures() -> impl Strategy<Value = Failure> {
    let trigger = prop::sample::select(Trigger::ALL);
    (trigger, any::<bool>(), any::<bool>()).prop_map(|(trigger, release_is_bad, by_router)| {
        Failure { trigger, evidence: vec!["why".to_owned()], release_is_bad, by_router }
    })
}

fn endings() -> impl Strategy<Value = Ending> {
    let by = || OperationId::new("op_other").unwrap();
    prop_oneof![
        any::<bool>().prop_map(|healthy| Ending::Done { healthy }),
        Just(Ending::NothingChanged { message: "no".to_owned() }),
        failures().prop_map(|failure| Ending::FailedLive { failure }),
        prop::option::of(failures())
            .prop_map(move |failure| Ending::TakenBack { by: by(), failure }),
        Just(Ending::Superseded { by: by() }),
        Just(Ending::Resolved { reason: "so".to_owned(), by: "ann".to_owned() }),
    ]
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    let step = 0_usize..22;
    let class = prop::sample::select(vec![
        ErrorClass::Transient,
        ErrorClass::Permanent,
        ErrorClass::Unknown,
    ]);
    let request = prop::sample::select(vec![
        RequestKind::Promote,
        RequestKind::PromoteFull,
        RequestKind::Pause,
        RequestKind::Resume,
        RequestKind::Retry,
        RequestKind::Abort,
        RequestKind::TakeOver,
        RequestKind::Supersede,
        RequestKind::HandOver,
    ]);
    let message = || "why".to_owned();
    prop_oneof![
        Just(EntryKind::Claimed { holder: "ann@host:1".to_owned() }),
        (step.clone(), 0_u32..6)
            .prop_map(|(step, attempt)| EntryKind::StepStarted { step, attempt }),
        (step.clone(), any::<bool>()).prop_map(|(step, adopted)| EntryKind::StepDone {
            step,
            adopted,
            receipt: Receipt::default()
        }),
        (step.clone(), class).prop_map(move |(step, class)| EntryKind::StepFailed {
            step,
            class,
            message: message()
        }),
        step.clone().prop_map(|step| EntryKind::StepNotApplied { step }),
        step.clone().prop_map(|step| EntryKind::StepSkipped { step }),
        failures().prop_map(|failure| EntryKind::Failing { failure }),
        request.prop_map(|kind| EntryKind::Requested {
            request: RequestId::new("rq_1").unwrap(),
            kind,
            by: "bob".to_owned()
        }),
        Just(EntryKind::TrafficSafe),
        Just(EntryKind::Warning { message: message() }),
        step.prop_map(move |step| EntryKind::Stuck { step, reason: message() }),
        endings().prop_map(|ending| EntryKind::Ended { ending }),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let format = prop_oneof![9 => Just(ENTRY_FORMAT), 1 => 0_u32..4];
    let entry = (format, any::<i32>(), prop_oneof![9 => Just(1_u64), 1 => 0_u64..3], kinds());
    let entry = entry.prop_map(|(format, ms, epoch, kind)| Entry {
        format,
        at: at(i64::from(ms)),
        epoch,
        kind,
    });
    prop::collection::vec(entry, 0..40)
}

/// Folds a journal, decides and brings rows to every end of it: none of that may panic.
fn use_it(plan: &Plan, entries: &[Entry]) {
    let Ok(state) = fold(plan, entries) else { return };
    let _ = decide(plan, &state, at(0));
    let _ = step_records(plan, &state);
    let environment = backout_core::model::EnvironmentRecord::new(key());
    let mut rows = opening(plan, &environment, None, "/srv/shop");
    for entry in entries {
        on_progress(plan, &mut rows, entry);
        if let EntryKind::Ended { ending } = &entry.kind {
            on_end(plan, &state, &mut rows, ending, &Default::default(), at(0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_entries_never_panic(plan in prop::sample::select(plans()), entries in entries()) {
        use_it(&plan, &entries);
    }

    /// Arbitrary journals are refused early; this one only takes entries that `fold` accepts, and so goes deep.
    #[test]
    fn arbitrary_legal_entries_never_panic(
        plan in prop::sample::select(plans()),
        picks in prop::collection::vec((kinds(), any::<bool>()), 0..60),
    ) {
        let mut entries: Vec<Entry> = Vec::new();
        for (kind, follow) in picks {
            let now = at(i64::try_from(entries.len()).unwrap());
            let state = fold(&plan, &entries).unwrap();
            // Half of the time what `decide` would lead to, so that steps are finished at all.
            let kind = match decide(&plan, &state, now) {
                Decision::Run { tries } if follow => {
                    let Try { step, attempt } = tries[0];
                    EntryKind::StepStarted { step, attempt }
                }
                Decision::Observe { steps } if follow => {
                    EntryKind::StepDone { step: steps[0], adopted: true, receipt: Receipt::default() }
                }
                _ => kind,
            };
            entries.push(Entry { format: ENTRY_FORMAT, at: now, epoch: 1, kind });
            if fold(&plan, &entries).is_err() {
                entries.pop();
            }
        }
        use_it(&plan, &entries);
        let text = serde_json::to_string(&entries).unwrap();
        let read: Vec<Entry> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(fold(&plan, &read), fold(&plan, &entries));
    }
}

fn entry(epoch: u64, kind: EntryKind) -> Entry {
    Entry { format: ENTRY_FORMAT, at: at(0), epoch, kind }
}

#[test]
fn what_no_run_could_have_written_is_corrupt() {
    let plan = plans().remove(0);
    let claimed = |epoch| entry(epoch, EntryKind::Claimed { holder: "ann@host:1".to_owned() });
    let started = |epoch, step, attempt| entry(epoch, EntryKind::StepStarted { step, attempt });
    let done =
        |step| entry(2, EntryKind::StepDone { step, adopted: false, receipt: Receipt::default() });
    let newer = Entry { format: ENTRY_FORMAT + 1, ..claimed(1) };
    let over = entry(2, EntryKind::Ended { ending: Ending::Done { healthy: true } });
    let resolved = Ending::Resolved { reason: "so".to_owned(), by: "ann".to_owned() };
    let resolved = entry(2, EntryKind::Ended { ending: resolved });
    let cases: [(&str, Vec<Entry>, &str); 8] = [
        ("a stale holder's entry", vec![claimed(1), claimed(2), started(1, 0, 1)], "epoch 1 after"),
        ("a newer format", vec![newer], "newer than"),
        ("an outcome without a try", vec![claimed(2), done(0)], "done while Pending"),
        ("a try too many", vec![claimed(2), started(2, 0, 2)], "try 2 after 0"),
        ("a later step", vec![claimed(2), started(2, 1, 1)], "out of order"),
        ("no such step", vec![claimed(2), started(2, 99, 1)], "not in the plan"),
        ("done too early", vec![claimed(2), over], "done before step"),
        ("after the end", vec![claimed(2), resolved, claimed(2)], "after the end"),
    ];
    for (what, entries, words) in cases {
        let last = entries.len() - 1;
        let error = fold(&plan, &entries).expect_err(what);
        assert!(error.message.contains(words), "{what}: {error}");
        assert_eq!(error.sequence, last, "{what}");
    }
}

#[test]
fn a_clock_that_is_set_back_delays_no_retry() {
    let plan = plans().remove(0);
    let class = ErrorClass::Transient;
    let mut entries = vec![
        entry(1, EntryKind::StepStarted { step: 0, attempt: 1 }),
        entry(1, EntryKind::StepFailed { step: 0, class, message: "later".to_owned() }),
    ];
    for entry in &mut entries {
        entry.at = at(3_600_000);
    }
    let state = fold(&plan, &entries).unwrap();
    assert_eq!(state.steps[0].phase, StepPhase::Failed);
    let soon = decide(&plan, &state, at(3_600_199));
    assert_eq!(soon, Decision::Wait { until: at(3_600_200) });
    let due = Decision::Run { tries: vec![Try { step: 0, attempt: 2 }] };
    assert_eq!(decide(&plan, &state, at(3_600_200)), due);
    assert_eq!(decide(&plan, &state, at(0)), due, "an hour back");
}
