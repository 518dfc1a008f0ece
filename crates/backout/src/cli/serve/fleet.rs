//! Which environments are looked after: those of the files that were named, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::model::Surface;
use backout_core::ports::Ledger;
use backout_engine::{Context, Fleet};

use crate::cli::args::Global;
use crate::cli::session::{self, Opening};
use crate::config::{self, DEFAULT_FILE, Loaded};
use crate::error::CommandError;
use crate::state_dir::StateDir;

/// What its leases say that it does.
pub const ACTIVITY: &str = "controller";

/// More files than this are a mistake.
const MAX_FILES: usize = 500;
/// A file of a folder that is gone for so many looks is gone: editors write a new one over the old.
const LOOKS_BEFORE_GONE: u32 = 3;

/// The files and folders that were named.
pub fn named(global: &Global) -> Vec<PathBuf> {
    if global.files.is_empty() { vec![PathBuf::from(DEFAULT_FILE)] } else { global.files.clone() }
}

/// A folder stands for every `backout.yaml` in it and in the folders right below it.
pub fn expanded(named: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    for path in named {
        if path.is_dir() {
            let below = std::fs::read_dir(path).into_iter().flatten().flatten();
            let folders = below.map(|entry| entry.path()).filter(|path| path.is_dir());
            let files = std::iter::once(path.clone()).chain(folders);
            found.extend(files.map(|folder| folder.join(DEFAULT_FILE)).filter(|f| f.is_file()));
        } else {
            found.insert(path.clone());
        }
    }
    found.into_iter().collect()
}

/// What tells one content of a file from another, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    changed: (i64, i64),
    size: u64,
}

fn stamp(file: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(file).ok()?;
    Some(Stamp {
        file: (meta.dev(), meta.ino()),
        changed: (meta.mtime(), meta.mtime_nsec()),
        size: meta.size(),
    })
}

/// What is known of one file.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    contexts: BTreeMap<EnvironmentKey, Arc<Context>>,
    /// The last complaint, so that it is said once.
    complaint: Option<String>,
    looks_gone: u32,
}

/// The files, and what they say.
pub struct Files {
    named: Vec<PathBuf>,
    environment: Option<String>,
    state: StateDir,
    ledger: Arc<dyn Ledger>,
    known: BTreeMap<PathBuf, Known>,
    doubles: BTreeSet<String>,
}

