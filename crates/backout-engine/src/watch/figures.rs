//! Metrics beside health: what sources gave becomes the judge's events. A source that can't be read is neither
//! health nor failure: it is said once, and what is missing is waited for.

use backout_core::model::{Measure, MetricsSpec, SeriesSpec};
use backout_core::ports::Points;
use backout_judge::{Arm, Event, Judge, MetricId};

use super::feed::Split;
use super::hours::Hours;
use super::increase::{Totals, quantile};

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

#[derive(Debug, Default)]
struct Requests {
    counters: [[Totals; 2]; 2],
    /// The split that each side was last read under.
    split: [Option<u64>; 2],
    unread: [bool; 2],
}

/// What a reading says of one side's requests.
enum Read {
    /// There is no such side.
    None,
    /// It could not be read.
    Gap,
    /// All and failed since the last reading.
    Counts(u64, u64),
    /// Nothing that covers the time since the last reading: it was the first, or a counter began anew.
    Part(u64, u64),
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

impl Requests {
    /// Shows the judge what a reading brought. `None`: there is no such side; `Some(None)`: it could not be read.
    ///
    /// Requests are compared only where both sides' counts cover the same time under one split; a side that could
    /// not be read is waited for, and all else is for fixed limits alone.
    fn take(
        &mut self,
        judge: &mut Judge,
        (hours, split): (&mut Hours, Split),
        at_ms: i64,
        sides: [Option<Option<&[Points]>>; 2],
    ) {
        let read = [self.read(0, sides[0]), self.read(1, sides[1])];
        let now = split.at(at_ms);
        let whole = read.iter().enumerate().all(|(side, read)| match read {
            Read::None | Read::Gap => true,
            Read::Counts(..) => now.is_some() && self.split[side] == now,
            Read::Part(..) => false,
        });
        let arms = || [Arm::Canary, Arm::Baseline].into_iter().zip(&read).enumerate();
        // A gap comes first, so that the other side's counts of this moment wait for it.
        for (side, (arm, _)) in arms().filter(|(_, (_, read))| matches!(read, Read::Gap)) {
            self.unread[side] = true;
            judge.observe(Event::Unread { at_ms, arm });
        }
        for (side, (arm, read)) in arms() {
            let (Read::Counts(all, failed) | Read::Part(all, failed)) = *read else { continue };
            self.split[side] = now;
            let ends_gap = std::mem::take(&mut self.unread[side]);
            if all == 0 && !ends_gap && whole {
                continue;
            }
            let ok = all - failed;
            judge.observe(if whole {
                Event::Requests { at_ms, arm, ok, failed, latency: &[] }
            } else {
                Event::Unattributed { at_ms, arm, ok, failed, latency: &[] }
            });
            if all > 0 {
                hours.served(arm, at_ms, all, failed);
            }
        }
    }

