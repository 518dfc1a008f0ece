//! Moves traffic to the stable side when nobody renews the deadline.

use std::{rc::Rc, time::Duration};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::{task::spawn_local, time::timeout};

use super::{
    check::check,
    control::{Control, Record},
    persist::StoredDeadMan,
};
use crate::wire::{DeadManFired, DeadManOutcome, DeadManState, Weights};

/// The boot-time clock goes on while the host sleeps, which tokio's timers don't notice.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Milliseconds since the host booted, sleep included.
pub(crate) fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The id of this boot.
pub(crate) fn boot_id() -> std::io::Result<String> {
    Ok(fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// As others see it.
pub(crate) fn state(dead_man: &StoredDeadMan) -> DeadManState {
    DeadManState {
        stable: dead_man.stable,
        after_ms: dead_man.after_ms,
        remaining_ms: dead_man.deadline_ms.saturating_sub(boot_ms()),
    }
}

/// Looks for due deadlines for as long as the proxy runs.
pub(crate) async fn watch(control: Rc<Control>) {
    loop {
        let now = boot_ms();
        let mut next = None;
        let mut due = Vec::new();
        for (key, record) in control.records.lock().await.iter_mut() {
            let Some(dead_man) = record.stored.dead_man.clone() else { continue };
            if record.firing {
                continue;
            }
            if dead_man.deadline_ms <= now {
                record.firing = true;
                due.push((key.clone(), dead_man));
            } else {
                let left = Duration::from_millis(dead_man.deadline_ms - now);
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
            }
        }
        for (key, dead_man) in due {
            spawn_local(fire(control.clone(), key, dead_man));
        }
        match next {
            Some(left) => {
                let _ = timeout(left.min(LOOK_EVERY), control.armed.notified()).await;
            }
            None => control.armed.notified().await,
        }
    }
}

/// Checks the stable side, then moves or holds; a renewal that comes meanwhile wins.
async fn fire(control: Rc<Control>, key: String, due: StoredDeadMan) {
    let stable = {
        let records = control.records.lock().await;
        records.get(&key).and_then(|record| record.stored.sides.get(&due.stable).cloned())
    };
    let checked = check(stable.as_ref()).await;
    let mut records = control.records.lock().await;
    let Some(record) = records.get_mut(&key) else { return };
    record.firing = false;
    if record.stored.dead_man.as_ref() != Some(&due) {
        control.armed.notify_one();
        return;
    }
    apply(record, &due, checked);
    drop(records);
    if let Err(fault) = control.save().await {
        tracing::error!(route = key, error = %fault, "the dead-man fired, but that is not yet written down");
    }
}

fn apply(record: &mut Record, due: &StoredDeadMan, checked: Result<(), String>) {
    let stored = &mut record.stored;
    let late = format!("not renewed within {} ms", due.after_ms);
    let (outcome, reason) = match checked {
        Ok(()) => (DeadManOutcome::Moved, late),
        Err(message) => (DeadManOutcome::Held, format!("{late}; held: {message}")),
    };
    stored.dead_man = None;
    stored.dead_man_fired = Some(DeadManFired {
        at: Timestamp::now(),
        from: stored.weights.clone(),
        moved_to: due.stable,
        outcome,
        reason: reason.clone(),
        epoch: stored.epoch,
    });
    match outcome {
        DeadManOutcome::Moved => {
            stored.weights = Weights::from([(due.stable, 100), (due.stable.other(), 0)]);
            record.apply();
            tracing::warn!(route = stored_key(record), side = %due.stable, reason, "the dead-man moved all traffic");
        }
        DeadManOutcome::Held => {
            record.route.tell();
            tracing::error!(route = stored_key(record), side = %due.stable, reason, "the dead-man moved nothing");
        }
    }
}

fn stored_key(record: &Record) -> &str {
    &record.stored.route
}
