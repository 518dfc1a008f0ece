//! Whole rollouts with everything on: checks, thresholds, traffic rules and comparisons, shown to
//! the judge as an engine would, in readings of both sides.

use crate::sim::Rng;
use backout_judge::{Arm, Cause, CheckId, CheckSample, Event, Judge, Level, Settings, Verdict};

const READING_MS: i64 = 200;
const STAGES: [(f64, i64); 4] = [(0.1, 60), (0.25, 60), (0.5, 60), (1.0, 180)];

/// A rollout at 100 requests a second; `rate` gives the error rate of a side at a time.
struct Rollout<R> {
    rng: Rng,
    judge: Judge,
    check: CheckId,
    rate: R,
    now_ms: i64,
    failed_on_canary: u64,
}

impl<R: Fn(Arm, i64) -> f64> Rollout<R> {
    fn new(seed: u64, rate: R) -> Self {
        let mut judge = Judge::new(Settings::default(), 0);
        let check = judge.add_check("http", "web", Arm::Canary, 1_000);
        Rollout { rng: Rng::new(seed), judge, check, rate, now_ms: 0, failed_on_canary: 0 }
    }

    /// Watches one stage; the first failing verdict ends it.
    fn stage(&mut self, share: f64, seconds: i64) -> Verdict {
        self.judge.observe(Event::Weight { at_ms: self.now_ms, canary_share: share });
        self.judge.observe(match share {
            1.0 => Event::BakeBegan { at_ms: self.now_ms },
            _ => Event::StageBegan { at_ms: self.now_ms },
        });
        let end_ms = self.now_ms + seconds * 1_000;
        while self.now_ms < end_ms {
            self.now_ms += READING_MS;
            self.reading(share);
            let verdict = self.judge.verdict(self.now_ms);
            if verdict.is_failing() {
                return verdict;
            }
        }
        self.judge.verdict(self.now_ms)
    }

    fn reading(&mut self, share: f64) {
        let at_ms = self.now_ms;
        let mut counts = [[0u64; 2]; 2];
        let mut latency = [Vec::new(), Vec::new()];
        for _ in 0..READING_MS / 10 {
            let arm = if self.rng.uniform() < share { Arm::Canary } else { Arm::Baseline };
            let side = usize::from(arm == Arm::Baseline);
            let failed = self.rng.uniform() < (self.rate)(arm, at_ms);
            counts[side][usize::from(failed)] += 1;
            latency[side].push(((5e4 * (0.5 * self.rng.normal()).exp()) as u64, 1));
        }
        self.failed_on_canary += counts[0][1];
        for (arm, side) in [(Arm::Canary, 0), (Arm::Baseline, 1)] {
            let [ok, failed] = counts[side];
            self.judge.observe(Event::Requests { at_ms, arm, ok, failed, latency: &latency[side] });
        }
        if at_ms % 1_000 == 0 {
            let sample = CheckSample::pass(3.0);
            self.judge.observe(Event::Check { at_ms, arm: Arm::Canary, check: self.check, sample });
        }
    }

    fn all_stages(&mut self) -> Verdict {
        let mut verdict = self.judge.verdict(0);
        for (share, seconds) in STAGES {
            verdict = self.stage(share, seconds);
            if !verdict.may_go_on() {
                break;
            }
        }
        verdict
    }
}

#[test]
fn a_release_within_its_target_goes_through() {
    for seed in 1..=20 {
        let verdict = Rollout::new(seed, |_, _| 0.005).all_stages();
        assert!(verdict.may_go_on(), "seed {seed}: {verdict:?}");
    }
    let verdict = Rollout::new(1, |_, _| 0.0).all_stages();
    assert_eq!(verdict.level, Level::Healthy);
    assert!(verdict.evidence.ends_with("its check passes"), "{}", verdict.evidence);
}

#[test]
fn a_bad_release_costs_few_requests() {
    let worse = |bad: f64| move |arm, _| if arm == Arm::Canary { bad } else { 0.001 };
    for (bad, at_most) in [(1.0, 5), (0.5, 5), (0.05, 8)] {
        let mut lost: Vec<u64> = (1..=11)
            .map(|seed| {
                let mut rollout = Rollout::new(seed, worse(bad));
                let verdict = rollout.all_stages();
                assert_eq!(verdict.cause, Some(Cause::Analysis), "{verdict:?}");
                rollout.failed_on_canary
            })
            .collect();
        lost.sort_unstable();
        assert!(lost[5] <= at_most, "{bad}: {lost:?}");
    }
}

#[test]
fn an_outage_of_both_sides_holds_and_then_goes_on() {
    let outage = |_, at_ms| if (30_000..50_000).contains(&at_ms) { 0.9 } else { 0.001 };
    for seed in 1..=5 {
        let mut rollout = Rollout::new(seed, outage);
        let during = rollout.stage(0.1, 45);
        assert!(during.shared_fault && !during.may_go_on(), "{during:?}");
        // Five minutes later the window has forgotten it.
        let after = rollout.stage(0.1, 320);
        assert!(after.may_go_on(), "{after:?}");
    }
}

#[test]
fn a_release_that_breaks_with_all_the_traffic_is_found() {
    let late = |arm, at_ms| if arm == Arm::Canary && at_ms > 185_000 { 0.2 } else { 0.001 };
    for seed in 1..=5 {
        let mut rollout = Rollout::new(seed, late);
        let verdict = rollout.all_stages();
        assert!(verdict.is_failing(), "{verdict:?}");
        assert!(rollout.now_ms < 190_000, "{} ms", rollout.now_ms);
    }
}
