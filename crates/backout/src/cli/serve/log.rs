//! The log: lines on standard error, as text or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::args::{Format, Global};

/// Begins to write it.
pub fn begin(global: &Global) {
    let level = if global.verbose > 0 { "debug" } else { "info" };
    // What other crates have to say is for `-v`.
    let directives = format!(
        "warn,backout={level},backout_engine={level},backout_ledger={level},backout_adapters={level}"
    );
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    // A second beginning in one process keeps the first.
    let _ = match global.format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Table => lines.try_init(),
    };
}
