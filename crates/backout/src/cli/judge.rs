//! `backout judge replay`: what would another setting have done?

use std::io::{BufRead as _, BufReader, Read, Write};

use backout_judge::Level;
use backout_judge::replay::{Replay, ReplayOptions};

use super::args::{JudgeCommand, JudgeReplay};
use crate::error::CommandError;
use crate::exit_code;

/// A longer line is no event.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Runs the verb.
pub fn run(command: &JudgeCommand) -> Result<u8, CommandError> {
    match command {
        JudgeCommand::Replay(args) => replay(args),
    }
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
