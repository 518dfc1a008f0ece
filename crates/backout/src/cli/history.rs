//! `backout history`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;

use backout_core::ids::EnvironmentName;
use backout_core::model::{Deployment, DeploymentFilter, DeploymentKind, DrillRecord};
use backout_core::ports::LedgerError;
use backout_engine::Context;
use jiff::Timestamp;
use serde_json::Value;

use super::args::{self, Format, Global};
use super::reading::{Access, Reader};
use super::report::json as documents;
use super::report::table::{Align, Table};
use super::report::text::{BOLD, DIM, Text, bad, of_status, terminal_width};
use super::report::words;
use super::session;
use super::status::nowhere;
use crate::error::CommandError;
use crate::exit_code;

/// Rows for people, unless they ask for more.
const TABLE_LIMIT: u32 = 30;

/// Elements for machines, unless they ask for fewer.
const JSON_LIMIT: u32 = 100_000;

/// Rollbacks whose record is looked up for the time that they took.
const MEASURED_MAX: usize = 1_000;

/// So many missing rows are looked for one by one.
const GAPS_MAX: usize = 100;

/// Below this width the age tells enough: moment and duration give way to what it was.
const WIDE: usize = 100;

/// A row, or what is wrong with it.
enum Row {
    Deployment(Box<Deployment>, Measured),
    Unreadable(u64, String),
}

/// A row and the environment that it belongs to.
type Listed = (EnvironmentName, Row);

/// What was measured of a deployment.
#[derive(Default)]
struct Measured {
    restore_ms: Option<u64>,
    drill: Option<DrillRecord>,
}

/// Runs the verb.
pub async fn run(global: &Global, args: &args::History) -> Result<u8, CommandError> {
    let reader = Reader::open(global, "history", Access::Read).await?;
    let result = show(global, args, &reader).await;
    reader.close().await;
    result.map(|()| exit_code::OK)
}

async fn show(global: &Global, args: &args::History, reader: &Reader) -> Result<(), CommandError> {
    let default = if global.format == Format::Json { JSON_LIMIT } else { TABLE_LIMIT };
    let limit = args.limit.unwrap_or(default);
    let mut each = Vec::new();
    for session in reader.places.iter().filter_map(|place| place.session.as_ref()) {
        let rows = rows(&session.cx, args, limit).await;
        let rows = rows.map_err(|error| session::ledger_error(&error))?;
        each.push((session.cx.key.environment.clone(), rows));
    }
    let mut rows = merged(each);
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let mut nowhere = match rows.is_empty() && !reader.is_known().await? {
        true => nowhere(&reader.not_known(global).await),
        false => Vec::new(),
    };
    let several = reader.places.len() + reader.broken.len() > 1;
    let left_out: Vec<String> = reader
        .broken
        .iter()
        .map(|(name, error)| format!("{}/{name} is not shown: {}", reader.app, error.message))
        .collect();
    match global.format {
        Format::Json => {
            documents::print(&rows.iter().map(document).collect());
            nowhere.extend(left_out);
            let _ = write!(anstream::stderr(), "{}", lines(&nowhere));
        }
        Format::Table => {
            let mut text = if nowhere.is_empty() { table(&rows, more, several) } else { nowhere };
            text.extend(left_out);
            let _ = write!(anstream::stdout(), "{}", lines(&text));
        }
    }
    Ok(())
}

