//! The fixed buckets of the latency histograms.
//!
//! Bucket 0 holds everything below 64 µs. Then every octave from 64 µs (2^6) to 67 s (2^26) is cut into
//! [`PARTS_PER_OCTAVE`] equal parts, so that a bucket is 9 to 17 % wide. The last bucket holds the rest.
//! Counts are cumulative over time (they only grow), so the difference of two frames of one
//! [`instance`](crate::wire::StatsFrame::instance) and deployment is the sketch of what happened between them.

/// Parts into which each octave is cut.
pub const PARTS_PER_OCTAVE: usize = 6;
const FIRST_POWER: u32 = 6;
const LAST_POWER: u32 = 26;
/// How many buckets a histogram has.
pub const BUCKETS: usize = (LAST_POWER - FIRST_POWER) as usize * PARTS_PER_OCTAVE + 2;

/// The bucket that a latency falls into.
#[must_use]
pub fn bucket(latency_us: u64) -> usize {
    if latency_us < 1 << FIRST_POWER {
        return 0;
    }
    let power = latency_us.ilog2();
    if power >= LAST_POWER {
        return BUCKETS - 1;
    }
    let within = latency_us - (1 << power);
    let part = (within * PARTS_PER_OCTAVE as u64) >> power;
    1 + (power - FIRST_POWER) as usize * PARTS_PER_OCTAVE + part as usize
}

/// The exclusive upper bound of a bucket in microseconds; `None` for the last one, which has none.
#[must_use]
pub fn upper_bound_us(bucket: usize) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let power = FIRST_POWER + (bucket / PARTS_PER_OCTAVE) as u32;
    let part = (bucket % PARTS_PER_OCTAVE) as u64;
    let parts = PARTS_PER_OCTAVE as u64;
    Some((1 << power) + ((part << power).div_ceil(parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_below_its_bound_and_not_below_the_one_before() {
        for value in (0..200_000).chain([59_999_999, 60_000_000, 67_108_863]) {
            let index = bucket(value);
            assert!(value < upper_bound_us(index).unwrap(), "{value} in {index}");
            if index > 0 {
                assert!(value >= upper_bound_us(index - 1).unwrap(), "{value} in {index}");
            }
        }
        assert_eq!(bucket(67_108_864), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound_us(BUCKETS - 1), None);
        const { assert!(BUCKETS >= 64 && BUCKETS <= 128) };
    }
}
