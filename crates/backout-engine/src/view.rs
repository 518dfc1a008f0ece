//! What `status` shows: one look at an environment, from the ledger and the router alone. Nothing is probed,
//! nothing is written, and a record that can't be read is a problem to show, not a reason to show nothing.

use std::time::Duration;

use backout_core::model::{
    Deployment, EnvironmentRecord, Health, LiveHealth, ReadinessReport, Release, Request,
};
use backout_core::plan::{Action, Plan, WatchMode};
use backout_core::ports::{LeaseView, LedgerError, Traffic};
use backout_core::saga::{State, fold};
use jiff::Timestamp;

use crate::config_snapshot;
use crate::context::Context;
use crate::live_at::live_since;

/// The router may take this long to answer.
const ROUTER_LIMIT: Duration = Duration::from_millis(200);

/// A clock that runs ahead by more than this makes a sample no evidence.
const SKEW_MS: i64 = 30_000;

/// One environment at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// When it was looked at.
    pub at: Timestamp,
    /// The ledger's row; a new one where the ledger does not know this environment.
    pub environment: EnvironmentRecord,
    /// The ledger knows this environment.
    pub known: bool,
    /// What is live.
    pub live: Option<Deployment>,
    /// When it became live.
    pub live_since: Option<Timestamp>,
    /// Its release.
    pub release: Option<Release>,
    /// The last health that somebody saw.
    pub health: Option<LiveHealth>,
    /// The last proof that a rollback is ready, if it is about what is live.
    pub readiness: Option<ReadinessReport>,
    /// Who holds the environment, or held it last.
    pub lease: Option<LeaseView>,
    /// The living controller that looks after it: `user@host:pid`.
    pub controller: Option<String>,
    /// The open operation.
    pub operation: Option<Operation>,
    /// Ordered deploys that no controller has taken yet.
    pub orders: Vec<Request>,
    /// What the router does.
    pub traffic: TrafficView,
    /// Config files that differ from the live release's; not looked at while an operation is open.
    pub drift: Vec<String>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// What is known of the router.
#[derive(Debug, Clone)]
pub enum TrafficView {
    /// There is none.
    NoRouter,
    /// It knows nothing of this environment, or does not run.
    NoRoute,
    /// It could not be asked.
    Unreachable(String),
    /// What it does.
    Known(Box<Traffic>),
}

/// An open operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its plan.
    pub plan: Plan,
    /// Its state; why not, if its journal makes no sense.
    pub state: Result<State, String>,
    /// The last entry.
    pub last_entry_at: Option<Timestamp>,
    /// Its holder lives.
    pub held: bool,
}

/// How an open operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A living holder works on it.
    Running,
    /// Live at 100 %, and nobody watches.
    Unwatched,
    /// Its holder is gone.
    Interrupted,
    /// It waits for a person.
    Stuck {
        /// Name of the step.
        step: String,
        /// Why.
        reason: String,
    },
    /// Its journal makes no sense.
    Quarantined(String),
}

impl Operation {
    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = match &self.state {
            Ok(state) => state,
            Err(why) => return Standing::Quarantined(why.clone()),
        };
        if let Some((step, reason)) = &state.stuck {
            let step = self.plan.steps.get(*step).map_or("its end", |step| step.name.as_str());
            return Standing::Stuck { step: step.to_owned(), reason: reason.clone() };
        }
        match (self.held, self.is_baking()) {
            (true, _) => Standing::Running,
            (false, true) => Standing::Unwatched,
            (false, false) => Standing::Interrupted,
        }
    }

    /// Index of the step it is at; none at its end.
    #[must_use]
    pub fn current(&self) -> Option<usize> {
        self.state.as_ref().ok().and_then(State::current)
    }

    /// A deploy that is live and only watched.
    #[must_use]
    pub fn is_baking(&self) -> bool {
        let failing = self.state.as_ref().is_ok_and(|state| state.failing.is_some());
        let step = self.current().map(|step| &self.plan.steps[step].action);
        !failing
            && self.plan.can_be_taken_back()
            && matches!(
                step,
                Some(Action::Watch { mode: WatchMode::Bake { .. } | WatchMode::Keep { .. }, .. })
            )
    }
}

impl View {
    /// Health now: what was seen last, or unknown if that is too old.
    #[must_use]
    pub fn health_now(&self) -> Health {
        match &self.health {
            Some(health) if self.live.is_some() && is_fresh(health, self.at) => health.overall,
            _ => Health::Unknown,
        }
    }

    /// The last sample still counts.
    #[must_use]
    pub fn health_is_fresh(&self) -> bool {
        self.health.as_ref().is_some_and(|health| is_fresh(health, self.at))
    }
}

fn is_fresh(health: &LiveHealth, now: Timestamp) -> bool {
    let age_ms = now.as_millisecond() - health.checked_at.as_millisecond();
    (-SKEW_MS..=i64::try_from(health.fresh_for_ms).unwrap_or(i64::MAX)).contains(&age_ms)
}

