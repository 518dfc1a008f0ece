//! What a program writes, in a file with a size cap and one older file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the readers of one slot's programs. Never fails: a full disk costs output, not the program.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    older: PathBuf,
    cap: u64,
    file: Option<File>,
    size: u64,
    at_line_start: bool,
}

impl Log {
    pub(crate) fn open(path: PathBuf, older: PathBuf, cap: u64) -> Self {
        let inner =
            Inner { path, older, cap: cap.max(4096), file: None, size: 0, at_line_start: true };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Appends output.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    }

    /// Appends a line of the supervisor's own.
    pub(crate) fn note(&self, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let start = if inner.at_line_start { "" } else { "\n" };
        inner.write(format!("{start}[backout] {text}\n").as_bytes());
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(usize::try_from(self.cap).unwrap_or(usize::MAX)) {
            if self.size + piece.len() as u64 > self.cap {
                let _ = std::fs::rename(&self.path, &self.older);
                self.file = None;
            }
            if self.file.is_none() {
                self.begin();
            }
            if let Some(file) = &mut self.file
                && file.write_all(piece).is_ok()
            {
                self.size += piece.len() as u64;
            }
        }
        if let Some(last) = bytes.last() {
            self.at_line_start = *last == b'\n';
        }
    }

    fn begin(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).ok();
        self.size = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_at_the_cap_and_keeps_one_older_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, older) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = Log::open(path.clone(), older.clone(), 4096);
        for n in 0..1000 {
            log.write(format!("line {n:06}\n").as_bytes());
        }
        log.write(&[b'x'; 10_000]);
        log.note("end");
        let sizes = [&path, &older].map(|p| std::fs::metadata(p).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= 4096), "{sizes:?}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("x\n[backout] end\n"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_that_is_there_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        Log::open(path.clone(), folder.path().join("log.1"), 4096).write(b"one\n");
        Log::open(path.clone(), folder.path().join("log.1"), 4096).write(b"two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
