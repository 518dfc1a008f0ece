//! The check of a ledger against its log, and of the log against checkpoints that were kept elsewhere.

use std::collections::HashMap;

use backout_core::ids::LedgerId;
use backout_core::ports::audit::{AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor};
use backout_core::ports::{Ledger, LedgerError};

use super::finding::{Finding, FindingKind, name};
use super::log::MAX_GAP;
use super::tree::{Frontier, Hash, hash_leaf};

/// Findings that are told one by one; the others are counted.
const MAX_FINDINGS: usize = 50;

/// What is known of a log from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Where from, for people.
    pub source: String,
    /// Over how many leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Hashes of those leaves, where they are known too: then the first one that differs can be named.
    pub leaves: Vec<Hash>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The ledger.
    pub ledger: Option<LedgerId>,
    /// Leaves of its log.
    pub leaves: u64,
    /// Records that were compared with them.
    pub records: u64,
    /// How many of those are entries of journals.
    pub entries: u64,
    /// Root over all leaves.
    pub root: Hash,
    /// What is wrong, in the order of the log as far as it is known; at most some dozens.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// Remarks that the log holds about itself.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether all is as it was written.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks a ledger.
///
/// # Errors
/// When it can't be read to its end.
pub async fn verify(ledger: &dyn Ledger, known: &[Known]) -> Result<Report, LedgerError> {
    let mut verifier = Verifier::new(known);
    ledger.audit_scan(&mut verifier).await?;
    Ok(verifier.finish())
}

/// What the log says of one subject.
struct Logged {
    /// Place of its newest leaf.
    index: u64,
    at: String,
    format: u32,
    /// All that was written there, the newest last.
    digests: Vec<Hash>,
    seen: bool,
}

/// A visitor that checks.
pub struct Verifier {
    known: Vec<Known>,
    head: AuditHead,
    frontier: Frontier,
    /// The peaks that the head must have, as far as leaves came.
    peaks: Vec<Hash>,
    logged: HashMap<(AuditKind, String), Logged>,
    sequences: HashMap<String, u64>,
    findings: Vec<Finding>,
    /// Sources whose first difference was told.
    told: Vec<String>,
    report: Report,
}

impl Verifier {
    /// A new check.
    #[must_use]
    pub fn new(known: &[Known]) -> Self {
        let report = Report {
            ledger: None,
            leaves: 0,
            records: 0,
            entries: 0,
            root: Frontier::default().root(),
            findings: Vec::new(),
            more: 0,
            notes: Vec::new(),
        };
        Self {
            known: known.to_vec(),
            head: AuditHead::default(),
            frontier: Frontier::default(),
            peaks: Vec::new(),
            logged: HashMap::new(),
            sequences: HashMap::new(),
            findings: Vec::new(),
            told: Vec::new(),
            report,
        }
    }

    fn find(&mut self, kind: FindingKind, leaf: Option<u64>, subject: String, message: String) {
        self.findings.push(Finding { kind, leaf, subject, message });
    }

    /// Appends to the tree, and looks at what is known at this size.
    fn push(&mut self, leaf: Hash) {
        self.frontier.push(leaf);
        self.look();
    }

    fn look(&mut self) {
        let size = self.frontier.size();
        if size == self.head.size {
            self.peaks = self.frontier.peaks().to_vec();
        }
        let wrong: Vec<Known> = self
            .known
            .iter()
            .filter(|known| known.size == size && known.root != self.frontier.root())
            .cloned()
            .collect();
        for Known { source, .. } in wrong {
            // The leaf that differs was told.
            if self.told.contains(&source) {
                continue;
            }
            let message = format!(
                "the first {size} leaves of the log are not the ones that {source} was made over: \
                 something among them was changed, moved or removed, and the log was written anew"
            );
            self.find(
                FindingKind::Rewritten,
                None,
                format!("leaves 0 to {}", size.saturating_sub(1)),
                message,
            );
        }
    }

    /// A leaf against the same one elsewhere. Only the first that differs is told: the others may just have moved.
    fn compare(&mut self, leaf: &AuditLeaf, hash: Hash) {
        let place = usize::try_from(leaf.index).unwrap_or(usize::MAX);
        let mut differs = Vec::new();
        for known in &mut self.known {
            if known.leaves.get(place).is_some_and(|other| *other != hash) {
                known.leaves.clear();
                differs.push(known.source.clone());
            }
        }
        for source in differs {
            self.told.push(source.clone());
            let subject = AuditKind::parse(&leaf.kind)
                .map_or_else(|| format!("leaf {}", leaf.index), |kind| name(kind, &leaf.subject));
            let message = format!(
                "leaf {} of the log ({subject}) is not the one that {source} holds there: it was changed, moved or \
                 removed, and the log was written anew from there on",
                leaf.index
            );
            self.find(FindingKind::Rewritten, Some(leaf.index), subject, message);
        }
    }

