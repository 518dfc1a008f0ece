//! `backout status`.

use std::io::Write as _;
use std::time::Duration;

use anstream::adapter::strip_str;
use backout_core::model::ReadinessReport;
use backout_engine as engine;
use backout_engine::CheckReport;
use serde_json::{Value, json};

use super::args::{self, Format, Global};
use super::reading::{Access, Place, Reader};
use super::report::commands::Commands;
use super::report::text::{terminal_size, terminal_width};
use super::report::{json as documents, status as report, text};
use super::session::{self, Session};
use crate::error::CommandError;
use crate::exit_code;

/// Between two looks of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// Between two looks that probe.
const PROBING_PERIOD: Duration = Duration::from_secs(5);

/// One look at everything that is meant.
struct Picture {
    document: Value,
    lines: Vec<String>,
    /// For standard error beside a JSON document.
    notes: Vec<String>,
}

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Status) -> Result<u8, CommandError> {
    if args.watch {
        return watch(global, args).await;
    }
    let picture = picture(global, args).await?;
    match global.format {
        Format::Json => {
            documents::print(&picture.document);
            for note in &picture.notes {
                let _ = writeln!(anstream::stderr(), "{note}");
            }
        }
        Format::Table => print(&picture.lines),
    }
    Ok(exit_code::OK)
}

fn print(lines: &[String]) {
    let mut out = anstream::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

async fn picture(global: &Global, args: &args::Status) -> Result<Picture, CommandError> {
    let access = if args.check { Access::KeepChecks } else { Access::Read };
    let reader = Reader::open(global, "status", access).await?;
    let picture = draw(global, args, &reader).await;
    reader.close().await;
    picture
}

async fn draw(
    global: &Global,
    args: &args::Status,
    reader: &Reader,
) -> Result<Picture, CommandError> {
    let (mut environments, mut lines) = (Vec::new(), Vec::new());
    for place in &reader.places {
        let (document, text) = environment(global, args, place).await?;
        environments.push(document);
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(text);
    }
    let notes = notes(global, reader).await?;
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes.iter().cloned());
    }
    let document = json!({
        "app": reader.app, "environments": environments,
        "state_dir": reader.state.path, "state_dir_rule": reader.state.rule,
    });
    Ok(Picture { document, lines, notes })
}

/// What stands beside the environments: configurations that are wrong, and a ledger that knows nothing.
async fn notes(global: &Global, reader: &Reader) -> Result<Vec<String>, CommandError> {
    let mut notes: Vec<String> = reader
        .broken
        .iter()
        .map(|(name, error)| {
            let name = format!("{}/{name}", reader.app);
            text::Text::new(text::warn(), format!("{name} is not shown: {}", error.message))
                .styled()
        })
        .collect();
    if !reader.is_known().await? {
        notes.extend(nowhere(&reader.not_known(global).await));
    }
    Ok(notes)
}

/// That nothing is known is no error of a verb that reads.
pub fn nowhere(error: &CommandError) -> Vec<String> {
    let mut lines = vec![error.message.clone()];
    for hint in &error.hints {
        lines.push(text::Text::new(text::command(), "hint: ").then(hint).styled());
    }
    lines
}

async fn environment(
    global: &Global,
    args: &args::Status,
    place: &Place,
) -> Result<(Value, Vec<String>), CommandError> {
    let key = &place.loaded.settings.key;
    let Some(session) = &place.session else {
        let line = text::Text::new(text::BOLD, key.to_string()).then("  nothing was deployed yet");
        return Ok((report::unknown(&key.environment), vec![line.styled()]));
    };
    let checked = if args.check { Some(check(session).await?) } else { None };
    let mut view =
        engine::look(&session.cx).await.map_err(|error| session::ledger_error(&error))?;
    let mut findings = Vec::new();
    // On a ledger that can't be written the results are shown all the same.
    if let Some((health, readiness)) = checked {
        view.health = health.as_ref().map(CheckReport::live_health).or(view.health);
        view.readiness = readiness;
        findings = health.map(|report| report.findings).unwrap_or_default();
    }
    let mut described = report::Described::new(&view, &Commands::new(global, &key.environment));
    described.findings = findings;
    Ok((report::document(&described), report::lines(&described, terminal_width())))
}

type Checked = (Option<CheckReport>, Option<ReadinessReport>);

/// Probes what is live, and proves its way back, now.
async fn check(session: &Session) -> Result<Checked, CommandError> {
    let failed = |error| session::ledger_error(&error);
    let health = engine::check_now(&session.cx).await.map_err(failed)?;
    let readiness = match &health {
        Some(_) => engine::readiness(&session.cx).await.map_err(failed)?,
        None => None,
    };
    // On a ledger that can't be written it is only shown.
    let _ = match &readiness {
        Some(report) => session.cx.ledger.put_readiness(&session.cx.key, report).await,
        None => session.cx.ledger.forget_readiness(&session.cx.key).await,
    };
    Ok((health, readiness))
}

/// Shows it again until Ctrl-C: in place on a terminal, else whenever it changed.
async fn watch(global: &Global, args: &args::Status) -> Result<u8, CommandError> {
    let period = if args.check { PROBING_PERIOD } else { PERIOD };
    let mut shown = Shown::default();
    let mut first = true;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let next = tokio::select! {
            _ = &mut interrupted => return Ok(exit_code::OK),
            next = picture(global, args) => next,
        };
        match next {
            Ok(picture) => shown.show(global.format, &picture),
            // What is wrong from the start stays wrong; later a file may just be being written.
            Err(error) if first => return Err(error),
            Err(error) => shown.show(global.format, &trouble(&error)),
        }
        first = false;
        tokio::select! {
            _ = &mut interrupted => return Ok(exit_code::OK),
            () = tokio::time::sleep(period) => {}
        }
    }
}

fn trouble(error: &CommandError) -> Picture {
    Picture {
        document: json!({ "error": error.message }),
        lines: vec![text::Text::new(text::bad(), error.message.clone()).styled()],
        notes: Vec::new(),
    }
}

/// What was printed last.
#[derive(Default)]
struct Shown {
    document: Value,
    begun: bool,
}

impl Shown {
    fn show(&mut self, format: Format, picture: &Picture) {
        match (format, terminal_size()) {
            (Format::Table, Some((_, rows))) => in_place(&picture.lines, rows, !self.begun),
            _ if self.document == picture.document => {}
            (Format::Json, _) => documents::print(&picture.document),
            (Format::Table, None) => {
                if self.begun {
                    print(&[String::new()]);
                }
                print(&picture.lines);
            }
        }
        self.begun = true;
        self.document = picture.document.clone();
    }
}

/// Overwrites what stands there line by line, so that nothing flickers.
fn in_place(lines: &[String], rows: usize, clear: bool) {
    const HOME: &str = "\x1b[H";
    const CLEAR: &str = "\x1b[2J";
    const END_OF_LINE: &str = "\x1b[K";
    const REST: &str = "\x1b[J";
    let mut text = format!("{}{HOME}", if clear { CLEAR } else { "" });
    let plain = anstream::AutoStream::choice(&std::io::stdout()) == anstream::ColorChoice::Never;
    // The last row stays free for the cursor.
    for line in lines.iter().take(rows.saturating_sub(1)) {
        let line = if plain { strip_str(line).to_string() } else { line.clone() };
        text.push_str(&format!("{line}{END_OF_LINE}\r\n"));
    }
    text.push_str(REST);
    // Past the stream that would take the moves of the cursor out together with the colours.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
