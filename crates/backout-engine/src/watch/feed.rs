//! Turns what samplers saw into the judge's events.

use std::collections::BTreeMap;

use backout_core::ids::{ServiceName, Slot};
use backout_core::ports::{
    Observed, ProbeError, Running, Sample, SampleOutcome, SideCounters, TrafficFrame,
};
use backout_judge::{Arm, CheckId, CheckOutcome, CheckSample, Event, Judge};
use jiff::Timestamp;

use crate::events::SideReading;

/// Allowed difference of clocks, milliseconds.
const SKEW_MS: i64 = 30_000;

/// What is known of one process from one look to the next.
#[derive(Debug, Clone, Copy, Default)]
struct ProcessMemory {
    restarts: u32,
    reported_down: bool,
    seen_running: bool,
    passed: bool,
}

/// Remembers counters and processes between samples.
#[derive(Debug)]
pub(crate) struct Feed {
    arms: BTreeMap<Slot, (Arm, u64)>,
    instance: Option<String>,
    last: BTreeMap<Slot, SideCounters>,
    began: BTreeMap<Slot, (u64, u64)>,
    processes: BTreeMap<(Slot, ServiceName), ProcessMemory>,
    /// Last known split.
    pub weights: BTreeMap<Slot, u8>,
    share: Option<f64>,
    delta: Vec<(u64, u64)>,
    /// By slot, for people.
    pub readings: BTreeMap<Slot, SideReading>,
}

impl Feed {
    pub fn new(sides: Vec<(Slot, Arm, u64)>) -> Self {
        Self {
            arms: sides
                .into_iter()
                .map(|(slot, arm, deployment)| (slot, (arm, deployment)))
                .collect(),
            instance: None,
            last: BTreeMap::new(),
            began: BTreeMap::new(),
            processes: BTreeMap::new(),
            weights: BTreeMap::new(),
            share: None,
            delta: Vec::new(),
            readings: BTreeMap::new(),
        }
    }

    /// Counters: the difference to the last frame is what is new.
    pub fn frame(&mut self, judge: &mut Judge, frame: &TrafficFrame) {
        let at_ms = frame.at.as_millisecond();
        self.weights.clone_from(&frame.weights);
        self.weight(judge, at_ms);
        let anew = self.instance.as_ref() != Some(&frame.instance);
        self.instance = Some(frame.instance.clone());
        if anew {
            self.last.clear();
        }
        for (slot, counters) in &frame.sides {
            let Some((arm, deployment)) = self.arms.get(slot).copied() else { continue };
            if counters.deployment != deployment {
                continue;
            }
            let before = self.last.get(slot).filter(|last| last.deployment == counters.deployment);
            let Some(before) = before.cloned() else {
                // What was served before this watch began belongs to nobody's trial, except that a new
                // side's counters start at zero with its deployment.
                self.last.insert(*slot, counters.clone());
                self.began.entry(*slot).or_insert((counters.requests, counters.failed));
                if arm == Arm::Canary && counters.requests > 0 && !anew {
                    self.requests(judge, at_ms, *slot, arm, &SideCounters::default(), counters);
                }
                continue;
            };
            self.requests(judge, at_ms, *slot, arm, &before, counters);
            self.last.insert(*slot, counters.clone());
        }
    }

    fn requests(
        &mut self,
        judge: &mut Judge,
        at_ms: i64,
        slot: Slot,
        arm: Arm,
        before: &SideCounters,
        now: &SideCounters,
    ) {
        let failed = now.failed.saturating_sub(before.failed);
        let all = now.requests.saturating_sub(before.requests);
        if all == 0 && failed == 0 {
            return;
        }
        self.delta.clear();
        let earlier: BTreeMap<u64, u64> = before.latency.iter().copied().collect();
        for (bound, count) in &now.latency {
            let new = count.saturating_sub(earlier.get(bound).copied().unwrap_or(0));
            if new > 0 {
                self.delta.push((*bound, new));
            }
        }
        judge.observe(Event::Requests {
            at_ms,
            arm,
            ok: all.saturating_sub(failed),
            failed,
            latency: &self.delta,
        });
        let began = self.began.entry(slot).or_insert((before.requests, before.failed));
        let reading = self.readings.entry(slot).or_default();
        reading.deployment = now.deployment;
        reading.requests = now.requests.saturating_sub(began.0);
        reading.failed = now.failed.saturating_sub(began.1);
        reading.p95_us = percentile(&self.delta, 0.95).or(reading.p95_us);
    }

