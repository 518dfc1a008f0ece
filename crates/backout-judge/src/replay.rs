//! `backout judge replay`: what would the comparison have said to a recorded rollout?
//!
//! Pure: takes lines in, gives lines out. Only the sequential tests run: no fixed thresholds, no
//! consecutive failures, no minimum of samples. Failing is latched.

use crate::event::Arm;
use crate::sequential::{Alarm, Comparison};
use crate::settings::Settings;
use crate::verdict::Level;
use serde::{Deserialize, Serialize};

/// What the command line can set.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// `--false-rollback-probability`.
    pub false_rollback_probability: f64,
    /// `--warm-up`.
    pub warm_up_ms: i64,
    /// `--latency-warm-up`.
    pub latency_warm_up_ms: i64,
    /// `--tolerance`: relative increase in errors or latency regarded as harmless.
    pub tolerance: f64,
    /// `--harmless-error-rate`.
    pub harmless_error_rate: f64,
    /// `--harmless-latency-increase`.
    pub harmless_latency_increase: f64,
    /// `--metrics` names errors.
    pub errors: bool,
    /// `--metrics` names latency.
    pub latency: bool,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        ReplayOptions {
            false_rollback_probability: 0.01,
            warm_up_ms: 0,
            latency_warm_up_ms: 0,
            tolerance: 0.0,
            harmless_error_rate: 0.0,
            harmless_latency_increase: 0.0,
            errors: true,
            latency: true,
        }
    }
}

impl ReplayOptions {
    fn settings(&self) -> Settings {
        Settings {
            false_rollback_probability: self.false_rollback_probability,
            warm_up_ms: self.warm_up_ms,
            latency_warm_up_ms: self.latency_warm_up_ms,
            harmless_error_rate: self.harmless_error_rate,
            harmless_latency_increase: self.harmless_latency_increase.max(self.tolerance),
            harmless_error_increase: self.tolerance,
            compare_errors: self.errors,
            compare_latency: self.latency,
            ..Settings::default()
        }
    }
}

/// A line that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayError {
    /// Its number, counted from 1.
    pub line: u64,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "failed to read line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ReplayError {}

/// One line of input: a request, a change of weight or the end.
#[derive(Deserialize)]
struct Line<'a> {
    t: f64,
    arm: Option<Arm>,
    ok: Option<bool>,
    latency_ms: Option<f64>,
    #[serde(borrow)]
    session: Option<std::borrow::Cow<'a, str>>,
    weight: Option<f64>,
    end: Option<bool>,
}

#[derive(Serialize)]
struct Change<'a> {
    t: f64,
    verdict: Level,
    metric: Option<&'a str>,
    canary_requests: u64,
    baseline_requests: u64,
    evidence: &'a str,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Always true: tells this line from the others.
    pub summary: bool,
    /// The verdict at the end.
    pub verdict: Level,
    /// When it failed first.
    pub first_failing_t: Option<f64>,
    /// Requests of the canary until then.
    pub canary_requests_to_failing: Option<u64>,
    /// Requests read.
    pub events: u64,
}

/// A replay in progress.
#[derive(Debug, Clone)]
pub struct Replay {
    comparison: Comparison,
    line: u64,
    t: f64,
    weighted: bool,
    ended: bool,
    seen: [bool; 2],
    /// A line has named a session: from then on those without one are each a session of their own.
    by_session: bool,
    summary: Summary,
}

impl Replay {
    /// Begins.
    pub fn new(options: &ReplayOptions) -> Self {
        Replay {
            comparison: Comparison::new(&options.settings()),
            line: 0,
            t: f64::NEG_INFINITY,
            weighted: false,
            ended: false,
            seen: [false; 2],
            by_session: false,
            summary: Summary {
                summary: true,
                verdict: Level::NotEnoughData,
                first_failing_t: None,
                canary_requests_to_failing: None,
                events: 0,
            },
        }
    }

