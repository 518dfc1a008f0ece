//! `backout ledger`: where the history is kept.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{Format, Global, LedgerCommand};
use super::report::json as documents;
use super::session;
use crate::error::{CommandError, ErrorKind};
use crate::exit_code;
use crate::registry::{
    Copied, CopyError, DATABASE_VARIABLE, LedgerPlace, OpenError, Progress, copy_ledger,
};

/// Runs the verb.
pub async fn run(global: &Global, command: &LedgerCommand) -> Result<u8, CommandError> {
    match command {
        LedgerCommand::Copy(args) => copy(global, args.to.expose()).await,
    }
}

async fn copy(global: &Global, to: &str) -> Result<u8, CommandError> {
    let state = session::state_dirs(global)?
        .into_iter()
        .next()
        .ok_or_else(|| CommandError::failed("no state folder is known: set --state-dir"))?;
    let place = LedgerPlace::new(&state.path, Some(to))
        .map_err(|error| CommandError::usage(format!("--to: {error}")))?;
    let LedgerPlace::Database(url) = &place else {
        return Err(CommandError::usage("--to: it names no database"));
    };
    let shown = Shown { on: global.format == Format::Table && std::io::stderr().is_terminal() };
    let copied = copy_ledger(&state.path, url, &mut |progress| shown.progress(progress)).await;
    shown.clear();
    let copied = copied.map_err(|error| copy_error(&error, &state.path))?;
    match global.format {
        Format::Json => documents::print(&document(&copied, &state.path, &place)),
        Format::Table => print(&copied, &state.path, &place),
    }
    Ok(exit_code::OK)
}

fn copy_error(error: &CopyError, folder: &Path) -> CommandError {
    let message = error.to_string();
    match error {
        CopyError::Busy { .. } => {
            CommandError::new(ErrorKind::Busy, message).hint("wait for it, or abort it, then copy again")
        }
        CopyError::Refused(_) => CommandError::refused(message),
        CopyError::Open(OpenError::NotFound(_)) => CommandError::failed(message).hint(format!(
            "there is nothing to move in {}: with {DATABASE_VARIABLE} set the first deploy begins a ledger there",
            folder.display()
        )),
        CopyError::Open(_) | CopyError::Ledger(_) | CopyError::Differs(_) => {
            CommandError::failed(message).hint("the same command goes on where it stopped")
        }
    }
}

fn document(copied: &Copied, folder: &Path, place: &LedgerPlace) -> Value {
    let rows: Map<String, Value> =
        copied.rows.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
    json!({
        "ledger": copied.ledger, "from": folder, "to": place.to_string(), "rows": rows,
        "audit_entries": copied.audit_entries, "audit_verified": copied.audit_verified,
    })
}

fn print(copied: &Copied, folder: &Path, place: &LedgerPlace) {
    let mut out = anstream::stdout().lock();
    let rows: u64 = copied.rows.iter().map(|(_, rows)| rows).sum();
    let _ = writeln!(
        out,
        "{} is now in {place}: {rows} rows, each compared with its original",
        copied.ledger
    );
    let log = if copied.audit_verified {
        "the audit log holds there as it did here"
    } else {
        "the audit log finds there what it found here: see `backout audit verify`"
    };
    let _ = writeln!(out, "{log}, over {} entries", copied.audit_entries);
    let _ = writeln!(
        out,
        "set {DATABASE_VARIABLE} to that address for every command and controller; \
         the ledger in {} is not used any more",
        folder.display()
    );
}

/// One line on a terminal, again and again.
struct Shown {
    on: bool,
}

impl Shown {
    fn progress(&self, progress: Progress) {
        let words = match progress {
            Progress::Begun => "the database is ready".to_owned(),
            Progress::Rows(table, rows) => format!("{table}: {rows} rows"),
            Progress::Verified => "every row was compared".to_owned(),
            Progress::Marked => "the old ledger is marked".to_owned(),
        };
        if self.on {
            let _ = write!(anstream::stderr(), "\r\x1b[2K{words}");
        }
    }

    fn clear(&self) {
        if self.on {
            let _ = write!(anstream::stderr(), "\r\x1b[2K");
        }
    }
}
