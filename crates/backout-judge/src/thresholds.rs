//! Fixed thresholds on windows of real requests.
//!
//! A ratio breaks a limit if it is at or over it (inclusive) over at least `minimum_samples`
//! requests and `minimum_failures` bad ones. It fails the release only if the baseline does not
//! suffer too: where the baseline has requests in the same window, the canary must have so many of
//! the bad ones that at equal rates this would happen less than once in a million looks (Chernoff's
//! bound on the binomial tail, 1952, given how many bad ones there are), else a fault that both
//! share would be blamed on whichever side crossed the line first.
//!
//! "The 95th percentile is at or over T" is decided without a histogram: it holds exactly if fewer
//! than ceil(0.95 n) of n requests were faster than T (nearest-rank percentile).

use crate::mutants::{self, Mutant};
use crate::settings::Settings;
use crate::windows::{Tally, percent};
use crate::words;

/// Minus the log of the odds above which a breach counts as possibly shared: one in a million.
const SEPARATION: f64 = 13.8;

/// What a window says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// Nothing broken.
    Good,
    /// Over the warning level only, or over the failing level with too few failures.
    Warn(&'static str, String),
    /// Over the failing level; too little to tell whether the baseline suffers too.
    Unclear(&'static str, String),
    /// Over the failing level, and so is the baseline.
    Shared(&'static str, String),
    /// Over the failing level, and the baseline is not.
    Fail(&'static str, String),
}

/// One ratio of one side: how many of how many.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    bad: u64,
    total: u64,
}

impl Ratio {
    fn percent(self) -> f64 {
        percent(self.bad, self.total)
    }

    fn reaches(self, percent: f64) -> bool {
        self.total > 0 && self.percent() >= percent
    }
}

/// Judges the error rate of a window.
pub(crate) fn error_rate(
    canary: &Tally,
    baseline: &Tally,
    window_ms: i64,
    settings: &Settings,
) -> Finding {
    let limit = settings.thresholds.error_rate_percent;
    let own = Ratio { bad: canary.failed, total: canary.total };
    let other = Ratio { bad: baseline.failed, total: baseline.total };
    let words = || {
        let mut words = format!(
            "canary errors {} of {} requests in the last {}",
            words::percent(own.percent()),
            own.total,
            words::duration(window_ms),
        );
        if other.total > 0 {
            words += &format!(", baseline {} of {}", words::percent(other.percent()), other.total);
        }
        words
    };
    judge("errors", own, own.reaches(limit.warn), other, limit.fail, settings, words)
}

/// Judges the 95th percentile of response times of a window.
pub(crate) fn response_time(
    canary: &Tally,
    baseline: &Tally,
    window_ms: i64,
    settings: &Settings,
) -> Finding {
    let limit = settings.thresholds.response_time_ms;
    let own = Ratio { bad: canary.slow_fail, total: canary.timed };
    let other = Ratio { bad: baseline.slow_fail, total: baseline.timed };
    let near = Ratio { bad: canary.slow_warn, total: canary.timed };
    let words = || {
        let (shown, limit_ms) =
            if own.reaches(OVER_P95) { (own, limit.fail) } else { (near, limit.warn) };
        let mut words = format!(
            "canary needed {} or longer for {} of {} requests in the last {}",
            words::latency(limit_ms * 1_000.0),
            words::percent(shown.percent()),
            shown.total,
            words::duration(window_ms),
        );
        if own.reaches(OVER_P95) && other.total > 0 {
            words +=
                &format!(", baseline for {} of {}", words::percent(other.percent()), other.total);
        }
        words
    };
    judge("latency", own, near.reaches(OVER_P95), other, OVER_P95, settings, words)
}

/// More than this many percent at or over a limit put the 95th percentile there. Nearest rank:
/// fast < ceil(0.95 n) ⇔ fast < 0.95 n ⇔ bad > 0.05 n for whole numbers, hence the next number.
const OVER_P95: f64 = 5.000_000_000_000_001;

fn judge(
    metric: &'static str,
    own: Ratio,
    near: bool,
    other: Ratio,
    fail_percent: f64,
    settings: &Settings,
    words: impl Fn() -> String,
) -> Finding {
    if own.total < u64::from(settings.minimum_samples).max(1) {
        return Finding::Good;
    }
    if !own.reaches(fail_percent) || own.bad < u64::from(settings.minimum_failures) {
        let worth_saying = near || own.reaches(fail_percent);
        return if worth_saying { Finding::Warn(metric, words()) } else { Finding::Good };
    }
    let shared_counts = !mutants::is(Mutant::SharedLimitFails);
    if !shared_counts || other.total == 0 || separation(own, other) >= SEPARATION {
        return Finding::Fail(metric, words());
    }
    let enough = other.total >= u64::from(settings.minimum_samples);
    if enough && other.reaches(fail_percent) {
        Finding::Shared(metric, words())
    } else {
        Finding::Unclear(metric, words())
    }
}

/// Minus the log of (a bound on) the probability that so many of the bad ones are the canary's if
/// both sides are equally bad.
fn separation(own: Ratio, other: Ratio) -> f64 {
    let share = own.total as f64 / (own.total as f64 + other.total as f64);
    let bad = own.bad as f64 + other.bad as f64;
    let part = own.bad as f64 / bad;
    if bad == 0.0 || part <= share {
        return 0.0;
    }
    let rest = if part < 1.0 { (1.0 - part) * ((1.0 - part) / (1.0 - share)).ln() } else { 0.0 };
    bad * (part * (part / share).ln() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(failed: u64, total: u64) -> Tally {
        Tally { total, failed, ..Tally::default() }
    }

    fn errors(canary: (u64, u64), baseline: (u64, u64)) -> Finding {
        error_rate(
            &tally(canary.0, canary.1),
            &tally(baseline.0, baseline.1),
            300_000,
            &Settings::default(),
        )
    }

    #[test]
    fn the_error_rate_limit_is_inclusive() {
        let words = "canary errors 5.0 % of 100 requests in the last 5 min".to_owned();
        assert_eq!(errors((5, 100), (0, 0)), Finding::Fail("errors", words));
        assert!(matches!(errors((5, 101), (0, 0)), Finding::Warn("errors", _)));
        assert!(matches!(errors((3, 100), (0, 0)), Finding::Warn("errors", _)));
        assert_eq!(errors((2, 100), (0, 0)), Finding::Good);
    }

    #[test]
    fn few_samples_and_few_failures_fail_nothing() {
        assert_eq!(errors((19, 19), (0, 0)), Finding::Good);
        assert!(matches!(errors((20, 20), (0, 0)), Finding::Fail(..)));
        assert!(matches!(errors((4, 20), (0, 0)), Finding::Warn(..)));
        assert!(matches!(errors((5, 20), (0, 0)), Finding::Fail(..)));
    }

    #[test]
    fn a_breach_that_the_baseline_shares_is_no_failure() {
        assert!(matches!(errors((60, 1000), (540, 9000)), Finding::Shared(..)));
        assert!(matches!(errors((60, 1000), (9, 9000)), Finding::Fail(..)));
        // 5 of 60 against 11 of 540: at equal rates that is one in forty.
        assert!(matches!(errors((5, 60), (11, 540)), Finding::Unclear(..)));
        // 5 of 65 against 1 of 636 is no chance for people, and one in 4000 by the bound.
        assert!(matches!(errors((5, 65), (1, 636)), Finding::Unclear(..)));
        assert!(matches!(errors((8, 65), (1, 636)), Finding::Fail(..)));
        // Both over the limit, yet the canary far worse.
        assert!(matches!(errors((500, 1000), (540, 9000)), Finding::Fail(..)));
    }

    #[test]
    fn the_95th_percentile_is_exact() {
        let slow = |slow_fail, slow_warn, timed| {
            let canary = Tally { total: timed, timed, slow_fail, slow_warn, failed: 0 };
            response_time(&canary, &Tally::default(), 300_000, &Settings::default())
        };
        // Of 100 values the 95th is the smallest of the slowest six.
        assert_eq!(slow(5, 5, 100), Finding::Good);
        assert!(matches!(slow(6, 6, 100), Finding::Fail("latency", _)));
        assert!(matches!(slow(0, 6, 100), Finding::Warn("latency", _)));
        // Of 101 values it is the 96th: six slow ones put it there.
        assert_eq!(slow(5, 5, 101), Finding::Good);
        assert!(matches!(slow(6, 6, 101), Finding::Fail(..)));
    }
}
