//! Latency: more often slower than the baseline's median, 90th and 99th percentile.
//!
//! "Slower than u" is an event like an error, and the relative-risk mixture applies to it for
//! *every* threshold u that is fixed before the requests it judges: the quantiles need not be
//! exact, they only decide how soon a slowdown is seen. They come from the baseline's past.
//!
//! At the median half of all requests are the opposite event, "not slower", of which a slow canary
//! has too few. They are bet on too, with the risks 2-r: nearly twice the information, at a cost in
//! robustness that is bearable there and nowhere else. If the canary's true share is s instead of
//! ρ, both bets together still lose, s·ln(1-(r-1)²) - ln(1-ρ²(r-1)²) < 0 per pair, as long as
//! s > ρ². (At the 99th percentile a share a fifth too small would do as evidence.) Where sessions
//! are counted each has most often both kinds of event, and only the slow ones are used.
//!
//! A slowdown within the tolerance is no reason: a request of the canary counts as slow only over
//! u' = max((1+δ)u, u + floor). If the canary's latency is at most that of the baseline under the
//! same map (in distribution), its probability to count as slow is at most the baseline's.
//! Latencies that arrive in buckets carry their bucket's width into δ.

use super::mixture::{Factors, Mixture};
use super::sketch::Sketch;
use crate::event::Arm;
use crate::mutants::{self, Mutant};

/// Quantiles of the baseline that serve as thresholds.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Baseline requests needed before a quantile is used.
const NEEDED: [u32; 3] = [10, 20, 100];
/// Relative risks looked for; of the slower half there can't be more than twice as many.
const RISKS: [[f64; 6]; 3] = [
    [1.1, 1.2, 1.35, 1.5, 1.75, 1.95],
    [1.2, 1.5, 2.0, 3.0, 5.0, 9.0],
    [1.5, 2.5, 5.0, 10.0, 30.0, 90.0],
];
const PRIOR: [f64; 6] = [1.0 / 6.0; 6];

/// The test of one latency metric.
#[derive(Debug, Clone)]
pub(crate) struct LatencyTest {
    sketch: Sketch,
    /// Thresholds for the baseline; `None` until there is enough of it.
    slow_us: [Option<u64>; 3],
    tests: [Mixture<6>; 3],
    /// Of requests that are not slower than the median.
    fast: Factors<6>,
    increase: f64,
    floor_us: u64,
    comparing: bool,
    refresh_at: u32,
    fresh_since: u32,
}

/// Slow requests of one batch, per quantile.
pub(crate) type Slow = [u64; 3];

impl LatencyTest {
    pub fn new(increase: f64, floor_us: u64) -> Self {
        LatencyTest {
            sketch: Sketch::new(),
            slow_us: [None; 3],
            tests: std::array::from_fn(|_| Mixture::new(&PRIOR)),
            fast: Factors::of_share(RISKS[0].map(|risk| 2.0 - risk), 0.5),
            increase: increase.max(0.0),
            floor_us,
            comparing: false,
            refresh_at: NEEDED[0],
            fresh_since: 0,
        }
    }

    /// The share of requests in force from now on.
    pub fn set_share(&mut self, share: f64) {
        self.comparing = share > 0.0 && share < 1.0;
        if self.comparing {
            for (test, risks) in self.tests.iter_mut().zip(&RISKS) {
                test.set_share(risks, share, 1.0);
            }
            self.fast = Factors::of_share(RISKS[0].map(|risk| 2.0 - risk), share);
        }
    }

    /// Each slow event of the canary is a session of its own from now on, and the worst is left out.
    pub fn leave_one_out(&mut self) {
        self.tests.iter_mut().for_each(Mixture::leave_one_out);
    }

    /// Restarts worth `mass` begin.
    pub fn start(&mut self, mass: f64) {
        for test in &mut self.tests {
            test.start(mass, &PRIOR);
        }
    }

