//! Moves traffic to the stable side when nobody renews the deadline.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{
    control::{Control, Record},
    persist::StoredDeadMan,
};
use crate::wire::{DeadManFired, DeadManOutcome, DeadManState, SideSpec, Weights};

/// The boot-time clock goes on while the host sleeps, which tokio's timers don't notice.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const CHECK_TRIES: u32 = 3;
const CHECK_PAUSE: Duration = Duration::from_millis(100);

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
    let checked = match &stable {
        Some(side) => check(side).await,
        None => Err("the stable side is not there".to_owned()),
    };
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

/// The proxy's own check of a side.
async fn check(side: &SideSpec) -> Result<(), String> {
    let mut last = String::new();
    for attempt in 0..CHECK_TRIES {
        if attempt > 0 {
            sleep(CHECK_PAUSE).await;
        }
        let tried =
            timeout(CHECK_TIMEOUT, check_once(side.upstream, side.check_path.as_deref())).await;
        match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => last = message,
            Err(_) => {
                last = format!(
                    "{} did not answer within {} ms",
                    side.upstream,
                    CHECK_TIMEOUT.as_millis()
                )
            }
        }
    }
    Err(last)
}

async fn check_once(address: SocketAddr, path: Option<&str>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let Some(path) = path else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: backout\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    // "HTTP/1.1 200" is all that matters.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.map_err(failed)?;
    match &head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2', b'0'..=b'9', b'0'..=b'9'] => {
            Ok(())
        }
        _ => Err(format!("{address}{path} answered {:?}", String::from_utf8_lossy(&head))),
    }
}
