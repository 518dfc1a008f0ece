//! Failures that a test plans for the calls of a fake.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backout_core::ports::AdapterError;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Without an effect, and it says that again may help.
    Transient,
    /// Without an effect, and it says that again will not help.
    Permanent,
    /// Without an effect, and it can't tell.
    UnknownBefore,
    /// With its effect, and it can't tell.
    UnknownAfter,
    /// Never comes back, without an effect.
    HangBefore,
    /// Never comes back, with its effect.
    HangAfter,
}

impl Fault {
    /// Whether the effect happens all the same.
    #[must_use]
    pub fn has_effect(self) -> bool {
        matches!(self, Fault::UnknownAfter | Fault::HangAfter)
    }

    /// The error it answers with; never comes back for the hanging ones.
    pub async fn answer(self, call: &str) -> AdapterError {
        match self {
            Fault::Transient => {
                AdapterError::transient(format!("planned fault: {call} failed for now"))
            }
            Fault::Permanent => {
                AdapterError::permanent(format!("planned fault: {call} failed for good"))
            }
            Fault::UnknownBefore | Fault::UnknownAfter => {
                AdapterError::unknown(format!("planned fault: nobody knows how {call} went"))
            }
            Fault::HangBefore | Fault::HangAfter => std::future::pending().await,
        }
    }
}

/// Which calls fail, and how. Clones share one plan.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    by_name: BTreeMap<String, u64>,
    nth: BTreeMap<u64, Fault>,
    nth_of_name: BTreeMap<(String, u64), Fault>,
    always: BTreeMap<String, Fault>,
}

impl FaultPlan {
    /// No call fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` effect of all fails; counted from 1 since the fake was made.
    pub fn fail_nth(&self, nth: u64, fault: Fault) -> &Self {
        self.state().nth.insert(nth, fault);
        self
    }

    /// The `nth` call of this name fails; counted from 1 since the fake was made.
    pub fn fail(&self, name: &str, nth: u64, fault: Fault) -> &Self {
        self.state().nth_of_name.insert((name.to_owned(), nth), fault);
        self
    }

    /// The next call of this name fails.
    pub fn fail_next(&self, name: &str, fault: Fault) -> &Self {
        let next = self.calls_of(name) + 1;
        self.fail(name, next, fault)
    }

    /// Every call of this name fails from now on.
    pub fn fail_always(&self, name: &str, fault: Fault) -> &Self {
        self.state().always.insert(name.to_owned(), fault);
        self
    }

    /// No call fails from now on.
    pub fn clear(&self) {
        let mut state = self.state();
        state.nth.clear();
        state.nth_of_name.clear();
        state.always.clear();
    }

    /// How many effects there were.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.state().total
    }

    /// How many calls of this name there were.
    #[must_use]
    pub fn calls_of(&self, name: &str) -> u64 {
        self.state().by_name.get(name).copied().unwrap_or_default()
    }

    /// Counts a call, and says how it fails. Fakes ask; effects also count among all effects.
    pub fn next(&self, name: &str, effect: bool) -> Option<Fault> {
        let mut state = self.state();
        let of_name = state.by_name.entry(name.to_owned()).or_default();
        *of_name += 1;
        let of_name = *of_name;
        let mut fault = state.nth_of_name.remove(&(name.to_owned(), of_name));
        if effect {
            state.total += 1;
            let total = state.total;
            fault = fault.or(state.nth.remove(&total));
        }
        fault.or(state.always.get(name).copied())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
