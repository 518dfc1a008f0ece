//! The trip: the one rule by which the built-in proxy may take a new side out by itself.

use backout_judge::Settings as JudgeSettings;
use serde::{Deserialize, Serialize};

/// The trip's part of `false_rollback_probability`; the judge that watches beside it has the rest. The two
/// parts are those of one average of e-processes, so that their sum bounds what both do together.
const TRIP_PART: f64 = 0.4;
/// The part of the trip's own budget for a fault that is there from the first request on: the judge beside it
/// spends more on what begins late.
const FROM_START: f64 = 0.95;
/// The part of a budget that the first test has; later ones share the rest.
const FIRST_TEST: f64 = 0.95;
/// The judge takes no smaller budget than this.
const LEAST_BUDGET: f64 = 1e-9;
/// Fractions are kept as whole numbers of these.
const TRILLION: f64 = 1e12;

/// The rule, in whole numbers, so that the plan that arms it says it exactly and compares by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripRule {
    /// The highest probability with which it may take out a harmless release, parts of a trillion.
    pub false_trip_ppt: u64,
    /// An error rate of the new side up to which errors are no reason, parts of a trillion.
    pub harmless_ppt: u64,
    /// Relative increase over the baseline's error rate that is no reason, parts of a trillion.
    pub tolerance_ppt: u64,
    /// Part of the budget for a fault that is there from the start, parts of a trillion.
    pub from_start_ppt: u64,
    /// Muted for this long after the new side's first request, milliseconds.
    pub warm_up_ms: u64,
    /// How long the watch may last; restarts of the test spread their budget over it, milliseconds.
    pub watch_ms: u64,
}

impl TripRule {
    /// The rule that these settings ask for; none where errors are not compared or where the budget is too small to
    /// be divided. Its unit is what falls to the sides, as the router has it: the request, or the session.
    #[must_use]
    pub fn of(settings: &JudgeSettings) -> Option<Self> {
        let first = settings.false_rollback_probability * TRIP_PART * FIRST_TEST;
        let armed = settings.compare_errors && first >= LEAST_BUDGET;
        armed.then(|| Self {
            false_trip_ppt: parts(settings.false_rollback_probability * TRIP_PART),
            harmless_ppt: parts(settings.harmless_error_rate),
            tolerance_ppt: parts(settings.harmless_error_increase),
            from_start_ppt: parts(FROM_START),
            warm_up_ms: unsigned(settings.warm_up_ms),
            watch_ms: unsigned(settings.watch_ms),
        })
    }

    /// The part of a budget that the test of this number (from 1) may spend. Another test begins only where
    /// whoever held the first is gone: its counts are lost, and what it had spent is not known. Each has a
    /// twentieth of the one before, so that all together never spend more than there is.
    #[must_use]
    pub fn part_of_test(number: u32) -> f64 {
        let later = i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX);
        FIRST_TEST * (1.0 - FIRST_TEST).powi(later)
    }
}

/// What the judge of the watch of this number (from 1) may spend, beside a trip or alone.
#[must_use]
pub fn judge_of_watch(settings: &JudgeSettings, beside_trip: bool, number: u32) -> JudgeSettings {
    let left = if beside_trip { 1.0 - TRIP_PART } else { 1.0 };
    let part = left * TripRule::part_of_test(number);
    let false_rollback_probability = settings.false_rollback_probability * part;
    JudgeSettings { false_rollback_probability, ..settings.clone() }
}

/// A fraction in parts of a trillion; at least one, unless it is nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped, and rounded on purpose
fn parts(fraction: f64) -> u64 {
    if fraction.is_nan() || fraction <= 0.0 {
        return 0;
    }
    (fraction * TRILLION).round().clamp(1.0, 1e18) as u64
}

fn unsigned(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_spent_makes_one_budget() {
        for probability in [0.5, 0.05, 0.01, 1e-6] {
            let settings = JudgeSettings {
                false_rollback_probability: probability,
                ..JudgeSettings::default()
            };
            let rule = TripRule::of(&settings).unwrap();
            let judge = |number| judge_of_watch(&settings, true, number).false_rollback_probability;
            let judges: f64 = (1..50).map(judge).sum();
            let trips: f64 = (1..50).map(TripRule::part_of_test).sum();
            let sum = trips * rule.false_trip_ppt as f64 / TRILLION + judges;
            assert!(sum <= probability * (1.0 + 1e-6), "{probability}: {sum}");
            assert!(sum >= probability * 0.99, "{probability}: {sum}");
            let alone = judge_of_watch(&settings, false, 1).false_rollback_probability;
            assert!((alone - 0.95 * probability).abs() < 1e-12);
        }
    }

    #[test]
    fn where_errors_are_not_compared_nothing_is_armed() {
        let off = JudgeSettings { compare_errors: false, ..JudgeSettings::default() };
        let tiny = JudgeSettings { false_rollback_probability: 1e-9, ..JudgeSettings::default() };
        for settings in [off, tiny] {
            assert_eq!(TripRule::of(&settings), None);
        }
    }
}
