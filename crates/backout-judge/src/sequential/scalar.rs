//! Any metric with a value on both sides: memory, queue length, orders per minute.
//!
//! Each reading that has both sides is a bet against "the canary is no worse", in one of three ways. With D the
//! difference canary − baseline − δ·|baseline| (turned round where less is worse; δ: the tolerance):
//!
//! - [`Shape::Any`]: the reading is a coin that falls against the canary if D > 0. While that is not more likely than
//!   not, given what was seen before, 1±λ is a supermartingale. Only the order of the two values counts, so no bound or
//!   shape of their distribution is assumed, and a single outlier is worth one reading.
//! - [`Shape::Bounded`]: 1 + λD with λ = c/|smallest possible D|, so that it is never negative; a supermartingale while
//!   the *mean* of D, given what was seen before, is at most 0. It is the betting martingale of Waudby-Smith and Ramdas
//!   2024, and 1/α is reached exactly when their betting confidence sequence for the mean of D excludes 0.
//! - [`Shape::SubGaussian`]: exp(λD − λ²s²/2), s² = σ²(1 + (1+δ)²), a supermartingale while the mean of D is at most 0
//!   and the noise of each side is sub-Gaussian of scale σ and independent of the other's (Robbins 1970; Howard, Ramdas,
//!   McAuliffe, Sekhon 2021).
//!
//! Mixtures over a few stakes keep that. What *is* assumed in all three: readings far enough apart that chance does not
//! keep one side above the other for long. The tolerance must cover differences that always exist (a warm cache, another
//! host).

use super::mean::{BoundedMean, GaussianMean};
use super::mixture::Mixture;
use super::schedule::{Begun, Schedule};
use crate::event::{Shape, Worse};
use crate::limits::number;

/// Parts of the stake bet on a coin.
const STAKES: [f64; 3] = [0.2, 0.5, 0.8];
/// Parts of the largest bet on a mean that can't be lost whole.
const BETS: [f64; 4] = [0.1, 0.3, 0.6, 0.9];
/// Differences looked for, in noises of one difference.
const SHIFTS: [f64; 4] = [0.2, 0.5, 1.0, 2.0];
const COIN_PRIOR: [f64; 4] = [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0];
const PRIOR: [f64; 4] = [0.25; 4];

/// How a reading becomes factors.
#[derive(Debug, Clone)]
enum Bet {
    Coin,
    Bounded {
        min: f64,
        max: f64,
        /// What D can be.
        range: [f64; 2],
        mean: BoundedMean,
        /// Readings of a value that the bounds exclude; they are taken for the bound.
        outside: u64,
    },
    Gaussian {
        noise: f64,
        mean: GaussianMean,
    },
}

/// The test of one metric.
#[derive(Debug, Clone)]
pub(crate) struct ScalarTest {
    pub name: String,
    worse: Worse,
    tolerance: f64,
    bet: Bet,
    mixture: Mixture<4>,
    begun: Begun,
    began_ms: Option<i64>,
    last_ms: Option<i64>,
    /// Readings with both sides, and those in which the canary was worse.
    pub readings: (u64, u64),
    /// Sums of the values of canary and baseline.
    sums: [f64; 2],
}

impl ScalarTest {
    pub fn new(name: &str, worse: Worse, tolerance: f64, shape: Shape) -> Self {
        let tolerance = if tolerance.is_finite() { tolerance.max(0.0) } else { 0.0 };
        let bet = Bet::new(shape, worse, tolerance);
        ScalarTest {
            name: name.to_owned(),
            worse,
            tolerance,
            mixture: Mixture::new(bet.prior()),
            bet,
            begun: Begun::default(),
            began_ms: None,
            last_ms: None,
            readings: (0, 0),
            sums: [0.0; 2],
        }
    }

    /// Takes a reading in, unless a side is missing or it is not newer than the last.
    pub fn record(
        &mut self,
        at_ms: i64,
        canary: Option<f64>,
        baseline: Option<f64>,
        schedule: &Schedule,
    ) {
        let (Some(canary), Some(baseline)) = (canary, baseline) else { return };
        let again = self.last_ms.is_some_and(|last| at_ms <= last);
        if again || !canary.is_finite() || !baseline.is_finite() {
            return;
        }
        self.last_ms = Some(at_ms);
        let began_ms = *self.began_ms.get_or_insert(at_ms);
        let sign = sign(self.worse);
        let beyond =
            |canary: f64, baseline: f64| canary - baseline - self.tolerance * baseline.abs();
        let factors = self.bet.factors(sign * canary, sign * baseline, &beyond);
        let mass = self.begun.advance(schedule, at_ms.saturating_sub(began_ms));
        self.mixture.start(mass, self.bet.prior());
        self.mixture.multiply(&factors);
        self.readings.0 += 1;
        self.readings.1 += u64::from(beyond(sign * canary, sign * baseline) > 0.0);
        self.sums[0] += canary;
        self.sums[1] += baseline;
    }

    pub fn value(&self, from_start: f64) -> f64 {
        self.mixture.value(from_start)
    }

