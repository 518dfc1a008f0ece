//! How often a program may be started again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use backout_core::model::RestartPolicy;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A program that ran this long had come up: the next pause is the first again.
const SETTLED: Duration = Duration::from_secs(10);

/// Restarts within a span, with growing pauses.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    recent: VecDeque<Instant>,
    pause: Duration,
    began: Option<Instant>,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), pause: FIRST_PAUSE, began: None }
    }

    /// The program was started.
    pub(crate) fn began(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// The program has ended: the pause before it is started again, or `None` if that was too often.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        let span = Duration::from_millis(self.policy.within_ms);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > span) {
            self.recent.pop_front();
        }
        if self.recent.len() >= usize::try_from(self.policy.max).unwrap_or(usize::MAX) {
            return None;
        }
        self.recent.push_back(now);
        if self.began.is_some_and(|began| now.duration_since(began) >= SETTLED) {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_within_the_span_and_forgets_after_it() {
        let start = Instant::now();
        let mut restarts = Restarts::new(RestartPolicy { max: 2, within_ms: 60_000 });
        assert_eq!(restarts.next(start), Some(Duration::from_millis(100)));
        assert_eq!(restarts.next(start + Duration::from_secs(1)), Some(Duration::from_millis(200)));
        assert_eq!(restarts.next(start + Duration::from_secs(60)), None);
        assert!(restarts.next(start + Duration::from_secs(61)).is_some());
        assert_eq!(Restarts::new(RestartPolicy { max: 0, within_ms: 1 }).next(start), None);
    }

    #[test]
    fn the_pause_grows_to_its_limit_and_shrinks_for_a_settled_program() {
        let start = Instant::now();
        let mut restarts = Restarts::new(RestartPolicy { max: 100, within_ms: 1 });
        for _ in 0..20 {
            restarts.began(start);
            restarts.next(start);
        }
        restarts.began(start);
        assert_eq!(restarts.next(start), Some(LONGEST_PAUSE));
        assert_eq!(restarts.next(start + SETTLED), Some(FIRST_PAUSE));
    }
}
