//! Metrics beside health: what sources gave becomes the judge's events. A source that can't be read is neither
//! health nor failure: it is said once, and what is missing is waited for.

use backout_core::model::{Measure, MetricsSpec, SeriesSpec};
use backout_core::ports::Points;
use backout_judge::{Event, Judge, MetricId};

use super::feed::Split;
use super::hours::Hours;
use super::increase::{Totals, quantile};
use super::requests::Requests;

/// A single gap is not worth a word.
const TELL_AFTER: u32 = 2;

/// What one source gave for the sides: canary, baseline. `None`: there is no such side, or it has no address.
pub(super) type Given = [Option<Result<Vec<Points>, String>>; 2];

/// One side of one metric.
#[derive(Debug, Default)]
struct Side {
    counters: [Totals; 2],
    last_ms: Option<i64>,
}

#[derive(Debug)]
struct Series {
    spec: SeriesSpec,
    id: Option<MetricId>,
    sides: [Side; 2],
    /// The canary's last value came then.
    seen: bool,
    missing: Option<String>,
}

#[derive(Debug)]
struct Source {
    name: String,
    series: Vec<Series>,
    requests: Option<Requests>,
    failures: u32,
    absences: u32,
    trouble: Option<String>,
    told: bool,
}

/// All sources of one watch.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    sources: Vec<Source>,
    notes: Vec<String>,
}

impl Figures {
    /// Makes a source known; what must be read for it, in order.
    pub fn add(
        &mut self,
        judge: &mut Judge,
        name: String,
        spec: &MetricsSpec,
    ) -> (usize, Vec<String>) {
        let mut expressions: Vec<String> = Vec::new();
        let mut series = Vec::new();
        for spec in &spec.series {
            expressions.extend(spec.measure.expressions().into_iter().map(str::to_owned));
            let id = judge.add_shaped_metric(&spec.name, spec.worse, spec.tolerance, spec.shape);
            if let Some(id) = id {
                judge.limit_metric(id, spec.worse, spec.warn, spec.fail);
            } else {
                self.notes.push(format!("metric {} is not judged: there are too many", spec.name));
            }
            series.push(Series {
                spec: spec.clone(),
                id,
                sides: Default::default(),
                seen: false,
                missing: None,
            });
        }
        if let Some(requests) = &spec.requests {
            expressions.extend([requests.total.clone(), requests.failed.clone()]);
        }
        self.sources.push(Source {
            name,
            series,
            requests: spec.requests.as_ref().map(|_| Requests::default()),
            failures: 0,
            absences: 0,
            trouble: None,
            told: false,
        });
        (self.sources.len() - 1, expressions)
    }

    /// Takes in what a source gave.
    pub fn take(
        &mut self,
        judge: &mut Judge,
        (hours, split): (&mut Hours, Split),
        at_ms: i64,
        source: usize,
        given: &Given,
    ) {
        let Some(source) = self.sources.get_mut(source) else { return };
        source.trouble = given.iter().flatten().find_map(|side| side.as_ref().err().cloned());
        match &source.trouble {
            None => source.failures = 0,
            Some(why) => {
                source.failures = source.failures.saturating_add(1);
                if source.failures >= TELL_AFTER && !std::mem::replace(&mut source.told, true) {
                    self.notes
                        .push(format!("could not check: {why}; the rollout is not failed for it"));
                }
            }
        }
        let points = |side: usize| given[side].as_ref().and_then(|side| side.as_ref().ok());
        let sides = [points(0), points(1)];
        let mut next = 0;
        for series in &mut source.series {
            let count = series.spec.measure.expressions().len();
            let of = |side: usize| sides[side].and_then(|all| all.get(next..next + count));
            let values = [0, 1].map(|side| {
                of(side).map(|points| {
                    read(&series.spec.measure, &mut series.sides[side], at_ms, points)
                })
            });
            next += count;
            series.note(&values[0]);
            let value =
                |side: usize| values[side].as_ref().and_then(|value| value.clone().ok().flatten());
            if let Some(metric) = series.id {
                judge.observe(Event::Metric {
                    at_ms,
                    metric,
                    canary: value(0),
                    baseline: value(1),
                });
            }
        }
        let absent = source.series.iter().find_map(|series| series.missing.clone());
        if let (Some(why), None) = (absent, &source.trouble) {
            source.absences = source.absences.saturating_add(1);
            if source.absences >= TELL_AFTER && !std::mem::replace(&mut source.told, true) {
                let name = &source.name;
                self.notes.push(format!(
                    "could not check: {name}: {why}; the rollout is not failed for it"
                ));
            }
        } else {
            source.absences = 0;
        }
        if let Some(requests) = &mut source.requests {
            let of = |side: usize| {
                let points = sides[side].and_then(|all| all.get(next..next + 2));
                given[side].as_ref().map(|_| points)
            };
            requests.take(judge, (hours, split), at_ms, [of(0), of(1)]);
        }
    }

