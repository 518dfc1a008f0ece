//! A ledger in memory, stricter than any real one, whose clock, deaths and failures a test decides.

mod apply;
mod audit;
mod lease;
mod port;
mod state;

use std::sync::{Mutex, MutexGuard};

use backout_core::ids::EnvironmentKey;
use backout_core::ports::{Commit, Holder, LedgerError};

pub use audit::head_of as audit_head_of;
use state::State;
pub use state::{Harm, Stored};

/// Term of a lease of the fake.
const TERM_MS: u64 = 15_000;

/// How a commit fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing was written, and the caller is told so.
    UnavailableBefore,
    /// Everything was written, but the caller is told that it failed.
    UnavailableAfter,
    /// Nothing was written: no space.
    DiskFull,
    /// Another holder claims the environment just before.
    Fenced,
}

/// What was called, in order. Reads are left out of it: they change nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `claim`, granted or not.
    Claim(EnvironmentKey, Holder),
    /// `renew`.
    Renew(EnvironmentKey),
    /// `release`.
    Release(EnvironmentKey),
    /// `commit`, successful or not.
    Commit(Vec<Commit>),
    /// `submit`, `put_blob`, `put_readiness` or `put_health`.
    Put(&'static str),
}

/// See the module.
pub struct FakeLedger {
    state: Mutex<State>,
}

impl Default for FakeLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeLedger {
    /// Empty, with a clock that stands still.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::new(State::new(TERM_MS)) }
    }

    /// Term of its leases.
    #[must_use]
    pub fn term_ms(&self) -> u64 {
        TERM_MS
    }

    /// A living process of this boot.
    #[must_use]
    pub fn holder(&self, activity: &str, person: bool) -> Holder {
        let mut state = self.lock();
        state.last_pid += 1;
        let pid = state.last_pid;
        Holder {
            label: format!("ann@host:{pid}"),
            pid,
            pid_start: u64::from(pid) * 100,
            boot_id: state.boot_id.clone(),
            activity: activity.to_owned(),
            person,
            goes_back: person,
        }
    }

    /// Its process has ended.
    pub fn kill(&self, holder: &Holder) {
        self.lock().dead.insert((holder.pid, holder.pid_start));
    }

    /// Lets the boot-time clock (and the wall clock of `since`) run on.
    pub fn advance_ms(&self, ms: u64) {
        self.lock().boottime_ms += ms;
    }

    /// The machine starts again: every process is gone, the clock begins at zero.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state.boots += 1;
        state.boot_id = format!("boot-{}", state.boots);
        state.boottime_ms = 0;
    }

    /// The `nth` commit from now on (1: the next) fails so.
    ///
    /// # Panics
    /// For the zeroth.
    pub fn fail_commit(&self, nth: usize, fault: CommitFault) {
        assert!(nth > 0, "commits are counted from 1");
        let mut state = self.lock();
        let number = state.commits + nth;
        state.faults.insert(number, fault);
    }

    /// Every call fails so, until `None`.
    pub fn set_down(&self, error: Option<LedgerError>) {
        self.lock().down = error;
    }

    /// Spoils a stored record.
    ///
    /// # Panics
    /// When there is no such record: the test would prove nothing.
    pub fn damage(&self, record: &Stored, harm: Harm) {
        assert!(self.lock().data.damage(record, harm), "{record:?} is not stored");
    }

    /// What was called so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many commits were tried so far.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panics while it holds this")
    }

    /// The state, unless the ledger is down.
    fn up(&self) -> Result<MutexGuard<'_, State>, LedgerError> {
        let state = self.lock();
        match &state.down {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }
}