    fn read(&mut self, side: usize, points: Option<Option<&[Points]>>) -> Read {
        let Some(points) = points else { return Read::None };
        let [all, bad] = &mut self.counters[side];
        let Some([total, failed]) =
            points.filter(|points| matches!(points, [total, _] if !all.vanished(total)))
        else {
            return Read::Gap;
        };
        let increases = all.sum(total).zip(bad.sum(failed));
        let fell = all.fell() || bad.fell();
        let count = |value: f64| value.round().clamp(0.0, 1e15) as u64;
        match increases.map(|(all, bad)| (count(all), count(bad))) {
            Some((all, bad)) if bad <= all && !fell => Read::Counts(all, bad),
            // Counted at two moments: more failed than there were.
            Some((all, bad)) => Read::Part(all, bad.min(all)),
            None => Read::Part(0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use backout_core::model::RequestsSpec;
    use backout_core::ports::Point;
    use backout_judge::Settings;

    use super::*;

    /// A router that counts nothing, a source that counts the requests of both sides.
    struct World {
        judge: Judge,
        figures: Figures,
        hours: Hours,
        split: Split,
        at_ms: i64,
    }

    impl World {
        fn new() -> Self {
            let requests = RequestsSpec { total: "all".to_owned(), failed: "bad".to_owned() };
            let spec = MetricsSpec {
                series: Vec::new(),
                requests: Some(requests),
                interval_ms: 1_000,
                timeout_ms: 1_000,
            };
            let settings = Settings { harmless_error_rate: 0.0, ..Settings::default() };
            let mut world = World {
                judge: Judge::new(settings, 0),
                figures: Figures::default(),
                hours: Hours::default(),
                split: Split::default(),
                at_ms: 0,
            };
            world.figures.add(&mut world.judge, "source".to_owned(), &spec);
            world.weight(0.05);
            // The first look: totals of unknown age.
            world.read([Some((1_000, 10)), Some((20_000, 10))]);
            world
        }

        fn weight(&mut self, canary_share: f64) {
            self.split = Split { number: self.split.number + 1, since_ms: self.at_ms };
            self.judge.observe(Event::Weight { at_ms: self.at_ms, canary_share });
        }

        /// A second later; `None`: that side can't be read.
        fn read(&mut self, totals: [Option<(u64, u64)>; 2]) {
            self.at_ms += 1_000;
            let point = |value: u64| vec![Point { series: 1, bound: None, value: value as f64 }];
            let given = totals.map(|of| {
                Some(of.map(|(all, bad)| vec![point(all), point(bad)]).ok_or("refused".to_owned()))
            });
            let around = (&mut self.hours, self.split);
            self.figures.take(&mut self.judge, around, self.at_ms, 0, &given);
        }

        fn errors(&self) -> f64 {
            let mut comparison = self.judge.comparison().clone();
            comparison.settle();
            comparison.e_values().errors.unwrap()
        }
    }

    #[test]
    fn whole_readings_of_both_sides_are_compared() {
        let mut world = World::new();
        world.read([Some((1_010, 12)), Some((20_190, 10))]);
        assert!(world.errors() > 10.0, "{}", world.errors());
    }

    #[test]
    fn a_reading_across_a_change_of_the_split_is_not() {
        let mut world = World::new();
        world.weight(0.2);
        world.read([Some((1_010, 14)), Some((20_190, 10))]);
        assert_eq!(world.errors(), 1.0);
        world.read([Some((1_060, 17)), Some((20_390, 10))]);
        assert!(world.errors() > 10.0, "the next one is");
    }

    #[test]
    fn one_that_was_begun_before_the_change_counts_for_neither_split() {
        let mut world = World::new();
        world.at_ms += 2_000;
        world.weight(0.2);
        world.at_ms -= 2_000;
        world.read([Some((1_010, 14)), Some((20_190, 10))]);
        world.at_ms += 1_000;
        world.read([Some((1_060, 18)), Some((20_390, 10))]);
        assert_eq!(world.errors(), 1.0);
        world.read([Some((1_080, 24)), Some((20_430, 10))]);
        assert!(world.errors() > 10.0, "{}", world.errors());
    }

    #[test]
    fn a_side_that_cannot_be_read_is_waited_for() {
        let mut world = World::new();
        world.read([Some((1_010, 14)), None]);
        world.read([Some((1_020, 18)), None]);
        assert_eq!(world.errors(), 1.0);
        // It had as many of them for its share.
        world.read([Some((1_030, 20)), Some((20_570, 200))]);
        assert!(world.errors() < 1.0, "{}", world.errors());
        world.read([Some((1_030, 20)), None]);
        // Nothing happened meanwhile; the gap is over all the same.
        world.read([Some((1_030, 20)), Some((20_570, 200))]);
        assert!(
            world
                .judge
                .verdict(world.at_ms)
                .missing
                .is_none_or(|m| !m.contains("could not be read"))
        );
    }

    #[test]
    fn a_counter_that_began_anew_leaves_its_reading_to_the_limits() {
        let mut world = World::new();
        // The baseline was restarted: how many errors it had before that nobody knows.
        world.read([Some((1_010, 14)), Some((20, 0))]);
        assert_eq!(world.errors(), 1.0);
        world.read([Some((1_020, 17)), Some((210, 0))]);
        assert!(world.errors() > 10.0);
    }

    #[test]
    fn counters_that_vanish_are_a_gap() {
        let mut world = World::new();
        let of = |all: u64, bad: u64| {
            let point = |value: u64| vec![Point { series: 1, bound: None, value: value as f64 }];
            Some(Ok(vec![point(all), point(bad)]))
        };
        for second in 2..5 {
            let at_ms = second * 1_000;
            let given = [
                of(1_000 + 10 * second as u64, 10 + 2 * second as u64),
                Some(Ok(vec![vec![], vec![]])),
            ];
            let around = (&mut world.hours, world.split);
            world.figures.take(&mut world.judge, around, at_ms, 0, &given);
        }
        world.at_ms = 4_000;
        assert_eq!(world.errors(), 1.0);
        assert!(
            world
                .judge
                .verdict(4_000)
                .missing
                .unwrap()
                .contains("baseline's requests could not be read")
        );
    }
}
