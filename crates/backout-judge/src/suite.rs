//! Every family a few times, and that this would find faults put into the judge.

use crate::eval::families::{self, Family};
use crate::eval::figures::Effort;
use crate::eval::figures::rollbacks::{is_contradicted, plays};
use crate::eval::stats::median;
use crate::mutants::{self, Mutant};

const SEED: u64 = 20_261_121;

fn effort(runs: u64) -> Effort {
    // Faults are put in on this thread alone.
    Effort { runs, rollback_runs: runs, threads: 1, seed: SEED }
}

/// Whether a family that must not fail keeps its bounds, as far as so many runs can tell.
fn holds(family: &Family, runs: u64) -> Result<(), String> {
    match is_contradicted(&plays(&effort(runs), family, runs)) {
        None => Ok(()),
        Some(alpha) => Err(format!("{}: more false rollbacks than {alpha}", family.name)),
    }
}

/// Requests of the canary after which half of the runs have found it, with some room.
const MOST: &[(&str, f64)] = &[
    ("0.01+1", 700.0),
    ("0.01+5", 90.0),
    ("0.01+50", 10.0),
    ("0.1+1", 750.0),
    ("0.1+5", 95.0),
    ("0.1+50", 10.0),
    ("1+1", 2_600.0),
    ("1+5", 180.0),
    ("1+50", 12.0),
    ("total-failure", 6.0),
    ("crash-loop", 500.0),
    ("silence", 1.0),
    ("latency+20%", 1_900.0),
    ("latency-2x", 400.0),
    ("tail-only", 2_000.0),
    ("bimodal", 500.0),
    ("one-in-50", 1_300.0),
    ("hidden-latency", 500.0),
    ("endless-cold-start", 400.0),
    ("leak-of-errors", 2_700.0),
    ("leak-of-latency", 4_000.0),
    ("leak-of-memory", 9_000.0),
    ("saturation", 2_600.0),
    ("flapping", 30.0),
    ("onset-5min", 220.0),
    ("onset-30min", 220.0),
    ("onset-120min", 220.0),
    ("above-half", 120.0),
];

/// Whether a family that must fail does, and soon. The median of few runs needs some slack.
fn is_found(family: &Family, runs: u64, slack: f64) -> Result<(), String> {
    let (_, most) = MOST.iter().find(|(name, _)| *name == family.name).expect("it is in the list");
    let canary = |seed| {
        let played = family.play((family.settings)(), SEED + seed, 200);
        played.after_ms.map(|_| played.canary[0] as f64)
    };
    let found: Vec<Option<f64>> = (0..runs).map(canary).collect();
    if found.iter().any(Option::is_none) {
        return Err(format!("{}: not found", family.name));
    }
    match median(&found) {
        Some(median) if median <= most * slack => Ok(()),
        median => Err(format!("{}: found after {median:?}, not {most}", family.name)),
    }
}

fn all_hold(healthy_runs: u64, regression_runs: u64) -> Result<(), String> {
    let healthy = families::healthy();
    let regressions = families::regressions();
    regressions.iter().try_for_each(|family| is_found(family, regression_runs, 1.5))?;
    healthy.iter().try_for_each(|family| holds(family, healthy_runs))
}

/// A part of the families that must not fail, so that both cores have something to do.
fn a_part_holds(part: usize) {
    for family in families::healthy().iter().skip(part).step_by(2) {
        assert_eq!(holds(family, 200), Ok(()));
    }
}

#[test]
fn no_family_is_rolled_back_more_often_than_the_budget_allows() {
    a_part_holds(0);
}

#[test]
fn nor_any_of_the_others() {
    a_part_holds(1);
}

#[test]
fn every_regression_is_found_soon() {
    for family in families::regressions() {
        assert_eq!(is_found(&family, 15, 1.0), Ok(()));
    }
}

#[test]
fn the_bound_does_not_depend_on_how_it_is_counted() {
    // The peak of the evidence says what a judge with that budget would have done.
    let family = families::healthy().into_iter().find(|family| family.name == "retry-storm");
    let family = family.expect("it is in the list");
    let mut differs = 0;
    for seed in 0..60 {
        let alpha = 0.3;
        let of = |alpha: f64| {
            let settings = (family.settings)();
            let settings = crate::Settings { false_rollback_probability: alpha, ..settings };
            family.play(settings, seed, 1_000)
        };
        let (peak, failed) = (of(1e-9).peak, of(alpha).failing.is_some());
        assert_eq!(peak >= 1.0 / alpha, failed, "seed {seed}: {peak}");
        differs += u32::from(failed);
    }
    assert!(differs > 2, "{differs}: blind?");
}

#[test]
fn a_session_that_nobody_leaves_out_would_be_evidence() {
    let evidence = || {
        let mut comparison = crate::sequential::Comparison::new(&crate::Settings::default());
        comparison.weight(0.05);
        for at_ms in 1..50 {
            comparison.session_request(at_ms, crate::Arm::Canary, 7, false, None);
        }
        comparison.settle();
        comparison.e_values().combined
    };
    assert!(evidence() <= 1.0 + 1e-9, "{}", evidence());
    let counted = mutants::with(Mutant::NoSessionLeftOut, evidence);
    assert!(counted > 2.0, "{counted}");
}

#[test]
fn no_mutant_survives() {
    // A fault in the judge shows in far fewer runs than are needed to trust it.
    assert_eq!(all_hold(25, 9), Ok(()));
    let holds = || all_hold(6, 3).and_then(|()| all_hold(25, 9));
    let survives = |mutant: &Mutant| mutants::with(*mutant, holds).is_ok();
    let survivors: Vec<Mutant> = Mutant::ALL.into_iter().filter(survives).collect();
    assert_eq!(survivors, []);
}
