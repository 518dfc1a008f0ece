//! Requests of the service that a source counts, where no router of ours does: shown to the judge where both sides'
//! counts cover the same time under one split.

use backout_core::ports::Points;
use backout_judge::{Arm, Event, Judge};

use super::feed::Split;
use super::hours::Hours;
use super::increase::Totals;

#[derive(Debug, Default)]
pub(super) struct Requests {
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

impl Requests {
    /// Shows the judge what a reading brought. `None`: there is no such side; `Some(None)`: it could not be read.
    ///
    /// Requests are compared only where both sides' counts cover the same time under one split; a side that could
    /// not be read is waited for, and all else is for fixed limits alone.
    pub fn take(
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
    use backout_core::model::{MetricsSpec, RequestsSpec};
    use backout_core::ports::Point;
    use backout_judge::Settings;

    use super::super::figures::Figures;
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
