//! What is kept outside of the ledger, beside it in the state folder: the key that signs, the public keys there ever
//! were, and the last checkpoint that was exported.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use backout_core::ids::LedgerId;

use super::checkpoint::{Checkpoint, origin_of};
use super::files::{read_small, write_whole};
use super::note::{self, SignerKey, VerifierKey};

/// Folder in the state folder.
pub const AUDIT_FOLDER: &str = "audit";

/// Largest key file or checkpoint that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a key or checkpoint can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The file can't be read or written.
    #[error("failed to {what}: {source}")]
    File {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// It is there, but it must not be trusted.
    #[error("failed to use {path}: {reason}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

fn file(what: String) -> impl FnOnce(io::Error) -> KeeperError {
    move |source| KeeperError::File { what, source }
}

/// The key that signs, and how it came.
pub struct Signer {
    /// The key.
    pub key: SignerKey,
    /// It was made now.
    pub is_new: bool,
    /// There were others before it, which are gone.
    pub replaces_lost: bool,
}

/// The folder of one ledger's key and checkpoint.
pub struct Keeper {
    folder: PathBuf,
    ledger: LedgerId,
}

impl Keeper {
    /// In a state folder.
    #[must_use]
    pub fn new(state: &Path, ledger: &LedgerId) -> Self {
        Self { folder: state.join(AUDIT_FOLDER), ledger: ledger.clone() }
    }

    /// The private key.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.folder.join(format!("{}.key", self.ledger))
    }

    /// The public keys, a line each, the oldest first.
    #[must_use]
    pub fn public_path(&self) -> PathBuf {
        self.folder.join(format!("{}.pub", self.ledger))
    }

    /// The last checkpoint that was exported.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.folder.join(format!("{}.checkpoint", self.ledger))
    }

    /// The public keys there ever were.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn public_keys(&self) -> Result<Vec<VerifierKey>, KeeperError> {
        let path = self.public_path();
        let text =
            read_small(&path, MAX_BYTES).map_err(file(format!("read {}", path.display())))?;
        let mut keys = Vec::new();
        for line in text.unwrap_or_default().lines() {
            let key = VerifierKey::parse(line).map_err(|error| KeeperError::Refused {
                path: path.clone(),
                reason: format!("a line of it: {error}"),
            })?;
            keys.push(key);
        }
        Ok(keys)
    }

    /// The last checkpoint that was exported, as it lies there.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn remembered(&self) -> Result<Option<String>, KeeperError> {
        let path = self.checkpoint_path();
        read_small(&path, MAX_BYTES).map_err(file(format!("read {}", path.display())))
    }

    /// Keeps a checkpoint.
    ///
    /// # Errors
    /// When it can't be written; the old one stays then.
    pub fn remember(&self, note: &str) -> Result<(), KeeperError> {
        self.put(&self.checkpoint_path(), note)
    }

    /// Checkpoints of other ledgers that lie here too.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let ours = format!("{}.checkpoint", self.ledger);
        let names = fs_err::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".checkpoint") && *name != ours)
            .collect();
        names.sort();
        names
    }

    /// The key that signs, made at first use.
    ///
    /// # Errors
    /// For a key that others can read, that belongs to another ledger, or that was put in the place of ours.
    pub fn signer(&self, seed: impl FnOnce() -> [u8; 32]) -> Result<Signer, KeeperError> {
        let path = self.key_path();
        let known = self.public_keys()?;
        let text =
            read_small(&path, MAX_BYTES).map_err(file(format!("read {}", path.display())))?;
        match text {
            Some(text) => self.kept_key(&path, &text, known),
            None => self.new_key(&path, known, seed()),
        }
    }

    fn kept_key(
        &self,
        path: &Path,
        text: &str,
        known: Vec<VerifierKey>,
    ) -> Result<Signer, KeeperError> {
        let refuse = |reason: String| KeeperError::Refused { path: path.to_owned(), reason };
        let mode = fs_err::metadata(path).map_err(file(format!("read {}", path.display())))?.mode();
        if mode & 0o077 != 0 {
            return Err(refuse(format!(
                "its mode {:o} lets others read it; move it away, and the next export makes a new one",
                mode & 0o777
            )));
        }
        let key = SignerKey::parse(text.trim_end()).map_err(|error| {
            refuse(format!(
                "{error}; restore it, or move it away, and the next export makes a new one"
            ))
        })?;
        let public = key.verifier();
        if public.name() != origin_of(&self.ledger) {
            return Err(refuse(format!("it is the key of {}", public.name())));
        }
        if known.is_empty() {
            self.check_against_remembered(path, &public)?;
            self.put_public(&[public])?;
        } else if !known.contains(&public) {
            return Err(refuse(format!(
                "it was put in the place of the key that signed before; restore that one, or, if you mean it, add \
                 the line `{}` to {}",
                public.text(),
                self.public_path().display()
            )));
        }
        Ok(Signer { key, is_new: false, replaces_lost: false })
    }

    /// Without the list of keys, only what this key signed can vouch for it.
    fn check_against_remembered(&self, path: &Path, key: &VerifierKey) -> Result<(), KeeperError> {
        let Some(note) = self.remembered()? else { return Ok(()) };
        note::open(&note, std::slice::from_ref(key)).map(|_| ()).map_err(|error| {
            KeeperError::Refused {
                path: path.to_owned(),
                reason: format!("it did not sign {}: {error}", self.checkpoint_path().display()),
            }
        })
    }

    fn new_key(
        &self,
        path: &Path,
        mut known: Vec<VerifierKey>,
        seed: [u8; 32],
    ) -> Result<Signer, KeeperError> {
        let key = SignerKey::new(&origin_of(&self.ledger), seed).map_err(|error| {
            KeeperError::Refused { path: path.to_owned(), reason: error.to_string() }
        })?;
        let replaces_lost = !known.is_empty() || self.remembered()?.is_some();
        known.push(key.verifier());
        // First the public one: a key that nobody knows would look like one that was put here.
        self.put_public(&known)?;
        self.put(path, &format!("{}\n", key.text()))?;
        Ok(Signer { key, is_new: true, replaces_lost })
    }

    fn put_public(&self, keys: &[VerifierKey]) -> Result<(), KeeperError> {
        let text: String = keys.iter().map(|key| format!("{}\n", key.text())).collect();
        self.put(&self.public_path(), &text)
    }

    fn put(&self, path: &Path, text: &str) -> Result<(), KeeperError> {
        let what = || format!("write {}", path.display());
        match std::fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file(format!("make {}", self.folder.display()))(error));
            }
            _ => {}
        }
        write_whole(path, text).map_err(file(what()))
    }

    /// The checkpoint of a note that one of our keys, or one of the keys given, signed.
    ///
    /// # Errors
    /// Why it can't be trusted, as a sentence's end.
    pub fn open(&self, note: &str, more: &[VerifierKey]) -> Result<Checkpoint, String> {
        let mut keys = self.public_keys().map_err(|error| error.to_string())?;
        keys.extend_from_slice(more);
        let text = note::open(note, &keys).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(text).map_err(|error| error.to_string())?;
        let origin = origin_of(&self.ledger);
        if checkpoint.origin == origin {
            Ok(checkpoint)
        } else {
            Err(format!("it is of another log, {}; this one is {origin}", checkpoint.origin))
        }
    }
}