    /// Takes the next line in; gives the lines to print, if the verdict changes.
    pub fn line(&mut self, text: &str) -> Result<Vec<String>, ReplayError> {
        self.line += 1;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| {
            self.error(format!("not an event in JSON ({error}); see the format of `judge replay`"))
        })?;
        if self.ended {
            return Err(self.error("nothing may follow the end of the watch"));
        }
        if !line.t.is_finite() || line.t < self.t {
            return Err(self.error("times must be numbers that do not go back: sort by \"t\""));
        }
        let mut out = Vec::new();
        if line.t > self.t {
            out.extend(self.settle());
            self.t = line.t;
        }
        match (line.weight, line.arm, line.ok) {
            (Some(weight), None, None) => self.weight(weight)?,
            (None, Some(arm), Some(ok)) => self.request(&line, arm, ok)?,
            (None, None, None) if line.end == Some(true) => self.ended = true,
            _ => return Err(self.error("a line has \"arm\" and \"ok\", or \"weight\", or \"end\"")),
        }
        Ok(out)
    }

    fn weight(&mut self, weight: f64) -> Result<(), ReplayError> {
        if !(0.0..=1.0).contains(&weight) {
            return Err(self.error("a weight lies between 0 and 1"));
        }
        self.weighted = true;
        self.comparison.weight(weight);
        Ok(())
    }

    fn request(&mut self, line: &Line<'_>, arm: Arm, ok: bool) -> Result<(), ReplayError> {
        if !self.weighted {
            return Err(self.error("the first line must give the weight"));
        }
        if line.latency_ms.is_some_and(|ms| !ms.is_finite() || ms < 0.0) {
            return Err(self.error("\"latency_ms\" must be a number from 0 on"));
        }
        self.summary.events += 1;
        self.seen[arm.index()] = true;
        let at_ms = (line.t * 1_000.0).round() as i64;
        let us = line.latency_ms.map(|ms| (ms * 1_000.0).round() as u64);
        self.by_session |= line.session.is_some();
        if self.by_session {
            let session = line.session.as_deref().map_or_else(|| hash_of_line(self.line), hash);
            self.comparison.session_request(at_ms, arm, session, ok, us);
        } else {
            let latency = us.filter(|_| ok).map(|us| [(us, 1)]);
            let latency = latency.as_ref().map_or(&[][..], |one| &one[..]);
            self.comparison.requests(at_ms, arm, u64::from(ok), u64::from(!ok), latency);
        }
        Ok(())
    }

    /// Judges what has come in and says if that changes the verdict.
    fn settle(&mut self) -> Option<String> {
        if self.summary.verdict == Level::Failing {
            return None;
        }
        let alarm = self.comparison.settle().cloned();
        let level = match (&alarm, self.seen) {
            (Some(_), _) => Level::Failing,
            (None, [true, true]) => Level::Healthy,
            (None, _) => Level::NotEnoughData,
        };
        if level == self.summary.verdict {
            return None;
        }
        self.summary.verdict = level;
        let [canary_requests, baseline_requests] = self.comparison.requests_seen();
        if level == Level::Failing {
            self.summary.first_failing_t = Some(self.t);
            self.summary.canary_requests_to_failing = Some(canary_requests);
        }
        let evidence = |alarm: &Alarm| alarm.evidence.clone();
        let change = Change {
            t: self.t,
            verdict: level,
            metric: alarm.as_ref().map(|alarm| &*alarm.metric),
            canary_requests,
            baseline_requests,
            evidence: &alarm
                .as_ref()
                .map_or_else(|| "nothing shows that the canary is worse".to_owned(), evidence),
        };
        Some(json(&change))
    }

    /// Ends the replay: the last lines to print, the summary being the very last.
    pub fn finish(mut self) -> (Vec<String>, Summary) {
        let mut out: Vec<String> = self.settle().into_iter().collect();
        out.push(json(&self.summary));
        (out, self.summary)
    }

    fn error(&self, message: impl Into<String>) -> ReplayError {
        ReplayError { line: self.line, message: message.into() }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs with finite numbers are JSON")
}