    /// The order of leaves within themselves.
    fn check_order(&mut self, kind: AuditKind, leaf: &AuditLeaf) {
        let index = leaf.index;
        let is_first = index == 0;
        if is_first != (kind == AuditKind::Ledger) {
            let message =
                format!("leaf {index} is not where it belongs: a log begins with its ledger");
            self.find(FindingKind::Moved, Some(index), format!("leaf {index}"), message);
        }
        if kind != AuditKind::Entry {
            return;
        }
        let Some((operation, sequence)) = leaf.subject.rsplit_once('/') else { return };
        let last = self.sequences.entry(operation.to_owned()).or_default();
        let expected = *last + 1;
        let found = sequence.parse().unwrap_or(0);
        *last = found;
        if found != expected {
            let subject = name(kind, &leaf.subject);
            let message = format!(
                "{subject} stands in the log (leaf {index}) where entry {expected} belongs"
            );
            self.find(FindingKind::Moved, Some(index), subject, message);
        }
    }

    fn remember(&mut self, kind: AuditKind, leaf: AuditLeaf) {
        let key = (kind, leaf.subject);
        let Some(known) = self.logged.get_mut(&key) else {
            let logged = Logged {
                index: leaf.index,
                at: leaf.at,
                format: leaf.format,
                digests: vec![leaf.digest],
                seen: false,
            };
            self.logged.insert(key, logged);
            return;
        };
        let first = known.index;
        known.index = leaf.index;
        known.at = leaf.at;
        known.format = leaf.format;
        known.digests.push(leaf.digest);
        if is_written_once(kind) {
            let subject = name(kind, &key.1);
            let message =
                format!("{subject} was logged twice, as leaf {first} and as leaf {}", leaf.index);
            self.find(FindingKind::Changed, Some(leaf.index), subject, message);
        }
    }

    /// What is left when everything was shown.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.check_head();
        let size = self.frontier.size();
        for known in self.known.clone().into_iter().filter(|known| known.size > size) {
            let message = format!(
                "the log has {size} leaves, but {} was made over {}: an older ledger was put back, or its end was \
                 cut off",
                known.source, known.size
            );
            self.find(FindingKind::Shorter, None, format!("leaves from {size} on"), message);
        }
        let mut gone: Vec<(u64, AuditKind, String, String)> = self
            .logged
            .drain()
            .filter(|((kind, _), logged)| !logged.seen && *kind != AuditKind::Note)
            .map(|((kind, subject), logged)| (logged.index, kind, subject, logged.at))
            .collect();
        gone.sort_unstable();
        for (index, kind, subject, at) in gone {
            let subject = name(kind, &subject);
            let message = match kind {
                AuditKind::Close => {
                    format!("{subject} was logged at {at} (leaf {index}), but it is open again")
                }
                _ => format!("{subject} was written at {at} (leaf {index}) and is gone"),
            };
            self.find(FindingKind::Gone, Some(index), subject, message);
        }
        self.findings.sort_by_key(|finding| finding.leaf.unwrap_or(u64::MAX));
        let told = self.findings.len().min(MAX_FINDINGS);
        let report = &mut self.report;
        report.more = (self.findings.len() - told) as u64;
        self.findings.truncate(told);
        report.findings = self.findings;
        report.leaves = size;
        report.root = self.frontier.root();
        self.report
    }

    /// The stored frontier against the leaves: narrows a changed leaf down to a part of the log.
    fn check_head(&mut self) {
        let (size, count) = (self.head.size, self.frontier.size());
        if size == 0 && count == 0 {
            let message = "there is no log: a ledger of an older version gets one with the next changing command; \
                           in any other it was removed";
            self.find(FindingKind::Gone, None, "the log".to_owned(), message.to_owned());
            return;
        }
        if size > count {
            let message = format!("the log has {count} leaves and had {size}: its end was cut off");
            self.find(
                FindingKind::Gone,
                Some(count),
                format!("leaves {count} to {}", size - 1),
                message,
            );
        } else if size < count {
            let message = format!(
                "the log has {count} leaves, but only {size} were written by the ledger: others were added, or an \
                 older head was put back"
            );
            self.find(
                FindingKind::Added,
                Some(size),
                format!("leaves {size} to {}", count - 1),
                message,
            );
        }
        if self.head.peaks.len() != size.count_ones() as usize {
            let message =
                "the head of the log is damaged: its hashes do not fit its size".to_owned();
            self.find(FindingKind::Changed, None, "the head of the log".to_owned(), message);
            return;
        }
        if self.peaks.is_empty() {
            return;
        }
        for (place, (first, leaves)) in Frontier::ranges(size).enumerate() {
            if self.head.peaks[place] == self.peaks[place] {
                continue;
            }
            let last = first + leaves - 1;
            let subject = if leaves == 1 {
                format!("leaf {first}")
            } else {
                format!("leaves {first} to {last}")
            };
            let message = format!(
                "{subject} of the log are not as they were written: a leaf was changed or moved"
            );
            self.find(FindingKind::Changed, Some(first), subject, message);
        }
    }
}