/// Looks at an environment.
///
/// # Errors
/// When the ledger can't be used at all; a record that can't be read is among the view's problems.
pub async fn look(cx: &Context) -> Result<View, LedgerError> {
    let mut view = View {
        at: cx.now(),
        environment: EnvironmentRecord::new(cx.key.clone()),
        known: false,
        live: None,
        live_since: None,
        release: None,
        health: None,
        readiness: None,
        lease: None,
        controller: None,
        operation: None,
        orders: Vec::new(),
        traffic: TrafficView::NoRouter,
        drift: Vec::new(),
        problems: Vec::new(),
    };
    let mut problems = Vec::new();
    if let Some(environment) = readable(cx.ledger.environment(&cx.key).await, &mut problems)? {
        view.environment = environment;
        view.known = true;
        view.lease = readable(cx.ledger.lease(&cx.key).await, &mut problems)?;
        // A ledger that an older program has left knows of none.
        let controller = crate::controller::controller_of(cx.ledger.as_ref(), &cx.key).await;
        view.controller = controller.ok().flatten().map(|beat| beat.holder.label);
        operation(cx, &mut view, &mut problems).await?;
        live(cx, &mut view, &mut problems).await?;
    }
    view.known |= !problems.is_empty();
    // A first deployment may be ordered before the ledger knows the environment.
    view.orders = cx.ledger.orders(Some(&cx.key)).await?;
    view.traffic = traffic(cx).await;
    if let (Some(release), None) = (&view.release, &view.operation) {
        match config_snapshot::drift(cx, &release.content.config).await {
            Ok(paths) => view.drift = paths,
            Err(error) => problems.push(format!("config files could not be compared: {error}")),
        }
    }
    view.problems = problems;
    Ok(view)
}

/// A corrupt record becomes a problem; a ledger that can't be used stays an error.
fn readable<T>(
    result: Result<Option<T>, LedgerError>,
    problems: &mut Vec<String>,
) -> Result<Option<T>, LedgerError> {
    match result {
        Err(error @ LedgerError::CorruptRecord { .. }) => {
            problems.push(error.to_string());
            Ok(None)
        }
        other => other,
    }
}

async fn operation(
    cx: &Context,
    view: &mut View,
    problems: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let before = problems.len();
    let Some(plan) = readable(cx.ledger.open_operation(&cx.key).await, problems)? else {
        for problem in &mut problems[before..] {
            problem.push_str("; `backout resolve --reason TEXT` ends that operation as it is");
        }
        return Ok(());
    };
    let (state, last_entry_at) = match cx.ledger.entries(&plan.operation).await {
        Ok(entries) => (
            fold(&plan, &entries).map_err(|error| error.to_string()),
            entries.last().map(|entry| entry.at),
        ),
        Err(error @ LedgerError::CorruptRecord { .. }) => (Err(error.to_string()), None),
        Err(error) => return Err(error),
    };
    let held = view.lease.as_ref().is_some_and(|lease| lease.alive);
    view.operation = Some(Operation { plan, state, last_entry_at, held });
    Ok(())
}

async fn live(
    cx: &Context,
    view: &mut View,
    problems: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let Some(number) = view.environment.live else { return Ok(()) };
    let ledger = cx.ledger.as_ref();
    view.live = readable(ledger.deployment(&cx.key, number).await, problems)?;
    view.health = readable(ledger.health(&cx.key).await, problems)?;
    if let (Some(health), None) = (&mut view.health, &view.operation) {
        // Kept at the pace of a rollout that is over: from then on checks are due at the steady one.
        let steady_ms = u64::try_from(cx.fresh_for(false).as_millis()).unwrap_or(60_000);
        health.fresh_for_ms = health.fresh_for_ms.max(steady_ms);
    }
    let Some(live) = view.live.clone() else { return Ok(()) };
    let since = live_since(cx, &live).await.ok().flatten();
    view.live_since = Some(since.unwrap_or(live.started_at));
    view.release = readable(ledger.release_by_id(&live.release).await, problems)?;
    let readiness = readable(ledger.readiness(&cx.key).await, problems)?;
    if let Some(report) = readiness {
        let way_back = view.operation.as_ref().and_then(|op| op.plan.from.as_ref());
        let target = readable(ledger.deployment(&cx.key, report.deployment).await, problems)?;
        // A proof from before the last rollback is about something else.
        let still = match target {
            // What no deployment had gets its number once somebody goes there.
            None => report.found.is_some(),
            Some(_) if report.found.is_some() => false,
            Some(row) => {
                let other = row.release != live.release && !row.rejected;
                other || way_back.is_some_and(|from| from.number == report.deployment)
            }
        };
        view.readiness = still.then_some(report);
    }
    Ok(())
}

async fn traffic(cx: &Context) -> TrafficView {
    let Some(router) = &cx.router else { return TrafficView::NoRouter };
    match tokio::time::timeout(ROUTER_LIMIT, router.read()).await {
        Ok(Ok(Some(traffic))) => TrafficView::Known(Box::new(traffic)),
        Ok(Ok(None)) => TrafficView::NoRoute,
        Ok(Err(error)) => TrafficView::Unreachable(error.to_string()),
        Err(_) => TrafficView::Unreachable(format!(
            "the router did not answer within {} ms",
            ROUTER_LIMIT.as_millis()
        )),
    }
}