    /// The mean by which the canary is worse beyond the tolerance is at least this, 95 % sure at all times together.
    pub fn at_least(&self) -> Option<f64> {
        self.bet.lower().filter(|_| self.readings.0 > 0)
    }

    /// What the bound takes for granted of this metric.
    pub fn proviso(&self) -> &'static str {
        match self.bet {
            Bet::Coin => ", if its readings are independent",
            Bet::Bounded { .. } => "",
            Bet::Gaussian { .. } => ", if its noise is what was configured",
        }
    }

    pub fn words(&self) -> String {
        let word = match self.worse {
            Worse::Higher => "above",
            Worse::Lower => "below",
        };
        let percent = format!("{:.0} %", self.tolerance * 100.0);
        let (all, worse) = self.readings;
        let name = &self.name;
        let Some(lower) = self.at_least() else {
            let more = if self.tolerance > 0.0 {
                format!(" by more than {percent}")
            } else {
                String::new()
            };
            return format!(
                "canary's {name} lay {word} the baseline's{more} in {worse} of {all} readings"
            );
        };
        let mean = |side: usize| number(self.sums[side] / all.max(1) as f64);
        let mut words = format!("canary's {name} averages {}, baseline's {}", mean(0), mean(1));
        if lower > 0.0 {
            let allowed = 100.0 * (1.0 + sign(self.worse) * self.tolerance);
            let than = if self.tolerance > 0.0 {
                format!("{allowed:.0} % of it")
            } else {
                "it".to_owned()
            };
            words += &format!(", {word} {than} by at least {} (95 % sure)", number(lower));
        }
        words += &format!(", in {all} readings");
        if let Bet::Bounded { outside: outside @ 1.., .. } = self.bet {
            words += &format!(" ({outside} out of its bounds)");
        }
        words
    }
}

/// Turns less into more where less is worse.
fn sign(worse: Worse) -> f64 {
    match worse {
        Worse::Higher => 1.0,
        Worse::Lower => -1.0,
    }
}

impl Bet {
    fn new(shape: Shape, worse: Worse, tolerance: f64) -> Self {
        match shape.checked() {
            Shape::Any => Bet::Coin,
            Shape::Bounded { min, max } => {
                let (min, max) = match worse {
                    Worse::Higher => (min, max),
                    Worse::Lower => (-max, -min),
                };
                let taken = |value: f64| value + tolerance * value.abs();
                let middle = if min < 0.0 && max > 0.0 { 0.0 } else { taken(max) };
                let least = taken(min).min(taken(max)).min(middle);
                let most = taken(min).max(taken(max)).max(middle);
                let range = [min - most, max - least];
                Bet::Bounded { min, max, range, mean: BoundedMean::default(), outside: 0 }
            }
            Shape::SubGaussian { sigma } => {
                let noise = sigma * (1.0 + (1.0 + tolerance).powi(2)).sqrt();
                Bet::Gaussian { noise, mean: GaussianMean::new(noise * noise) }
            }
        }
    }

    fn prior(&self) -> &'static [f64; 4] {
        match self {
            Bet::Coin => &COIN_PRIOR,
            Bet::Bounded { .. } | Bet::Gaussian { .. } => &PRIOR,
        }
    }

    /// What a reading multiplies each stake by.
    fn factors(
        &mut self,
        canary: f64,
        baseline: f64,
        beyond: &impl Fn(f64, f64) -> f64,
    ) -> [f64; 4] {
        match self {
            Bet::Coin => {
                let sign = if beyond(canary, baseline) > 0.0 { 1.0 } else { -1.0 };
                let [small, middle, large] = bets(&STAKES, sign, 1.0);
                [small, middle, large, 1.0]
            }
            Bet::Bounded { min, max, range: [least, most], mean, outside } => {
                let inside = |value: f64| value.clamp(*min, *max);
                let known = [canary, baseline].map(inside);
                *outside += u64::from(known != [canary, baseline]);
                let d = beyond(known[0], known[1]);
                mean.record(((d - *least) / (*most - *least)).clamp(0.0, 1.0));
                // Where the canary can't be worse by more than is tolerated there is nothing to bet on.
                if *most > 0.0 { bets(&BETS, d, -*least) } else { [1.0; 4] }
            }
            Bet::Gaussian { noise, mean } => {
                let d = beyond(canary, baseline);
                mean.record(d);
                shifts(&SHIFTS, d, *noise)
            }
        }
    }

    fn lower(&self) -> Option<f64> {
        match self {
            Bet::Coin => None,
            Bet::Bounded { range: [least, most], mean, .. } => {
                Some(least + mean.lower() * (most - least))
            }
            Bet::Gaussian { mean, .. } => Some(mean.lower()),
        }
    }
}

/// Factors of bets on the mean of something that is never below `-most_lost`.
pub(super) fn bets<const N: usize>(parts: &[f64; N], d: f64, most_lost: f64) -> [f64; N] {
    parts.map(|part| (1.0 + part * d / most_lost).max(0.0))
}

