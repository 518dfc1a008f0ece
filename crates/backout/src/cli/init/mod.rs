//! `backout init`: writes `backout.yaml` from what it finds in the folder.

mod detect;
mod template;

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::args::{Format, Global};
use crate::config;
use crate::error::CommandError;

/// Writes the file; an existing one is never touched.
///
/// # Errors
/// Refused when there is one already; failed when it can't be written.
pub fn run(global: &Global) -> Result<(), CommandError> {
    let file = global.config_file();
    let folder = folder_of(file);
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(CommandError::refused(format!(
            "{} exists already and is left as it is",
            file.display()
        ))
        .hint("name another file with `-f FILE`, or move this one away first"));
    }
    let found = detect::detect(&folder).map_err(|error| {
        CommandError::failed(format!("failed to look into {}: {error}", folder.display()))
    })?;
    let text = template::render(&found);
    write_new(file, &text)?;
    // What was found may hold what nobody thought of: a file that does not load must not stay unsaid.
    config::load(file, None, &|_| None).map_err(|error| {
        CommandError::from(error)
            .hint(format!("{} was written, but needs your correction first", file.display()))
    })?;
    report(global, file, &found)
}

fn folder_of(file: &Path) -> std::path::PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => std::path::PathBuf::from("."),
    }
}

fn write_new(file: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::failed(format!("failed to write {}: {error}", file.display()))
    };
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.sync_all()) {
        // Half a file would refuse the next attempt.
        let _ = std::fs::remove_file(file);
        return Err(failed(error));
    }
    Ok(())
}

fn report(global: &Global, file: &Path, found: &detect::Found) -> Result<(), CommandError> {
    let closed = |error: std::io::Error| {
        CommandError::failed(format!("failed to print the result: {error}"))
    };
    if global.format == Format::Json {
        let result = json!({"file": file, "app": found.app, "target": found.target.name(), "found": found.because});
        return writeln!(std::io::stdout().lock(), "{result}").map_err(closed);
    }
    let named = if file == Path::new(config::DEFAULT_FILE) {
        String::new()
    } else {
        format!(" -f {}", file.display())
    };
    let mut err = anstream::stderr().lock();
    writeln!(err, "wrote {}: {}", file.display(), found.because)
        .and_then(|()| writeln!(err, "next: read it, then"))
        .and_then(|()| writeln!(err, "  backout doctor{named}"))
        .and_then(|()| writeln!(err, "  backout deploy{named} --version 1.0.0"))
        .map_err(closed)
}
