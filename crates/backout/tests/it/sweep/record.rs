//! What one command did to the state folder, call by call, and what a power cut may leave of it.
//!
//! Bytes are safe once their file was synced, names once their folder was. Of all the rest any part may be there:
//! nothing, everything, or some of it, writes torn at a sector.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::options::Draw;
use super::tracer::{Call, Fate, Watch};

const SECTOR: usize = 512;
/// Probes begin beside a step, whatever it is doing.
const BESIDE: usize = 2;
const CREATE: u64 = 0o100;
const TRUNCATE: u64 = 0o1000;

/// Which call is at work now. It does not outlive the machine, so that it need not be safe, and whoever reads it takes
/// whatever a power cut left of it.
pub const AT_WORK: &str = ".run.json";

/// A file, whatever it is called.
type Inode = usize;

/// One change, in order.
#[derive(Debug, Clone)]
pub enum Change {
    Write {
        inode: Inode,
        at: u64,
        bytes: Vec<u8>,
    },
    Resize {
        inode: Inode,
        size: u64,
    },
    Name {
        path: PathBuf,
        inode: Inode,
        renamed: bool,
    },
    Unname {
        path: PathBuf,
    },
    SyncFile {
        inode: Inode,
    },
    SyncFolder {
        path: PathBuf,
    },
    /// Something outside begins: a program, or a message.
    Effect,
}

/// Records what a command does below a folder.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    names: BTreeMap<PathBuf, Inode>,
    sizes: Vec<u64>,
    /// Files before the command.
    before: BTreeMap<PathBuf, (Inode, Vec<u8>)>,
    folders: BTreeSet<PathBuf>,
    pub changes: Vec<Change>,
    /// How many changes there were, and a copy of the world outside, at some calls.
    pub cuts: Vec<(usize, PathBuf)>,
    outside: PathBuf,
    every: usize,
}

impl Recorder {
    /// Of this state folder; the folder outside is copied at every n-th call.
    pub fn new(root: &Path, outside: &Path, every: usize) -> Self {
        let mut recorder = Self {
            root: root.to_owned(),
            names: BTreeMap::new(),
            sizes: Vec::new(),
            before: BTreeMap::new(),
            folders: BTreeSet::new(),
            changes: Vec::new(),
            cuts: Vec::new(),
            outside: outside.to_owned(),
            every,
        };
        recorder.look(root);
        recorder
    }

    fn look(&mut self, folder: &Path) {
        self.folders.insert(folder.to_owned());
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.look(&path);
            } else if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                let inode = self.sizes.len();
                self.names.insert(path.clone(), inode);
                self.sizes.push(bytes.len() as u64);
                self.before.insert(path, (inode, bytes));
            }
        }
    }

    fn is_ours(&self, path: &Path) -> bool {
        // Shared memory is no record: it is made anew after a crash.
        path.starts_with(&self.root) && !path.to_string_lossy().ends_with("-shm")
    }

    fn open(&mut self, path: &Path, flags: u64) {
        let inode = match self.names.get(path) {
            Some(inode) => *inode,
            None if flags & CREATE == 0 => return,
            None => {
                let inode = self.sizes.len();
                self.sizes.push(0);
                self.names.insert(path.to_owned(), inode);
                let path = path.to_owned();
                self.changes.push(Change::Name { path, inode, renamed: false });
                inode
            }
        };
        if flags & TRUNCATE != 0 && self.sizes[inode] > 0 {
            self.resize(inode, 0);
        }
    }

    fn resize(&mut self, inode: Inode, size: u64) {
        self.sizes[inode] = size;
        self.changes.push(Change::Resize { inode, size });
    }

    fn write(&mut self, inode: Inode, call: &Call, written: i64) {
        let at = call.offset.unwrap_or(self.sizes[inode]);
        let bytes = call.bytes[..usize::try_from(written).unwrap()].to_vec();
        self.sizes[inode] = self.sizes[inode].max(at + bytes.len() as u64);
        self.changes.push(Change::Write { inode, at, bytes });
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(inode) = self.names.remove(from) {
            self.names.insert(to.to_owned(), inode);
            self.changes.push(Change::Name { path: to.to_owned(), inode, renamed: true });
            self.changes.push(Change::Unname { path: from.to_owned() });
        }
    }

    /// How often a file was given this name.
    pub fn named(&self, name: &str) -> usize {
        let is_named = |change: &&Change| matches!(change, Change::Name { path, renamed: true, .. } if path.ends_with(name));
        self.changes.iter().filter(is_named).count()
    }

    /// Names that were given to files not synced, or were not safe before the next effect.
    pub fn careless(&self) -> Vec<String> {
        self.careless_with(BESIDE)
    }

    /// The same where so much goes on beside it.
    pub fn careless_with(&self, beside: usize) -> Vec<String> {
        let renames = self.changes.iter().enumerate().filter_map(|(at, change)| match change {
            Change::Name { path, inode, renamed: true }
                if !path.to_string_lossy().ends_with(AT_WORK) =>
            {
                Some((at, path, *inode))
            }
            _ => None,
        });
        let mut found = Vec::new();
        for (at, path, inode) in renames {
            let written = self.changes[..at].iter().rposition(
                |change| matches!(change, Change::Write { inode: other, .. } if *other == inode),
            );
            let synced = |change: &Change| matches!(change, Change::SyncFile { inode: other } if *other == inode);
            if written.is_some_and(|written| !self.changes[written..at].iter().any(synced)) {
                found.push(format!("{} was renamed before it was synced", path.display()));
            }
            let folder = |change: &Change| match change {
                Change::SyncFolder { path: synced } => Some(synced.as_path()) == path.parent(),
                _ => false,
            };
            let later = &self.changes[at..];
            let safe = later.iter().position(folder).unwrap_or(later.len());
            let begun =
                later[..safe].iter().filter(|change| matches!(change, Change::Effect)).count();
            if safe == later.len() || begun > beside {
                found.push(format!("the folder of {} was not synced", path.display()));
            }
        }
        found
    }
}

