//! A call that changes something and may outlive its caller: noted while it runs, and ended by whoever comes next.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::atomic::read_bounded;
use super::group::end_processes;
use super::procfs::{self, ProcessId};

const FORMAT: u32 = 1;
/// Of a call's words, which are for people.
const WORDS_MAX: usize = 500;

/// Carried by an announced call, so that it is found although its caller could not note it any more.
const VARIABLE: &str = "BACKOUT_CALL";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// None where the caller was killed between announcing the call and noting it.
    process: Option<ProcessId>,
    words: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    caller: Option<ProcessId>,
}

impl Record {
    /// The process of the call itself, if it still runs: the first of its own group that carries the token. What
    /// it has left running on purpose leads a session or belongs to its group.
    fn process(&self) -> Option<ProcessId> {
        match &self.process {
            Some(process) => Some(process.clone()).filter(ProcessId::is_alive),
            None if self.token.is_empty() => None,
            None => procfs::with_variable(VARIABLE, &self.token)
                .into_iter()
                .find(|process| process.pid == process.group)
                .map(|process| process.id()),
        }
    }
}

/// The place where one call at a time is noted.
#[derive(Debug, Clone)]
pub struct Leftover {
    path: PathBuf,
}

/// A call that is about to start.
#[derive(Debug, Clone)]
pub struct Announced {
    /// The note, for as long as nobody has put another one into its place.
    file: Arc<File>,
    words: String,
    token: String,
}

impl Announced {
    /// What its environment must hold.
    #[must_use]
    pub fn variable(&self) -> (OsString, OsString) {
        (VARIABLE.into(), self.token.clone().into())
    }

    /// Notes the process. Should that fail, the announcement finds it.
    pub fn note(&self, pid: u32) {
        let Some(process) = ProcessId::of(pid) else { return };
        // In its place: replacing a young file makes file systems write it out, and its removal wait for that. It is
        // longer than what stands there, and one call writes it: a caller that is killed has written all of it or nothing.
        if let Ok(bytes) = record(Some(process), &self.words, &self.token) {
            let _ = self.file.write_all_at(&bytes, 0);
        }
    }
}

impl Leftover {
    /// Notes stand in this file; its folder exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes down that a call is about to start: whoever comes after a kill finds it, whether it had started or not.
    ///
    /// # Errors
    /// Names the file; the call must not start then.
    pub fn announce(&self, words: &str) -> io::Result<Announced> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let us = ProcessId::current();
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let token = format!("{}-{}-{call}", us.pid, us.start_ticks);
        // What is noted in place must be written at once, and files are written page by page.
        let words: String = words.chars().take(WORDS_MAX).collect();
        let file = Arc::new(replace(&self.path, &record(None, &words, &token)?)?);
        Ok(Announced { file, words, token })
    }

    /// Whether a call is still at work whose caller is gone: what it is about can't be told before it is over.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        read(&self.path).is_some_and(|record| {
            record.caller.as_ref().is_some_and(|caller| !caller.is_alive())
                && record.process().is_some()
        })
    }

    /// The noted call has ended.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Ends a call whose caller was killed, with all that it started.
    ///
    /// # Errors
    /// What does not end.
    pub async fn end(&self, grace: Duration) -> Result<(), String> {
        let Some(record) = read(&self.path) else { return Ok(()) };
        let first = record.process();
        let family = || -> Vec<ProcessId> {
            let Some(process) = first.clone().filter(ProcessId::is_alive) else {
                return Vec::new();
            };
            let below = procfs::descendants(&[process.pid]);
            below.into_iter().map(|p| p.id()).chain([process]).collect()
        };
        // Its descendants are found through it, so they are remembered before it ends.
        let known = family();
        let left = end_processes(
            || known.iter().filter(|p| p.is_alive()).cloned().chain(family()).collect(),
            grace,
        )
        .await;
        if left.is_empty() {
            self.forget();
            return Ok(());
        }
        let pid = first.map(|process| process.pid).unwrap_or_default();
        Err(format!("an earlier call (`{}`, process {pid}) does not end", record.words))
    }
}

fn record(process: Option<ProcessId>, words: &str, token: &str) -> io::Result<Vec<u8>> {
    let (words, token, caller) = (words.to_owned(), token.to_owned(), Some(ProcessId::current()));
    Ok(serde_json::to_vec(&Record { format: FORMAT, process, words, token, caller })?)
}

/// Whole or not at all for whoever reads it, and not durable: a call does not outlive its machine, and waiting for the
/// disk four times for each call is what a short one would take longest for.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".backout-").tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.persist(path).map_err(|e| e.error)
}

fn read(path: &Path) -> Option<Record> {
    let bytes = read_bounded(path, 64 << 10).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}
