//! What is shown at the end: one JSON document, or a picture for people.

use std::fmt::Write as _;
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::findings::times;
use super::story::{BAD, GOOD, Told};
use super::tally::{self, Count, NOBODY};
use crate::cli::report::text::{self, Text};
use crate::cli::report::words;

const COLUMNS: usize = 60;
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

fn total(told: &Told) -> Count {
    let mut all = Count::default();
    told.records.iter().for_each(|record| all.add(record.failed));
    all
}

/// Verdict → all traffic on the good release, milliseconds: the restore as the engine knows it.
fn safe_ms(told: &Told) -> Option<u64> {
    let us = told.safe_us? - told.found_bad.as_ref()?.at_us;
    Some(u64::try_from(us).unwrap_or(0).div_ceil(1_000))
}

/// `demo --format json`.
#[must_use]
pub fn document(told: &Told, differences: &[String]) -> Value {
    let (all, times) = (total(told), times(told));
    let deployments: Vec<Value> = told
        .deployments
        .iter()
        .map(|row| {
            json!({ "number": row.number, "version": row.version, "status": row.status,
                "kind": row.kind, "rejected": row.rejected, "started_at": row.started_at,
                "completed_at": row.completed_at })
        })
        .collect();
    let rollback = told.found_bad.as_ref().map(|bad| {
        json!({ "trigger": bad.trigger, "evidence": bad.evidence,
            "time_to_detect_ms": times.map(|times| times.detect_ms),
            "time_to_restore_ms": times.map(|times| times.restore_ms),
            "traffic_safe_ms": safe_ms(told),
            "record": told.rollback })
    });
    let versions: Vec<Value> = tally::by_version(&told.records)
        .into_iter()
        .map(|(who, count)| {
            json!({ "version": (who != NOBODY).then_some(who), "requests": count.requests,
                "failed": count.failed })
        })
        .collect();
    let timeline: Vec<Value> = told
        .moments
        .iter()
        .map(|moment| {
            json!({ "at": Timestamp::from_microsecond(moment.at_us).ok(),
                "after_ms": (moment.at_us - told.began_us) / 1_000, "event": moment.text })
        })
        .collect();
    json!({
        "deployments": deployments,
        "rollback": rollback,
        "requests": { "total": all.requests, "failed": all.failed,
            "failed_after_restore": times.map(|times| times.after.failed), "by_version": versions },
        "healthy": differences.is_empty(),
        "differences": differences,
        "timeline": timeline,
        "duration_ms": (told.ended_us - told.began_us) / 1_000,
    })
}

/// The same for people.
#[must_use]
pub fn picture(told: &Told, differences: &[String]) -> String {
    let mut out = String::new();
    let bold = Style::new().bold();
    let _ = writeln!(out, "\n{bold}What the users saw{bold:#}");
    strips(&mut out, told);
    counts(&mut out, told);
    verdict(&mut out, told);
    let (green, red) = (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold());
    if differences.is_empty() {
        let all = total(told);
        let _ = writeln!(
            out,
            "\n{green}{} was taken back, {} is live and healthy.{green:#} {} of {} requests failed.\n\
             Nothing is left running, and the folder is gone.",
            BAD.version, GOOD.version, all.failed, all.requests
        );
    } else {
        let _ = writeln!(out, "\n{red}This was not as it should be:{red:#}");
        for difference in differences {
            let _ = writeln!(out, "  - {difference}");
        }
    }
    out
}

