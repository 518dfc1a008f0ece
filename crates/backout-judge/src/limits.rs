//! Fixed limits of metrics.
//!
//! A limit fails the release when the canary breaks it in as many readings in a row as there may be
//! failing checks, and the baseline does not. Where both break it, it is a fault of both sides. A
//! reading without the canary says nothing; neither does one without the baseline while there is one.

use crate::event::{MetricId, Worse};
use crate::settings::Settings;
use crate::verdict::{Cause, Failure};

/// The limits of one metric.
#[derive(Debug, Clone)]
pub(crate) struct MetricLimit {
    pub metric: MetricId,
    name: String,
    worse: Worse,
    warn: Option<f64>,
    fail: Option<f64>,
    canary: f64,
    baseline: Option<f64>,
    in_a_row: u32,
    warns: bool,
    shared: bool,
}

impl MetricLimit {
    pub fn new(
        metric: MetricId,
        name: String,
        worse: Worse,
        warn: Option<f64>,
        fail: Option<f64>,
    ) -> Self {
        MetricLimit {
            metric,
            name,
            worse,
            warn,
            fail,
            canary: 0.0,
            baseline: None,
            in_a_row: 0,
            warns: false,
            shared: false,
        }
    }

    fn breaks(&self, value: f64, limit: Option<f64>) -> bool {
        limit.is_some_and(|limit| match self.worse {
            Worse::Higher => value >= limit,
            Worse::Lower => value <= limit,
        })
    }

    /// A reading; `split`: both sides have a part of the traffic, so that both have a value.
    pub fn record(&mut self, canary: Option<f64>, baseline: Option<f64>, split: bool) {
        let finite = |value: &f64| value.is_finite();
        let Some(canary) = canary.filter(finite) else { return };
        let baseline = baseline.filter(finite);
        self.warns = self.breaks(canary, self.warn);
        let (own, other) =
            (self.breaks(canary, self.fail), baseline.map(|value| self.breaks(value, self.fail)));
        (self.canary, self.baseline) = (canary, baseline);
        self.shared = own && other == Some(true);
        self.in_a_row = match (own, other) {
            (true, Some(true)) | (false, _) => 0,
            (true, None) if split => self.in_a_row,
            (true, _) => self.in_a_row.saturating_add(1),
        };
    }

    fn words(&self, limit: Option<f64>) -> String {
        let relation = match self.worse {
            Worse::Higher => "at or over",
            Worse::Lower => "at or under",
        };
        let mut words = format!(
            "canary's {} is {}, {relation} {}",
            self.name,
            number(self.canary),
            number(limit.unwrap_or_default())
        );
        if let Some(baseline) = self.baseline {
            words += &format!(", baseline {}", number(baseline));
        }
        words
    }

    pub fn failure(&self, settings: &Settings) -> Option<Failure> {
        (self.in_a_row >= settings.consecutive_failures.count.max(1)).then(|| Failure {
            cause: Cause::Threshold,
            evidence: format!("{}, {} readings in a row", self.words(self.fail), self.in_a_row),
            metric: Some(self.name.clone().into()),
        })
    }

    /// What both sides suffer.
    pub fn shared(&self) -> Option<(String, String)> {
        self.shared.then(|| (self.words(self.fail), self.name.clone()))
    }

    pub fn warning(&self) -> Option<String> {
        self.warns.then(|| self.words(self.warn))
    }
}

