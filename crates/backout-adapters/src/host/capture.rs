//! Output of a command, bounded: its beginning and its end are kept, the middle is counted.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// First and last bytes of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Captured {
    /// Keeps up to `limit` bytes of the beginning, and as many of the end.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), limit, total: 0 }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let for_head = bytes.len().min(self.limit - self.head.len());
        self.head.extend_from_slice(&bytes[..for_head]);
        let rest = &bytes[for_head..];
        let rest = &rest[rest.len().saturating_sub(self.limit)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.limit);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// Counts bytes that were not read.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.total += bytes;
        if bytes > 0 {
            self.tail.clear();
        }
    }

    /// How many bytes there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether bytes in the middle are missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.total > (self.head.len() + self.tail.len()) as u64
    }

    /// What was kept, with a note where bytes are missing.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.head.clone();
        if self.is_cut() {
            let missing = self.total - (self.head.len() + self.tail.len()) as u64;
            out.extend_from_slice(format!("\n[… {missing} bytes …]\n").as_bytes());
        }
        out.extend(self.tail.iter());
        out
    }

    /// The beginning, up to the limit.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The last `max` bytes as text for people, without control characters that could move a cursor.
    #[must_use]
    pub fn last_text(&self, max: usize) -> String {
        let bytes = self.bytes();
        printable(&bytes[bytes.len().saturating_sub(max)..])
    }
}

/// The last bytes of a file; `None` if there is none that can be read.
pub(crate) fn last_bytes(path: &Path, max: usize) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max as u64))).ok()?;
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Text for people: replaces what is no UTF-8, and drops control characters but line ends and tabs.
#[must_use]
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n' || *c == '\t')
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut captured = Captured::new(8);
        captured.push(b"hello ");
        captured.push(b"world");
        assert_eq!(captured.bytes(), b"hello world");
        assert!(!captured.is_cut());
    }

    #[test]
    fn long_output_keeps_both_ends() {
        let mut captured = Captured::new(4);
        for chunk in ["ab", "cdefg", "hijklmnop", "q", "rs"] {
            captured.push(chunk.as_bytes());
        }
        assert_eq!(captured.total(), 19);
        let text = String::from_utf8(captured.bytes()).unwrap();
        assert!(text.starts_with("abcd\n") && text.ends_with("\npqrs"), "{text}");
        assert!(text.contains("11 bytes"));
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n\xff\n"), "a[2Jb\n\u{fffd}");
    }
}
