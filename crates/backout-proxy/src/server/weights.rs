//! Which side a request goes to.

use crate::wire::{SideName, Weights};

/// Percent per side, by index; both 0 where there is no traffic.
pub(crate) type Percents = [u8; 2];

/// Coprime with 100 and near 100 times the golden ratio: the picks of one side are spread evenly, and in no
/// step with clients that repeat a pattern (a plain rotation at 50 % would give all POSTs of a client that
/// alternates GET and POST to one side, and the comparison of both sides would be worth nothing).
const STRIDE: u64 = 61;
const OFFSET: u64 = 39;

/// How many places there are.
pub(crate) const PLACES: u64 = 100;

/// The place of the `number`-th request: any 100 consecutive numbers have each place once.
pub(crate) fn turn(number: u64) -> u64 {
    (number % PLACES * STRIDE + OFFSET) % PLACES
}

/// The side at a place below 100; `percents[1]` of them are side b's.
pub(crate) fn at(percents: &Percents, place: u64) -> Option<SideName> {
    match percents {
        [0, 0] => None,
        [_, 0] => Some(SideName::A),
        [0, _] => Some(SideName::B),
        [_, b] => Some(if place < u64::from(*b) { SideName::B } else { SideName::A }),
    }
}

/// Percents by index, if the weights make sense: none above 100, the sum 100 or 0.
pub(crate) fn percents(weights: &Weights) -> Result<Percents, String> {
    let of = |side| weights.get(&side).copied().unwrap_or(0);
    let percents = [of(SideName::A), of(SideName::B)];
    match u16::from(percents[0]) + u16::from(percents[1]) {
        0 | 100 => Ok(percents),
        sum => Err(format!("the weights add up to {sum}, not to 100 or 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(percents: Percents, number: u64) -> Option<SideName> {
        at(&percents, turn(number))
    }

    fn share_of_b(b: u8, numbers: impl Iterator<Item = u64>) -> usize {
        numbers.filter(|n| pick([100 - b, b], *n) == Some(SideName::B)).count()
    }

    #[test]
    fn any_hundred_in_a_row_give_exactly_the_share() {
        for b in 0..=100 {
            for start in [0, 1, 7, 50, 99, 12_345] {
                assert_eq!(share_of_b(b, start..start + 100), usize::from(b), "{b} % from {start}");
            }
        }
    }

    #[test]
    fn short_runs_are_near_the_share() {
        for start in 0..100 {
            let in_ten = share_of_b(10, start..start + 10);
            assert!(in_ten <= 2, "{in_ten} of 10 from {start}");
            assert!((1..=3).contains(&share_of_b(10, start..start + 20)), "of 20 from {start}");
        }
        assert!(share_of_b(1, 0..100) == 1);
    }

    #[test]
    fn clients_with_a_pattern_see_both_sides() {
        for period in [2, 3, 4, 5, 8] {
            for b in [10, 50] {
                let numbers = (0..1000 * period).filter(|n| n % period == 0);
                let got = share_of_b(b, numbers) as i64;
                let wanted = i64::from(b) * 10;
                assert!(
                    (got - wanted).abs() <= wanted / 3,
                    "{got} instead of {wanted} with period {period}"
                );
            }
        }
    }

    #[test]
    fn sums_are_checked() {
        let weights = |a, b| Weights::from([(SideName::A, a), (SideName::B, b)]);
        assert_eq!(percents(&weights(90, 10)), Ok([90, 10]));
        assert_eq!(percents(&weights(0, 0)), Ok([0, 0]));
        assert_eq!(percents(&Weights::new()), Ok([0, 0]));
        assert!(percents(&weights(90, 20)).is_err());
        assert!(percents(&weights(200, 156)).is_err());
        assert_eq!(pick([0, 0], 1), None);
    }
}