/// Records that nobody writes a second time.
fn is_written_once(kind: AuditKind) -> bool {
    match kind {
        AuditKind::Ledger
        | AuditKind::Plan
        | AuditKind::Entry
        | AuditKind::Close
        | AuditKind::Release
        | AuditKind::Request => true,
        AuditKind::Environment
        | AuditKind::Deployment
        | AuditKind::Rollback
        | AuditKind::Answer
        | AuditKind::Note => false,
    }
}

impl AuditVisitor for Verifier {
    fn head(&mut self, ledger: &LedgerId, head: AuditHead) {
        self.report.ledger = Some(ledger.clone());
        self.head = head;
        self.look();
    }

    fn leaf(&mut self, leaf: AuditLeaf) {
        let (index, next) = (leaf.index, self.frontier.size());
        if index < next || index - next > MAX_GAP {
            let message = format!("leaf {index} stands where no leaf belongs");
            self.find(FindingKind::Added, Some(index), format!("leaf {index}"), message);
            return;
        }
        if index > next {
            let subject = if index == next + 1 {
                format!("leaf {next}")
            } else {
                format!("leaves {next} to {}", index - 1)
            };
            let message = format!("{subject} of the log were removed");
            self.find(FindingKind::Gone, Some(next), subject, message);
        }
        while self.frontier.size() < index {
            self.push(hash_leaf(&[]));
        }
        let hash = hash_leaf(&leaf.bytes());
        self.compare(&leaf, hash);
        self.push(hash);
        let Some(kind) = AuditKind::parse(&leaf.kind) else {
            let message = format!("leaf {index} is about a `{}`, which is nothing", leaf.kind);
            self.find(FindingKind::Changed, Some(index), format!("leaf {index}"), message);
            return;
        };
        self.check_order(kind, &leaf);
        if kind == AuditKind::Note {
            self.report.notes.push(format!("{} (leaf {index}, {})", leaf.subject, leaf.at));
        }
        self.remember(kind, leaf);
    }

    fn record(&mut self, record: AuditRecord) {
        self.report.records += 1;
        self.report.entries += u64::from(record.kind == AuditKind::Entry);
        // That there is no log at all is told once.
        if self.frontier.size() == 0 {
            return;
        }
        let subject = name(record.kind, &record.subject);
        let digest = backout_core::ports::audit::audit_digest(&record.json);
        let Some(logged) = self.logged.get_mut(&(record.kind, record.subject)) else {
            let message = format!("{subject} stands in the ledger but was never logged");
            self.find(FindingKind::Added, None, subject, message);
            return;
        };
        logged.seen = true;
        let (index, at) = (logged.index, logged.at.clone());
        let older = logged.digests[..logged.digests.len() - 1].contains(&digest);
        let same = logged.digests.last() == Some(&digest);
        let message = if !same && older {
            format!("{subject} holds an older version than the one of {at} (leaf {index})")
        } else if !same {
            format!("{subject} was changed after it was written at {at} (leaf {index})")
        } else if logged.format != record.format {
            format!(
                "{subject} says format {}, and was written in format {}",
                record.format, logged.format
            )
        } else if let Some(odd) = record.odd {
            format!("{subject} was changed: {odd}")
        } else {
            return;
        };
        self.find(FindingKind::Changed, Some(index), subject, message);
    }
}