/// FNV-1a (Fowler, Noll, Vo): sessions only need to be told apart.
fn hash(session: &str) -> u64 {
    session.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A session that no name has, other than by chance.
fn hash_of_line(line: u64) -> u64 {
    hash(&format!("\n{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &ReplayOptions, lines: &[&str]) -> Result<(Vec<String>, Summary), ReplayError> {
        let mut replay = Replay::new(options);
        let mut out = Vec::new();
        for line in lines {
            out.extend(replay.line(line)?);
        }
        let (last, summary) = replay.finish();
        out.extend(last);
        Ok((out, summary))
    }

    const WEIGHT: &str = r#"{"t":0,"weight":0.1}"#;
    const BAD: &str = r#"{"t":1,"arm":"canary","ok":false,"latency_ms":3}"#;

    #[test]
    fn errors_in_a_row_fail_and_stay_failed() {
        let lines = [
            WEIGHT,
            r#"{"t":0.5,"arm":"baseline","ok":true,"latency_ms":84.2}"#,
            r#"{"t":1,"arm":"canary","ok":false,"latency_ms":84.2}"#,
            r#"{"t":2,"arm":"canary","ok":false}"#,
            r#"{"t":3,"arm":"canary","ok":false,"extra":1}"#,
            "",
            r#"{"t":4,"arm":"canary","ok":true}"#,
            r#"{"t":3600,"end":true}"#,
        ];
        let (out, summary) = run(&ReplayOptions::default(), &lines).unwrap();
        assert_eq!(out.len(), 3, "{out:?}");
        assert!(out[0].starts_with(r#"{"t":1.0,"verdict":"healthy","metric":null"#), "{}", out[0]);
        assert_eq!(
            out[1],
            r#"{"t":3.0,"verdict":"failing","metric":"errors","canary_requests":3,"baseline_requests":1,"evidence":"canary errors 100.0 % of 3 requests, baseline 0.0 % of 1; odds of a false alarm < 1 in 100"}"#
        );
        assert_eq!(
            out[2],
            r#"{"summary":true,"verdict":"failing","first_failing_t":3.0,"canary_requests_to_failing":3,"events":5}"#
        );
        assert_eq!(summary.first_failing_t, Some(3.0));
    }

    #[test]
    fn a_session_counts_once() {
        let one: Vec<String> = (1..500)
            .map(|t| format!(r#"{{"t":{t},"arm":"canary","ok":false,"session":"s\u0031"}}"#))
            .collect();
        let mut lines = vec![WEIGHT];
        lines.extend(one.iter().map(String::as_str));
        let (out, summary) = run(&ReplayOptions::default(), &lines).unwrap();
        assert_eq!(summary.verdict, Level::NotEnoughData);
        assert_eq!(
            out,
            [
                r#"{"summary":true,"verdict":"not_enough_data","first_failing_t":null,"canary_requests_to_failing":null,"events":499}"#
            ]
        );
    }

    #[test]
    fn several_sessions_fail_and_requests_without_one_are_sessions_of_their_own() {
        let lines = |named: usize| -> Vec<String> {
            let session = |t: usize| match t <= named {
                true => format!(r#","session":"s{t}""#),
                false => String::new(),
            };
            let line = |t| format!(r#"{{"t":{t},"arm":"canary","ok":false{}}}"#, session(t));
            std::iter::once(WEIGHT.to_owned()).chain((1..=6).map(line)).collect()
        };
        let fails_at = |named: usize| {
            let lines = lines(named);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            run(&ReplayOptions::default(), &lines).unwrap().1.canary_requests_to_failing
        };
        // One session more than requests: the worst is left out.
        assert_eq!([fails_at(0), fails_at(6), fails_at(1)], [Some(3), Some(4), Some(4)]);
    }

    #[test]
    fn the_metrics_compared_can_be_chosen() {
        let lines = [WEIGHT, BAD, BAD, BAD];
        let only_latency = ReplayOptions { errors: false, ..ReplayOptions::default() };
        assert_eq!(run(&only_latency, &lines).unwrap().1.first_failing_t, None);
        assert!(run(&ReplayOptions::default(), &lines).unwrap().1.first_failing_t.is_some());
    }

    #[test]
    fn bad_input_names_its_line() {
        let cases: [(&[&str], u64); 9] = [
            (&[BAD], 1),
            (&[WEIGHT, "nonsense"], 2),
            (&[WEIGHT, "", r#"{"arm":"canary","ok":true}"#], 3),
            (&[WEIGHT, BAD, r#"{"t":0.9,"arm":"canary","ok":true}"#], 3),
            (&[WEIGHT, r#"{"t":1,"arm":"other","ok":true}"#], 2),
            (&[WEIGHT, r#"{"t":1,"arm":"canary"}"#], 2),
            (&[r#"{"t":0,"weight":1.5}"#], 1),
            (&[WEIGHT, r#"{"t":1,"arm":"canary","ok":true,"latency_ms":-1}"#], 2),
            (&[WEIGHT, r#"{"t":1,"end":true}"#, r#"{"t":2,"weight":0.5}"#], 3),
        ];
        for (lines, number) in cases {
            let error = run(&ReplayOptions::default(), lines).unwrap_err();
            assert_eq!(error.line, number, "{error}");
            assert!(error.to_string().starts_with(&format!("failed to read line {number}: ")));
        }
    }
}