impl Watch for Recorder {
    fn about_to(&mut self, call: &Call) -> Fate {
        if call.nth.is_multiple_of(self.every) {
            let copy = self.outside.with_file_name(format!("outside.{}", call.nth));
            fs::create_dir(&copy).unwrap();
            super::scene::copy(&self.outside, &copy);
            self.cuts.push((self.changes.len(), copy));
        }
        if matches!(call.name, "start" | "send") {
            self.changes.push(Change::Effect);
        }
        Fate::Go
    }

    fn made(&mut self, call: &Call, result: i64) {
        let path = PathBuf::from(&call.subject);
        if result < 0 || !self.is_ours(&path) {
            return;
        }
        let inode = self.names.get(&path).copied();
        match (call.name, inode) {
            ("open", _) => self.open(&path, call.offset.unwrap_or(0)),
            ("write" | "pwrite", Some(inode)) => self.write(inode, call, result),
            ("writev", Some(_)) => panic!("not recorded: {call:?}"),
            ("truncate", Some(inode)) => self.resize(inode, call.offset.unwrap_or(0)),
            ("fsync", Some(inode)) => self.changes.push(Change::SyncFile { inode }),
            ("fsync", None) if self.folders.contains(&path) => {
                self.changes.push(Change::SyncFolder { path });
            }
            ("rename", Some(_)) => self.rename(&path, Path::new(&call.second)),
            ("unlink", Some(_)) => {
                self.names.remove(&path);
                self.changes.push(Change::Unname { path });
            }
            ("mkdir", _) => {
                self.folders.insert(path);
            }
            _ => {}
        }
    }
}

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is gone.
    All,
    /// Nothing is.
    Nothing,
    /// Names are there and bytes are not.
    Bytes,
    /// Each part is there or not, as drawn; writes may be torn.
    Some,
}

impl Recorder {
    /// Writes the folder as it may lie there after the first `count` changes.
    pub fn image(&self, count: usize, loss: Loss, draw: &mut Draw, to: &Path) {
        let changes = &self.changes[..count];
        let mut files: BTreeMap<Inode, Vec<u8>> = BTreeMap::new();
        let mut names: BTreeMap<PathBuf, Inode> = BTreeMap::new();
        for (path, (inode, bytes)) in &self.before {
            files.insert(*inode, bytes.clone());
            names.insert(path.clone(), *inode);
        }
        for (nth, change) in changes.iter().enumerate() {
            let safe = is_safe(change, &changes[nth + 1..]);
            let there = safe
                || match loss {
                    Loss::All => false,
                    Loss::Nothing => true,
                    Loss::Bytes => !matches!(change, Change::Write { .. }),
                    Loss::Some => draw.up_to(2) == 1,
                };
            if there {
                let torn = !safe && loss == Loss::Some && draw.up_to(3) == 1;
                apply(change, torn.then_some(&mut *draw), &mut files, &mut names);
            }
        }
        let place = |path: &Path| to.join(path.strip_prefix(&self.root).unwrap());
        for folder in &self.folders {
            fs::create_dir_all(place(folder)).unwrap();
        }
        for (path, inode) in names {
            fs::write(place(&path), files.get(&inode).map_or(&[][..], Vec::as_slice)).unwrap();
        }
    }
}

fn is_safe(change: &Change, later: &[Change]) -> bool {
    let folder_synced = |path: &Path| {
        later.iter().any(|later| {
            matches!(later, Change::SyncFolder { path: synced } if Some(synced.as_path()) == path.parent())
        })
    };
    match change {
        Change::Write { inode, .. } | Change::Resize { inode, .. } => later
            .iter()
            .any(|later| matches!(later, Change::SyncFile { inode: synced } if synced == inode)),
        Change::Name { path, .. } | Change::Unname { path } => folder_synced(path),
        _ => true,
    }
}

fn apply(
    change: &Change,
    torn: Option<&mut Draw>,
    files: &mut BTreeMap<Inode, Vec<u8>>,
    names: &mut BTreeMap<PathBuf, Inode>,
) {
    match change {
        Change::Write { inode, at, bytes } => {
            let file = files.entry(*inode).or_default();
            let at = usize::try_from(*at).unwrap();
            let count = match torn {
                Some(draw) => {
                    ((draw.up_to(bytes.len() / SECTOR + 1) - 1) * SECTOR).min(bytes.len())
                }
                None => bytes.len(),
            };
            if file.len() < at + count {
                file.resize(at + count, 0);
            }
            file[at..at + count].copy_from_slice(&bytes[..count]);
        }
        Change::Resize { inode, size } => {
            files.entry(*inode).or_default().resize(usize::try_from(*size).unwrap(), 0);
        }
        Change::Name { path, inode, .. } => {
            names.insert(path.clone(), *inode);
        }
        Change::Unname { path } => {
            names.remove(path);
        }
        _ => {}
    }
}