fn strips(out: &mut String, told: &Told) {
    let begin_us = told.records.first().map_or(told.began_us, |record| record.at_us);
    let span = (begin_us, told.ended_us);
    let versions: Vec<String> = tally::by_version(&told.records).into_keys().collect();
    let full = tally::strip(&told.records, span, COLUMNS, |_| true).into_iter().max().unwrap_or(1);
    for who in versions.iter().filter(|who| *who != NOBODY) {
        let of = |record: &super::load::Record| record.version.as_ref() == Some(who);
        let row = bars(&tally::strip(&told.records, span, COLUMNS, of), full);
        let color = if who == BAD.version { AnsiColor::Yellow } else { AnsiColor::Cyan };
        let style = color.on_default();
        let _ = writeln!(out, "  {who:<7} {style}{row}{style:#}");
    }
    let failed = tally::strip(&told.records, span, COLUMNS, |record| record.failed);
    let most = failed.iter().copied().max().unwrap_or(0);
    let red = AnsiColor::Red.on_default();
    let _ = writeln!(out, "  {:<7} {red}{}{red:#}", "failed", bars(&failed, most));
    let begin = seconds(begin_us - told.began_us);
    let end = seconds(told.ended_us - told.began_us);
    let gap = COLUMNS.saturating_sub(begin.chars().count() + end.chars().count());
    let _ = writeln!(out, "  {:<7} {begin}{}{end}", "", " ".repeat(gap));
}

#[allow(clippy::cast_precision_loss)] // for people
fn seconds(us: i64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}

/// Anything at all is seen.
fn bars(parts: &[u64], full: u64) -> String {
    let full = full.max(1);
    parts
        .iter()
        .map(|part| {
            let height = (part * 8).div_ceil(full).min(8);
            HEIGHTS[usize::try_from(height).unwrap_or(8)]
        })
        .collect()
}

fn counts(out: &mut String, told: &Told) {
    let _ = writeln!(out, "\n  {:<7} {:>9} {:>7}", "", "requests", "failed");
    for (who, count) in tally::by_version(&told.records) {
        let share = match count.failed {
            0 => String::new(),
            failed => format!("  ({})", words::percent(failed, count.requests)),
        };
        let _ = writeln!(out, "  {who:<7} {:>9} {:>7}{share}", count.requests, count.failed);
    }
}

fn verdict(out: &mut String, told: &Told) {
    let (Some(bad), Some(times)) = (told.found_bad.as_ref(), times(told)) else { return };
    let name = BAD.version;
    let mut rows = vec![
        ("time to detect", words::duration(times.detect_ms), "first bad answer to verdict".into()),
        (
            "time to restore",
            words::duration(times.restore_ms),
            format!("verdict to last answer of {name}"),
        ),
    ];
    if let Some(ms) = safe_ms(told) {
        rows.push(("traffic moved", words::duration(ms), "after the verdict".into()));
    }
    let after = times.after;
    let of = format!("of {} requests", after.requests);
    rows.push(("failed afterwards", after.failed.to_string(), of));
    let bold = Style::new().bold();
    out.push('\n');
    for (label, value, meaning) in rows {
        let _ = writeln!(out, "  {label:<18} {bold}{value:>8}{bold:#}  {meaning}");
    }
    let room = text::terminal_width().saturating_sub(2);
    let because = format!("because {}", bad.evidence.join("; "));
    for line in Text::from(because).wrapped(room) {
        let _ = writeln!(out, "  {}", line.styled());
    }
}

/// The four commands for one's own service.
#[must_use]
pub fn next_steps(exe: &Path) -> String {
    let commands = [
        ("init", "write backout.yaml from what is found here"),
        ("doctor", "check what a deploy and a rollback will need"),
        ("deploy --version V", "ship it, watch it, take it back if it fails"),
        ("rollback", "go back by hand, whenever you like"),
    ];
    let (bold, style) = (Style::new().bold(), text::command());
    let mut out = format!("\n{bold}The same with your own service{bold:#}, in its folder:\n");
    if !is_on_path(exe) {
        let _ = writeln!(out, "  {style}alias backout={}{style:#}", exe.display());
    }
    for (verb, meaning) in commands {
        let _ = writeln!(out, "  {style}backout {verb:<20}{style:#}{meaning}");
    }
    out
}

/// Whether a shell finds this program by its name.
fn is_on_path(exe: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("backout") == exe)
}
