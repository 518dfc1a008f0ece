//! From totals that grow to what came since the last reading, series by series.

use std::collections::BTreeMap;

use backout_core::ports::Point;

/// More series than this are not followed; sources give fewer.
const MAX_SERIES: usize = 4_096;

/// The counters that one expression matched on one side.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    known: BTreeMap<(u64, u64), f64>,
    looked: bool,
    fell: bool,
}

impl Totals {
    /// Increases by bucket bound since the last reading, or `None` if this was the first look: then the totals are
    /// of unknown age. A series that appears later begins at 0, so that the first errors ever count. One that falls
    /// was reset and what it shows came since, unless it fell by less than half: then it is a sum of which a part
    /// vanished, and the rest is not new.
    pub fn read(&mut self, points: &[Point]) -> Option<Vec<(f64, f64)>> {
        let first = !std::mem::replace(&mut self.looked, true);
        self.fell = false;
        let mut increases: BTreeMap<u64, f64> = BTreeMap::new();
        for point in points.iter().filter(|point| point.value.is_finite() && point.value >= 0.0) {
            let bound = point.bound.unwrap_or(f64::INFINITY);
            let key = (point.series, bound.to_bits());
            if self.known.len() >= MAX_SERIES && !self.known.contains_key(&key) {
                continue;
            }
            let last = self.known.insert(key, point.value).unwrap_or(0.0);
            self.fell |= point.value < last;
            let increase = if point.value >= last {
                point.value - last
            } else if point.value < last / 2.0 {
                point.value
            } else {
                0.0
            };
            *increases.entry(bound.to_bits()).or_default() += increase;
        }
        (!first).then(|| {
            increases.into_iter().map(|(bits, more)| (f64::from_bits(bits), more)).collect()
        })
    }

    /// Whether a total fell in the last reading: what was counted between the reading before and its reset, nobody
    /// knows, so that the reading covers less than its time.
    pub fn fell(&self) -> bool {
        self.fell
    }

    /// Whether these are no reading although there were some: a gap, not silence.
    pub fn vanished(&self, points: &[Point]) -> bool {
        points.is_empty() && !self.known.is_empty()
    }

    /// The same for counters without buckets: their sum.
    pub fn sum(&mut self, points: &[Point]) -> Option<f64> {
        self.read(points).map(|increases| increases.iter().map(|(_, more)| more).sum())
    }
}

/// A quantile of what cumulative buckets counted, interpolated within its bucket as PromQL does it. `None` where
/// nothing was counted.
pub(super) fn quantile(mut buckets: Vec<(f64, f64)>, quantile: f64) -> Option<f64> {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let rank = quantile.clamp(0.0, 1.0) * total;
    let index = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (upper, count) = buckets[index];
    let (lower, before) = if index == 0 { (0.0, 0.0) } else { buckets[index - 1] };
    if upper.is_infinite() {
        // All that is known: it is beyond the last bound.
        return Some(lower);
    }
    let within = if count > before { (rank - before) / (count - before) } else { 1.0 };
    Some(lower + (upper - lower) * within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(series: u64, value: f64) -> Point {
        Point { series, bound: None, value }
    }

    #[test]
    fn increases_resets_and_first_appearances() {
        let mut totals = Totals::default();
        assert_eq!(totals.sum(&[point(1, 100.0)]), None, "of unknown age");
        assert_eq!(totals.sum(&[point(1, 107.0)]), Some(7.0));
        assert_eq!(totals.sum(&[point(1, 107.0), point(2, 4.0)]), Some(4.0), "the first ever");
        assert!(!totals.fell());
        assert_eq!(totals.sum(&[point(1, 3.0), point(2, 5.0)]), Some(4.0), "a reset and one more");
        assert!(totals.fell() && totals.vanished(&[]) && !Totals::default().vanished(&[]));
        assert_eq!(totals.sum(&[]), Some(0.0));
        assert_eq!(totals.sum(&[point(1, f64::NAN), point(2, 6.0)]), Some(1.0));
        let mut sum = Totals::default();
        sum.sum(&[point(0, 900.0)]);
        assert_eq!(sum.sum(&[point(0, 600.0)]), Some(0.0), "a part of a sum went away");
    }

    #[test]
    fn quantiles_are_promqls() {
        let buckets =
            |counts: [f64; 3]| vec![(f64::INFINITY, counts[2]), (0.1, counts[0]), (0.5, counts[1])];
        assert_eq!(quantile(buckets([0.0, 0.0, 0.0]), 0.95), None);
        assert_eq!(quantile(buckets([50.0, 100.0, 100.0]), 0.5), Some(0.1));
        let p75 = quantile(buckets([50.0, 100.0, 100.0]), 0.75).unwrap();
        assert!((p75 - 0.3).abs() < 1e-9, "{p75}");
        assert_eq!(quantile(buckets([0.0, 0.0, 9.0]), 0.95), Some(0.5));
    }
}
