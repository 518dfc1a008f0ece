//! What the requests say: counts for each version, and the two times that matter.

use std::collections::BTreeMap;

use super::load::Record;

/// Requests of one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub requests: u64,
    /// Of them failed.
    pub failed: u64,
}

impl Count {
    /// Adds one.
    pub fn add(&mut self, failed: bool) {
        self.requests += 1;
        self.failed += u64::from(failed);
    }
}

/// Who stands where nobody answered, or the proxy itself.
pub const NOBODY: &str = "nobody";

/// Counts by version.
#[must_use]
pub fn by_version(records: &[Record]) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for record in records {
        let who = record.version.as_deref().unwrap_or(NOBODY);
        counts.entry(who.to_owned()).or_default().add(record.failed);
    }
    counts
}

/// From the first bad answer to the last answer of the bad release, as users saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// First failed answer → verdict, milliseconds.
    pub detect_ms: u64,
    /// Verdict → last answer of the bad release, milliseconds.
    pub restore_ms: u64,
    /// Requests after that.
    pub after: Count,
}

/// The times of one bad release; none if it never failed a request.
#[must_use]
pub fn times(records: &[Record], bad: &str, verdict_us: i64) -> Option<Times> {
    let of_bad = || records.iter().filter(|record| record.version.as_deref() == Some(bad));
    let first_us = of_bad().filter(|record| record.failed).map(|record| record.at_us).min()?;
    let last_us = of_bad().map(|record| record.at_us).max()?;
    let mut after = Count::default();
    for record in records.iter().filter(|record| record.at_us > last_us) {
        after.add(record.failed);
    }
    Some(Times {
        detect_ms: millis(verdict_us - first_us),
        restore_ms: millis(last_us - verdict_us),
        after,
    })
}

/// Rounded up, so that nothing takes no time at all; what lies before its beginning took none.
fn millis(us: i64) -> u64 {
    u64::try_from(us).unwrap_or(0).div_ceil(1_000)
}

/// Requests in equal parts of the time between two moments, for those that `wanted` picks.
#[must_use]
pub fn strip(
    records: &[Record],
    (from_us, to_us): (i64, i64),
    columns: usize,
    wanted: impl Fn(&Record) -> bool,
) -> Vec<u64> {
    let mut parts = vec![0; columns];
    let span_us = u64::try_from(to_us - from_us).unwrap_or(0).max(1);
    for record in records.iter().filter(|record| wanted(record)) {
        let Ok(since_us) = u64::try_from(record.at_us - from_us) else { continue };
        let scaled = u128::from(since_us) * columns as u128 / u128::from(span_us);
        if let Some(part) = usize::try_from(scaled).ok().and_then(|index| parts.get_mut(index)) {
            *part += 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_ms: i64, version: Option<&str>, failed: bool) -> Record {
        Record { at_us: at_ms * 1_000, version: version.map(str::to_owned), failed }
    }

    #[test]
    fn times_are_those_that_users_saw() {
        let records = [
            record(0, Some("v2"), false),
            record(100, Some("v3"), false),
            record(200, Some("v3"), true),
            record(640, Some("v3"), true),
            record(650, Some("v2"), false),
            record(651, None, true),
        ];
        let times = times(&records, "v3", 600_000).unwrap();
        assert_eq!((times.detect_ms, times.restore_ms), (400, 40));
        assert_eq!(times.after, Count { requests: 2, failed: 1 });
        assert_eq!(super::times(&records, "v9", 0), None);
        let counts = by_version(&records);
        assert_eq!(counts["v3"], Count { requests: 3, failed: 2 });
        assert_eq!(counts[NOBODY], Count { requests: 1, failed: 1 });
    }

    #[test]
    fn a_strip_holds_every_request_between_its_ends() {
        let records: Vec<Record> = (0..100).map(|ms| record(ms, Some("v1"), ms == 99)).collect();
        let parts = strip(&records, (0, 100_000), 10, |_| true);
        assert_eq!(parts, [10; 10]);
        assert_eq!(strip(&records, (0, 100_000), 10, |r| r.failed)[9], 1);
        assert_eq!(strip(&records, (50_000, 50_000), 3, |_| true).iter().sum::<u64>(), 1);
    }
}
