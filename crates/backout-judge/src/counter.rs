//! Counters as they are scraped: totals that grow, and start again when their process does.

/// Turns totals into increases.
///
/// A counter that was looked for and not there begins at 0 when it appears: the first errors ever
/// on a route count. A total that falls was reset, and what it shows came since then. One that
/// could not be read (do not call [`read`](Counter::read)) is caught up with at the next reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counter {
    last: Option<f64>,
}

impl Counter {
    /// The increase since the last reading. `None` as total: the source answered and had no such
    /// counter. `None` as increase: this was the first look, and the total is of unknown age.
    pub fn read(&mut self, total: Option<f64>) -> Option<f64> {
        let total = total.filter(|total| total.is_finite() && *total >= 0.0);
        let last = self.last.replace(total.unwrap_or(0.0));
        match (last, total) {
            (_, None) => None,
            (None, Some(_)) => None,
            (Some(last), Some(total)) if total < last => Some(total),
            (Some(last), Some(total)) => Some(total - last),
        }
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
        assert_eq!(counter.read(Some(3.0)), Some(3.0));
        assert_eq!(counter.read(Some(f64::NAN)), None);
        let mut appears = Counter::default();
        assert_eq!(appears.read(None), None);
        assert_eq!(appears.read(Some(4.0)), Some(4.0));
    }
}
