//! What a command must look like before anything is touched.

use std::net::IpAddr;

use super::weights;
use crate::wire::{Fault, PutArgs, SideName, SideSpec, TripArm};

/// The longest wait that a client can ask for.
pub(crate) const WAIT_MS_MAX: u64 = 24 * 3600 * 1000;
const TEXT_BYTES_MAX: usize = 1024;
/// Fractions come in parts of this.
pub(crate) const TRILLION: u64 = 1_000_000_000_000;
/// A hundred years: beyond that, times no longer fit the arithmetic of the clocks.
const TIME_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

fn invalid(message: impl Into<String>) -> Fault {
    Fault::Invalid { message: message.into() }
}

fn text(name: &str, value: &str) -> Result<(), Fault> {
    if value.is_empty() || value.len() > TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{name} must have 1 to {TEXT_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

pub(crate) fn after_ms(after_ms: u64) -> Result<(), Fault> {
    if (1..=WAIT_MS_MAX).contains(&after_ms) {
        return Ok(());
    }
    Err(invalid(format!("after_ms must lie between 1 and {WAIT_MS_MAX}")))
}

/// Sides, weights and dead-man must fit each other.
pub(crate) fn put(put: &PutArgs) -> Result<(), Fault> {
    text("owner.ledger", &put.owner.ledger)?;
    let parts: Vec<&str> = put.route.split('/').collect();
    match parts[..] {
        [app, environment, service] => {
            for (name, value) in [("app", app), ("environment", environment), ("service", service)]
            {
                text(name, value)?;
            }
            if app != put.owner.app || environment != put.owner.environment {
                return Err(invalid(format!(
                    "route {} does not belong to its owner's environment",
                    put.route
                )));
            }
        }
        _ => return Err(invalid(format!("route {:?} is not app/environment/service", put.route))),
    }
    weights::percents(&put.weights).map_err(invalid)?;
    for (name, percent) in &put.weights {
        if *percent > 0 && !put.sides.contains_key(name) {
            return Err(invalid(format!("side {name} has weight but no release")));
        }
    }
    for spec in put.sides.values() {
        side(spec, put)?;
    }
    if let Some(arm) = &put.dead_man {
        after_ms(arm.after_ms)?;
        if !put.sides.contains_key(&arm.stable) {
            return Err(invalid(format!(
                "the dead-man's stable side {} has no release",
                arm.stable
            )));
        }
    }
    if let Some(arm) = &put.trip {
        trip(arm, put)?;
    }
    match put.response_timeout_ms {
        Some(timeout_ms) => after_ms(timeout_ms),
        None => Ok(()),
    }
}

fn trip(arm: &TripArm, put: &PutArgs) -> Result<(), Fault> {
    for side in SideName::ALL {
        if !put.sides.contains_key(&side) {
            return Err(invalid(format!(
                "the trip compares both sides, and side {side} has no release"
            )));
        }
    }
    for (name, value) in [
        ("false_trip_ppt", arm.false_trip_ppt),
        ("harmless_ppt", arm.harmless_ppt),
        ("from_start_ppt", arm.from_start_ppt),
    ] {
        if value > TRILLION {
            return Err(invalid(format!("{name} must be at most {TRILLION}, which is all")));
        }
    }
    if arm.false_trip_ppt == 0 {
        return Err(invalid("false_trip_ppt must be above 0: a trip without a budget never fires"));
    }
    for (name, value) in [("warm_up_ms", arm.warm_up_ms), ("watch_ms", arm.watch_ms)] {
        if value > TIME_MS_MAX {
            return Err(invalid(format!("{name} must be at most {TIME_MS_MAX}")));
        }
    }
    Ok(())
}

fn side(spec: &SideSpec, put: &PutArgs) -> Result<(), Fault> {
    text("release", &spec.release)?;
    text("version", &spec.version)?;
    let upstream = spec.upstream;
    if upstream.port() == 0 || upstream.ip().is_unspecified() {
        return Err(invalid(format!("upstream {upstream} is no address to connect to")));
    }
    let same_host = |listen: IpAddr| {
        listen == upstream.ip() || (listen.is_unspecified() && upstream.ip().is_loopback())
    };
    if upstream.port() == put.listen.port() && same_host(put.listen.ip()) {
        return Err(invalid(format!("upstream {upstream} is the route's own address")));
    }
    if let Some(path) = &spec.check_path {
        text("check_path", path)?;
        if !path.starts_with('/') || path.contains(char::is_whitespace) || !path.is_ascii() {
            return Err(invalid(format!(
                "check_path {path:?} must begin with / and have no spaces"
            )));
        }
    }
    Ok(())
}
