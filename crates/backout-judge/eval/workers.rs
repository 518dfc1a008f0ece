//! Runs of a simulation on several threads. The outcome does not depend on how many there are.

use std::sync::atomic::{AtomicU64, Ordering};

/// Every run's result, in the order of runs.
pub fn run<T: Send>(threads: usize, runs: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= runs {
                return done;
            }
            done.push((run, one(run)));
        }
    };
    let mut all: Vec<(u64, T)> = if threads <= 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a run panicked")).collect()
        })
    };
    all.sort_by_key(|(run, _)| *run);
    all.into_iter().map(|(_, result)| result).collect()
}