    /// Which of these are slow, by the thresholds that held before them; gives how many were not
    /// slower than the median.
    pub fn count_slow(&self, arm: Arm, us: u64, count: u64, slow: &mut Slow) -> u64 {
        let mut fast = 0;
        for (index, threshold) in self.slow_us.iter().enumerate() {
            let Some(threshold) = *threshold else { continue };
            let limit = match arm {
                Arm::Baseline => threshold,
                Arm::Canary => self.allowed(threshold),
            };
            if us > limit {
                slow[index] = slow[index].saturating_add(count);
            } else if index == 0 {
                fast = count;
            }
        }
        fast
    }

    fn allowed(&self, threshold_us: u64) -> u64 {
        if self.increase == 0.0 || mutants::is(Mutant::NoLatencyTolerance) {
            return threshold_us;
        }
        let relative = (threshold_us as f64 * (1.0 + self.increase)).ceil() as u64;
        relative.max(threshold_us.saturating_add(self.floor_us))
    }

    /// Baseline latencies, to learn thresholds from.
    pub fn learn(&mut self, us: u64, count: u64) {
        self.sketch.add(us, count);
        self.fresh_since = self.fresh_since.saturating_add(count.min(u64::from(u32::MAX)) as u32);
    }

    /// Takes a batch of both sides in: slow ones, and those of canary and baseline that were not
    /// slower than the median.
    pub fn record(&mut self, canary: &Slow, baseline: &Slow, fast: [u64; 2]) {
        if !self.comparing {
            return;
        }
        if fast != [0, 0] {
            self.tests[0].record_by(&self.fast, fast[0], fast[1]);
        }
        for (index, test) in self.tests.iter_mut().enumerate() {
            if canary[index] > 0 || baseline[index] > 0 {
                test.record(canary[index], baseline[index]);
            }
        }
    }

    /// Moves the thresholds, for what comes after. Only now and then: it reads the whole sketch.
    pub fn refresh(&mut self) {
        if self.fresh_since < self.refresh_at {
            return;
        }
        let total = self.sketch.total();
        let quantiles = self.sketch.quantiles(QUANTILES);
        for (index, &us) in quantiles.iter().enumerate() {
            if total >= NEEDED[index] {
                self.slow_us[index] = Some(us);
            }
        }
        self.fresh_since = 0;
        self.refresh_at = (total / 8).max(NEEDED[0]);
    }

    /// The e-value.
    pub fn value(&self, from_start: f64) -> f64 {
        let sum: f64 = self.tests.iter().map(|test| test.value(from_start)).sum();
        sum / QUANTILES.len() as f64
    }

    /// The quantile that speaks most against the canary, and its threshold.
    pub fn strongest(&self, from_start: f64) -> Option<(usize, u64, u64)> {
        let value = |index: usize| self.tests[index].value(from_start);
        (0..QUANTILES.len())
            .filter_map(|index| self.slow_us[index].map(|us| (index, us, self.allowed(us))))
            .max_by(|a, b| value(a.0).total_cmp(&value(b.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_metric_is_small() {
        assert!(size_of::<LatencyTest>() <= 4_096, "{}", size_of::<LatencyTest>());
    }

    #[test]
    fn the_tolerance_is_relative_and_never_below_its_floor() {
        let test = LatencyTest::new(0.1, 1_000);
        assert!((110_000..=110_001).contains(&test.allowed(100_000)));
        assert_eq!(test.allowed(2_000), 3_000);
        assert_eq!(LatencyTest::new(0.0, 1_000).allowed(2_000), 2_000);
        assert_eq!(test.allowed(u64::MAX), u64::MAX);
    }

    #[test]
    fn slow_is_told_by_the_baselines_past() {
        let mut test = LatencyTest::new(0.0, 0);
        for us in 1..=10 {
            test.learn(us * 1_000, 1);
        }
        let mut slow = Slow::default();
        test.count_slow(Arm::Canary, 50_000, 1, &mut slow);
        assert_eq!(slow, [0, 0, 0], "not before there is enough, and not within a reading");
        test.refresh();
        test.count_slow(Arm::Canary, 50_000, 3, &mut slow);
        assert_eq!(slow, [3, 0, 0], "ten values give a median and no more");
    }
}
