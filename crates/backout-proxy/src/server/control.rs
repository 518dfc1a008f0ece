//! The routes as the control thread holds them: what is in force, and what is written down.

use std::{
    cell::Cell, collections::BTreeMap, net::TcpListener, path::PathBuf, rc::Rc, sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep},
};

use super::{
    dead_man, listener,
    persist::{self, StoredRoute},
    route::{Route, Side, Table},
    stats::Counters,
    sticky::Sticky,
    trial::Trial,
    trip, weights,
    worker::Workers,
};
use crate::wire::{Fault, Hello, RouteState, SideName};

const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// With `exit_when_idle`: how long a fresh proxy waits for its first route.
const FIRST_ROUTE_WITHIN: Duration = Duration::from_secs(60);

/// One route.
pub(crate) struct Record {
    pub(crate) route: Arc<Route>,
    pub(crate) stored: StoredRoute,
    pub(crate) listener: Option<TcpListener>,
    /// Its dead-man is being carried out.
    pub(crate) firing: bool,
    /// The test of its armed trip.
    pub(crate) trial: Option<Trial>,
    /// Why its address is not bound.
    pub(crate) unbound: Option<String>,
}

impl Record {
    pub(crate) fn new(route: Arc<Route>, stored: StoredRoute) -> Self {
        Self { route, stored, listener: None, firing: false, trial: None, unbound: None }
    }

    /// Puts the stored sides and weights in force.
    pub(crate) fn apply(&self) {
        let before = self.route.table();
        let workers = before.workers;
        self.route.replace(table(&self.stored, Some(&before), workers));
    }

    pub(crate) fn state(&self) -> RouteState {
        let stored = self.stored.clone();
        RouteState {
            route: stored.route,
            owner: stored.owner,
            listen: stored.listen,
            bound: self.listener.as_ref().and(stored.bound),
            epoch: stored.epoch,
            sides: stored.sides,
            weights: stored.weights,
            response_timeout_ms: stored.response_timeout_ms,
            sticky: stored.sticky.is_some(),
            dead_man: self.stored.dead_man.as_ref().map(dead_man::state),
            dead_man_fired: stored.dead_man_fired,
            trip: stored.trip.map(|trip| trip.arm),
            trip_fired: stored.trip_fired,
            unbound: self.unbound.clone(),
        }
    }
}

/// The table for a route; sides that did not change stay the same, and a deployment keeps its counters.
pub(crate) fn table(stored: &StoredRoute, before: Option<&Table>, workers: usize) -> Table {
    let sides = SideName::ALL.map(|name| {
        let spec = stored.sides.get(&name)?;
        let known = before.and_then(|table| table.sides[name.index()].as_ref());
        Some(match known {
            Some(known) if known.spec == *spec => known.clone(),
            Some(known) if known.spec.deployment == spec.deployment => {
                Arc::new(Side::new(spec.clone(), known.counters.clone()))
            }
            _ => Arc::new(Side::new(spec.clone(), Arc::new(Counters::new(workers)))),
        })
    });
    let sticky = stored.sticky.map(|key| {
        let deployments =
            SideName::ALL.map(|side| stored.sides.get(&side).map_or(0, |s| s.deployment));
        Arc::new(Sticky::new(&stored.route, key, deployments))
    });
    Table {
        sides,
        sticky,
        percents: weights::percents(&stored.weights).unwrap_or_default(),
        response_timeout: Duration::from_millis(stored.response_timeout_ms),
        workers,
    }
}

/// Everything that commands act on.
pub(crate) struct Control {
    pub(crate) dir: PathBuf,
    pub(crate) hello: Hello,
    pub(crate) boot_id: String,
    pub(crate) workers: Workers,
    pub(crate) records: Mutex<BTreeMap<String, Record>>,
    /// A dead-man was armed or renewed.
    pub(crate) armed: Notify,
    pub(crate) stopping: watch::Sender<bool>,
    /// What is in force is not what is written down.
    unsaved: Cell<bool>,
    /// Held while writing, so that an older state never replaces a newer one.
    saving: Mutex<()>,
    next_route_id: Cell<u64>,
    next_trial_id: Cell<u64>,
}

impl Control {
    pub(crate) fn new(dir: PathBuf, hello: Hello, boot_id: String, workers: Workers) -> Self {
        Self {
            dir,
            hello,
            boot_id,
            workers,
            records: Mutex::default(),
            armed: Notify::new(),
            stopping: watch::Sender::new(false),
            unsaved: Cell::new(false),
            saving: Mutex::default(),
            next_route_id: Cell::new(1),
            next_trial_id: Cell::new(1),
        }
    }

