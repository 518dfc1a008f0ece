//! Turns what samplers saw into the judge's events.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use backout_core::ids::{Slot, Unit};
use backout_core::ports::{
    Observed, ProbeError, Sample, SampleOutcome, SessionOutcome, SideCounters, TrafficFrame,
};
use backout_judge::{Arm, CheckId, CheckOutcome, CheckSample, Event, Judge};
use jiff::Timestamp;

use super::hours::Hours;
use super::processes::Processes;
use crate::commands::health::wrong_version;
use crate::events::SideReading;

/// Allowed difference of clocks, milliseconds.
const SKEW_MS: i64 = 30_000;

/// Which split is in force, and since when that is certain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    /// Grows with every change.
    pub number: u64,
    /// Readings begun from then on are of this split alone, but for their beginning.
    pub since_ms: i64,
}

impl Default for Split {
    fn default() -> Self {
        Self { number: 0, since_ms: i64::MIN }
    }
}

impl Split {
    /// The split that a reading begun at this time was taken under, `None` for one before the present split.
    pub fn at(&self, at_ms: i64) -> Option<u64> {
        (at_ms >= self.since_ms).then_some(self.number)
    }
}

/// Remembers counters and processes between samples.
#[derive(Debug)]
pub(crate) struct Feed {
    arms: BTreeMap<Slot, (Arm, u64)>,
    instance: Option<String>,
    last: BTreeMap<Slot, SideCounters>,
    began: BTreeMap<Slot, (u64, u64)>,
    processes: Processes,
    /// Last known split.
    pub weights: BTreeMap<Slot, u8>,
    share: Option<f64>,
    /// For those who read counters elsewhere.
    pub split: Split,
    delta: Vec<(u64, u64)>,
    /// Failures of the judged side by endpoint, to name the worst.
    failed_by_endpoint: BTreeMap<String, u64>,
    /// Requests by hour, for the record.
    pub hours: Hours,
    /// By slot, for people.
    pub readings: BTreeMap<Slot, SideReading>,
}

impl Feed {
    /// `just_started`: the judged side was started for this watch, so that every exit of it counts.
    pub fn new(sides: Vec<(Slot, Arm, u64)>, just_started: bool) -> Self {
        Self {
            arms: sides
                .into_iter()
                .map(|(slot, arm, deployment)| (slot, (arm, deployment)))
                .collect(),
            instance: None,
            last: BTreeMap::new(),
            began: BTreeMap::new(),
            processes: Processes::new(just_started),
            weights: BTreeMap::new(),
            share: None,
            split: Split::default(),
            delta: Vec::new(),
            failed_by_endpoint: BTreeMap::new(),
            hours: Hours::default(),
            readings: BTreeMap::new(),
        }
    }

    /// Counters: the difference to the last frame is what is new. Where the split changed in between, nobody can tell
    /// which of it was drawn by which share: limits count it, comparisons do not. A frame comes as soon as something
    /// moves, so that this is the end of the old split and some 10 ms of the new one.
    pub fn frame(&mut self, judge: &mut Judge, frame: &TrafficFrame) {
        let at_ms = frame.at.as_millisecond();
        self.weights.clone_from(&frame.weights);
        let moved =
            self.share.is_some() && self.share_now().is_some_and(|now| self.share != Some(now));
        let is_lost = |side: &SideCounters| side.sessions.as_ref().is_some_and(|told| told.lost);
        // What is left of one side has nothing to be compared with either.
        let moved = moved || frame.sides.values().any(is_lost);
        self.counters(judge, frame, moved);
        self.weight(judge, at_ms);
    }

