//! Artifact copies in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backout_core::ids::hex;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};
use sha2::{Digest, Sha256};

use crate::faults::FaultPlan;

/// Files below a path: content, and whether they may be executed.
type Tree = BTreeMap<String, (Vec<u8>, bool)>;

/// Keeps copies in memory. Clones share them. Faults are named `digest`, `pin`, `verify` and `prune`.
#[derive(Clone, Default)]
pub struct FakeArtifacts {
    state: Arc<Mutex<State>>,
    faults: FaultPlan,
}

#[derive(Default)]
struct State {
    disk: Tree,
    kept: BTreeMap<ArtifactDigest, (String, Tree)>,
}

impl FakeArtifacts {
    /// An empty disk and an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The planned faults.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// Puts a file on the user's disk.
    pub fn put(&self, path: &str, bytes: &[u8], executable: bool) {
        self.state().disk.insert(path.to_owned(), (bytes.to_vec(), executable));
    }

    /// Takes a file, or all below a folder, from the user's disk.
    pub fn take(&self, path: &str) {
        self.state().disk.retain(|name, _| name != path && !name.starts_with(&format!("{path}/")));
    }

    /// Changes a byte of a kept copy.
    pub fn damage(&self, digest: &str) {
        if let Some((_, tree)) = self.state().kept.get_mut(digest) {
            for (bytes, _) in tree.values_mut() {
                bytes.push(b'!');
            }
        }
    }

    /// Digests of all kept copies.
    #[must_use]
    pub fn kept(&self) -> Vec<ArtifactDigest> {
        self.state().kept.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn faulty<T>(
        &self,
        name: &str,
        effect: bool,
        work: impl FnOnce(&mut State) -> Result<T, AdapterError>,
    ) -> Result<T, AdapterError> {
        match self.faults.next(name, effect) {
            Some(fault) => {
                if fault.has_effect() {
                    work(&mut self.state())?;
                }
                Err(fault.answer(name).await)
            }
            None => work(&mut self.state()),
        }
    }
}

impl State {
    fn tree(&self, path: &str) -> Result<(String, Tree), AdapterError> {
        let refuse =
            |why: &str| AdapterError::permanent(format!("failed to read artifact `{path}`: {why}"));
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(refuse("it leads out of the folder"));
        }
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let tree: Tree = self
            .disk
            .iter()
            .filter_map(|(at, file)| {
                let inside =
                    if at == path { "" } else { at.strip_prefix(path)?.strip_prefix('/')? };
                Some((inside.to_owned(), file.clone()))
            })
            .collect();
        if tree.is_empty() { Err(refuse("it does not exist")) } else { Ok((name, tree)) }
    }
}

fn digest_of(name: &str, tree: &Tree) -> ArtifactDigest {
    let mut hash = Sha256::new();
    hash.update(name);
    for (path, (bytes, executable)) in tree {
        hash.update([0]);
        hash.update(path);
        hash.update([0, u8::from(*executable)]);
        hash.update(Sha256::digest(bytes));
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

#[async_trait]
impl ArtifactStore for FakeArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        self.faulty("digest", false, |state| {
            state.tree(path).map(|(name, tree)| digest_of(&name, &tree))
        })
        .await
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        self.faulty("pin", true, |state| {
            if state.kept.get(digest).is_some_and(|(name, tree)| digest_of(name, tree) == digest) {
                return Ok(());
            }
            let (name, tree) = state.tree(path)?;
            if digest_of(&name, &tree) != digest {
                return Err(AdapterError::permanent(format!(
                    "failed to keep `{path}`: its content has changed"
                )));
            }
            state.kept.insert(digest.to_owned(), (name, tree));
            Ok(())
        })
        .await
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        self.faulty("verify", false, |state| match state.kept.get(digest) {
            Some((name, tree)) if digest_of(name, tree) == digest => Ok(()),
            Some(_) => Err(AdapterError::permanent(format!("failed to verify {digest}: damaged"))),
            None => Err(AdapterError::permanent(format!("failed to verify {digest}: missing"))),
        })
        .await
    }

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        _cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        self.faulty("prune", true, |state| {
            let gone: Vec<_> =
                state.kept.keys().filter(|digest| !keep.contains(digest)).cloned().collect();
            state.kept.retain(|digest, _| keep.contains(digest));
            Ok(gone)
        })
        .await
    }
}
