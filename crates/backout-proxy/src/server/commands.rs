//! What each command does. A change is in force first, then written down, then acknowledged.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    control::{Control, Record},
    dead_man::boot_ms,
    limits, listener,
    persist::{StoredDeadMan, StoredRoute},
    stats::unix_micros,
    sticky::Key,
    subscribe::Told,
    trip, validate,
};
use crate::wire::{DrainArgs, Drained, Fault, Holder, PutArgs, RouteState, SideName, StatsFrame};

const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(5);

type Records = BTreeMap<String, Record>;

fn find<'a>(records: &'a mut Records, route: &str) -> Result<&'a mut Record, Fault> {
    records.get_mut(route).ok_or_else(|| Fault::NoSuchRoute { route: route.to_owned() })
}

/// Only the ledger that manages the route, and no older epoch of it.
fn check_holder(record: &Record, holder: &Holder) -> Result<(), Fault> {
    let stored = &record.stored;
    if holder.ledger.as_ref().is_some_and(|ledger| *ledger != stored.owner.ledger) {
        return Err(Fault::NotOwner { ledger: stored.owner.ledger.clone() });
    }
    if holder.epoch < stored.epoch {
        return Err(Fault::StaleEpoch { current: stored.epoch });
    }
    Ok(())
}

/// Whether a put may replace what is there.
fn check_put(record: &Record, put: &PutArgs) -> Result<(), Fault> {
    let stored = &record.stored;
    let is_other_ledger = stored.owner.ledger != put.owner.ledger;
    if is_other_ledger && !put.take_over {
        return Err(Fault::NotOwner { ledger: stored.owner.ledger.clone() });
    }
    // Epochs of two ledgers have nothing to do with each other.
    if !is_other_ledger && put.epoch < stored.epoch {
        return Err(Fault::StaleEpoch { current: stored.epoch });
    }
    if put.acknowledge_fired { Ok(()) } else { nothing_fired(record) }
}

/// Nobody commands over what the proxy did by itself, unless he knows of it.
fn nothing_fired(record: &Record) -> Result<(), Fault> {
    let stored = &record.stored;
    if let Some(fired) = &stored.trip_fired {
        return Err(Fault::TripFired { fired: Box::new(fired.clone()) });
    }
    match &stored.dead_man_fired {
        Some(fired) => Err(Fault::DeadManFired { fired: Box::new(fired.clone()) }),
        None => Ok(()),
    }
}

impl Control {
    fn stored(&self, put: &PutArgs, before: Option<&Record>) -> Result<StoredRoute, Fault> {
        let is_split = put.weights.values().filter(|percent| **percent > 0).count() > 1;
        let dead_man = put.dead_man.as_ref().filter(|_| is_split).map(|arm| StoredDeadMan {
            stable: arm.stable,
            after_ms: arm.after_ms,
            deadline_ms: boot_ms() + arm.after_ms,
            boot_id: self.boot_id.clone(),
        });
        let (trip, tests) = trip::armed(put, is_split, before);
        let known = before.and_then(|record| record.stored.sticky);
        let sticky = match (put.sticky, known) {
            (true, None) => Some(
                Key::random().map_err(|error| Fault::NoRandom { message: error.to_string() })?,
            ),
            (true, known) => known,
            (false, _) => None,
        };
        Ok(StoredRoute {
            sticky,
            route: put.route.clone(),
            listen: put.listen,
            bound: before.and_then(|record| record.stored.bound),
            owner: put.owner.clone(),
            epoch: put.epoch,
            sides: put.sides.clone(),
            weights: put.weights.clone(),
            response_timeout_ms: put.response_timeout_ms.unwrap_or(limits::RESPONSE_TIMEOUT_MS),
            dead_man,
            dead_man_fired: None,
            trip,
            trip_fired: None,
            tests,
        })
    }

    pub(crate) async fn put(self: &Rc<Self>, put: PutArgs) -> Result<RouteState, Fault> {
        validate::put(&put)?;
        let mut records = self.records.lock().await;
        if *self.stopping.borrow() {
            return Err(Fault::Stopping);
        }
        match records.get_mut(&put.route) {
            Some(record) => self.replace(record, &put)?,
            None => {
                let record = self.create(&put)?;
                records.insert(put.route.clone(), record);
            }
        }
        self.armed.notify_one();
        let state = find(&mut records, &put.route)?.state();
        drop(records);
        // Whoever waits to be served is served first, by the new weights: writing takes a processor for a while.
        yield_now().await;
        self.save().await?;
        Ok(state)
    }

    fn create(self: &Rc<Self>, put: &PutArgs) -> Result<Record, Fault> {
        let socket = listener::bind(put.listen)?;
        let stored = self.stored(put, None)?;
        let mut record = Record::new(self.new_route(&stored), stored);
        self.listen(&mut record, socket)?;
        trip::begin(self, &mut record, false);
        Ok(record)
    }

