//! A service's own record: how many requests it had each hour, and how many of them failed. Bounded to a week.

use std::collections::BTreeMap;

use backout_judge::Arm;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
/// A week of them.
const MAX_HOURS: usize = 168;
/// One more than may stay.
const MAX_KEPT: usize = MAX_HOURS + 1;
/// A shorter past is no reference; the judge asks for as much.
const NEEDED: u64 = 1_000;

/// Requests and failures of one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hour {
    pub requests: u64,
    pub failed: u64,
}

/// The record as it is stored: by hours since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(default)]
    hours: BTreeMap<i64, Hour>,
}

/// What was usual before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usual {
    pub total: u64,
    pub failed: u64,
    /// Of the same hour of day; else of all there is.
    pub same_hour: bool,
}

impl Record {
    pub fn add(&mut self, hour: i64, of: Hour) {
        let sum = self.hours.entry(hour).or_default();
        sum.requests = sum.requests.saturating_add(of.requests);
        sum.failed = sum.failed.saturating_add(of.failed);
        while self.hours.len() > MAX_HOURS {
            self.hours.pop_first();
        }
    }

    /// What is usual at this time: of the same hours of day where there is enough of them, else of all.
    pub fn usual(&self, now: Timestamp) -> Option<Usual> {
        let now_hour = now.as_millisecond().div_euclid(HOUR_MS);
        let sum = |of: &dyn Fn(i64) -> bool| {
            self.hours.iter().filter(|(hour, _)| of(**hour)).fold((0_u64, 0_u64), |sum, (_, of)| {
                (sum.0.saturating_add(of.requests), sum.1.saturating_add(of.failed))
            })
        };
        let near = |hour: i64| (now_hour - hour).rem_euclid(24) == 0;
        let usual = |(total, failed): (u64, u64), same_hour| {
            (total >= NEEDED).then_some(Usual { total, failed, same_hour })
        };
        usual(sum(&near), true).or_else(|| usual(sum(&|_| true), false))
    }
}

/// What this watch saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hours {
    seen: BTreeMap<(bool, i64), Hour>,
    before: Hour,
}

impl Hours {
    /// What the live side had served before this watch, as far as its router remembers.
    pub fn before(&mut self, requests: u64, failed: u64) {
        if requests > self.before.requests {
            self.before = Hour { requests, failed };
        }
    }

    /// Requests that ended.
    pub fn served(&mut self, arm: Arm, at_ms: i64, requests: u64, failed: u64) {
        let canary = arm == Arm::Canary;
        let hour = self.seen.entry((canary, at_ms.div_euclid(HOUR_MS))).or_default();
        hour.requests = hour.requests.saturating_add(requests);
        hour.failed = hour.failed.saturating_add(failed);
        // A side that nobody takes out for a week.
        let of_side = |seen: &BTreeMap<(bool, i64), Hour>| {
            let mut keys = seen.range((canary, i64::MIN)..=(canary, i64::MAX)).map(|(key, _)| *key);
            (keys.next(), 1 + keys.count())
        };
        while let (Some(oldest), MAX_KEPT..) = of_side(&self.seen) {
            self.seen.remove(&oldest);
        }
    }

    /// What the live side had served before this watch, if that is enough to compare with.
    pub fn usual_before(&self) -> Option<Usual> {
        let Hour { requests, failed } = self.before;
        (requests >= NEEDED).then_some(Usual { total: requests, failed, same_hour: false })
    }

    /// Whether a side served anything that is not recorded.
    pub fn has(&self, arm: Arm) -> bool {
        self.seen.keys().any(|(canary, _)| *canary == (arm == Arm::Canary))
    }

    /// Moves what one side served into the record.
    pub fn take(&mut self, arm: Arm, record: &mut Record) -> bool {
        let canary = arm == Arm::Canary;
        let (taken, left) =
            std::mem::take(&mut self.seen).into_iter().partition(|((of, _), _)| *of == canary);
        self.seen = left;
        let taken: BTreeMap<(bool, i64), Hour> = taken;
        for ((_, hour), of) in &taken {
            record.add(*hour, *of);
        }
        !taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600 + 7).unwrap()
    }

    #[test]
    fn the_same_hour_of_day_counts_where_there_is_enough_of_it() {
        let mut record = Record::default();
        assert_eq!(record.usual(at(1_000)), None);
        record.add(1_000, Hour { requests: 999, failed: 90 });
        assert_eq!(record.usual(at(1_024)), None, "too few");
        record.add(1_006, Hour { requests: 5_000, failed: 5 });
        let all = Usual { total: 5_999, failed: 95, same_hour: false };
        assert_eq!(record.usual(at(1_024)), Some(all), "its own hour has too few");
        record.add(1_000, Hour { requests: 1, failed: 0 });
        let same = Usual { total: 1_000, failed: 90, same_hour: true };
        assert_eq!(record.usual(at(1_024)), Some(same));
    }

    #[test]
    fn a_week_is_kept_and_each_request_is_recorded_once() {
        let mut record = Record::default();
        let mut hours = Hours::default();
        for hour in 0..1_000 {
            hours.served(Arm::Baseline, hour * HOUR_MS, 10, 1);
            hours.served(Arm::Canary, hour * HOUR_MS, 7, 7);
        }
        assert!(hours.take(Arm::Baseline, &mut record));
        assert!(!hours.take(Arm::Baseline, &mut record));
        assert_eq!(record.hours.len(), MAX_HOURS);
        assert_eq!(record.hours.values().map(|hour| hour.failed).sum::<u64>(), 168);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
