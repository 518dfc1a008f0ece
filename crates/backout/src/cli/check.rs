//! `backout check`: health now, as an exit code.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, HostName, ReleaseId, Slot, Unit, Version};
use backout_core::model::{CheckSchedule, Health};
use backout_core::ports::ProbeSubject;
use backout_engine as engine;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::{self, Format, Global};
use super::reading::{Access, Reader};
use super::report::json as documents;
use super::report::table::Fields;
use super::report::text::{BOLD, Text, of_health, terminal_width};
use super::report::words;
use super::session;
use super::status::nowhere;
use crate::error::CommandError;
use crate::exit_code;
use crate::registry;

/// Between two looks of `--wait`.
const PERIOD: Duration = Duration::from_secs(1);

/// `--wait` without `--max-wait` ends then.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// What was found.
struct Found {
    subject: String,
    document: serde_json::Map<String, Value>,
    health: Health,
    services: BTreeMap<String, Health>,
    findings: Vec<String>,
    hints: Vec<String>,
}

impl Found {
    fn is_healthy(&self) -> bool {
        matches!(self.health, Health::Healthy | Health::Warning)
    }
}

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Check) -> Result<u8, CommandError> {
    if !args.wait {
        let found = look(global, args).await?;
        show(global, &found, None);
        return Ok(if found.is_healthy() { exit_code::OK } else { exit_code::FAILED });
    }
    wait(global, args).await
}

async fn wait(global: &Global, args: &args::Check) -> Result<u8, CommandError> {
    let began = Instant::now();
    let limit = args.max_wait.map_or(MAX_WAIT, Duration::from_millis);
    let deadline = began.checked_add(limit).unwrap_or_else(|| began + MAX_WAIT);
    let mut last: Option<Found> = None;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let found = tokio::select! {
            _ = &mut interrupted => break,
            () = tokio::time::sleep_until(deadline) => break,
            found = look(global, args) => found?,
        };
        if found.is_healthy() {
            show(global, &found, Some(began.elapsed()));
            return Ok(exit_code::OK);
        }
        say_waiting(global, &found, last.as_ref());
        last = Some(found);
        tokio::select! {
            _ = &mut interrupted => break,
            () = tokio::time::sleep_until(deadline) => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    let found = last.unwrap_or_else(|| unknown(String::new(), "no check came to an end in time"));
    show(global, &found, Some(began.elapsed()));
    Ok(exit_code::STOPPED_WATCHING)
}

/// Says what is waited for, whenever that changes.
fn say_waiting(global: &Global, found: &Found, before: Option<&Found>) {
    let same =
        before.is_some_and(|last| (last.health, &last.findings) == (found.health, &found.findings));
    if !same && global.format == Format::Table {
        let why = found.findings.join("; ");
        let _ = writeln!(anstream::stderr(), "waiting, {}: {why}", found.health);
    }
}

async fn look(global: &Global, args: &args::Check) -> Result<Found, CommandError> {
    if let Some(url) = &args.endpoint {
        return Ok(endpoint(url).await);
    }
    let reader = Reader::open_one(global, "check", Access::KeepChecks).await?;
    let found = live(global, &reader).await;
    reader.close().await;
    found
}

async fn live(global: &Global, reader: &Reader) -> Result<Found, CommandError> {
    let place = &reader.places[0];
    let key = &place.loaded.settings.key;
    let report = match &place.session {
        Some(session) => {
            engine::check_now(&session.cx).await.map_err(|error| session::ledger_error(&error))?
        }
        None => None,
    };
    let Some(report) = report else {
        let mut found = unknown(key.to_string(), "nothing is live");
        if !reader.is_known().await? {
            found.hints = nowhere(&reader.not_known(global).await);
        }
        found.document.extend(names(key));
        return Ok(found);
    };
    Ok(Found {
        subject: key.to_string(),
        document: names(key),
        health: report.health,
        services: report.services,
        findings: report.findings,
        hints: Vec::new(),
    })
}

fn names(key: &EnvironmentKey) -> serde_json::Map<String, Value> {
    let mut names = serde_json::Map::new();
    names.insert("app".to_owned(), json!(key.app));
    names.insert("environment".to_owned(), json!(key.environment));
    names
}

fn unknown(subject: String, why: &str) -> Found {
    Found {
        subject,
        document: serde_json::Map::new(),
        health: Health::Unknown,
        services: BTreeMap::new(),
        findings: vec![why.to_owned()],
        hints: Vec::new(),
    }
}

/// One address, with neither file nor ledger: the default schedule and thresholds.
async fn endpoint(url: &str) -> Found {
    let schedule = CheckSchedule::default();
    let subject = ProbeSubject {
        unit: nobody(),
        address: None,
        version: Version::new("unknown").expect("it is a valid label"),
        release: ReleaseId::new("rel_none").expect("it is a valid id"),
        timeout: Duration::from_millis(schedule.timeout_ms),
        retries: schedule.retries,
    };
    let result = registry::endpoint_probe(url).check(&subject).await;
    let thresholds = backout_judge::Settings::default().thresholds;
    let (health, finding) = engine::judge_check(result, None, &thresholds, schedule.interval_ms);
    let mut document = serde_json::Map::new();
    document.insert("endpoint".to_owned(), json!(url));
    Found {
        subject: url.to_owned(),
        document,
        health,
        services: BTreeMap::new(),
        findings: (!finding.is_empty()).then_some(finding).into_iter().collect(),
        hints: Vec::new(),
    }
}

/// An address of its own belongs to no service.
fn nobody() -> Unit {
    let valid = "the name is valid";
    Unit {
        key: EnvironmentKey {
            app: "endpoint".parse().expect(valid),
            environment: "endpoint".parse().expect(valid),
        },
        service: "endpoint".parse().expect(valid),
        host: HostName::local(),
        slot: Slot::A,
    }
}

fn show(global: &Global, found: &Found, waited: Option<Duration>) {
    let waited_ms = waited.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    if global.format == Format::Json {
        let mut document = found.document.clone();
        document.insert("health".to_owned(), json!(found.health));
        document.insert("services".to_owned(), json!(found.services));
        document.insert("findings".to_owned(), json!(found.findings));
        document.insert("checked_at".to_owned(), json!(Timestamp::now()));
        document.insert("waited_ms".to_owned(), json!(waited_ms));
        documents::print(&Value::Object(document));
        for line in &found.hints {
            let _ = writeln!(anstream::stderr(), "{line}");
        }
        return;
    }
    let mut out = anstream::stdout().lock();
    for line in lines(found, waited_ms) {
        let _ = writeln!(out, "{line}");
    }
}

fn lines(found: &Found, waited_ms: Option<u64>) -> Vec<String> {
    let after = waited_ms.map(|ms| format!(" after {}", words::duration(ms))).unwrap_or_default();
    let head = Text::new(BOLD, &found.subject)
        .then(if found.subject.is_empty() { "" } else { "  " })
        .and(of_health(found.health), found.health.as_str())
        .then(after);
    let mut lines = vec![head.styled()];
    let mut fields = Fields::default();
    if found.services.len() > 1 {
        for (service, health) in &found.services {
            fields.add(service, Text::new(of_health(*health), health.as_str()));
        }
    }
    lines.extend(fields.render(2, terminal_width()));
    for finding in &found.findings {
        let parts = Text::new(of_health(found.health), finding).wrapped(terminal_width() - 2);
        lines.extend(parts.iter().map(|part| format!("  {}", part.styled())));
    }
    lines.extend(found.hints.iter().cloned());
    lines
}