impl Files {
    /// Nothing is read yet.
    pub fn new(
        global: &Global,
        state: StateDir,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, CommandError> {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Ok(Self {
            named: named(global).into_iter().map(absolute).collect(),
            environment: global.env.clone(),
            state,
            ledger,
            known: BTreeMap::new(),
            doubles: BTreeSet::new(),
        })
    }

    /// The first look: it is an error if no environment at all can be looked after.
    pub async fn first_look(&mut self) -> Result<(), CommandError> {
        let files = expanded(&self.named);
        let mut first_error = None;
        for file in &files {
            if let Err(error) = self.read(file, true).await {
                first_error.get_or_insert(error);
            }
        }
        if self.known.values().any(|known| !known.contexts.is_empty()) {
            for (file, known) in &self.known {
                if let Some(words) = &known.complaint {
                    tell(file, words);
                }
            }
            return Ok(());
        }
        Err(first_error.unwrap_or_else(|| {
            let named: Vec<String> =
                self.named.iter().map(|path| path.display().to_string()).collect();
            CommandError::usage(format!("there is no {DEFAULT_FILE} in {}", named.join(", ")))
                .hint("name files with -f, or folders that hold one, or whose folders do")
        }))
    }

    /// Reads a file. What can't be read keeps what was known of it.
    async fn read(&mut self, file: &Path, quiet: bool) -> Result<(), CommandError> {
        let stamp = stamp(file);
        let result = self.load(file).await;
        let known = self.known.entry(file.to_owned()).or_default();
        known.stamp = stamp;
        let (contexts, broken) = match result {
            Ok(read) => read,
            Err(error) => {
                let what = match known.contexts.is_empty() {
                    true => "it is not looked after",
                    false => "what was read before stays in force",
                };
                complain(known, file, format!("{what}: {}", one_line(&error)), quiet);
                return Err(error);
            }
        };
        let mut kept = BTreeMap::new();
        for (key, cx) in contexts {
            kept.insert(key, cx);
        }
        if broken.is_empty() {
            known.complaint = None;
        } else {
            let (mut stay, mut never) = (Vec::new(), Vec::new());
            for (name, error) in &broken {
                let old = known.contexts.iter().find(|(key, _)| key.environment.as_str() == name);
                kept.extend(old.map(|(key, cx)| (key.clone(), cx.clone())));
                let words = format!("{name}: {}", one_line(error));
                if old.is_some() { &mut stay } else { &mut never }.push(words);
            }
            let groups = [
                ("what was read before stays in force", stay),
                ("it never could, so that nobody looks after it", never),
            ];
            let groups = groups.iter().filter(|(_, words)| !words.is_empty());
            let words: Vec<String> =
                groups.map(|(what, words)| format!("{what}: {}", words.join("; "))).collect();
            complain(known, file, words.join("; "), quiet);
        }
        known.contexts = kept;
        match broken.into_iter().next() {
            Some((_, error)) if known.contexts.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    async fn load(&self, file: &Path) -> Result<Read, CommandError> {
        let mut names: Vec<String> =
            config::environments(file, &session::var)?.iter().map(ToString::to_string).collect();
        if let Some(only) = &self.environment {
            names.retain(|name| name == only);
            if names.is_empty() {
                return Err(CommandError::usage(format!(
                    "{} has no environment `{only}`",
                    file.display()
                )));
            }
        }
        let (mut contexts, mut broken) = (Vec::new(), Vec::new());
        for name in names {
            match config::load(file, Some(&name), &session::var) {
                Ok(loaded) => contexts.push(self.context(loaded).await?),
                Err(error) => broken.push((name, CommandError::from(error))),
            }
        }
        Ok((contexts, broken))
    }

    async fn context(
        &self,
        loaded: Loaded,
    ) -> Result<(EnvironmentKey, Arc<Context>), CommandError> {
        for warning in &loaded.settings.warnings {
            tracing::warn!(environment = %loaded.settings.key, "{warning}");
        }
        let opening = Opening { activity: ACTIVITY, changes: true, ..Opening::default() };
        let session =
            session::build(loaded, self.state.clone(), self.ledger.clone(), opening).await?;
        let cx = Context { surface: Surface::Controller, ..session.cx };
        Ok((cx.key.clone(), Arc::new(cx)))
    }

    /// Forgets files of folders that are gone for good.
    fn forget(&mut self, files: &[PathBuf]) {
        let named = &self.named;
        self.known.retain(|file, known| {
            if files.contains(file) || named.contains(file) {
                known.looks_gone = 0;
                return true;
            }
            known.looks_gone += 1;
            known.looks_gone < LOOKS_BEFORE_GONE
        });
    }

    /// Each environment once: the file that comes first has it.
    fn contexts(&mut self) -> Vec<Arc<Context>> {
        let mut found: BTreeMap<EnvironmentKey, Arc<Context>> = BTreeMap::new();
        for (file, known) in &self.known {
            for (key, cx) in &known.contexts {
                if let Some(first) = found.get(key) {
                    let words = format!("{key} {}", file.display());
                    if self.doubles.insert(words) {
                        tracing::error!(environment = %key, file = %file.display(), "it stands in a file of {} already: this one is left out", first.folder);
                    }
                    continue;
                }
                found.insert(key.clone(), cx.clone());
            }
        }
        found.into_values().collect()
    }
}

type Read = (Vec<(EnvironmentKey, Arc<Context>)>, Vec<(String, CommandError)>);

/// As a line of a log has it.
fn one_line(error: &CommandError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn complain(known: &mut Known, file: &Path, words: String, quiet: bool) {
    if known.complaint.as_ref() == Some(&words) {
        return;
    }
    if !quiet {
        tell(file, &words);
    }
    known.complaint = Some(words);
}

fn tell(file: &Path, words: &str) {
    tracing::error!(file = %file.display(), "the configuration can't be used, {words}");
}

#[async_trait]
impl Fleet for Files {
    async fn environments(&mut self, again: bool) -> Vec<Arc<Context>> {
        let mut files = expanded(&self.named);
        if files.len() > MAX_FILES {
            if self.doubles.insert("too many".to_owned()) {
                tracing::error!(
                    "there are {} files, the first {MAX_FILES} are looked after",
                    files.len()
                );
            }
            files.truncate(MAX_FILES);
        }
        for file in &files {
            let changed = match self.known.get(file) {
                Some(known) => again || known.stamp != stamp(file),
                None => true,
            };
            let known_before = self.known.get(file).is_some_and(|known| !known.contexts.is_empty());
            if changed && self.read(file, false).await.is_ok() && known_before {
                tracing::info!(file = %file.display(), "the configuration was read again");
            }
        }
        self.forget(&files);
        self.contexts()
    }
}