/// The rows of all environments, newest first; each one's own stay in their order.
fn merged(each: Vec<(EnvironmentName, Vec<Row>)>) -> Vec<Listed> {
    let mut queues: Vec<(EnvironmentName, VecDeque<Row>)> =
        each.into_iter().map(|(name, rows)| (name, rows.into())).collect();
    let mut all = Vec::new();
    // What can't be read has no time: it stays beside the one after it.
    let newest = |row: &Row| match row {
        Row::Deployment(row, _) => row.started_at,
        Row::Unreadable(..) => Timestamp::MAX,
    };
    let next = |queues: &[(EnvironmentName, VecDeque<Row>)]| {
        let heads = queues.iter().enumerate();
        let heads = heads.filter_map(|(at, (_, rows))| Some((at, newest(rows.front()?))));
        heads.max_by_key(|(at, time)| (*time, std::cmp::Reverse(*at))).map(|(at, _)| at)
    };
    while let Some(at) = next(&queues) {
        let (name, rows) = &mut queues[at];
        all.extend(rows.pop_front().map(|row| (name.clone(), row)));
    }
    all
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// One more than `limit`, so that it is known whether there are older ones.
async fn rows(cx: &Context, args: &args::History, limit: u32) -> Result<Vec<Row>, LedgerError> {
    let filter = DeploymentFilter {
        rollbacks_only: args.rollbacks,
        status: args.status,
        since: args.since,
        limit: Some(limit.saturating_add(1)),
    };
    let found = cx.ledger.deployments(&cx.key, &filter).await?;
    let unfiltered = !args.rollbacks && args.status.is_none() && args.since.is_none();
    let gaps = if unfiltered { unreadable(cx, &found, limit).await? } else { Vec::new() };
    let mut rows: Vec<Row> = Vec::with_capacity(found.len());
    let drills = match cx.ledger.environment(&cx.key).await {
        Ok(environment) => environment.map(|known| known.drills).unwrap_or_default(),
        Err(LedgerError::CorruptRecord { .. }) => BTreeMap::default(),
        Err(error) => return Err(error),
    };
    for (place, row) in found.into_iter().enumerate() {
        let mut measured = Measured { restore_ms: None, drill: drills.get(&row.release).cloned() };
        if row.kind == DeploymentKind::Rollback && place < MEASURED_MAX {
            let record = cx.ledger.rollback_of(&cx.key, row.number).await.ok().flatten();
            measured.restore_ms = record.as_ref().and_then(documents::restore_ms);
        }
        rows.push(Row::Deployment(Box::new(row), measured));
    }
    rows.extend(gaps);
    rows.sort_by_key(|row| std::cmp::Reverse(number(row)));
    Ok(rows)
}

fn number(row: &Row) -> u64 {
    match row {
        Row::Deployment(row, _) => row.number,
        Row::Unreadable(number, _) => *number,
    }
}

/// Numbers follow each other: where one is missing, its record may be damaged.
async fn unreadable(
    cx: &Context,
    found: &[Deployment],
    limit: u32,
) -> Result<Vec<Row>, LedgerError> {
    let environment = match cx.ledger.environment(&cx.key).await {
        Ok(Some(environment)) => environment,
        Ok(None) | Err(LedgerError::CorruptRecord { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let known: BTreeSet<u64> = found.iter().map(|row| row.number).collect();
    let all = found.len() <= limit as usize;
    let first = if all { 0 } else { found.last().map_or(0, |row| row.number) };
    let missing = (first..environment.next_number).rev().filter(|number| !known.contains(number));
    let mut gaps = Vec::new();
    for number in missing.take(GAPS_MAX) {
        match cx.ledger.deployment(&cx.key, number).await {
            Err(error @ LedgerError::CorruptRecord { .. }) => {
                gaps.push(Row::Unreadable(number, error.to_string()));
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gaps)
}

fn document((environment, row): &Listed) -> Value {
    match row {
        Row::Deployment(row, measured) => {
            documents::measured(row, measured.restore_ms, measured.drill.as_ref())
        }
        Row::Unreadable(number, error) => {
            let mut value = documents::unreadable_deployment(*number, error);
            value["environment"] = serde_json::json!(environment);
            value
        }
    }
}

fn table(rows: &[Listed], more: bool, several: bool) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no deployment matches".to_owned()];
    }
    let mut lines = page(rows, several, Timestamp::now(), terminal_width());
    if more {
        let hint = format!("older ones: `backout history --limit {}`", rows.len() * 10);
        lines.push(Text::new(DIM, hint).styled());
    }
    lines
}

/// The rows for a terminal of this width.
fn page(rows: &[Listed], several: bool, now: Timestamp, width: usize) -> Vec<String> {
    let environment = several.then_some(("ENVIRONMENT", Align::Left));
    let columns = [
        ("#", Align::Right),
        ("VERSION", Align::Left),
        ("STATUS", Align::Left),
        ("STARTED (UTC)", Align::Left),
        ("AGE", Align::Right),
        ("TOOK", Align::Right),
        ("WHAT", Align::Left),
    ];
    let columns: Vec<_> = environment.into_iter().chain(columns).collect();
    let mut table = Table::new(&columns);
    for (name, row) in rows {
        let name = several.then(|| Text::from(name.to_string()));
        table.row(name.into_iter().chain(cells(row, now, width >= WIDE)));
    }
    table.render(0, width, false)
}

/// Rows of one environment, as they are listed.
#[cfg(test)]
pub fn page_of(rows: &[Deployment], now: Timestamp, width: usize) -> Vec<String> {
    let listed = |row: &Deployment| {
        let measured = Measured::default();
        (row.key.environment.clone(), Row::Deployment(Box::new(row.clone()), measured))
    };
    page(&rows.iter().map(listed).collect::<Vec<_>>(), false, now, width)
}

fn cells(row: &Row, now: Timestamp, wide: bool) -> Vec<Text> {
    let (row, measured) = match row {
        Row::Deployment(row, measured) => (row, measured),
        Row::Unreadable(number, error) => {
            let mut cells = vec![Text::from(number.to_string())];
            cells.resize(6, Text::default());
            cells.push(Text::new(bad(), error));
            return cells;
        }
    };
    let started = row.started_at.strftime("%Y-%m-%d %H:%M");
    let took = row.completed_at.map(|end| words::span(row.started_at, end)).unwrap_or_default();
    vec![
        Text::from(row.number.to_string()),
        Text::new(BOLD, row.version.as_str()),
        Text::new(of_status(row.status), row.status.as_str()),
        if wide { Text::from(started.to_string()) } else { Text::default() },
        Text::from(words::short_age(row.started_at, now)),
        if wide { Text::from(took) } else { Text::default() },
        what(row).and(DIM, measures(measured)),
    ]
}

/// `, users safe after 40 ms`, `, drilled: 1.2 s`.
fn measures(measured: &Measured) -> String {
    let safe = measured.restore_ms.map(|ms| format!(", users safe after {}", words::duration(ms)));
    let drill = measured.drill.as_ref().map(|drill| match (drill.passed, drill.restore_ms) {
        (false, _) => ", its drill failed".to_owned(),
        (true, Some(ms)) => format!(", drilled: {}", words::duration(ms)),
        (true, None) => ", drilled".to_owned(),
    });
    safe.into_iter().chain(drill).collect()
}

/// What it was and why, in a few words.
#[must_use]
pub fn what(row: &Deployment) -> Text {
    let text = kind(row);
    let why = row.error_message.as_ref().or(row.reason.as_ref());
    match why.filter(|why| !why.is_empty()) {
        Some(why) => text.then(format!(": {why}")),
        None => text,
    }
}

/// What it was.
#[must_use]
pub fn kind(row: &Deployment) -> Text {
    let text = match row.kind {
        DeploymentKind::Adopt => Text::from("adopt"),
        DeploymentKind::Deploy => Text::from("deploy"),
        DeploymentKind::Rollback => {
            let trigger = row.trigger.map(|trigger| trigger.as_str()).unwrap_or_default();
            let from = row.from_version.as_ref().map(|v| format!(" from {v}")).unwrap_or_default();
            Text::from("rollback").then(format!(" ({trigger}){from}"))
        }
    };
    let names: Vec<&str> = row.services.iter().map(|name| name.as_str()).collect();
    let only = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
    let text = text.then(only);
    text.and(bad(), if row.rejected { ", rejected" } else { "" })
}
