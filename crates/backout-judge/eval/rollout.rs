//! Plays made-up traffic to a judge, in readings of both sides, as the engine would.

use super::rng::Rng;
use backout_judge::{Arm, CheckId, CheckOutcome, CheckSample, Event, Judge, MetricId, Settings};

/// One request as the world would answer it.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Whether it failed.
    pub failed: bool,
    /// How long it took; of failed requests it is not looked at.
    pub us: u64,
}

/// What both sides are like unless a family says otherwise: 100 ms, log-normal.
pub fn usual(rng: &mut Rng, error_rate: f64) -> Answer {
    answer(rng, error_rate, 1.0)
}

/// The same, `factor` times as slow.
pub fn answer(rng: &mut Rng, error_rate: f64, factor: f64) -> Answer {
    let us = (factor * 1e5 * (0.4 * rng.normal()).exp()) as u64;
    Answer { failed: rng.chance(error_rate), us }
}

/// A rollout in progress.
pub struct Rollout {
    /// What is tried.
    pub judge: Judge,
    /// Every draw comes from here.
    pub rng: Rng,
    /// The time of the reading in progress.
    pub now_ms: i64,
    /// Readings come this far apart.
    pub step_ms: i64,
    /// What the judge is told of the time, beside the truth.
    pub skew_ms: i64,
    /// The canary's part of the requests.
    pub share: f64,
    /// The fault began; what failed before is not counted.
    pub onset_ms: i64,
    checks: Vec<CheckId>,
    counts: [[u64; 2]; 2],
    latency: [Vec<(u64, u64)>; 2],
    /// Requests of the canary since the onset, and those that failed.
    pub canary: [u64; 2],
    /// A verdict is asked for this often; failing is latched, so nothing is missed in between.
    pub look_ms: i64,
    verdict_ms: i64,
    /// When the judge was first seen to fail.
    pub failed_ms: Option<i64>,
}

