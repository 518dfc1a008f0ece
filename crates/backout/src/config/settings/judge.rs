//! How samples become verdicts: `health` without its probes.

use backout_core::model::Strategy;
use backout_judge::Settings as JudgeSettings;

use super::Findings;
use crate::config::errors::Problem;
use crate::config::raw::{At, Raw, RawHealth, RawLimit, RawStrategy};
use crate::config::scalar::{Duration, Percent, Ratio, format_duration_ms};

/// The judge's settings; `strategy` and `bake_ms` say how long a watch may last.
pub(super) fn judge(
    raw: &Raw,
    strategy: &Strategy,
    bake_ms: u64,
    found: &mut Findings,
) -> JudgeSettings {
    let nothing = RawHealth::default();
    let health = raw.health.as_ref().map_or(&nothing, |health| &health.value);
    let mut out = JudgeSettings::default();

    let limits = &mut out.thresholds;
    let written = &health.thresholds;
    let percent = |percent: Percent| percent.0;
    limit("error_rate", &written.error_rate, &mut limits.error_rate_percent, percent, found);
    limit("availability", &written.availability, &mut limits.availability_percent, percent, found);
    limit(
        "response_time",
        &written.response_time,
        &mut limits.response_time_ms,
        |time: Duration| time.0 as f64,
        found,
    );

    out.minimum_samples = found.within(
        "minimum_samples",
        written.minimum_samples.as_ref(),
        out.minimum_samples,
        (1, 1_000_000),
    );
    let failures = &health.consecutive_failures;
    out.consecutive_failures.count =
        found.within("count", failures.count.as_ref(), out.consecutive_failures.count, (1, 1_000));
    let within = unsigned(out.consecutive_failures.within_ms);
    out.consecutive_failures.within_ms =
        signed(found.positive("within", failures.within.as_ref(), within));
    out.consecutive_passes = found.within(
        "consecutive_passes",
        health.consecutive_passes.as_ref(),
        out.consecutive_passes,
        (1, 1_000),
    );
    out.startup_failures = found.within(
        "startup_failures",
        health.startup_failures.as_ref(),
        out.startup_failures,
        (1, 1_000),
    );
    let startup = unsigned(out.startup_timeout_ms);
    out.startup_timeout_ms =
        signed(found.positive("startup_timeout", health.startup_timeout.as_ref(), startup));

    out.sticky_sessions = is_sticky(raw);
    windows(health, &mut out, found);
    comparison(health, &mut out, found);
    out.watch_ms = signed(watch_ms(strategy, bake_ms));
    out
}

/// Whether clients stay on their side.
fn is_sticky(raw: &Raw) -> bool {
    match raw.strategy.as_ref().map(|strategy| &strategy.value) {
        Some(RawStrategy::Canary(canary)) => canary.sticky.as_ref().is_some_and(|at| at.value),
        _ => false,
    }
}

/// The judge counts in signed milliseconds, as clocks do.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn unsigned(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default()
}

/// The longest that stages and bake may take: restarts of the tests spread their budget over it.
fn watch_ms(strategy: &Strategy, bake_ms: u64) -> u64 {
    let stages_ms: u64 = match strategy {
        Strategy::Canary(canary) => canary
            .stages
            .iter()
            .filter(|stage| stage.weight < 100)
            .map(|stage| stage.hold_max_ms)
            .sum(),
        Strategy::Recreate | Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => 0,
    };
    stages_ms.saturating_add(bake_ms).max(60_000)
}

fn limit<T: Copy>(
    key: &str,
    written: &RawLimit<T>,
    limit: &mut backout_judge::Limit,
    number: impl Fn(T) -> f64,
    found: &mut Findings,
) {
    let lower_is_worse = limit.fail < limit.warn;
    let given = |at: &Option<At<T>>| at.as_ref().map(|at| number(at.value));
    match (given(&written.warn), given(&written.fail)) {
        (Some(warn), Some(fail)) => *limit = backout_judge::Limit { warn, fail },
        // A single level moves the other one out of its way rather than contradict a default.
        (Some(warn), None) => {
            limit.fail = if lower_is_worse { limit.fail.min(warn) } else { limit.fail.max(warn) };
            limit.warn = warn;
        }
        (None, Some(fail)) => {
            limit.warn = if lower_is_worse { limit.warn.max(fail) } else { limit.warn.min(fail) };
            limit.fail = fail;
        }
        (None, None) => return,
    }
    let contradicts =
        if lower_is_worse { limit.warn < limit.fail } else { limit.warn > limit.fail };
    if contradicts && let Some(warn) = &written.warn {
        let (relation, word) =
            if lower_is_worse { ("below", "higher") } else { ("beyond", "lower") };
        found.refuse_at(
            warn.at,
            format!("`{key}` would fail before it warns: `warn` is {relation} `fail`"),
            format!("give `warn` a {word} value than `fail`"),
        );
    }
}

fn windows(health: &RawHealth, out: &mut JudgeSettings, found: &mut Findings) {
    let written = &health.windows;
    let short = found.positive("short", written.short.as_ref(), unsigned(out.window_short_ms));
    let medium = found.positive(
        "medium",
        written.medium.as_ref(),
        unsigned(out.window_medium_ms).max(short),
    );
    let long =
        found.positive("long", written.long.as_ref(), unsigned(out.window_long_ms).max(medium));
    for (name, value, shorter, least) in
        [("medium", medium, "short", short), ("long", long, "medium", medium)]
    {
        if value < least {
            let at = if name == "medium" { &written.medium } else { &written.long };
            let message = format!(
                "window `{name}` is {}, shorter than `{shorter}`",
                format_duration_ms(value)
            );
            found.refuse(Problem {
                message,
                at: at.as_ref().map(|at| at.at),
                hints: vec![format!("give it at least {}", format_duration_ms(least))],
            });
        }
    }
    out.window_short_ms = signed(short);
    out.window_medium_ms = signed(medium);
    out.window_long_ms = signed(long);
}

fn comparison(health: &RawHealth, out: &mut JudgeSettings, found: &mut Findings) {
    let written = &health.judge;
    if let Some(At { at, value: Ratio(probability) }) = written.false_rollback_probability {
        if !(1e-9..=0.5).contains(&probability) {
            found.refuse_at(
                at,
                "`false_rollback_probability` must be above 0 and at most 0.5",
                "0.01 takes back one harmless release in a hundred at most",
            );
        }
        out.false_rollback_probability = probability;
    }
    if let Some(rate) = &written.harmless_error_rate {
        if rate.value.0 >= 1.0 {
            found.refuse_at(
                rate.at,
                "`harmless_error_rate` must be below 100%",
                "0.1% is the default",
            );
        }
        out.harmless_error_rate = rate.value.0;
    }
    if let Some(increase) = &written.harmless_latency_increase {
        out.harmless_latency_increase = increase.value.0;
    }
    if let Some(Duration(ms)) = written.warm_up {
        out.warm_up_ms = signed(ms);
    }
    if let Some(Duration(ms)) = written.latency_warm_up {
        out.latency_warm_up_ms = signed(ms);
    }
}
