//! Everything about one deployment, rollback, operation or release. Each part stands by itself: one that can't
//! be read is shown as such, beside the others.

mod app;
mod incident;
mod journal;
mod json;
mod text;

use backout_core::ids::EnvironmentKey;
use backout_core::model::{Deployment, DrillRecord, Release, RollbackRecord};
use backout_core::plan::Plan;
use backout_core::saga::{Entry, State};
use backout_engine::incident::Bundle;
use jiff::Timestamp;

pub use app::{AppPlace, app_document, app_lines};
pub use json::document;
pub use text::lines;

/// A record: there, not there, or not readable.
pub type Part<T> = Result<Option<T>, String>;

/// What was asked for; the part that was found first is filled in, the others follow.
#[derive(Debug)]
pub struct Inspected {
    /// `deployment`, `rollback`, `operation` or `release`.
    pub what: &'static str,
    /// As it was asked for.
    pub name: String,
    /// Where it belongs, if that is known.
    pub key: Option<EnvironmentKey>,
    /// The deployment.
    pub deployment: Part<Deployment>,
    /// The record of the rollback that made it.
    pub rollback: Part<RollbackRecord>,
    /// The plan of the operation that made it.
    pub operation: Part<Plan>,
    /// What it makes live.
    pub release: Part<Release>,
    /// The operation's journal.
    pub journal: Part<Vec<Entry>>,
    /// The operation's state.
    pub state: Part<State>,
    /// The last drill of its release.
    pub drill: Option<DrillRecord>,
    /// What was kept of the release that was left.
    pub incident: Part<Bundle>,
    /// It is live now.
    pub live: bool,
    /// Other deployments of the same release, newest first; all, if a release was asked for.
    pub same_release: Vec<Deployment>,
    /// Rollbacks of the environment, newest first.
    pub rollbacks: Vec<RollbackRecord>,
    /// Histories were asked for.
    pub with_history: bool,
    /// Now.
    pub at: Timestamp,
}

impl Inspected {
    /// Nothing but a name yet.
    #[must_use]
    pub fn new(what: &'static str, name: impl Into<String>) -> Self {
        Self {
            what,
            name: name.into(),
            key: None,
            deployment: Ok(None),
            rollback: Ok(None),
            operation: Ok(None),
            release: Ok(None),
            journal: Ok(None),
            state: Ok(None),
            drill: None,
            incident: Ok(None),
            live: false,
            same_release: Vec::new(),
            rollbacks: Vec::new(),
            with_history: false,
            at: Timestamp::now(),
        }
    }

    /// Whether it was found, readable or not.
    #[must_use]
    pub fn is_found(&self) -> bool {
        !matches!(
            (&self.deployment, &self.rollback, &self.operation, &self.release),
            (Ok(None), Ok(None), Ok(None), Ok(None))
        )
    }

    /// The sentences behind the verdict, from all records that have some.
    fn evidence(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        all.extend(there(&self.rollback).iter().flat_map(|record| record.evidence.clone()));
        all.extend(there(&self.operation).iter().flat_map(|plan| plan.evidence.clone()));
        let failing = there(&self.state).and_then(|state| state.failing.as_ref());
        all.extend(failing.iter().flat_map(|failure| failure.evidence.clone()));
        without_repetition(all)
    }

    /// Warnings of all records.
    fn warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        all.extend(there(&self.deployment).iter().flat_map(|row| row.warnings.clone()));
        all.extend(there(&self.rollback).iter().flat_map(|record| record.warnings.clone()));
        all.extend(there(&self.operation).iter().flat_map(|plan| plan.warnings.clone()));
        all.extend(there(&self.state).iter().flat_map(|state| state.warnings.clone()));
        without_repetition(all)
    }
}

/// The record, if it is there and readable.
fn there<T>(part: &Part<T>) -> Option<&T> {
    part.as_ref().ok().and_then(Option::as_ref)
}

fn without_repetition(all: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    all.into_iter().filter(|line| seen.insert(line.clone())).collect()
}
