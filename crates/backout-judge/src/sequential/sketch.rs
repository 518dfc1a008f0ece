//! A histogram of latencies of fixed size, for the quantiles that serve as thresholds.
//!
//! 32 steps per doubling keep the relative error below 3.2 % (as HdrHistogram does). Once it holds
//! `FULL` values all counts are halved, so that it follows a drift and never overflows.

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Values from 2^OCTAVES µs on (134 s) share the last bucket.
const OCTAVES: u32 = 27;
const BUCKETS: usize = (OCTAVES - SUB_BITS + 1) as usize * SUB;
const FULL: u32 = 32_768;

/// The histogram.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Sketch {
    pub fn new() -> Self {
        Sketch { counts: [0; BUCKETS], total: 0 }
    }

    pub fn total(&self) -> u32 {
        self.total
    }

    /// Adds `count` values of `us`.
    pub fn add(&mut self, us: u64, count: u64) {
        let bucket = bucket(us);
        // More than half of what fits would only be halved away again.
        let count = count.min(u64::from(FULL / 2)) as u32;
        if self.total + count > FULL {
            self.halve();
        }
        self.counts[bucket] += count as u16;
        self.total += count;
    }

    fn halve(&mut self) {
        self.total = 0;
        for count in &mut self.counts {
            *count /= 2;
            self.total += u32::from(*count);
        }
    }

    /// The largest values in the buckets that hold these quantiles (rising).
    pub fn quantiles<const N: usize>(&self, wanted: [f64; N]) -> [u64; N] {
        let mut found = [0; N];
        let mut below = 0;
        let mut next = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            below += u32::from(count);
            while next < N && f64::from(below) >= wanted[next] * f64::from(self.total) {
                found[next] = upper_edge(index);
                next += 1;
            }
            if next == N {
                break;
            }
        }
        found
    }
}

fn bucket(us: u64) -> usize {
    if us < SUB as u64 {
        return us as usize;
    }
    let octave = us.ilog2();
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let sub = (us >> (octave - SUB_BITS)) as usize & (SUB - 1);
    (octave - SUB_BITS + 1) as usize * SUB + sub
}

fn upper_edge(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let shift = bucket / SUB - 1;
    let lower = (SUB + bucket % SUB) as u64;
    ((lower + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for us in (0..200_000).chain((200_000..130_000_000).step_by(99_991)) {
            let index = bucket(us);
            assert!(upper_edge(index) >= us, "{us}");
            assert!(index == 0 || upper_edge(index - 1) < us, "{us}");
            let width = upper_edge(index) - us;
            assert!(width as f64 <= us as f64 / 32.0, "{us}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near_and_follow() {
        let mut sketch = Sketch::new();
        for us in 1..=10_000 {
            sketch.add(us, 1);
        }
        let [p50, p90, p99] = sketch.quantiles([0.5, 0.9, 0.99]);
        assert!((5_000..5_160).contains(&p50), "{p50}");
        assert!((9_000..9_285).contains(&p90), "{p90}");
        assert!((9_900..10_240).contains(&p99), "{p99}");
        for _ in 0..8 {
            sketch.add(50_000, u64::MAX);
        }
        let [p50] = sketch.quantiles([0.5]);
        assert!((50_000..51_600).contains(&p50), "{p50}");
        assert!(sketch.total() <= FULL);
    }
}