/// Likelihood ratios of a mean of so many noises against none.
pub(super) fn shifts<const N: usize>(sizes: &[f64; N], d: f64, noise: f64) -> [f64; N] {
    sizes.map(|size| (size * d / noise - size * size / 2.0).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(worse: Worse, tolerance: f64, shape: Shape) -> ScalarTest {
        ScalarTest::new("queue", worse, tolerance, shape)
    }

    fn play(test: &mut ScalarTest, canary: &[f64], baseline: &[f64]) -> f64 {
        let schedule = Schedule::new(10_000);
        for (second, (canary, baseline)) in canary.iter().zip(baseline).enumerate() {
            test.record(second as i64 * 1_000, Some(*canary), Some(*baseline), &schedule);
        }
        test.value(0.66)
    }

    #[test]
    fn a_metric_is_small() {
        assert!(size_of::<ScalarTest>() <= 512, "{}", size_of::<ScalarTest>());
    }

    #[test]
    fn the_mean_counts_where_bounds_are_known() {
        // Nine of ten times a little above, once far below: the mean is the same.
        let above: Vec<f64> = (0..200).map(|i| if i % 10 == 0 { 0.05 } else { 0.55 }).collect();
        let level = [0.5; 200];
        let bounds = Shape::Bounded { min: 0.0, max: 1.0 };
        assert!(play(&mut test(Worse::Higher, 0.0, Shape::Any), &above, &level) > 1e6);
        assert!(play(&mut test(Worse::Higher, 0.0, bounds), &above, &level) < 2.0);
        // And a mean that is worse is found, in either direction.
        let worse: Vec<f64> = above.iter().map(|value| value + 0.2).collect();
        assert!(play(&mut test(Worse::Higher, 0.0, bounds), &worse, &level) > 100.0);
        let better: Vec<f64> = above.iter().map(|value| value - 0.25).collect();
        assert!(play(&mut test(Worse::Higher, 0.0, bounds), &better, &level) < 1.0);
        assert!(play(&mut test(Worse::Lower, 0.0, bounds), &better, &level) > 100.0);
    }

    #[test]
    fn no_reading_within_bounds_costs_more_than_the_bet() {
        for (worse, tolerance, min, max) in [
            (Worse::Higher, 0.0, 0.0, 1.0),
            (Worse::Higher, 0.5, -3.0, 8.0),
            (Worse::Lower, 0.2, 2.0, 9.0),
            (Worse::Lower, 3.0, -1.0, 1.0),
        ] {
            let mut bet = Bet::new(Shape::Bounded { min, max }, worse, tolerance);
            let Bet::Bounded { range: [least, most], .. } = bet else { unreachable!() };
            let beyond =
                |canary: f64, baseline: f64| canary - baseline - tolerance * baseline.abs();
            for i in 0..=40 {
                for j in 0..=40 {
                    let value = |k: i32| sign(worse) * (min + (max - min) * f64::from(k) / 40.0);
                    let d = beyond(value(i), value(j));
                    assert!(d >= least - 1e-9 && d <= most + 1e-9, "{d} of {least} to {most}");
                    let factors = bet.factors(value(i), value(j), &beyond);
                    assert!(factors.iter().all(|factor| *factor >= 0.1 - 1e-9), "{factors:?}");
                }
            }
        }
    }

    #[test]
    fn what_the_bounds_exclude_is_taken_for_the_bound_and_said() {
        let mut test = test(Worse::Higher, 0.1, Shape::Bounded { min: 0.0, max: 100.0 });
        let value = play(&mut test, &[1e9; 60], &[20.0; 60]);
        assert!(value > 100.0 && value.is_finite());
        let words = test.words();
        assert!(words.contains("above 110 % of it by at least "), "{words}");
        assert!(words.ends_with("in 60 readings (60 out of its bounds)"), "{words}");
    }

    #[test]
    fn known_noise_is_used() {
        let shape = Shape::SubGaussian { sigma: 5.0 };
        let mut found = test(Worse::Higher, 0.0, shape);
        assert!(play(&mut found, &[110.0; 20], &[100.0; 20]) > 100.0);
        let words = found.words();
        assert!(
            words.starts_with("canary's queue averages 110, baseline's 100, above it by at least "),
            "{words}"
        );
        assert!(play(&mut test(Worse::Higher, 0.2, shape), &[110.0; 20], &[100.0; 20]) < 1.0);
        assert!(play(&mut test(Worse::Lower, 0.0, shape), &[110.0; 20], &[100.0; 20]) < 1.0);
    }

    #[test]
    fn what_makes_no_sense_is_a_coin() {
        for shape in [
            Shape::Bounded { min: 1.0, max: 1.0 },
            Shape::Bounded { min: f64::NAN, max: 1.0 },
            Shape::SubGaussian { sigma: 0.0 },
            Shape::SubGaussian { sigma: f64::INFINITY },
        ] {
            assert!(matches!(Bet::new(shape, Worse::Higher, 0.1), Bet::Coin), "{shape:?}");
        }
    }
}
