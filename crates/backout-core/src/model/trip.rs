//! The trip: the one rule by which the built-in proxy may take a new side out by itself.

use backout_judge::Settings as JudgeSettings;
use serde::{Deserialize, Serialize};

/// The trip's part of `false_rollback_probability`; the judge that watches beside it has the rest. The two
/// parts are those of one average of e-processes, so that their sum bounds what both do together.
const TRIP_PART: f64 = 0.4;
/// The part of the trip's own budget for a fault that is there from the first request on: the judge beside it
/// spends more on what begins late.
const FROM_START: f64 = 0.95;
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
    /// The rule that these settings ask for; none where errors are not compared, or where requests fall to the
    /// sides by session, which the proxy does not tell apart.
    #[must_use]
    pub fn of(settings: &JudgeSettings) -> Option<Self> {
        let armed = settings.compare_errors && !settings.sticky_sessions;
        armed.then(|| Self {
            false_trip_ppt: parts(settings.false_rollback_probability * TRIP_PART),
            harmless_ppt: parts(settings.harmless_error_rate),
            tolerance_ppt: parts(settings.harmless_error_increase),
            from_start_ppt: parts(FROM_START),
            warm_up_ms: unsigned(settings.warm_up_ms),
            watch_ms: unsigned(settings.watch_ms),
        })
    }

    /// What the judge beside an armed trip may spend.
    #[must_use]
    pub fn left_for_judge(settings: &JudgeSettings) -> JudgeSettings {
        let left = settings.false_rollback_probability * (1.0 - TRIP_PART);
        JudgeSettings { false_rollback_probability: left, ..settings.clone() }
    }
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
    fn both_parts_make_one_budget() {
        for probability in [0.5, 0.05, 0.01, 1e-9] {
            let settings = JudgeSettings {
                false_rollback_probability: probability,
                ..JudgeSettings::default()
            };
            let rule = TripRule::of(&settings).unwrap();
            let left = TripRule::left_for_judge(&settings).false_rollback_probability;
            let sum = rule.false_trip_ppt as f64 / TRILLION + left;
            assert!((sum - probability).abs() <= 1e-12, "{probability}: {sum}");
            assert!(rule.false_trip_ppt > 0 && left > 0.0);
        }
    }

    #[test]
    fn where_errors_are_not_compared_request_by_request_nothing_is_armed() {
        let off = JudgeSettings { compare_errors: false, ..JudgeSettings::default() };
        let sticky = JudgeSettings { sticky_sessions: true, ..JudgeSettings::default() };
        assert_eq!((TripRule::of(&off), TripRule::of(&sticky)), (None, None));
    }
}
