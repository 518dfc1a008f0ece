//! From what the judge knows to the verdict it gives.

use crate::checks::Availability;
use crate::event::Arm;
use crate::judge::Judge;
use crate::thresholds::Finding;
use crate::verdict::{Level, Verdict};
use crate::windows;
use crate::words;
use std::borrow::Cow;

/// At most this many warnings are passed on.
const MAX_WARNINGS: usize = 20;

/// What was collected for a verdict.
#[derive(Default)]
struct Notes {
    warnings: Vec<String>,
    missing: Vec<String>,
    shared: Option<(String, Cow<'static, str>)>,
}

impl Judge {
    /// The verdict as of now. Order: failing, a shared fault, something not known, warning, healthy.
    pub fn verdict(&self, now_ms: i64) -> Verdict {
        let now_ms = now_ms.max(self.now_ms);
        let mut notes = Notes::default();
        self.note_checks(now_ms, &mut notes);
        self.note_windows(now_ms, &mut notes);
        self.note_limits(&mut notes);
        self.note_traffic(now_ms, &mut notes);
        notes.warnings.extend(self.exits.warnings(now_ms, &self.settings));
        notes.warnings.truncate(MAX_WARNINGS);

        let mut verdict = Verdict {
            level: Level::Healthy,
            cause: None,
            evidence: String::new(),
            missing: None,
            shared_fault: false,
            warnings: notes.warnings,
            metric: None,
        };
        if let Some(failure) = self.failure_at(now_ms) {
            verdict.level = Level::Failing;
            verdict.cause = Some(failure.cause);
            verdict.evidence = failure.evidence;
            verdict.metric = failure.metric.map(Cow::into_owned);
        } else if let Some((evidence, metric)) = notes.shared {
            verdict.level = Level::Warning;
            verdict.shared_fault = true;
            verdict.evidence = format!("{evidence}: a fault of both sides");
            verdict.metric = Some(metric.into_owned());
        } else if !notes.missing.is_empty() {
            verdict.level = Level::NotEnoughData;
            let missing = first_few(&notes.missing);
            verdict.evidence = format!("not enough data: {missing}");
            verdict.missing = Some(missing);
        } else if let Some(first) = verdict.warnings.first() {
            verdict.level = Level::Warning;
            verdict.evidence = first.clone();
        } else {
            verdict.evidence = self.healthy_words();
        }
        verdict
    }

    fn note_checks(&self, now_ms: i64, notes: &mut Notes) {
        if self.checks.is_empty() && self.traffic.share.is_none() {
            notes.missing.push("nothing has been checked".to_owned());
        }
        for (index, check) in self.checks.iter().enumerate() {
            notes.warnings.extend(check.warning(now_ms));
            if check.arm == Arm::Baseline {
                continue;
            }
            notes.missing.extend(check.missing(now_ms, &self.settings));
            if check.shared {
                let words = check.warning(now_ms).unwrap_or_default();
                notes.shared.get_or_insert((words, "health".into()));
            }
            match self.availability(index, now_ms) {
                Availability::Good => {}
                Availability::Fail(words) if self.twin_unavailable(index, now_ms) => {
                    notes.shared.get_or_insert((words, "availability".into()));
                }
                Availability::Warn(words) | Availability::Fail(words) => {
                    notes.warnings.push(words);
                }
            }
        }
    }

    fn note_windows(&self, now_ms: i64, notes: &mut Notes) {
        for (drives, finding) in self.findings(now_ms) {
            match finding {
                Finding::Good => {}
                Finding::Shared(metric, words) if drives => {
                    notes.shared.get_or_insert((words, metric.into()));
                }
                Finding::Unclear(_, words) if drives => {
                    notes.missing.push(format!("more requests to tell the sides apart ({words})"));
                }
                Finding::Warn(_, words)
                | Finding::Unclear(_, words)
                | Finding::Shared(_, words)
                | Finding::Fail(_, words) => notes.warnings.push(words),
            }
        }
    }

    fn note_limits(&self, notes: &mut Notes) {
        for limit in &self.limits {
            if let Some((words, metric)) = limit.shared() {
                notes.shared.get_or_insert((words, metric.into()));
            }
            notes.warnings.extend(limit.warning());
        }
    }

    fn note_traffic(&self, now_ms: i64, notes: &mut Notes) {
        if self.traffic.none_at_all() {
            notes.warnings.push("no traffic".to_owned());
        }
        for (arm, since_ms) in self.unread() {
            let lasted = words::duration(now_ms.saturating_sub(since_ms));
            let arm = arm.word();
            notes.missing.push(format!("the {arm}'s requests could not be read for {lasted}"));
        }
        let too_few = self.traffic.missing(&self.settings);
        // Bake ends by time: there it is something to record, not something to wait for.
        if self.baking { notes.warnings.extend(too_few) } else { notes.missing.extend(too_few) }
    }

    fn healthy_words(&self) -> String {
        let side = |arm| {
            let counts = self.traffic.all(arm);
            let rate = windows::percent(counts.failed, counts.total);
            (counts.total > 0).then(|| {
                format!(
                    "{} errors {} of {} requests",
                    arm.word(),
                    words::percent(rate),
                    counts.total
                )
            })
        };
        let mut parts: Vec<String> =
            [Arm::Canary, Arm::Baseline].into_iter().filter_map(side).collect();
        let checks = self.canary_checks().count();
        if checks == 1 {
            parts.push("its check passes".to_owned());
        } else if checks > 1 {
            parts.push(format!("all {checks} checks pass"));
        }
        parts.join(", ")
    }
}

/// The first of many sentences, and how many more there are: fifty hosts would fill a screen.
fn first_few(sentences: &[String]) -> String {
    const SAID: usize = 3;
    let mut said = sentences[..sentences.len().min(SAID)].join("; ");
    if sentences.len() > SAID {
        said.push_str(&format!("; and {} more", sentences.len() - SAID));
    }
    said
}