    fn counters(&mut self, judge: &mut Judge, frame: &TrafficFrame, moved: bool) {
        let at_ms = frame.at.as_millisecond();
        let anew = self.instance.as_ref() != Some(&frame.instance);
        self.instance = Some(frame.instance.clone());
        if anew {
            self.last.clear();
        }
        for (slot, counters) in &frame.sides {
            let Some((arm, deployment)) = self.arms.get(slot).copied() else {
                if anew {
                    self.hours.before(counters.requests, counters.failed);
                }
                continue;
            };
            if counters.deployment != deployment {
                continue;
            }
            let before = self.last.get(slot).filter(|last| last.deployment == counters.deployment);
            let Some(before) = before.cloned() else {
                if arm == Arm::Baseline {
                    self.hours.before(counters.requests, counters.failed);
                }
                // What was served before this watch began belongs to nobody's trial, except that a new
                // side's counters start at zero with its deployment.
                self.last.insert(*slot, SideCounters { sessions: None, ..counters.clone() });
                self.began.entry(*slot).or_insert((counters.requests, counters.failed));
                if arm == Arm::Canary && counters.requests > 0 && !anew {
                    let before = SideCounters::default();
                    self.requests(judge, (at_ms, moved), *slot, arm, &before, counters);
                }
                continue;
            };
            self.requests(judge, (at_ms, moved), *slot, arm, &before, counters);
            self.last.insert(*slot, SideCounters { sessions: None, ..counters.clone() });
        }
    }

