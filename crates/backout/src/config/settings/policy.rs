//! How Backout acts.

use std::collections::BTreeMap;

use backout_core::ids::ServiceName;
use backout_core::model::{
    Batch, CanaryPolicy, OnNoData, Policy, RollbackPolicy, RouterPolicy, Service, Shutdown, Stage,
    Strategy, TargetKind,
};

use super::Findings;
use super::health::listen_address;
use super::judge::judge;
use crate::config::errors::Problem;
use crate::config::node::Position;
use crate::config::raw::{
    At, Raw, RawBatch, RawBuiltin, RawCanary, RawOnNoData, RawRollback, RawRolling, RawRouter,
    RawStage, RawStrategy, RawTarget,
};
use crate::config::scalar::{Duration, format_duration_ms};

const MINUTE_MS: u64 = 60_000;
const HOLD_MS: u64 = 5 * MINUTE_MS;
const HOLD_MAX_MS: u64 = 60 * MINUTE_MS;

pub(super) fn policy(
    raw: &Raw,
    services: Option<&BTreeMap<ServiceName, Service>>,
    secrets: Vec<String>,
    found: &mut Findings,
) -> Option<Policy> {
    let target = match raw.target.as_ref().map(|target| &target.value) {
        Some(RawTarget::Process(_)) => TargetKind::Process,
        Some(RawTarget::Script(_)) => TargetKind::Script,
        Some(RawTarget::Compose(_)) => TargetKind::Compose,
        Some(RawTarget::Git(_)) => TargetKind::Git,
        Some(RawTarget::Systemd(_)) => TargetKind::Systemd,
        None => return None,
    };
    services?;
    let router = router(raw, target, found)?;
    let strategy = strategy(raw, target, &router, found);
    let bake_ms = raw.bake_time.map_or(30 * MINUTE_MS, |time| time.0);
    let shutdown = &raw.shutdown;
    Some(Policy {
        production: raw.production.unwrap_or(false),
        target,
        router,
        shutdown: Shutdown {
            drain_ms: shutdown.drain.map_or(30_000, |time| time.0),
            grace_ms: shutdown.grace.map_or(30_000, |time| time.0),
        },
        deploy_timeout_ms: found.positive("timeout", raw.deploy.timeout.as_ref(), 30 * MINUTE_MS),
        bake_ms,
        rollback: rollback(&raw.rollback, found),
        judge: judge(raw, &strategy, bake_ms, found),
        strategy,
        secrets,
        hosts: backout_core::model::HostsPolicy::default(),
    })
}

fn router(raw: &Raw, target: TargetKind, found: &mut Findings) -> Option<RouterPolicy> {
    let Some(At { at, value }) = &raw.router else { return Some(RouterPolicy::None) };
    match (value, target) {
        (RawRouter::None, _) => Some(RouterPolicy::None),
        (RawRouter::Script, TargetKind::Script) => Some(RouterPolicy::Script),
        (RawRouter::Script, _) => {
            found.refuse_at(
                *at,
                "`router: script` needs target `script`: it calls that program's update-traffic",
                "write `router: { builtin: { listen: \"0.0.0.0:80\" } }`",
            );
            None
        }
        (RawRouter::Builtin(_), TargetKind::Script) => {
            found.refuse_at(
                *at,
                "the built-in router needs target `process`, `compose` or `systemd`: it must know each side's address",
                "write `router: script` and let the program move traffic in `update-traffic`",
            );
            None
        }
        (RawRouter::Builtin(_), TargetKind::Git) => {
            found.refuse_at(
                *at,
                "a working tree holds one release at a time, so there are no two sides to route between",
                "leave `router` out, or use target `process` or `compose`",
            );
            None
        }
        (RawRouter::Builtin(builtin), _) => self::builtin(*at, builtin, found),
    }
}

fn builtin(
    at: crate::config::node::Position,
    builtin: &RawBuiltin,
    found: &mut Findings,
) -> Option<RouterPolicy> {
    let dead_man_ms = found.positive("dead_man", builtin.dead_man.as_ref(), 15_000);
    // The watcher renews it each second; a shorter one would fire although all is well.
    if let Some(written) =
        builtin.dead_man.as_ref().filter(|written| (1..3_000).contains(&written.value.0))
    {
        found.refuse_at(
            written.at,
            "`dead_man` must be at least 3s",
            "it is renewed each second; 15s is the default",
        );
    }
    let Some(listen) = &builtin.listen else {
        found.refuse_at(
            at,
            "the built-in router has no `listen`",
            "write `router: { builtin: { listen: \"0.0.0.0:80\" } }`",
        );
        return None;
    };
    listen_address(listen, found).map(|listen| RouterPolicy::Builtin { listen, dead_man_ms })
}