    /// Whether a source counts the service's requests.
    pub fn counts_requests(&self) -> bool {
        self.sources.iter().any(|source| source.requests.is_some())
    }

    /// What there is to tell, once.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// What is not known of the canary because a source can't be read or does not have it.
    pub fn missing(&self) -> Option<String> {
        let of = |source: &Source| {
            if let Some(why) = &source.trouble {
                return Some(format!("could not check: {why}"));
            }
            source.series.iter().find_map(|series| {
                let why = series.missing.clone();
                why.or_else(|| {
                    (!series.seen).then(|| {
                        format!("{} has no reading of {} yet", source.name, series.spec.name)
                    })
                })
            })
        };
        self.sources.iter().find_map(of)
    }
}

impl Series {
    fn note(&mut self, canary: &Option<Result<Option<f64>, String>>) {
        match canary {
            Some(Ok(_)) => {
                self.seen = true;
                self.missing = None;
            }
            Some(Err(why)) => self.missing = Some(why.clone()),
            None => {}
        }
    }
}

/// A value; `Ok(None)`: nothing happened since the last reading, or it was the first look. The error says what is
/// not there.
fn read(
    measure: &Measure,
    side: &mut Side,
    at_ms: i64,
    points: &[Points],
) -> Result<Option<f64>, String> {
    let absent = |expression: &str| format!("`{expression}` gives nothing");
    let last_ms = side.last_ms.replace(at_ms);
    match (measure, points) {
        (Measure::Value(expression), [points]) => {
            if points.is_empty() {
                return Err(absent(expression));
            }
            let sum: f64 = points.iter().map(|point| point.value).sum();
            if sum.is_finite() {
                Ok(Some(sum))
            } else {
                Err(format!("`{expression}` gives {sum}, which is no number"))
            }
        }
        (Measure::Rate(expression), [points]) => {
            let increase = side.counters[0].sum(points);
            if points.is_empty() {
                return Err(absent(expression));
            }
            // What came since a reset is less than what came since the last reading.
            let increase = increase.filter(|_| !side.counters[0].fell());
            let elapsed_s = last_ms.map(|last| (at_ms - last) as f64 / 1_000.0);
            Ok(increase.zip(elapsed_s.filter(|s| *s > 0.0)).map(|(more, s)| more / s))
        }
        (Measure::Ratio { total: expression, .. }, [bad, total]) => {
            let (bad, all) = (side.counters[0].sum(bad), side.counters[1].sum(total));
            if total.is_empty() {
                return Err(absent(expression));
            }
            Ok(bad
                .zip(all)
                .filter(|(bad, all)| *all > 0.0 && bad <= all)
                .map(|(bad, all)| bad / all))
        }
        (Measure::Latency { histogram, quantile: wanted }, [points]) => {
            let buckets = side.counters[0].read(points);
            if points.is_empty() {
                return Err(absent(histogram));
            }
            if points.iter().all(|point| point.bound.is_none()) {
                return Err(format!("`{histogram}` has no label `le`: name its buckets"));
            }
            Ok(buckets.and_then(|buckets| quantile(buckets, *wanted)))
        }
        _ => Ok(None),
    }
}
