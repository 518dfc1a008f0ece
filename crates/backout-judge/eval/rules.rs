//! Models of the rules that other tools judge by, for comparison. They are models: the arithmetic of
//! a rule on requests as they end, without the delays of scraping, scheduling and shifting traffic,
//! all of which the real tools have on top.
//!
//! - *Flagger, documented*: `interval: 1m`, `threshold: 5`, `request-success-rate` with
//!   `thresholdRange.min: 99` over one minute (docs.flagger.app, "Metrics Analysis" and every
//!   tutorial). Each interval the canary's success rate is checked; failed checks are counted and not
//!   forgotten (`FailedChecks+1` in pkg/controller/scheduler.go), and at the fifth it rolls back.
//!   (The real one does so one interval later, when it looks at the counter again.)
//! - *Argo Rollouts, documented*: `interval: 5m`, `successCondition: result[0] >= 0.95`,
//!   `failureLimit: 3`, `irate(…[5m])` (argo-rollouts, docs/features/analysis.md). `irate` looks at
//!   the last two scrapes, here 15 s apart. More than three failed measurements fail it.
//! - *Argo Rollouts, tightened*: the same with `interval: 1m`, `rate(…[1m])` and `>= 0.99`.
//! - *Kayenta*: `NetflixACAJudge`: Mann–Whitney at 98 % on one point a minute of canary and of a
//!   baseline of the same size; the error rate is *High* if the lower end of the interval for the
//!   shift is above a quarter of the Hodges–Lehmann estimate (`fraction = 0.25`, `confLevel = 0.98`).
//!   Verdicts every ten minutes over all points so far. The interval is the normal approximation.

use super::rng::Rng;

/// What a rule sees: requests and errors of one second, of the canary and of a baseline as large.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    /// Requests and failed ones of the canary.
    pub canary: [u64; 2],
    /// The same of a baseline of the same size.
    pub baseline: [u64; 2],
}

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Flagger, documented.
    Flagger,
    /// Argo Rollouts, documented.
    Argo,
    /// Argo Rollouts, tightened.
    ArgoTightened,
    /// Kayenta.
    Kayenta,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 4] = [Rule::Flagger, Rule::Argo, Rule::ArgoTightened, Rule::Kayenta];

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Flagger => "Flagger (model)",
            Rule::Argo => "Argo (model)",
            Rule::ArgoTightened => "Argo, tightened (model)",
            Rule::Kayenta => "Kayenta (model)",
        }
    }

    /// Requests of the canary until it rolls back, within so many seconds.
    pub fn canary_requests(self, seconds: usize, mut next: impl FnMut() -> Second) -> Option<u64> {
        let mut seen: Vec<Second> = Vec::with_capacity(seconds);
        let mut failed_checks = 0;
        for second in 1..=seconds {
            seen.push(next());
            let fails = match self {
                Rule::Flagger => {
                    failed_checks +=
                        u32::from(second % 60 == 0 && below(&seen[second - 60..], 0.99));
                    failed_checks >= 5
                }
                Rule::Argo => {
                    failed_checks +=
                        u32::from(second % 300 == 0 && below(&seen[second - 15..], 0.95));
                    failed_checks > 3
                }
                Rule::ArgoTightened => {
                    failed_checks +=
                        u32::from(second % 60 == 0 && below(&seen[second - 60..], 0.99));
                    failed_checks > 3
                }
                Rule::Kayenta => second % 600 == 0 && is_high(&seen),
            };
            if fails {
                return Some(seen.iter().map(|second| second.canary[0]).sum());
            }
        }
        None
    }
}

fn below(seconds: &[Second], success: f64) -> bool {
    let sum = |which: usize| seconds.iter().map(|second| second.canary[which]).sum::<u64>() as f64;
    sum(0) > 0.0 && 1.0 - sum(1) / sum(0) < success
}

/// Mann–Whitney on error rates per minute.
fn is_high(seconds: &[Second]) -> bool {
    let rates = |side: fn(&Second) -> [u64; 2]| -> Vec<f64> {
        let minute = |minute: &[Second]| {
            let sum = |which: usize| minute.iter().map(|s| side(s)[which]).sum::<u64>() as f64;
            (sum(0) > 0.0).then(|| sum(1) / sum(0))
        };
        seconds.chunks_exact(60).filter_map(minute).collect()
    };
    let (canary, baseline) = (rates(|s| s.canary), rates(|s| s.baseline));
    let mut shifts: Vec<f64> =
        canary.iter().flat_map(|c| baseline.iter().map(move |b| c - b)).collect();
    if shifts.is_empty() {
        return false;
    }
    shifts.sort_by(f64::total_cmp);
    let (n, m) = (canary.len() as f64, baseline.len() as f64);
    // 2.326: the 99th percentile of the normal distribution, for an interval of 98 %.
    let rank = n * m / 2.0 - 2.326_348 * (n * m * (n + m + 1.0) / 12.0).sqrt();
    if rank < 0.0 {
        return false;
    }
    let estimate = (shifts[(shifts.len() - 1) / 2] + shifts[shifts.len() / 2]) / 2.0;
    shifts[rank as usize] > 0.25 * estimate.abs()
}

/// A second of traffic: requests per second of the canary, and error rates of canary and baseline.
pub fn second(rng: &mut Rng, rate: f64, error_rates: [f64; 2]) -> Second {
    let mut side = |p: f64| {
        let (ok, failed) = (rng.poisson(rate * (1.0 - p)), rng.poisson(rate * p));
        [ok + failed, failed]
    };
    Second { canary: side(error_rates[0]), baseline: side(error_rates[1]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(canary: [u64; 2], baseline: [u64; 2]) -> impl FnMut() -> Second {
        move || Second { canary, baseline }
    }

    #[test]
    fn each_rule_counts_as_documented() {
        let bad = || steady([10, 2], [10, 0]);
        assert_eq!(Rule::Flagger.canary_requests(1_800, bad()), Some(5 * 60 * 10));
        assert_eq!(Rule::Argo.canary_requests(1_800, bad()), Some(4 * 300 * 10));
        assert_eq!(Rule::ArgoTightened.canary_requests(1_800, bad()), Some(4 * 60 * 10));
        assert_eq!(Rule::Kayenta.canary_requests(1_800, bad()), Some(600 * 10));
    }

    #[test]
    fn no_rule_fails_without_errors() {
        for rule in Rule::ALL {
            assert_eq!(rule.canary_requests(1_800, steady([10, 0], [10, 0])), None, "{rule:?}");
            assert_eq!(rule.canary_requests(1_800, steady([0, 0], [0, 0])), None, "{rule:?}");
        }
    }
}
