//! Points, some at a time, until all are done or the time is over.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::options::{Draw, Options};
use super::own_time::TooSlow;
use super::run::Survived;

/// So many points are tried again at most. Where more are too slow it is not the machine.
const AGAIN_MAX: usize = 40;
/// Between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// A point to be tried.
pub struct Job<'a> {
    /// What it is, to find it again.
    pub name: String,
    /// Tries it.
    pub run: Box<dyn Fn() -> Survived + Send + Sync + 'a>,
}

/// Runs jobs.
pub struct Pool {
    pub options: Options,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    pub seed: u64,
    pub points: usize,
    /// Points that were not begun, since the time was over.
    pub left: usize,
    pub kills: usize,
    /// By number of kills in a row.
    pub depths: [usize; 4],
    pub slowest: Duration,
    pub slowest_name: String,
    /// The most that the engine itself took.
    pub slowest_own: Duration,
    pub took: Duration,
    /// Points that were too slow beside others, and were tried again alone.
    pub again: usize,
    pub failed: Vec<String>,
}

impl Pool {
    /// In an order drawn from the seed, so that one cut short by its limit has tried a bit of everything.
    pub fn run(&self, mut jobs: Vec<Job<'_>>) -> Summary {
        let mut draw = Draw::of(self.options.seed, "order");
        for at in (1..jobs.len()).rev() {
            jobs.swap(at, draw.up_to(at + 1) - 1);
        }
        let began = Instant::now();
        let next = AtomicUsize::new(0);
        let summary = Mutex::new(Summary { seed: self.options.seed, ..Summary::default() });
        let (again, told) = (Mutex::new(Vec::new()), Mutex::new(began));
        std::thread::scope(|scope| {
            for _ in 0..self.options.at_once {
                scope.spawn(|| {
                    while began.elapsed() < self.options.limit {
                        let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) else {
                            break;
                        };
                        let result = catch_unwind(AssertUnwindSafe(|| (job.run)()));
                        let mut again = again.lock().unwrap();
                        if is_too_slow(&result) && again.len() < AGAIN_MAX {
                            again.push(job);
                        } else {
                            let mut summary = summary.lock().unwrap();
                            summary.add(&job.name, result);
                            let mut told = told.lock().unwrap();
                            if told.elapsed() > TELL_EVERY {
                                *told = Instant::now();
                                let (done, failed) = (summary.points, summary.failed.len());
                                say(&format!("{done} of {} points, {failed} failed\n", jobs.len()));
                            }
                        }
                    }
                });
            }
        });
        let mut summary = summary.into_inner().unwrap();
        for job in again.into_inner().unwrap() {
            summary.again += 1;
            summary.add(&job.name, catch_unwind(AssertUnwindSafe(|| (job.run)())));
        }
        summary.left = jobs.len() - summary.points;
        summary.took = began.elapsed();
        summary
    }
}

/// Past the test harness, which keeps what passing tests print to itself.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn is_too_slow(result: &std::thread::Result<Survived>) -> bool {
    result.as_ref().is_err_and(|panic| panic.is::<TooSlow>())
}

impl Summary {
    fn add(&mut self, name: &str, result: std::thread::Result<Survived>) {
        self.points += 1;
        match result {
            Ok(survived) => {
                self.kills += survived.kills;
                self.depths[survived.kills.min(3)] += 1;
                self.slowest_own = self.slowest_own.max(survived.own);
                if survived.took > self.slowest {
                    self.slowest = survived.took;
                    name.clone_into(&mut self.slowest_name);
                }
            }
            Err(panic) => {
                let words = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .or_else(|| panic.downcast_ref::<TooSlow>().map(|slow| slow.0.clone()))
                    .unwrap_or_default();
                self.failed.push(format!("{name}: {words}"));
            }
        }
    }

    /// Says it.
    pub fn tell(&self, what: &str, done: &str) {
        let Self { seed, points, kills, depths, slowest, took, left, again, .. } = self;
        let text = format!(
            "{what}: {points} points, {} {done} ({} once, {} twice, {} three times: {kills} in all), {} not converged; \
             {:.0} s, slowest end {:.1} s ({}), of the engine alone {:.1} s; seed {seed}{}{}\n",
            depths[1] + depths[2] + depths[3],
            depths[1],
            depths[2],
            depths[3],
            self.failed.len(),
            took.as_secs_f64(),
            slowest.as_secs_f64(),
            self.slowest_name,
            self.slowest_own.as_secs_f64(),
            if *again > 0 {
                format!("; {again} tried again alone, since they were slow beside others")
            } else {
                String::new()
            },
            if *left > 0 {
                format!("; {left} points left out, the time was over")
            } else {
                String::new()
            },
        );
        say(&text);
    }
}