    pub(crate) fn new_route(&self, stored: &StoredRoute) -> Arc<Route> {
        let id = self.next_route_id.replace(self.next_route_id.get() + 1);
        Arc::new(Route::new(id, stored.route.clone(), table(stored, None, self.workers.count())))
    }

    pub(crate) fn next_trial_id(&self) -> u64 {
        self.next_trial_id.replace(self.next_trial_id.get() + 1)
    }

    /// Takes up the routes of an earlier run. One whose address is taken stays, and is tried again.
    pub(crate) async fn restore(self: &Rc<Self>, stored: Vec<StoredRoute>) {
        let mut records = self.records.lock().await;
        let mut tests = false;
        for mut stored in stored {
            if let (Some(_), Some(known)) = (&stored.trip, &mut stored.tests) {
                // The counts are lost, and with them what the test before has spent.
                known.begun = known.begun.saturating_add(1);
                tests = true;
            }
            let record = Record::new(self.new_route(&stored), stored);
            records.insert(record.stored.route.clone(), record);
        }
        drop(records);
        // A test begins once it is on record: else each restart would begin the same one anew.
        if tests && let Err(fault) = self.save().await {
            tracing::error!(error = %fault, "the tests of trips begin, but that is not yet written down");
        }
        for record in self.records.lock().await.values_mut() {
            trip::begin(self, record, false);
            if let Err(fault) = self.bind(record) {
                tracing::error!(route = record.stored.route, error = %fault, "a route can't listen; it is tried again");
            }
        }
    }

    /// Binds where the route was bound before, so that port 0 stays one port over restarts.
    fn bind(&self, record: &mut Record) -> Result<(), Fault> {
        let bound = listener::bind(record.stored.bound.unwrap_or(record.stored.listen))
            .and_then(|listener| self.listen(record, listener));
        let unbound = bound.as_ref().err().map(ToString::to_string);
        if unbound != record.unbound {
            record.unbound = unbound;
            record.route.tell();
        }
        bound
    }

    /// Hands a bound socket to the workers.
    pub(crate) fn listen(&self, record: &mut Record, listener: TcpListener) -> Result<(), Fault> {
        let failed = |error: std::io::Error| Fault::BindFailed {
            addr: record.stored.listen,
            message: error.to_string(),
        };
        let bound = listener.local_addr().map_err(failed)?;
        self.workers.listen(&record.route, &listener).map_err(failed)?;
        record.stored.bound = Some(bound);
        record.listener = Some(listener);
        Ok(())
    }

    /// Writes the routes down; what is in force stays in force where that fails.
    ///
    /// The records must not be locked by the caller: a slow disk delays no statistics and no dead-man.
    pub(crate) async fn save(&self) -> Result<(), Fault> {
        let _in_order = self.saving.lock().await;
        let records = self.records.lock().await;
        let routes = records.values().map(|record| record.stored.clone()).collect();
        drop(records);
        let dir = self.dir.clone();
        let saved = tokio::task::spawn_blocking(move || persist::save(&dir, routes)).await;
        let saved = saved.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        self.unsaved.set(saved.is_err());
        saved.map_err(|error| Fault::NotPersisted { message: error.to_string() })
    }

    /// Notes the deadlines, for a restart of this process.
    pub(crate) async fn save_deadlines(&self) {
        let _in_order = self.saving.lock().await;
        let records = self.records.lock().await;
        let deadlines = records
            .iter()
            .filter_map(|(key, record)| {
                Some((key.clone(), record.stored.dead_man.as_ref()?.deadline_ms))
            })
            .collect();
        drop(records);
        let (dir, boot_id) = (self.dir.clone(), self.boot_id.clone());
        let saved =
            tokio::task::spawn_blocking(move || persist::save_deadlines(&dir, &boot_id, deadlines))
                .await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "failed to note the renewed deadline; a restart would fire the dead-man early");
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// What is tried again each second, and the end of a proxy without work.
    pub(crate) async fn housekeeping(self: Rc<Self>, exit_when_idle: bool) {
        let started = Instant::now();
        loop {
            sleep(HOUSEKEEPING).await;
            let mut records = self.records.lock().await;
            let mut bound = false;
            for record in records.values_mut().filter(|record| record.listener.is_none()) {
                bound |= self.bind(record).is_ok();
            }
            let had_routes = self.next_route_id.get() > 1;
            let waited = had_routes || started.elapsed() > FIRST_ROUTE_WITHIN;
            if exit_when_idle && records.is_empty() && waited {
                tracing::info!("stopping: no route is left");
                self.stop();
                return;
            }
            drop(records);
            if (bound || self.unsaved.get())
                && let Err(fault) = self.save().await
            {
                tracing::error!(error = %fault, "the routes are not written down; trying again");
            }
        }
    }
}
