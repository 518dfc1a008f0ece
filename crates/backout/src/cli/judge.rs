//! `backout judge replay`: what would another setting have done? `backout judge explain`: why?

use std::io::{BufRead as _, BufReader, Read, Write};

use backout_core::model::DeploymentFilter;
use backout_core::ports::LedgerError;
use backout_engine::{self as engine, JudgeAccount};
use backout_judge::Level;
use backout_judge::replay::{Replay, ReplayOptions};

use super::args::{Format, Global, JudgeCommand, JudgeExplain, JudgeReplay};
use super::reading::{Access, Reader};
use super::report::judge as report;
use super::report::{json as documents, text};
use super::session;
use crate::error::{CommandError, ErrorKind};
use crate::exit_code;

/// A longer line is no event.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Replays recorded requests; `None` for what needs a ledger.
pub fn run_replay(command: &JudgeCommand) -> Option<Result<u8, CommandError>> {
    match command {
        JudgeCommand::Replay(args) => Some(replay(args)),
        JudgeCommand::Explain(_) => None,
    }
}

/// Explains a verdict.
pub async fn run(global: &Global, command: &JudgeCommand) -> Result<u8, CommandError> {
    match command {
        JudgeCommand::Replay(args) => replay(args),
        JudgeCommand::Explain(args) => {
            let reader = Reader::open_one(global, "judge explain", Access::Read).await?;
            let result = explain(global, args, &reader).await;
            reader.close().await;
            result.map(|()| exit_code::OK)
        }
    }
}

/// Deployments that are looked through for the newest account.
const LOOKED_THROUGH: u32 = 50;

async fn explain(
    global: &Global,
    args: &JudgeExplain,
    reader: &Reader,
) -> Result<(), CommandError> {
    let (Some(ledger), Some(place)) = (reader.ledger(), reader.places.first()) else {
        let unknown = reader.not_known(global).await;
        return Err(CommandError { kind: ErrorKind::Failed, ..unknown });
    };
    let key = &place.loaded.settings.key;
    let failed = |error: &LedgerError| session::ledger_error(error);
    let numbers: Vec<u64> = match args.number {
        Some(number) => vec![number],
        None => {
            let filter =
                DeploymentFilter { limit: Some(LOOKED_THROUGH), ..DeploymentFilter::default() };
            let newest = ledger.deployments(key, &filter).await.map_err(|e| failed(&e))?;
            newest.iter().map(|deployment| deployment.number).collect()
        }
    };
    let mut document = None;
    for number in numbers {
        let name = engine::judge_account_name(number);
        document = ledger.document(key, &name).await.map_err(|error| failed(&error))?;
        if document.is_some() {
            break;
        }
    }
    let Some(document) = document else {
        let which = args.number.map_or_else(String::new, |number| format!(" #{number}"));
        return Err(CommandError::failed(format!(
            "no deployment{which} of {key} was judged beside another, or its account is gone"
        ))
        .hint(args.number.map_or_else(
            || "`backout history` lists the deployments".to_owned(),
            |number| format!("`backout inspect '#{number}'` says how it ended, and why"),
        )));
    };
    let unreadable = |error: serde_json::Error| {
        CommandError::failed(format!("failed to read the account: {error}"))
    };
    let account: JudgeAccount = serde_json::from_value(document.clone()).map_err(unreadable)?;
    if account.format > engine::JUDGE_ACCOUNT_FORMAT {
        let message = format!("the account has format {}, which is newer", account.format);
        return Err(CommandError::failed(message).hint("use the newer backout"));
    }
    if let Some(path) = &args.svg {
        fs_err::write(path, report::svg(&account))
            .map_err(|error| CommandError::failed(format!("failed to draw: {error}")))?;
    }
    match global.format {
        Format::Json => documents::print(&document),
        Format::Table => {
            let mut out = anstream::stdout().lock();
            for line in report::lines(&account, text::terminal_width(), jiff::Timestamp::now()) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    Ok(())
}

fn options(args: &JudgeReplay) -> Result<ReplayOptions, CommandError> {
    let has = |name: &str| args.metrics.iter().any(|metric| metric == name);
    let options = ReplayOptions {
        false_rollback_probability: args.false_rollback_probability,
        warm_up_ms: i64::try_from(args.warm_up).unwrap_or(i64::MAX),
        latency_warm_up_ms: i64::try_from(args.latency_warm_up).unwrap_or(i64::MAX),
        tolerance: args.tolerance,
        harmless_error_rate: args.harmless_error_rate,
        harmless_latency_increase: args.harmless_latency_increase,
        errors: has("errors"),
        latency: has("latency"),
    };
    let probability = options.false_rollback_probability;
    if !(probability > 0.0 && probability < 1.0) {
        return Err(CommandError::usage("--false-rollback-probability must lie between 0 and 1")
            .hint("0.01 means: at most one harmless release in a hundred is taken back"));
    }
    let ratios =
        [options.tolerance, options.harmless_error_rate, options.harmless_latency_increase];
    if ratios.iter().any(|ratio| !(ratio.is_finite() && *ratio >= 0.0)) {
        return Err(CommandError::usage("a tolerance or harmless rate must be 0 or more"));
    }
    Ok(options)
}

fn replay(args: &JudgeReplay) -> Result<u8, CommandError> {
    let options = options(args)?;
    let name = args.file.display();
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(
            std::fs::File::open(&args.file)
                .map_err(|error| CommandError::usage(format!("failed to open {name}: {error}")))?,
        )
    };
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut replay = Replay::new(&options);
    let mut line = String::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        number += 1;
        let wrong = |message: String| CommandError::usage(format!("{name}:{number}: {message}"));
        let read = (&mut input)
            .take(MAX_LINE_BYTES)
            .read_line(&mut line)
            .map_err(|error| wrong(format!("failed to read this line: {error}")))?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_LINE_BYTES {
            return Err(wrong(format!("this line is longer than {MAX_LINE_BYTES} bytes")));
        }
        let changes = replay.line(line.trim_end()).map_err(|error| {
            CommandError::usage(format!("{name}:{}: {}", error.line, error.message))
        })?;
        for change in changes {
            let _ = writeln!(out, "{change}");
        }
    }
    let (lines, summary) = replay.finish();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
    Ok(if summary.verdict == Level::Failing || summary.first_failing_t.is_some() {
        exit_code::FAILED
    } else {
        exit_code::OK
    })
}