fn strategy(
    raw: &Raw,
    target: TargetKind,
    router: &RouterPolicy,
    found: &mut Findings,
) -> Strategy {
    let Some(At { at, value }) = &raw.strategy else {
        return match router {
            RouterPolicy::None => Strategy::Recreate,
            RouterPolicy::Builtin { .. } | RouterPolicy::Script => {
                canary(&RawCanary::default(), found)
            }
        };
    };
    let in_place = matches!(value, RawStrategy::Recreate | RawStrategy::Rolling(_));
    if matches!(router, RouterPolicy::None) && !in_place {
        found.refuse_at(
            *at,
            "this strategy moves traffic, and there is no router",
            "add `router: { builtin: { listen: \"0.0.0.0:80\" } }`, or write `strategy: recreate`",
        );
    }
    match value {
        RawStrategy::Recreate => Strategy::Recreate,
        RawStrategy::Rolling(raw) => {
            refuse_rolling(*at, target, router, found);
            rolling(raw)
        }
        RawStrategy::BlueGreen(blue_green) => {
            if matches!(router, RouterPolicy::Script) {
                found.refuse_at(
                    *at,
                    "`blue_green` needs the built-in router",
                    "with `router: script` write `strategy: { canary: { stages: [100] } }` or `recreate`",
                );
            }
            Strategy::BlueGreen { keep_old_ms: blue_green.keep_old.map_or(0, |time| time.0) }
        }
        RawStrategy::Canary(raw) => {
            if let Some(sticky) = raw.sticky.as_ref().filter(|sticky| sticky.value)
                && !matches!(router, RouterPolicy::Builtin { .. })
            {
                found.refuse_at(
                    sticky.at,
                    "`sticky` needs the built-in router",
                    "remove it, and let your router keep clients on their side",
                );
            }
            canary(raw, found)
        }
    }
}

fn rolling(raw: &RawRolling) -> Strategy {
    let batch = match raw.batch.as_ref().map(|batch| batch.value) {
        Some(RawBatch::Count(count)) => Batch::Count(count),
        Some(RawBatch::Percent(percent)) => Batch::Percent(percent),
        None => Batch::Count(1),
    };
    Strategy::Rolling { batch, pause_ms: raw.pause.map_or(0, |time| time.0) }
}

/// It replaces host after host, each in its place.
fn refuse_rolling(at: Position, target: TargetKind, router: &RouterPolicy, found: &mut Findings) {
    if !matches!(router, RouterPolicy::None) {
        found.refuse_at(
            at,
            "`rolling` goes from host to host and moves no traffic",
            "remove `router`, or write `strategy: canary` or `blue_green`",
        );
    } else if target == TargetKind::Process {
        found.refuse_at(
            at,
            "`rolling` goes from host to host, and target `process` runs on this machine only",
            "write `strategy: recreate`, or add a router and write `strategy: blue_green`",
        );
    }
}

fn canary(raw: &RawCanary, found: &mut Findings) -> Strategy {
    let hold_ms = found.positive("hold", raw.hold.as_ref(), HOLD_MS);
    found.positive("hold_max", raw.hold_max.as_ref(), HOLD_MAX_MS);
    let mut stages = match &raw.stages {
        Some(stages) => stages_of(&stages.value, raw, hold_ms, found),
        None => default_stages(raw, hold_ms, found),
    };
    if let Some(written) = &raw.stages
        && written.value.is_empty()
    {
        found.refuse_at(
            written.at,
            "`stages` is empty",
            "write rising percentages, such as `[10, 25, 50, 100]`",
        );
    }
    if stages.last().is_none_or(|stage| stage.weight < 100) {
        stages.push(Stage { weight: 100, hold_ms, hold_min_ms: hold_ms, hold_max_ms: hold_ms });
    }
    let on_no_data = match raw.on_no_data {
        None | Some(RawOnNoData::Pause) => OnNoData::Pause,
        Some(RawOnNoData::Promote) => OnNoData::Promote,
        Some(RawOnNoData::Rollback) => OnNoData::Rollback,
    };
    Strategy::Canary(CanaryPolicy { stages, on_no_data })
}

