//! Takes the side on trial out as soon as its errors are beyond doubt, whoever else is alive.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use backout_judge::sequential::Alarm;
use jiff::Timestamp;
use tokio::{
    task::spawn_local,
    time::{Instant, sleep},
};

use super::{
    check::check,
    control::{Control, Record},
    dead_man::boot_ms,
    persist::{StoredTrip, Tests},
    trial::Trial,
};
use crate::wire::{DeadManOutcome, Fault, PutArgs, TripFired, Weights};

/// What went well is taken in at this pace; a failure at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks, however many requests fail.
const GAP: Duration = Duration::from_millis(2);

fn now_ms() -> i64 {
    i64::try_from(boot_ms()).unwrap_or(i64::MAX)
}

/// What a put arms, and the number of its test. A test goes on through changes of the weights.
pub(crate) fn armed(
    put: &PutArgs,
    is_split: bool,
    before: Option<&Record>,
) -> (Option<StoredTrip>, Option<Tests>) {
    let known = before.and_then(|record| record.stored.tests);
    let armed = put.trip.filter(|_| is_split).and_then(|arm| {
        let deployment = |side| Some(put.sides.get(&side)?.deployment);
        let deployments = [deployment(arm.stable.other())?, deployment(arm.stable)?];
        Some(StoredTrip { arm, deployments })
    });
    let Some(trip) = armed else { return (None, known) };
    let goes_on = before.is_some_and(|record| {
        record.trial.is_some()
            && record.stored.trip.as_ref() == Some(&trip)
            && record.stored.sticky.is_some() == put.sticky
    });
    let deployment = trip.deployments[0];
    let begun = match known.filter(|tests| tests.deployment == deployment) {
        Some(tests) if goes_on => tests.begun,
        Some(tests) => tests.begun.saturating_add(1),
        None => 1,
    };
    (Some(trip), Some(Tests { deployment, begun }))
}

/// Before the weights change: what was counted so far was drawn by the old ones. Where that is beyond doubt
/// already, nobody gives the side on trial anything more.
pub(crate) fn settle(record: &mut Record, put: &PutArgs) -> Result<(), Fault> {
    let alarm = record.trial.as_mut().and_then(|trial| trial.look(now_ms()));
    let side = record.stored.trip.as_ref().map(|trip| trip.arm.stable.other());
    match (alarm, side) {
        (Some(_), Some(side)) if put.weights.get(&side).is_some_and(|percent| *percent > 0) => {
            Err(Fault::TripFiring { side })
        }
        _ => Ok(()),
    }
}

/// After a change: begins the test that is stored, or goes on with it. `goes_on` where it was armed before.
pub(crate) fn begin(control: &Rc<Control>, record: &mut Record, goes_on: bool) {
    let Some(trip) = &record.stored.trip else {
        record.trial = None;
        return;
    };
    let table = record.route.table();
    if let Some(trial) = record.trial.as_mut().filter(|_| goes_on) {
        trial.weigh(trip.arm.stable, &table);
        return;
    }
    let number = record.stored.tests.map_or(1, |tests| tests.begun);
    record.trial = Trial::new(control.next_trial_id(), trip, number, &table);
    match &record.trial {
        Some(trial) => {
            let (key, id) = (record.stored.route.clone(), trial.id);
            spawn_local(follow(control.clone(), key, id));
        }
        None => {
            let route = record.stored.route.as_str();
            tracing::warn!(
                route,
                number,
                "no budget is left for another test: the trip can't fire"
            );
        }
    }
}

fn on_trial<'a>(
    records: &'a mut BTreeMap<String, Record>,
    key: &str,
    id: u64,
) -> Option<&'a mut Record> {
    records.get_mut(key).filter(|record| record.trial.as_ref().is_some_and(|trial| trial.id == id))
}

/// Looks for as long as the test lasts.
async fn follow(control: Rc<Control>, key: String, id: u64) {
    let mut news = match on_trial(&mut *control.records.lock().await, &key, id) {
        Some(record) => record.route.news.subscribe(),
        None => return,
    };
    loop {
        let alarm = {
            let mut records = control.records.lock().await;
            let Some(record) = on_trial(&mut records, &key, id) else { return };
            record.trial.as_mut().and_then(|trial| trial.look(now_ms()))
        };
        if let Some(alarm) = alarm {
            return fire(&control, &key, id, &alarm).await;
        }
        sleep(GAP).await;
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Checks the stable side, then moves or holds. A put that disarms the trip meanwhile wins.
async fn fire(control: &Rc<Control>, key: &str, id: u64, alarm: &Alarm) {
    let stable = {
        let mut records = control.records.lock().await;
        let Some(record) = on_trial(&mut records, key, id) else { return };
        let stored = &record.stored;
        stored.trip.as_ref().and_then(|trip| stored.sides.get(&trip.arm.stable).cloned())
    };
    let checked = check(stable.as_ref()).await;
    let began = Instant::now();
    {
        let mut records = control.records.lock().await;
        let Some(record) = on_trial(&mut records, key, id) else { return };
        apply(control, record, alarm, checked);
    }
    match control.save().await {
        Ok(()) => {
            let after_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::info!(route = key, after_us, "what the trip did is written down");
        }
        Err(fault) => {
            tracing::error!(route = key, error = %fault, "the trip fired, but that is not yet written down");
        }
    }
}

fn apply(control: &Control, record: &mut Record, alarm: &Alarm, checked: Result<(), String>) {
    record.trial = None;
    let stored = &mut record.stored;
    let Some(trip) = stored.trip.take() else { return };
    let stable = trip.arm.stable;
    let outcome = match checked {
        Ok(()) => DeadManOutcome::Moved,
        Err(_) => DeadManOutcome::Held,
    };
    let evidence = alarm.evidence.as_str();
    stored.trip_fired = Some(TripFired {
        at: Timestamp::now(),
        from: stored.weights.clone(),
        moved_to: stable,
        outcome,
        evidence: evidence.to_owned(),
        reason: checked.err(),
        epoch: stored.epoch,
    });
    match outcome {
        DeadManOutcome::Moved => {
            stored.weights = Weights::from([(stable, 100), (stable.other(), 0)]);
            // No split is left that somebody would have to watch.
            stored.dead_man = None;
            record.apply();
            if let Some(bad) = &record.route.table().sides[stable.other().index()] {
                bad.rescue();
                control.workers.wake(record.route.id);
            }
            let route = record.stored.route.as_str();
            tracing::warn!(route, side = %stable, evidence, "the trip moved all traffic");
        }
        DeadManOutcome::Held => {
            record.route.tell();
            let (route, reason) = (stored.route.as_str(), stored.trip_fired.as_ref());
            let reason = reason.and_then(|fired| fired.reason.as_deref()).unwrap_or_default();
            tracing::error!(route, side = %stable, evidence, reason, "the trip moved nothing: both sides are bad");
        }
    }
}