/// A number with at most four digits that matter, or whole.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 1_000.0 {
        return format!("{value:.0}");
    }
    let digits = (3 - value.abs().log10().floor() as i64).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Judge, Level};

    fn judge(fail: f64, worse: Worse) -> (Judge, MetricId) {
        let mut judge = Judge::new(Settings::default(), 0);
        let metric = judge.add_metric("memory", worse, 0.1).unwrap();
        judge.limit_metric(metric, worse, Some(fail), Some(fail));
        (judge, metric)
    }

    fn read(judge: &mut Judge, metric: MetricId, at_ms: i64, canary: f64, baseline: Option<f64>) {
        judge.observe(Event::Metric { at_ms, metric, canary: Some(canary), baseline });
    }

    #[test]
    fn three_readings_in_a_row_over_the_limit_fail() {
        let (mut judge, memory) = judge(100.0, Worse::Higher);
        for (at_ms, value) in [(1, 100.0), (2, 130.0), (3, 99.9), (4, 101.0), (5, 102.0)] {
            read(&mut judge, memory, at_ms, value, None);
            assert_ne!(judge.verdict(at_ms).level, Level::Failing);
        }
        read(&mut judge, memory, 6, 123.456, None);
        let verdict = judge.verdict(6);
        assert_eq!(verdict.cause, Some(Cause::Threshold));
        assert_eq!(
            verdict.evidence,
            "canary's memory is 123.5, at or over 100, 3 readings in a row"
        );
        assert_eq!(verdict.metric.as_deref(), Some("memory"));
    }

    #[test]
    fn less_may_be_worse() {
        let (mut judge, orders) = judge(5.0, Worse::Lower);
        (1..=3).for_each(|at_ms| read(&mut judge, orders, at_ms, 5.0, Some(80.0)));
        assert!(judge.verdict(3).evidence.contains("at or under 5, baseline 80"));
        assert!(judge.verdict(3).is_failing());
    }

    #[test]
    fn what_both_suffer_is_shared_and_a_gap_of_the_baseline_decides_nothing() {
        let (mut judge, memory) = judge(100.0, Worse::Higher);
        judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
        (1..=9).for_each(|at_ms| read(&mut judge, memory, at_ms, 150.0, Some(150.0)));
        let verdict = judge.verdict(9);
        assert!(verdict.shared_fault && !verdict.is_failing(), "{verdict:?}");
        (10..=19).for_each(|at_ms| read(&mut judge, memory, at_ms, 150.0, None));
        assert!(!judge.verdict(19).is_failing());
        (20..=22).for_each(|at_ms| read(&mut judge, memory, at_ms, 150.0, Some(10.0)));
        assert!(judge.verdict(22).is_failing());
    }

    #[test]
    fn requests_of_our_own_fill_a_gap_and_are_nobodys_traffic() {
        let settings = Settings { minimum_samples: 5, ..Settings::default() };
        let mut judge = Judge::new(settings, 0);
        judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
        judge.observe(Event::StageBegan { at_ms: 0 });
        judge.observe(Event::Requests {
            at_ms: 1,
            arm: crate::Arm::Baseline,
            ok: 3,
            failed: 0,
            latency: &[],
        });
        assert!(judge.verdict(1).missing.is_some());
        for at_ms in 2..=6 {
            judge.observe(Event::Synthetic { at_ms, canary: (1, 0), baseline: Some((1, 0)) });
        }
        assert_eq!(judge.verdict(6).missing, None);
        assert_eq!(judge.requests(crate::Arm::Canary), (0, 0));
        assert!(!judge.stage_had_traffic(crate::Arm::Canary));
        for at_ms in 7..=60 {
            judge.observe(Event::Synthetic { at_ms, canary: (0, 1), baseline: Some((1, 0)) });
            if let Some(Cause::Analysis) = judge.verdict(at_ms).cause {
                // Half of the errors would be the canary's by chance: no fewer than seven.
                assert!((13..=40).contains(&at_ms), "{at_ms}");
                return;
            }
        }
        panic!("54 errors of the canary and none of the baseline");
    }

    #[test]
    fn both_failing_our_own_requests_is_no_reason() {
        let mut judge = Judge::new(Settings::default(), 0);
        judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
        for at_ms in 1..=500 {
            judge.observe(Event::Synthetic { at_ms, canary: (0, 1), baseline: Some((0, 1)) });
        }
        assert!(!judge.verdict(500).is_failing(), "{:?}", judge.verdict(500));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (812_345_678.0, "812345678"),
            (12.0, "12"),
            (0.012_345_6, "0.01235"),
            (-3.5, "-3.5"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