    fn replace(self: &Rc<Self>, record: &mut Record, put: &PutArgs) -> Result<(), Fault> {
        check_put(record, put)?;
        trip::settle(record, put)?;
        let mut stored = self.stored(put, Some(record))?;
        let socket = if record.stored.listen == put.listen && record.listener.is_some() {
            None
        } else {
            Some(listener::bind(put.listen)?)
        };
        if let Some(socket) = socket {
            // The new address serves the old sides for a moment; so this can still fail with nothing changed.
            self.listen(record, socket)?;
            record.unbound = None;
        }
        let emptied: Vec<_> = SideName::ALL
            .into_iter()
            .filter(|side| put.weights.get(side).is_none_or(|percent| *percent == 0))
            .filter_map(|side| record.route.table().sides[side.index()].clone())
            .collect();
        let goes_on = record.trial.is_some()
            && record.stored.trip == stored.trip
            && record.stored.sticky == stored.sticky;
        stored.bound = record.stored.bound;
        record.stored = stored;
        record.apply();
        trip::begin(self, record, goes_on);
        if put.rescue && put.weights.values().any(|percent| *percent > 0) {
            emptied.iter().for_each(|side| side.rescue());
            self.workers.wake(record.route.id);
        }
        Ok(())
    }

    pub(crate) async fn list(&self) -> Vec<RouteState> {
        self.records.lock().await.values().map(Record::state).collect()
    }

    pub(crate) async fn get(&self, route: &str) -> Result<RouteState, Fault> {
        Ok(find(&mut *self.records.lock().await, route)?.state())
    }

    pub(crate) async fn renew(
        &self,
        route: &str,
        holder: &Holder,
        after_ms: u64,
    ) -> Result<RouteState, Fault> {
        validate::after_ms(after_ms)?;
        let mut records = self.records.lock().await;
        let record = find(&mut records, route)?;
        check_holder(record, holder)?;
        // A trip that held leaves a split, and with it a dead-man that a living watcher may renew.
        if record.stored.dead_man.is_none() {
            nothing_fired(record)?;
        }
        let dead_man = record.stored.dead_man.as_mut().ok_or(Fault::NotArmed)?;
        dead_man.after_ms = after_ms;
        dead_man.deadline_ms = boot_ms() + after_ms;
        let is_new_epoch =
            std::mem::replace(&mut record.stored.epoch, holder.epoch) != holder.epoch;
        let state = record.state();
        drop(records);
        self.armed.notify_one();
        if is_new_epoch {
            self.save().await?;
        } else {
            self.save_deadlines().await;
        }
        Ok(state)
    }

    pub(crate) async fn drain(&self, drain: &DrainArgs) -> Result<Drained, Fault> {
        let (route, side, is_new_epoch) = {
            let mut records = self.records.lock().await;
            let record = find(&mut records, &drain.route)?;
            check_holder(record, &drain.holder)?;
            let percent = record.stored.weights.get(&drain.side).copied().unwrap_or(0);
            if percent > 0 {
                return Err(Fault::HasWeight { side: drain.side, percent });
            }
            let epoch = drain.holder.epoch;
            let is_new_epoch = std::mem::replace(&mut record.stored.epoch, epoch) != epoch;
            let side = record.route.table().sides[drain.side.index()].clone();
            (record.route.clone(), side, is_new_epoch)
        };
        if is_new_epoch {
            self.save().await?;
        }
        let Some(side) = side else { return Ok(Drained { remaining: 0 }) };
        if drain.cut {
            side.cut();
            self.workers.wake(route.id);
        }
        let deadline =
            Instant::now() + Duration::from_millis(drain.timeout_ms.min(validate::WAIT_MS_MAX));
        let mut stopping = self.stopping.subscribe();
        loop {
            let remaining = side.counters.in_flight();
            if remaining == 0 || Instant::now() >= deadline || *stopping.borrow_and_update() {
                return Ok(Drained { remaining });
            }
            sleep(DRAIN_LOOK_EVERY).await;
        }
    }

    pub(crate) async fn remove(&self, route: &str, holder: &Holder) -> Result<(), Fault> {
        let mut records = self.records.lock().await;
        check_holder(find(&mut records, route)?, holder)?;
        if let Some(record) = records.remove(route) {
            self.workers.close(record.route.id);
            record.route.tell();
        }
        drop(records);
        self.save().await
    }

    pub(crate) async fn shutdown(&self, only_if_idle: bool) -> Result<(), Fault> {
        let records = self.records.lock().await;
        if only_if_idle && !records.is_empty() {
            return Err(Fault::NotIdle { routes: records.len() });
        }
        self.stop();
        Ok(())
    }

    /// What a subscriber hears now; none once the route is gone.
    pub(crate) async fn frame(
        &self,
        route_id: u64,
        key: &str,
        told: &mut Told,
    ) -> Option<StatsFrame> {
        let records = self.records.lock().await;
        let record = records.get(key).filter(|record| record.route.id == route_id)?;
        let state = record.state();
        let table = record.route.table();
        let mut sides = BTreeMap::new();
        for name in SideName::ALL {
            let Some(side) = &table.sides[name.index()] else { continue };
            let mut stats = side.counters.snapshot();
            stats.sessions = table.sticky.is_some().then(|| told.sessions(name, side));
            stats.deployment = side.spec.deployment;
            stats.release.clone_from(&side.spec.release);
            stats.version.clone_from(&side.spec.version);
            sides.insert(name, stats);
        }
        let known = SideName::ALL.into_iter().zip(&table.sides);
        told.frame_ended(known.filter_map(|(name, side)| Some((name, &**side.as_ref()?))));
        Some(StatsFrame {
            route: state.route,
            instance: self.hello.instance.clone(),
            at: unix_micros(),
            epoch: state.epoch,
            weights: state.weights,
            dead_man: state.dead_man,
            dead_man_fired: state.dead_man_fired,
            trip_fired: state.trip_fired,
            unbound: state.unbound,
            sides,
        })
    }
}
