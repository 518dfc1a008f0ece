//! A call that changes something and may outlive its caller: noted while it runs, and ended by whoever comes next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::atomic::{read_bounded, remove_file_if_there, write_atomic};
use super::group::end_processes;
use super::procfs::{self, ProcessId};

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    process: ProcessId,
    words: String,
}

/// The place where one call at a time is noted.
#[derive(Debug, Clone)]
pub struct Leftover {
    path: PathBuf,
}

impl Leftover {
    /// Notes stand in this file; its folder exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Notes a call that has just started. Without the note the call is right all the same; only a kill now could
    /// leave it running unseen.
    pub fn note(&self, pid: u32, words: &str) {
        let Some(process) = ProcessId::of(pid) else { return };
        let record = Record { format: FORMAT, process, words: words.to_owned() };
        if let Ok(bytes) = serde_json::to_vec(&record) {
            let _ = write_atomic(&self.path, &bytes, 0o600);
        }
    }

    /// The noted call has ended.
    pub fn forget(&self) {
        let _ = remove_file_if_there(&self.path);
    }

    /// Ends a call whose caller was killed, with all that it started.
    ///
    /// # Errors
    /// What does not end.
    pub async fn end(&self, grace: Duration) -> Result<(), String> {
        let Some(record) = read(&self.path) else { return Ok(()) };
        let family = || -> Vec<ProcessId> {
            if !record.process.is_alive() {
                return Vec::new();
            }
            let below = procfs::descendants(&[record.process.pid]);
            below.into_iter().map(|p| p.id()).chain([record.process.clone()]).collect()
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
        Err(format!(
            "an earlier call (`{}`, process {}) does not end",
            record.words, record.process.pid
        ))
    }
}

fn read(path: &Path) -> Option<Record> {
    let bytes = read_bounded(path, 64 << 10).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}