impl Rollout {
    /// Begins at time 0 with no traffic on the canary.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Rollout {
            judge: Judge::new(settings, 0),
            rng: Rng::new(seed),
            now_ms: 0,
            step_ms: 100,
            skew_ms: 0,
            share: 0.0,
            onset_ms: 0,
            checks: Vec::new(),
            counts: [[0; 2]; 2],
            latency: [Vec::new(), Vec::new()],
            canary: [0; 2],
            look_ms: 0,
            verdict_ms: 0,
            failed_ms: None,
        }
    }

    /// Adds a check of the canary that passes each second until told otherwise.
    pub fn check(&mut self) -> CheckId {
        let id = self.judge.add_check("http", "web", Arm::Canary, 1_000);
        self.checks.push(id);
        id
    }

    /// The time that the judge is told.
    pub fn told_ms(&self) -> i64 {
        self.now_ms + self.skew_ms
    }

    /// A new split, and with it a new stage.
    pub fn stage(&mut self, share: f64) {
        let at_ms = self.told_ms();
        self.share = share;
        self.judge.observe(Event::Weight { at_ms, canary_share: share });
        self.judge.observe(match share {
            1.0 => Event::BakeBegan { at_ms },
            _ => Event::StageBegan { at_ms },
        });
    }

    /// The fault begins now.
    pub fn onset(&mut self) {
        self.onset_ms = self.now_ms;
        self.canary = [0; 2];
    }

    /// Whether the judge failed.
    pub fn is_over(&self) -> bool {
        self.failed_ms.is_some()
    }

    /// Which side the router gives a request to.
    pub fn draw(&mut self) -> Arm {
        if self.rng.chance(self.share) { Arm::Canary } else { Arm::Baseline }
    }

    /// One request that ends in this reading.
    pub fn request(&mut self, arm: Arm, answer: Answer) {
        let side = usize::from(arm == Arm::Baseline);
        self.counts[side][usize::from(answer.failed)] += 1;
        if !answer.failed {
            self.latency[side].push((answer.us, 1));
        }
    }

    /// Requests whose latency does not matter.
    pub fn bulk(&mut self, arm: Arm, ok: u64, failed: u64) {
        let side = usize::from(arm == Arm::Baseline);
        self.counts[side][0] += ok;
        self.counts[side][1] += failed;
    }

    /// A reading's worth of requests that arrive at `rate` a second, answered by `world`.
    pub fn arrivals(&mut self, rate: f64, world: impl Fn(&mut Rng, Arm, i64) -> Answer) {
        for _ in 0..self.rng.poisson(rate * self.step_ms as f64 / 1e3) {
            let arm = self.draw();
            let answer = world(&mut self.rng, arm, self.now_ms);
            self.request(arm, answer);
        }
    }

    /// The same without latencies, given the error rates of canary and baseline.
    pub fn arrivals_in_bulk(&mut self, rate: f64, error_rates: [f64; 2]) {
        let mean = rate * self.step_ms as f64 / 1e3;
        let parts = [(Arm::Canary, self.share), (Arm::Baseline, 1.0 - self.share)];
        for ((arm, part), p) in parts.into_iter().zip(error_rates) {
            let failed = self.rng.poisson(mean * part * p);
            let ok = self.rng.poisson(mean * part * (1.0 - p));
            self.bulk(arm, ok, failed);
        }
    }

    /// Takes what was counted since the last reading: ok and failed of canary and baseline.
    pub fn take_counts(&mut self) -> [[u64; 2]; 2] {
        self.latency.iter_mut().for_each(Vec::clear);
        std::mem::take(&mut self.counts)
    }

    /// Shows the judge a side's part of this reading.
    pub fn show(&mut self, arm: Arm) {
        let side = usize::from(arm == Arm::Baseline);
        let [ok, failed] = std::mem::take(&mut self.counts[side]);
        if arm == Arm::Canary && self.now_ms >= self.onset_ms {
            self.canary[0] += ok + failed;
            self.canary[1] += failed;
        }
        if ok + failed > 0 {
            let (at_ms, latency) = (self.told_ms(), &self.latency[side]);
            self.judge.observe(Event::Requests { at_ms, arm, ok, failed, latency });
        }
        self.latency[side].clear();
    }

    /// The same for a reading of which a part was lost, on either side.
    pub fn show_unattributed(&mut self, arm: Arm) {
        let side = usize::from(arm == Arm::Baseline);
        let [ok, failed] = std::mem::take(&mut self.counts[side]);
        let (at_ms, latency) = (self.told_ms(), &self.latency[side]);
        self.judge.observe(Event::Unattributed { at_ms, arm, ok, failed, latency });
        self.latency[side].clear();
    }

    /// Ends the reading: shows both sides to the judge and lets time go on.
    pub fn step(&mut self) {
        self.show(Arm::Canary);
        self.show(Arm::Baseline);
        self.pass();
    }

    /// Lets time go on, with the checks of this moment.
    pub fn pass(&mut self) {
        let at_ms = self.told_ms();
        if self.now_ms % 1_000 == 0 {
            for &check in &self.checks {
                let sample = CheckSample::new(CheckOutcome::Pass, 3.0);
                self.judge.observe(Event::Check { at_ms, arm: Arm::Canary, check, sample });
            }
        }
        if self.now_ms >= self.verdict_ms {
            self.look();
            // A look is dear in time, and what was found meanwhile stays.
            self.verdict_ms = self.now_ms + self.look_ms;
        }
        self.now_ms += self.step_ms;
    }

    /// Asks for a verdict.
    pub fn look(&mut self) {
        if self.failed_ms.is_none() && self.judge.verdict(self.told_ms()).is_failing() {
            self.failed_ms = Some(self.now_ms);
        }
    }

    /// Plays a world for some time, or until the judge fails.
    pub fn play(&mut self, seconds: i64, rate: f64, world: impl Fn(&mut Rng, Arm, i64) -> Answer) {
        let end_ms = self.now_ms + seconds * 1_000;
        while self.now_ms < end_ms && !self.is_over() {
            self.arrivals(rate, &world);
            self.step();
        }
    }

    /// One reading of a metric.
    pub fn metric(&mut self, metric: MetricId, canary: Option<f64>, baseline: Option<f64>) {
        let at_ms = self.told_ms();
        self.judge.observe(Event::Metric { at_ms, metric, canary, baseline });
    }

    /// The largest combined e-value there was.
    pub fn peak(&self) -> f64 {
        self.judge.trace().points().iter().map(|point| point.1).fold(0.0, f64::max)
    }
}
