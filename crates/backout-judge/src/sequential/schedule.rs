//! How the budget of restarts is spread over time.
//!
//! M(t), the mass of start times up to t after the beginning, grows evenly over the expected watch
//! H and keeps a tail beyond it, so that a longer watch stays covered with the same bound:
//! M(t) = 0.9·min(t/H, 1) + 0.1·t/(t+H) ≤ 1. Any M that is fixed beforehand keeps the bound; this
//! one costs about ln(H/d) nats for a fault that needs a time d to be found.

/// The schedule of one watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    horizon_ms: f64,
}

impl Schedule {
    pub fn new(watch_ms: i64) -> Self {
        Schedule { horizon_ms: watch_ms.max(1) as f64 }
    }

    /// Mass of start times in the first `elapsed_ms`.
    pub fn mass(&self, elapsed_ms: i64) -> f64 {
        let part = elapsed_ms.max(0) as f64 / self.horizon_ms;
        0.9 * part.min(1.0) + 0.1 * part / (part + 1.0)
    }
}

/// How much of the schedule one test has begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Begun(f64);

impl Begun {
    /// The mass that begins between the last call and now.
    pub fn advance(&mut self, schedule: &Schedule, elapsed_ms: i64) -> f64 {
        let mass = schedule.mass(elapsed_ms);
        let begins = (mass - self.0).max(0.0);
        self.0 += begins;
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mass_never_exceeds_one() {
        let schedule = Schedule::new(10_000);
        assert_eq!(schedule.mass(-5), 0.0);
        assert!((schedule.mass(10_000) - 0.95).abs() < 1e-12);
        assert!(schedule.mass(i64::MAX) <= 1.0);
        let mut last = 0.0;
        for t in (0..100_000).step_by(100) {
            assert!(schedule.mass(t) >= last);
            last = schedule.mass(t);
        }
    }
}
