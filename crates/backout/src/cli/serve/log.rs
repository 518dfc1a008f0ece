//! The log: lines on standard error, as text or as JSON.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::{Format, Global};

/// Begins to write it.
pub fn begin(global: &Global) {
    let level = if global.verbose > 0 { LevelFilter::DEBUG } else { LevelFilter::INFO };
    // All that begins so is ours; other crates have to be worried to be heard.
    let said = Targets::new().with_default(LevelFilter::WARN).with_target("backout", level);
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Sparing)
        .with_ansi(colour)
        .with_target(false);
    // A second beginning in one process keeps the first.
    let registry = tracing_subscriber::registry().with(said);
    let _ = match global.format {
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        Format::Table => registry.with(lines).try_init(),
    };
}

/// Lines an hour at most: what goes wrong with every request must not fill the disk.
const LINES_PER_HOUR: u32 = 2_000;
const HOUR: Duration = Duration::from_secs(3600);

/// When this hour began, and its lines so far.
type Lines = Option<(Instant, u32)>;

fn hour() -> std::sync::MutexGuard<'static, Lines> {
    static LINES: Mutex<Lines> = Mutex::new(None);
    LINES.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Counts one more line; whether it may be written.
fn may_write(lines: &mut Lines, now: Instant) -> bool {
    let (began, count) = lines.get_or_insert((now, 0));
    if now.saturating_duration_since(*began) >= HOUR {
        (*began, *count) = (now, 0);
    }
    *count = count.saturating_add(1);
    *count <= LINES_PER_HOUR
}

/// Standard error, a line at a time, and no more than so many.
struct Sparing;

impl Write for Sparing {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if may_write(&mut hour(), Instant::now()) {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_ends_and_the_next_hour_begins_anew() {
        let (mut lines, now) = (None, Instant::now());
        let written = (0..10_000).filter(|_| may_write(&mut lines, now)).count();
        assert_eq!(written, LINES_PER_HOUR as usize);
        assert!(!may_write(&mut lines, now + HOUR / 2));
        assert!(may_write(&mut lines, now + HOUR));
    }
}
