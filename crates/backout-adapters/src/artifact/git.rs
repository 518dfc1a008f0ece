//! Commits kept from garbage collection by references of our own.

use std::path::PathBuf;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, ErrorClass, StepCx};

use crate::git::{Git, LOOK, Worktrees, is_commit_id};

/// What the digest of a commit begins with.
pub const GIT_SCHEME: &str = "git:";

/// The commits that releases of one environment need, in its repositories.
#[derive(Debug, Clone)]
pub struct GitArtifacts {
    repositories: Vec<(PathBuf, Git)>,
    worktrees: Vec<(PathBuf, Worktrees)>,
    prefix: String,
    key: EnvironmentKey,
}

impl GitArtifacts {
    /// Keeps commits in these repositories, by the path that a release names them with.
    #[must_use]
    pub fn new(key: &EnvironmentKey, repositories: Vec<(PathBuf, Git)>) -> Self {
        let prefix = format!("refs/backout/{}/{}/keep", key.app, key.environment);
        Self { repositories, worktrees: Vec::new(), prefix, key: key.clone() }
    }

    /// Makes a worktree of each commit that is kept, too, and removes it with the commit; by the path of its repository.
    /// Those in one folder are one.
    #[must_use]
    pub fn with_worktrees(mut self, all: Vec<(PathBuf, Worktrees)>) -> Self {
        for (path, one) in all {
            let same = |(_, other): &&mut (PathBuf, Worktrees)| other.releases() == one.releases();
            match self.worktrees.iter_mut().find(same) {
                Some((_, other)) => other.add_links_of(&one),
                None => self.worktrees.push((path, one)),
            }
        }
        self
    }

    fn reference(&self, digest: &str) -> Result<(String, String), AdapterError> {
        let commit = digest.strip_prefix(GIT_SCHEME).unwrap_or(digest);
        if !is_commit_id(commit) {
            return Err(AdapterError::permanent(format!(
                "failed to use `{digest}`: it is no commit"
            )));
        }
        Ok((format!("{}/{commit}", self.prefix), commit.to_owned()))
    }
}

/// The host of a working tree could not be asked.
fn is_away(git: &Git, error: &AdapterError) -> bool {
    git.host().is_some() && error.class == ErrorClass::Transient
}

#[async_trait]
impl ArtifactStore for GitArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        Err(AdapterError::permanent(format!(
            "failed to hash `{path}`: commits are named by their target"
        )))
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let (reference, commit) = self.reference(digest)?;
        let wanted = std::path::Path::new(path);
        let named: Vec<&Git> =
            self.repositories.iter().filter(|it| it.0 == wanted).map(|it| &it.1).collect();
        if named.is_empty() {
            return Err(AdapterError::permanent(format!(
                "failed to keep {commit}: there is no repository `{path}`"
            )));
        }
        // On every host that has one.
        for git in named {
            git.obtain(&commit).await?;
            git.change(&["update-ref", &reference, &commit], LOOK, None).await?;
        }
        // Before anything is switched: nobody waits for it then.
        for (_, worktrees) in self.worktrees.iter().filter(|it| it.0 == wanted) {
            worktrees.ensure(&commit).await?;
        }
        Ok(())
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        let (reference, commit) = self.reference(digest)?;
        let (mut holders, mut without, mut away) = (Vec::new(), Vec::new(), None);
        for (path, git) in &self.repositories {
            match git.commit(&reference).await {
                Ok(held) if held.as_ref() == Some(&commit) => holders.push((path, git)),
                Ok(_) => without.push((path, git)),
                Err(error) if is_away(git, &error) => away = Some(error),
                Err(error) => return Err(error),
            }
        }
        // Where some can be asked, the others say nothing against a way back: their own steps will tell.
        if let (Some(error), true, true) = (away, holders.is_empty(), without.is_empty()) {
            return Err(error);
        }
        for (_, git) in &holders {
            // The commit's own files, not its whole history.
            let args = ["rev-list", "--objects", "--no-walk", "--quiet", commit.as_str()];
            git.look(&args).await.map_err(|error| {
                AdapterError::permanent(format!(
                    "files of commit {commit} are missing: {}",
                    error.message
                ))
                .with_hint("`git fsck` lists them; fetch the commit from where it was pushed")
            })?;
        }
        let lacks = without.iter().find(|(path, _)| holders.iter().any(|(held, _)| held == path));
        match lacks {
            None if !holders.is_empty() => Ok(()),
            lacks => {
                let on = lacks.and_then(|(_, git)| git.host()).map(|host| host.name().to_string());
                let on = on.map(|name| format!(" on {name}")).unwrap_or_default();
                Err(AdapterError::permanent(format!(
                    "commit {commit} is not kept{on}: `{reference}` does not name it"
                ))
                .with_hint("was the repository cloned anew, or its references removed?"))
            }
        }
    }

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let mut removed = Vec::new();
        let commits: Vec<String> = keep
            .iter()
            .filter_map(|digest| digest.strip_prefix(GIT_SCHEME))
            .map(str::to_owned)
            .collect();
        for (_, worktrees) in &self.worktrees {
            for path in worktrees.prune(&commits).await? {
                let path = path.display();
                tracing::warn!(%path, "A worktree that no release needs stays: it holds what no commit does.");
            }
        }
        for (_, git) in &self.repositories {
            let all = match git.look(&["for-each-ref", "--format=%(refname)", &self.prefix]).await {
                Ok(all) => all,
                // It goes with a later call.
                Err(error) if is_away(git, &error) => continue,
                Err(error) => return Err(error),
            };
            let turn = git.turn_there(&self.key, "backout-prune", cx);
            for reference in all.lines() {
                let Some(commit) = reference.rsplit('/').next().filter(|name| is_commit_id(name))
                else {
                    continue;
                };
                let digest = format!("{GIT_SCHEME}{commit}");
                if keep.contains(&digest) {
                    continue;
                }
                git.change(&["update-ref", "-d", reference], LOOK, turn.as_ref()).await?;
                removed.push(digest);
            }
        }
        Ok(removed)
    }
}
