//! Counters as they are scraped: totals that grow, and start again when their process does.

/// Turns totals into increases.
///
/// A counter that was looked for and not there begins at 0 when it appears: the first errors ever
/// on a route count. A total that falls was reset, and what it shows came since then. One that
/// could not be read (do not call [`read`](Counter::read)) is caught up with at the next reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counter {
    last: Option<f64>,
    was_reset: bool,
}

impl Counter {
    /// The increase since the last reading. `None` as total: the source answered and had no such
    /// counter. `None` as increase: this was the first look, and the total is of unknown age.
    pub fn read(&mut self, total: Option<f64>) -> Option<f64> {
        let total = total.filter(|total| total.is_finite() && *total >= 0.0);
        let last = self.last.replace(total.unwrap_or(0.0));
        self.was_reset = last.zip(total).is_some_and(|(last, total)| total < last);
        match (last, total) {
            (_, None) => None,
            (None, Some(_)) => None,
            (Some(last), Some(total)) if total < last => Some(total),
            (Some(last), Some(total)) => Some(total - last),
        }
    }

    /// Whether the last reading showed a reset: what was counted between the reading before and the reset is lost.
    /// Show what the reading brought as [`Unattributed`](crate::Event::Unattributed).
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increases_resets_and_first_appearances() {
        let mut counter = Counter::default();
        assert_eq!(counter.read(Some(100.0)), None);
        assert_eq!(counter.read(Some(107.0)), Some(7.0));
        assert!(!counter.was_reset());
        assert_eq!(counter.read(Some(3.0)), Some(3.0));
        assert!(counter.was_reset());
        assert_eq!(counter.read(Some(f64::NAN)), None);
        let mut appears = Counter::default();
        assert_eq!(appears.read(None), None);
        assert_eq!(appears.read(Some(4.0)), Some(4.0));
    }
}
