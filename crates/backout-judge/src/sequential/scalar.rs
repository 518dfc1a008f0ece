//! Any metric with a value on both sides: memory, queue length, orders per minute.
//!
//! Each reading that has both sides is a coin: it falls against the canary if its value is worse
//! than the baseline's by more than the tolerance, and for it if not. While the canary is not worse
//! more often than not, given what was seen before, a bet on the coin is a supermartingale. Only
//! the order of the two values counts, so no bound or shape of their distribution is assumed, and a
//! single outlier is worth one reading. What *is* assumed: readings far enough apart that chance
//! does not keep one side above the other for long. The tolerance must cover differences
//! that always exist (a warm cache, another host).

use super::mixture::Mixture;
use super::schedule::{Begun, Schedule};
use crate::event::Worse;

const STAKES: [f64; 3] = [0.2, 0.5, 0.8];
const PRIOR: [f64; 3] = [1.0 / 3.0; 3];

/// The test of one metric.
#[derive(Debug, Clone)]
pub(crate) struct ScalarTest {
    pub name: String,
    worse: Worse,
    tolerance: f64,
    mixture: Mixture<3>,
    begun: Begun,
    began_ms: Option<i64>,
    last_ms: Option<i64>,
    /// Readings with both sides, and those in which the canary was worse.
    pub readings: (u64, u64),
}

impl ScalarTest {
    pub fn new(name: &str, worse: Worse, tolerance: f64) -> Self {
        let mut mixture = Mixture::new(&PRIOR);
        mixture.set_bets(&STAKES);
        ScalarTest {
            name: name.to_owned(),
            worse,
            tolerance: if tolerance.is_finite() { tolerance.max(0.0) } else { 0.0 },
            mixture,
            begun: Begun::default(),
            began_ms: None,
            last_ms: None,
            readings: (0, 0),
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
        let allowed = self.tolerance * baseline.abs();
        let is_worse = match self.worse {
            Worse::Higher => canary > baseline + allowed,
            Worse::Lower => canary < baseline - allowed,
        };
        let mass = self.begun.advance(schedule, at_ms.saturating_sub(began_ms));
        self.mixture.start(mass, &PRIOR);
        self.mixture.record(u64::from(is_worse), u64::from(!is_worse));
        self.readings.0 += 1;
        self.readings.1 += u64::from(is_worse);
    }

    pub fn value(&self, from_start: f64) -> f64 {
        self.mixture.value(from_start)
    }

    pub fn words(&self) -> String {
        let word = match self.worse {
            Worse::Higher => "above",
            Worse::Lower => "below",
        };
        let more = if self.tolerance > 0.0 {
            format!(" by more than {:.0} %", self.tolerance * 100.0)
        } else {
            String::new()
        };
        let (all, worse) = self.readings;
        format!(
            "canary's {} lay {word} the baseline's{more} in {worse} of {all} readings",
            self.name
        )
    }
}