    fn requests(
        &mut self,
        judge: &mut Judge,
        (at_ms, moved): (i64, bool),
        slot: Slot,
        arm: Arm,
        before: &SideCounters,
        now: &SideCounters,
    ) {
        let failed = now.failed.saturating_sub(before.failed);
        let all = now.requests.saturating_sub(before.requests);
        // Told after the counters were read, sessions may be ahead of them.
        let is_told = now.sessions.as_ref().is_some_and(|told| !told.seen.is_empty());
        if all == 0 && failed == 0 && !is_told {
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
        let (ok, latency) = (all.saturating_sub(failed), &self.delta[..]);
        match &now.sessions {
            Some(sessions) if moved => {
                // Of what is lost nobody can tell how many clients it was that failed.
                let (ok, failed) = if sessions.lost { (ok, 0) } else { once_each(&sessions.seen) };
                judge.observe(Event::Unattributed { at_ms, arm, ok, failed, latency: &[] });
            }
            None if moved => judge.observe(Event::Unattributed { at_ms, arm, ok, failed, latency }),
            None => judge.observe(Event::Requests { at_ms, arm, ok, failed, latency }),
            Some(sessions) => sessions.seen.iter().for_each(|seen| {
                let SessionOutcome { session, latency_us } = *seen;
                let ok = latency_us.is_some();
                judge.observe(Event::Session { at_ms, arm, session, ok, latency_us });
            }),
        }
        self.hours.served(arm, at_ms, all, failed);
        self.endpoints(judge, (at_ms, moved), arm, before, now);
        let began = self.began.entry(slot).or_insert((before.requests, before.failed));
        let reading = self.readings.entry(slot).or_default();
        reading.deployment = now.deployment;
        reading.requests = now.requests.saturating_sub(began.0);
        reading.failed = now.failed.saturating_sub(began.1);
        reading.p95_us = percentile(&self.delta, 0.95).or(reading.p95_us);
    }

    fn endpoints(
        &mut self,
        judge: &mut Judge,
        (at_ms, moved): (i64, bool),
        arm: Arm,
        before: &SideCounters,
        now: &SideCounters,
    ) {
        let earlier: BTreeMap<&str, (u64, u64)> =
            before.endpoints.iter().map(|(kind, all, failed)| (&**kind, (*all, *failed))).collect();
        for (kind, all, failed) in &now.endpoints {
            let (all_before, failed_before) = earlier.get(&**kind).copied().unwrap_or_default();
            let (all, failed) =
                (all.saturating_sub(all_before), failed.saturating_sub(failed_before));
            // An answer that broke off is a failure of a trial that was told before.
            let failed = failed.min(all);
            if all == 0 {
                continue;
            }
            // A client that stays on its side makes many requests of one endpoint, and is one client.
            if !moved && now.sessions.is_none() {
                let mut hasher = DefaultHasher::new();
                kind.hash(&mut hasher);
                let route = hasher.finish();
                judge.observe(Event::Route { at_ms, arm, route, ok: all - failed, failed });
            }
            if arm == Arm::Canary && failed > 0 {
                *self.failed_by_endpoint.entry(kind.clone()).or_default() += failed;
            }
        }
    }

    /// Evidence with the name of the endpoint that failed most, where it speaks of one.
    pub fn name_endpoint(&self, evidence: &str) -> String {
        let worst = self.failed_by_endpoint.iter().max_by_key(|(_, failed)| **failed);
        match worst {
            Some((kind, _)) => evidence.replacen("on one route", &format!("on {kind}"), 1),
            None => evidence.to_owned(),
        }
    }

    /// What a router without counters was told to do.
    pub fn assume(&mut self, judge: &mut Judge, at_ms: i64, weights: BTreeMap<Slot, u8>) {
        if self.instance.is_none() {
            self.weights = weights;
            self.weight(judge, at_ms);
        }
    }

    /// The judged side's part, if anything of it is known.
    fn share_now(&self) -> Option<f64> {
        let canary = self.arms.iter().find(|(_, (arm, _))| *arm == Arm::Canary);
        let (slot, _) = canary?;
        let total: u32 = self.weights.values().map(|w| u32::from(*w)).sum();
        let own = self.weights.get(slot).copied().unwrap_or(0);
        (total > 0).then(|| f64::from(own) / f64::from(total))
    }

    fn weight(&mut self, judge: &mut Judge, at_ms: i64) {
        let Some(share) = self.share_now().filter(|share| self.share != Some(*share)) else {
            return;
        };
        self.share = Some(share);
        self.split = Split { number: self.split.number + 1, since_ms: at_ms };
        judge.observe(Event::Weight { at_ms, canary_share: share });
    }

    /// A check's result. Returns whether it passed.
    pub fn checked(
        &mut self,
        judge: &mut Judge,
        started_at: Timestamp,
        (arm, check, unit): (Arm, CheckId, &Unit),
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
            self.processes.passed(unit);
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
        unit: &Unit,
        seen: &Observed,
    ) {
        let judged = self.arms.get(&unit.slot).map(|(_, deployment)| *deployment);
        if seen.deployment.is_some() && seen.deployment != judged {
            self.processes.was_there(unit, seen);
        }
        self.processes.observed(judge, now.as_millisecond(), (arm, unit), seen);
    }
}

/// Requests of clients that had no failure, and clients that had one.
fn once_each(seen: &[SessionOutcome]) -> (u64, u64) {
    let failures = seen.iter().filter(|seen| seen.latency_us.is_none());
    let failed: BTreeSet<u64> = failures.map(|seen| seen.session).collect();
    let ok = seen.iter().filter(|seen| !failed.contains(&seen.session)).count();
    (ok as u64, failed.len() as u64)
}

fn check_sample(sample: &Sample, expected: &str, interval_ms: u64) -> CheckSample {
    let stale_ms = i64::try_from(2 * interval_ms).unwrap_or(i64::MAX / 2) + SKEW_MS;
    let stale = sample
        .timestamp
        .is_some_and(|at| sample.started_at.as_millisecond() - at.as_millisecond() > stale_ms);
    let wrong = wrong_version(sample, expected);
    let outcome = match (&sample.outcome, &wrong) {
        // Whatever it says of itself: it is not what was deployed, so that it passes for nothing.
        (_, Some(wrong)) => CheckOutcome::Fail(wrong.clone()),
        _ if stale => {
            CheckOutcome::Unreachable("its `timestamp` is older than two intervals".to_owned())
        }
        (SampleOutcome::Pass, None) => CheckOutcome::Pass,
        (SampleOutcome::Warn(why), None) => CheckOutcome::Warn(why.clone()),
        (SampleOutcome::NotReady(why), None) => CheckOutcome::Starting(why.clone()),
        (SampleOutcome::Fail(why), None) => CheckOutcome::Fail(why.clone()),
    };
    let mut out = CheckSample::new(outcome, sample.latency_ms);
    out.error_rate = sample.error_rate;
    out.availability = sample.availability;
    out.response_time_ms = sample.response_time_ms;
    out.version_mismatch = wrong;
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

#[cfg(test)]
mod tests {
    use backout_core::ports::SessionOutcomes;
    use backout_judge::{Level, Settings};

    use super::*;

    fn frame(at_s: i64, share: u8, canary: (u64, u64), baseline: (u64, u64)) -> TrafficFrame {
        let side = |deployment, (requests, failed)| SideCounters {
            deployment,
            requests,
            failed,
            ..SideCounters::default()
        };
        TrafficFrame {
            instance: "one".to_owned(),
            at: Timestamp::from_second(at_s).unwrap(),
            weights: BTreeMap::from([(Slot::A, 100 - share), (Slot::B, share)]),
            sides: BTreeMap::from([(Slot::A, side(1, baseline)), (Slot::B, side(2, canary))]),
            fired: None,
            tripped: None,
            unbound: None,
        }
    }

    #[test]
    fn what_was_counted_across_a_change_of_the_split_is_compared_with_neither_share() {
        let settings = Settings { harmless_error_rate: 0.0, ..Settings::default() };
        let mut judge = Judge::new(settings, 0);
        let sides = vec![(Slot::B, Arm::Canary, 2), (Slot::A, Arm::Baseline, 1)];
        let mut feed = Feed::new(sides, true);
        let e_value = |judge: &Judge| {
            let mut comparison = judge.comparison().clone();
            comparison.settle();
            comparison.e_values().errors.unwrap()
        };
        feed.frame(&mut judge, &frame(1, 0, (0, 0), (9_000, 90)));
        feed.frame(&mut judge, &frame(2, 5, (6, 4), (9_200, 90)));
        assert_eq!(e_value(&judge), 1.0, "the canary had them, under which split nobody knows");
        assert_eq!(judge.requests(Arm::Canary), (6, 4), "for limits and people it counts");
        feed.frame(&mut judge, &frame(3, 5, (16, 8), (9_400, 90)));
        let at_five = e_value(&judge);
        assert!(at_five > 100.0, "{at_five}");
        feed.frame(&mut judge, &frame(4, 50, (200, 12), (9_500, 90)));
        assert_eq!(e_value(&judge), at_five);
        feed.frame(&mut judge, &frame(5, 50, (300, 14), (9_600, 90)));
        // Two more at an even split are worth less than four in all.
        assert!((1.5 * at_five..4.0 * at_five).contains(&e_value(&judge)), "{}", e_value(&judge));
    }

    /// A side with so many requests in all, of which these clients' are new; the last one's failed.
    fn clients(side: &mut SideCounters, seen: impl IntoIterator<Item = (u64, bool)>) {
        let outcome =
            |(session, ok): (u64, bool)| SessionOutcome { session, latency_us: ok.then_some(900) };
        let seen: Vec<_> = seen.into_iter().map(outcome).collect();
        side.requests += seen.len() as u64;
        side.failed += seen.iter().filter(|seen| seen.latency_us.is_none()).count() as u64;
        side.sessions = Some(SessionOutcomes { lost: false, seen });
    }

    #[test]
    fn a_client_that_fails_all_the_time_is_one_failure_and_several_clients_are_evidence() {
        let settings = Settings { sticky_sessions: true, ..Settings::default() };
        let mut judge = Judge::new(settings, 0);
        let mut feed =
            Feed::new(vec![(Slot::B, Arm::Canary, 2), (Slot::A, Arm::Baseline, 1)], true);
        let mut told = frame(1, 10, (0, 0), (0, 0));
        feed.frame(&mut judge, &told);
        // Stages change meanwhile: what is counted across that is by client too.
        for (second, share) in (2..).zip([10, 10, 25, 25, 25, 50, 50, 50]) {
            told.at = Timestamp::from_second(second).unwrap();
            told.weights = BTreeMap::from([(Slot::A, 100 - share), (Slot::B, share)]);
            let others = |from: u64| (from..from + 40).map(|session| (session, true));
            clients(told.sides.get_mut(&Slot::A).unwrap(), others(100));
            let abuse = (0..400).map(|_| (7, false));
            clients(told.sides.get_mut(&Slot::B).unwrap(), others(200).chain(abuse));
            feed.frame(&mut judge, &told);
            let verdict = judge.verdict(second * 1_000);
            assert_ne!(verdict.level, Level::Failing, "{}", verdict.evidence);
        }
        assert_eq!(feed.readings[&Slot::B].failed, 3_200, "people see them all");
        told.at = Timestamp::from_second(20).unwrap();
        told.weights = BTreeMap::from([(Slot::A, 50), (Slot::B, 50)]);
        clients(told.sides.get_mut(&Slot::A).unwrap(), (100..140).map(|session| (session, true)));
        clients(told.sides.get_mut(&Slot::B).unwrap(), (300..330).map(|session| (session, false)));
        feed.frame(&mut judge, &told);
        let verdict = judge.verdict(20_000);
        assert_eq!(verdict.level, Level::Failing, "{}", verdict.evidence);
    }

    #[test]
    fn what_was_lost_of_one_side_is_evidence_for_neither() {
        for lost in [true, false] {
            let settings = Settings { sticky_sessions: true, ..Settings::default() };
            let mut judge = Judge::new(settings, 0);
            let sides = vec![(Slot::B, Arm::Canary, 2), (Slot::A, Arm::Baseline, 1)];
            let mut feed = Feed::new(sides, true);
            let mut told = frame(1, 10, (0, 0), (0, 0));
            feed.frame(&mut judge, &told);
            told.at = Timestamp::from_second(2).unwrap();
            clients(told.sides.get_mut(&Slot::A).unwrap(), []);
            let failed = (300..330).map(|session| (session, false));
            clients(told.sides.get_mut(&Slot::B).unwrap(), failed);
            told.sides.get_mut(&Slot::A).unwrap().sessions.as_mut().unwrap().lost = lost;
            feed.frame(&mut judge, &told);
            let mut comparison = judge.comparison().clone();
            comparison.settle();
            let evidence = comparison.e_values().errors.unwrap();
            assert_eq!(evidence > 100.0, !lost, "{evidence}");
        }
    }

    #[test]
    fn another_version_that_feels_well_passes_for_nothing() {
        let mut judge = Judge::new(Settings::default(), 0);
        let mut feed = Feed::new(vec![(Slot::A, Arm::Canary, 1)], true);
        let web = crate::situation::tests::unit("web");
        let check = judge.add_check("http", "web", Arm::Canary, 1_000);
        for (version, passes) in [("2", 1), ("1", 0), ("1", 0)] {
            let sample = Sample {
                started_at: Timestamp::from_second(1).unwrap(),
                outcome: SampleOutcome::Pass,
                latency_ms: 1.0,
                error_rate: None,
                availability: None,
                response_time_ms: None,
                version: Some(version.to_owned()),
                timestamp: None,
            };
            let from = (Arm::Canary, check, &web);
            let at = sample.started_at;
            let passed = feed.checked(&mut judge, at, from, &Ok(sample), ("2", 1_000));
            assert_eq!(passed, passes > 0);
            assert_eq!(judge.passes(Arm::Canary), Some(passes));
        }
        let verdict = judge.verdict(1_000);
        assert_eq!(verdict.level, Level::Failing);
        assert_eq!(verdict.evidence, "web: version 1 answers where 2 was deployed");
    }
}
