//! The incident bundle of what is inspected: its files, and the last words in them.

use backout_engine::incident::{Bundle, BundleFile};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::report::table::{Align, Fields, Table};
use crate::cli::report::text::{DIM, Text, warn};
use crate::cli::report::words;

/// Last lines of one log that are shown.
const LINES: usize = 8;
/// Bytes in which they are looked for.
const TAIL_BYTES: u64 = 8 << 10;
/// Logs of which lines are shown.
const LOGS: usize = 6;

/// The bundle as a document.
#[must_use]
pub(super) fn document(bundle: &Bundle, at: Timestamp) -> Value {
    let manifest = &bundle.manifest;
    let age_ms = at.as_millisecond().saturating_sub(manifest.collected_at.as_millisecond());
    let logs: serde_json::Map<String, Value> =
        logs(bundle).map(|(file, lines)| (file.name.clone(), json!(lines))).collect();
    json!({
        "id": manifest.id, "path": bundle.path, "deployment": manifest.deployment,
        "version": manifest.version, "target_version": manifest.target_version,
        "operation": manifest.operation, "trigger": manifest.trigger,
        "evidence": manifest.evidence, "collected_at": manifest.collected_at,
        "age_ms": age_ms.max(0), "bytes": bytes(bundle),
        "files": manifest.files, "problems": manifest.problems, "logs": logs,
    })
}

/// A bundle as one of several.
#[must_use]
pub(super) fn in_short(bundle: &Bundle) -> Value {
    let manifest = &bundle.manifest;
    json!({
        "id": manifest.id, "path": bundle.path, "deployment": manifest.deployment,
        "version": manifest.version, "target_version": manifest.target_version,
        "trigger": manifest.trigger, "evidence": manifest.evidence,
        "collected_at": manifest.collected_at, "files": manifest.files.len(),
        "bytes": bytes(bundle), "problems": manifest.problems,
    })
}

fn bytes(bundle: &Bundle) -> u64 {
    bundle.manifest.files.iter().map(|file| file.bytes).sum()
}

/// Bundles, one a line.
#[must_use]
pub(super) fn list(bundles: &[Bundle], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("OF", Align::Left),
        ("AGE", Align::Right),
        ("SIZE", Align::Right),
        ("WHY", Align::Left),
    ]);
    for bundle in bundles {
        let manifest = &bundle.manifest;
        let trigger = manifest.trigger.map(|trigger| trigger.as_str()).unwrap_or_default();
        let why = manifest.evidence.first().map(String::as_str);
        table.row([
            Text::from(&manifest.id),
            Text::from(format!("#{} {}", manifest.deployment, manifest.version)),
            Text::from(words::short_age(manifest.collected_at, now)),
            Text::from(size(bytes(bundle))),
            Text::from(why.unwrap_or(trigger)),
        ]);
    }
    table
}

/// Logs with their last lines; one that can't be read says so.
fn logs(bundle: &Bundle) -> impl Iterator<Item = (&BundleFile, Vec<String>)> {
    all_logs(bundle).take(LOGS).map(|file| {
        let text = bundle
            .tail(&file.name, TAIL_BYTES)
            .unwrap_or_else(|error| format!("it can't be read: {error}"));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let from = lines.len().saturating_sub(LINES);
        (file, lines[from..].to_vec())
    })
}

fn all_logs(bundle: &Bundle) -> impl Iterator<Item = &BundleFile> {
    bundle.manifest.files.iter().filter(|file| {
        file.name.contains(".log")
            || [".out", ".err", ".journal"].iter().any(|end| file.name.ends_with(end))
    })
}

/// Where it is, since when, and what is missing.
#[must_use]
pub(super) fn fields(bundle: &Bundle, at: Timestamp) -> Fields {
    let manifest = &bundle.manifest;
    let mut fields = Fields::default();
    fields.add("of", format!("#{} {}", manifest.deployment, manifest.version));
    fields.add("kept", words::moment(manifest.collected_at, at));
    fields.add("in", bundle.path.display().to_string());
    for problem in &manifest.problems {
        fields.add("missing", Text::new(warn(), problem));
    }
    fields
}

/// Its files.
#[must_use]
pub(super) fn table(bundle: &Bundle) -> Table {
    let mut table = Table::new(&[("FILE", Align::Left), ("SIZE", Align::Right), ("", Align::Left)]);
    for file in &bundle.manifest.files {
        table.row([
            Text::from(&file.name),
            Text::from(size(file.bytes)),
            Text::new(DIM, if file.cut { "the end of it" } else { "" }),
        ]);
    }
    table
}

/// `web.log` and its last lines.
#[must_use]
pub(super) fn last_words(bundle: &Bundle) -> Vec<Text> {
    let mut all = Vec::new();
    for (file, lines) in logs(bundle).filter(|(_, lines)| !lines.is_empty()) {
        all.push(Text::new(DIM, format!("  {}", file.name)));
        all.extend(lines.into_iter().map(|line| Text::from(format!("    {line}"))));
    }
    let more = all_logs(bundle).count().saturating_sub(LOGS);
    if more > 0 {
        let words = format!("  and {more} more logs in {}", bundle.path.display());
        all.push(Text::new(DIM, words));
    }
    all
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=1_023 => format!("{bytes} B"),
        1_024..=1_048_575 => format!("{} KiB", bytes.div_ceil(1_024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