/// 10, 25, 50 and 100; the 10m at 50 stand only as long as nobody says how long to hold.
fn default_stages(raw: &RawCanary, hold_ms: u64, found: &mut Findings) -> Vec<Stage> {
    let long_hold = raw.hold.is_none() && raw.hold_max.is_none();
    [10, 25, 50]
        .into_iter()
        .map(|weight| {
            let hold_ms = if weight == 50 && long_hold { 10 * MINUTE_MS } else { hold_ms };
            stage(weight, hold_ms, &RawStage::default(), raw, found)
        })
        .collect()
}

fn stages_of(
    written: &[At<RawStage>],
    raw: &RawCanary,
    hold_ms: u64,
    found: &mut Findings,
) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for At { at, value } in written {
        let Some(weight) = value.weight else {
            found.refuse_at(
                *at,
                "the stage has no `weight`",
                "write it as `{ weight: 50, hold: 10m }`",
            );
            continue;
        };
        if let Some(previous) = stages.last().filter(|previous| previous.weight >= weight) {
            let message = format!("stages must rise: {weight} after {}", previous.weight);
            found.refuse_at(*at, message, "write rising percentages, such as `[10, 25, 50, 100]`");
        }
        if weight == 100
            && let Some(hold) =
                value.hold.as_ref().or(value.hold_min.as_ref()).or(value.hold_max.as_ref())
        {
            found.refuse_at(
                hold.at,
                "at 100 the stages are over and the bake begins",
                "set `bake_time` instead",
            );
        }
        let hold_ms = found.positive("hold", value.hold.as_ref(), hold_ms);
        stages.push(stage(weight, hold_ms, value, raw, found));
    }
    stages
}

fn stage(weight: u8, hold_ms: u64, own: &RawStage, raw: &RawCanary, found: &mut Findings) -> Stage {
    let hold_min = own.hold_min.as_ref().or(raw.hold_min.as_ref());
    let hold_max = own.hold_max.as_ref().or(raw.hold_max.as_ref());
    let later_than_hold = |limit: &At<Duration>| limit.value.0 > hold_ms;
    if weight < 100 {
        if let Some(limit) = hold_min.filter(|limit| later_than_hold(limit)) {
            let message =
                format!("`hold_min` is {}, longer than `hold`", format_duration_ms(limit.value.0));
            found.refuse_at(
                limit.at,
                message,
                format!("give it at most {}", format_duration_ms(hold_ms)),
            );
        }
        if let Some(limit) = hold_max.filter(|limit| limit.value.0 < hold_ms) {
            let message =
                format!("`hold_max` is {}, shorter than `hold`", format_duration_ms(limit.value.0));
            found.refuse_at(
                limit.at,
                message,
                format!("give it at least {}", format_duration_ms(hold_ms)),
            );
        }
    }
    Stage {
        weight,
        hold_ms,
        hold_min_ms: hold_min.map_or(hold_ms, |limit| limit.value.0),
        hold_max_ms: hold_max.map_or(HOLD_MAX_MS.max(hold_ms), |limit| limit.value.0),
    }
}

fn rollback(raw: &RawRollback, found: &mut Findings) -> RollbackPolicy {
    let timeout_ms = raw.timeout.as_ref().map_or(15 * MINUTE_MS, |time| time.value.0);
    if let Some(timeout) = raw
        .timeout
        .as_ref()
        .filter(|time| !(5 * MINUTE_MS..=60 * MINUTE_MS).contains(&time.value.0))
    {
        let message = format!(
            "`rollback.timeout` must be from 5m to 60m, not {}",
            format_duration_ms(timeout.value.0)
        );
        found.refuse(Problem::at(timeout.at, message));
    }
    RollbackPolicy {
        automatic: raw.automatic.unwrap_or(true),
        deadline_ms: found.positive("deadline", raw.deadline.as_ref(), 2 * MINUTE_MS),
        timeout_ms,
        keep: found.within("keep", raw.keep.as_ref(), 5, (1, 1_000)),
    }
}