    fn weight(&mut self, judge: &mut Judge, at_ms: i64) {
        let canary =
            self.arms.iter().find(|(_, (arm, _))| *arm == Arm::Canary).map(|(slot, _)| *slot);
        let total: u32 = self.weights.values().map(|w| u32::from(*w)).sum();
        let Some(slot) = canary.filter(|_| total > 0) else { return };
        let share = f64::from(self.weights.get(&slot).copied().unwrap_or(0)) / f64::from(total);
        if self.share != Some(share) {
            self.share = Some(share);
            judge.observe(Event::Weight { at_ms, canary_share: share });
        }
    }

    /// A check's result. Returns whether it passed.
    pub fn checked(
        &mut self,
        judge: &mut Judge,
        started_at: Timestamp,
        (arm, slot, check, service): (Arm, Slot, CheckId, &ServiceName),
        result: &Result<Sample, ProbeError>,
        (expected, interval_ms): (&str, u64),
    ) -> bool {
        let at_ms = started_at.as_millisecond();
        let sample = match result {
            Ok(sample) => check_sample(sample, expected, interval_ms),
            Err(error) => CheckSample::new(CheckOutcome::Unreachable(error.to_string()), 0.0),
        };
        let passed = matches!(sample.outcome, CheckOutcome::Pass | CheckOutcome::Warn(_));
        if passed {
            self.processes.entry((slot, service.clone())).or_default().passed = true;
        }
        judge.observe(Event::Check { at_ms, arm, check, sample });
        passed
    }

    /// A look at a process: exits become events once each.
    pub fn observed(
        &mut self,
        judge: &mut Judge,
        now: Timestamp,
        arm: Arm,
        slot: Slot,
        service: &ServiceName,
        seen: &Observed,
    ) {
        let at_ms = now.as_millisecond();
        let memory = self.processes.entry((slot, service.clone())).or_default();
        let code = seen.last_exit.and_then(|exit| exit.code);
        if seen.restarts > memory.restarts {
            memory.restarts = seen.restarts;
            judge.observe(Event::Exited {
                at_ms,
                arm,
                service: service.as_str(),
                code,
                restarts: seen.restarts,
                before_first_pass: !memory.passed,
            });
        }
        let down = seen.running == Running::No
            && (seen.gave_up || memory.seen_running || seen.last_exit.is_some());
        if down
            && !memory.reported_down
            && (seen.gave_up || seen.pid.is_none() && seen.restarts == 0)
        {
            judge.observe(Event::Exited {
                at_ms,
                arm,
                service: service.as_str(),
                code,
                restarts: 0,
                before_first_pass: !memory.passed && !seen.gave_up,
            });
        }
        memory.reported_down = down;
        memory.seen_running |= seen.running == Running::Yes;
    }
}

fn check_sample(sample: &Sample, expected: &str, interval_ms: u64) -> CheckSample {
    let stale_ms = i64::try_from(2 * interval_ms).unwrap_or(i64::MAX / 2) + SKEW_MS;
    let stale = sample
        .timestamp
        .is_some_and(|at| sample.started_at.as_millisecond() - at.as_millisecond() > stale_ms);
    let outcome = match &sample.outcome {
        _ if stale => {
            CheckOutcome::Unreachable("its `timestamp` is older than two intervals".to_owned())
        }
        SampleOutcome::Pass => CheckOutcome::Pass,
        SampleOutcome::Warn(why) => CheckOutcome::Warn(why.clone()),
        SampleOutcome::NotReady(why) => CheckOutcome::Starting(why.clone()),
        SampleOutcome::Fail(why) => CheckOutcome::Fail(why.clone()),
    };
    let mut out = CheckSample::new(outcome, sample.latency_ms);
    out.error_rate = sample.error_rate;
    out.availability = sample.availability;
    out.response_time_ms = sample.response_time_ms;
    out.version_mismatch = sample
        .version
        .as_deref()
        .filter(|running| *running != expected)
        .map(|running| format!("version {running} answers where {expected} was deployed"));
    out
}

/// The bucket bound at a quantile.
fn percentile(buckets: &[(u64, u64)], q: f64) -> Option<u64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    // counts of one reading are far below 2^52
    let rank = ((total as f64) * q).ceil() as u64;
    let mut seen = 0;
    buckets.iter().find_map(|(bound, count)| {
        seen += count;
        (seen >= rank).then_some(*bound)
    })
}
