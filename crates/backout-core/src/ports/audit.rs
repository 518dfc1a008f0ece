//! The audit log: a Merkle tree (RFC 6962) over every record of a ledger's history.
//!
//! Whoever writes a record appends a leaf about it in the same transaction: which record, and the digest of what
//! was written. A leaf is never changed. A row that is written again gets another leaf, so that the newest leaf of
//! a subject says what its row must hold.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{EnvironmentKey, LedgerId, OperationId, hex};

/// First element of every leaf, with [`AUDIT_LEAF_FORMAT`].
const LEAF_NAME: &str = "backout-audit";

/// Format of [`AuditLeaf::bytes`]. Another one is another log.
pub const AUDIT_LEAF_FORMAT: u32 = 1;

/// Format of what has no format of its own: answers, closes, notes and the ledger's identity.
pub const AUDIT_PLAIN_FORMAT: u32 = 1;

/// What a leaf is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// The ledger itself; the first leaf of a log.
    Ledger,
    /// The row of an environment, each time it is written.
    Environment,
    /// The plan of an operation.
    Plan,
    /// An entry of a journal.
    Entry,
    /// The end of an operation: from then on it is not open.
    Close,
    /// A release.
    Release,
    /// The row of a deployment, each time it is written.
    Deployment,
    /// The row of a rollback, each time it is written.
    Rollback,
    /// A request, as it was submitted.
    Request,
    /// What became of a request.
    Answer,
    /// A remark of the log about itself; its subject is the remark.
    Note,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Ledger,
        Self::Environment,
        Self::Plan,
        Self::Entry,
        Self::Close,
        Self::Release,
        Self::Deployment,
        Self::Rollback,
        Self::Request,
        Self::Answer,
        Self::Note,
    ];

    /// The word in leaves.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Environment => "environment",
            Self::Plan => "plan",
            Self::Entry => "entry",
            Self::Close => "close",
            Self::Release => "release",
            Self::Deployment => "deployment",
            Self::Rollback => "rollback",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Note => "note",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Names of subjects, so that every ledger writes the same leaves.
pub mod audit_subject {
    use super::{EnvironmentKey, OperationId};

    /// An entry of a journal; the first is 1.
    #[must_use]
    pub fn entry(operation: &OperationId, sequence: u64) -> String {
        format!("{operation}/{sequence}")
    }

    /// A deployment.
    #[must_use]
    pub fn deployment(key: &EnvironmentKey, number: u64) -> String {
        format!("{key}/{number}")
    }

    /// An environment.
    #[must_use]
    pub fn environment(key: &EnvironmentKey) -> String {
        key.to_string()
    }
}

/// Digest of a record's text, byte for byte as it is stored. What has no text has the digest of none.
#[must_use]
pub fn audit_digest(json: &str) -> [u8; 32] {
    Sha256::digest(json.as_bytes()).into()
}

/// The text of a ledger's identity, which [`AuditKind::Ledger`] is about.
#[must_use]
pub fn audit_identity(id: &str, created_at: &str) -> String {
    serde_json::json!({ "id": id, "created_at": created_at }).to_string()
}

/// One leaf, as it is stored: whoever changed the store may have put anything there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLeaf {
    /// Its place, from 0.
    pub index: u64,
    /// An [`AuditKind`].
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// Format of the record.
    pub format: u32,
    /// [`audit_digest`] of the record.
    pub digest: [u8; 32],
    /// When it was written, by the wall clock.
    pub at: String,
}

impl AuditLeaf {
    /// A new one.
    #[must_use]
    pub fn new(
        kind: AuditKind,
        subject: impl Into<String>,
        format: u32,
        json: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            index: 0,
            kind: kind.as_str().to_owned(),
            subject: subject.into(),
            format,
            digest: audit_digest(json),
            at: at.to_string(),
        }
    }

    /// The bytes that go into the tree: one line of JSON without its end. The place is not in it: the tree keeps that.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let digest = hex(&self.digest);
        let line = (
            LEAF_NAME,
            AUDIT_LEAF_FORMAT,
            &self.kind,
            &self.subject,
            self.format,
            digest,
            &self.at,
        );
        serde_json::to_vec(&line).expect("strings and numbers can always be written")
    }

    /// The leaf of a line that [`AuditLeaf::bytes`] wrote; none for any other line.
    #[must_use]
    pub fn parse(index: u64, line: &[u8]) -> Option<Self> {
        type Line = (String, u32, String, String, u32, String, String);
        let (name, version, kind, subject, format, digest, at): Line =
            serde_json::from_slice(line).ok()?;
        let leaf = Self { index, kind, subject, format, digest: unhex(&digest)?, at };
        // Other spellings of the same values have another hash.
        let ours = name == LEAF_NAME && version == AUDIT_LEAF_FORMAT && leaf.bytes() == line;
        ours.then_some(leaf)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// How far a log has come: kept beside the leaves, so that appending reads none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// How many leaves there are.
    pub size: u64,
    /// Hashes of the whole subtrees that they make, the largest first: one for each bit of `size`.
    pub peaks: Vec<[u8; 32]>,
}

/// One record as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// What it is.
    pub kind: AuditKind,
    /// Which one.
    pub subject: String,
    /// The format it says.
    pub format: u32,
    /// Its text; empty for a [`AuditKind::Close`].
    pub json: String,
    /// What the columns beside the text say otherwise than the text.
    pub odd: Option<String>,
}

/// Whoever is shown a ledger for a check.
pub trait AuditVisitor: Send {
    /// First: whose log it is and how far it has come.
    fn head(&mut self, ledger: &LedgerId, head: AuditHead);

    /// Then every leaf, in order.
    fn leaf(&mut self, leaf: AuditLeaf);

    /// Then every record that stands, in any order. There is none for a [`AuditKind::Note`].
    fn record(&mut self, record: AuditRecord);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> AuditLeaf {
        let at = "2026-11-20T10:00:00.5Z".parse().unwrap();
        AuditLeaf::new(AuditKind::Entry, "op_\"one\n/3", 1, "{}", at)
    }

    #[test]
    fn the_bytes_of_a_leaf_are_fixed() {
        let text = concat!(
            r#"["backout-audit",1,"entry","op_\"one\n/3",1,"#,
            r#""44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","2026-11-20T10:00:00.5Z"]"#
        );
        assert_eq!(String::from_utf8(leaf().bytes()).unwrap(), text);
    }

    #[test]
    fn a_leaf_comes_back_from_its_bytes_and_from_no_others() {
        let bytes = leaf().bytes();
        assert_eq!(AuditLeaf::parse(0, &bytes), Some(leaf()));
        let text = String::from_utf8(bytes).unwrap();
        for other in [
            text.replace("44136", "4413"),
            text.replace("ff8a", "FF8A"),
            text.replace("ff8a", "+f8a"),
            text.replace(",1,", ", 1,"),
            text.replace("audit\",1", "audit\",2"),
            text.replace("backout-audit", "backout"),
            format!("{text}\n"),
            String::new(),
        ] {
            assert_eq!(AuditLeaf::parse(0, other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in AuditKind::ALL {
            assert_eq!(AuditKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(AuditKind::parse("else"), None);
    }
}
