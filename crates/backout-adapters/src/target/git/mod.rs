//! A working tree of git that is moved from commit to commit.
//!
//! A commit that a release names is held by a reference of our own (`refs/backout/APP/ENVIRONMENT/COMMIT`), so that
//! rewritten branches and garbage collection leave it. A note beside the repository says which release is there and
//! whether its move was finished: what is checked out alone can't tell whether the command after it ran.

mod apply;
mod closed;
mod dirty;
mod drill;
mod earlier;
mod evidence;
mod farewell;
mod linked;
mod linked_look;
mod links;
mod marker;
mod note;
mod push;
mod resolve;
mod step;
mod way_back;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, LedgerId, ServiceName, Unit, Version};
use backout_core::model::{Artifact, GitSpec, ReadinessCheck, Release, Service, TargetSpec};
use backout_core::ports::{
    AdapterError, Capabilities, Earlier, Farewell, GuardState, Marker, NamedText, Observed,
    PartsOf, Receipt, Rehearsal, Running, StepCx, Target, TargetAction,
};

use crate::artifact::GIT_SCHEME;
use crate::git::Git;
use crate::host::Hosts;
use crate::target::{confirm, not_guarded, words_of};
pub use links::worktrees;
use note::{Home, Note};

/// What a [`GitTarget`] needs to know.
#[derive(Debug, Clone)]
pub struct GitTargetOptions {
    /// The folder of `backout.yaml`.
    pub folder: PathBuf,
    /// The caller's environment.
    pub env: Vec<(OsString, OsString)>,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The ledger that manages it.
    pub ledger: LedgerId,
    /// Today's services.
    pub services: BTreeMap<ServiceName, Service>,
}

/// Runs services from working trees.
#[derive(Debug, Clone)]
pub struct GitTarget {
    options: Arc<GitTargetOptions>,
    hosts: Hosts,
}

impl GitTarget {
    /// A target for one environment.
    #[must_use]
    pub fn new(options: GitTargetOptions) -> Self {
        Self { options: Arc::new(options), hosts: Hosts::default() }
    }

    /// Moves trees on other hosts too, where a unit is there.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    fn git(&self, unit: &Unit, spec: &GitSpec) -> Result<Git, AdapterError> {
        Ok(match self.hosts.of(unit)? {
            Some(host) => {
                Git::on(host, (&spec.repository).into(), &spec.protocols, spec.remote.clone())
            }
            None => {
                let tree = self.options.folder.join(&spec.repository);
                Git::new(tree, &self.options.env, &spec.protocols)
            }
        })
    }

    /// The definition of a unit's service: the release's, else today's.
    fn spec<'a>(
        &'a self,
        unit: &Unit,
        release: Option<&'a Release>,
    ) -> Result<&'a GitSpec, AdapterError> {
        let services = release.map_or(&self.options.services, |release| &release.content.services);
        match services.get(&unit.service).map(|service| &service.target) {
            Some(TargetSpec::Git(spec)) => Ok(spec),
            _ => Err(AdapterError::permanent(format!(
                "failed to use {unit}: it has no service of target `git`"
            ))),
        }
    }

    /// Where the note of a unit is.
    async fn home(&self, git: &Git, unit: &Unit, spec: &GitSpec) -> Result<Home, AdapterError> {
        match self.linked(unit, spec)? {
            Some(linked) => Ok(linked.home),
            None => Ok(Home::in_tree(&git.git_dir().await?, unit)),
        }
    }

    /// Git in the tree that is live.
    fn live_git(&self, unit: &Unit, spec: &GitSpec) -> Result<Git, AdapterError> {
        Ok(match self.linked(unit, spec)? {
            Some(linked) => linked.live_git(),
            None => self.git(unit, spec)?,
        })
    }

    /// What is there, for `adopt`: a definition whose commit is not known asks for it.
    async fn foreign(&self, git: &Git, spec: &GitSpec) -> Result<Observed, AdapterError> {
        if git.head().await?.is_none() {
            return Ok(Observed::nothing());
        }
        let label = earlier::label(git, spec, "HEAD").await?;
        Ok(Observed {
            running: Running::Yes,
            version: Version::new(&label).ok(),
            ..Observed::nothing()
        })
    }

    /// What the note and the tree say together.
    async fn look(
        &self,
        git: &Git,
        unit: &Unit,
        release: Option<&Release>,
        spec: &GitSpec,
    ) -> Result<Observed, AdapterError> {
        let asks = release.is_some() && spec.commit.is_empty();
        if let Some(linked) = self.linked(unit, spec)? {
            if let Some(seen) = linked.look().await? {
                return Ok(seen);
            }
            if asks && let Some(seen) = linked.foreign().await? {
                return Ok(seen);
            }
            if linked.leads()?.is_some() {
                return Ok(Observed::nothing());
            }
            // What took turns in the tree until now is live until the link is made.
        }
        if linked_to_bare(git) {
            return Ok(Observed::nothing());
        }
        let Some(note) = Home::in_tree(&git.git_dir().await?, unit).read(git).await? else {
            return if asks { self.foreign(git, spec).await } else { Ok(Observed::nothing()) };
        };
        if !note.finished {
            return Ok(Observed { marker: note.marker(), ..Observed::unknown() });
        }
        let head = git.head().await?;
        let base = Observed {
            running: Running::Yes,
            deployment: Some(note.deployment),
            marker: note.marker(),
            ..Observed::nothing()
        };
        if head.as_ref() == Some(&note.commit) {
            return Ok(Observed {
                version: Some(note.version),
                release: Some(note.release),
                ..base
            });
        }
        // Somebody has moved it since: what runs is no release of ours.
        let head = head.unwrap_or_else(|| "no commit".to_owned());
        let short: String = head.chars().take(12).collect();
        let tail = Some(format!("{short} is checked out in place of {}", note.commit));
        Ok(Observed { version: Version::new(&short).ok(), tail, deployment: None, ..base })
    }
}

#[async_trait]
impl Target for GitTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            side_by_side: false,
            replaces_in_place: true,
            addressable: false,
            sees_foreign: true,
        }
    }

    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        let spec = self.spec(unit, release)?;
        let git = self.git(unit, spec)?;
        let guard = match git.host() {
            Some(host) => host.guard(unit).await?,
            None => None,
        };
        if guard.as_ref().is_some_and(|guard| guard.state == GuardState::Reverting) {
            return Ok(Observed { guard, ..Observed::unknown() });
        }
        let seen = self.look(&git, unit, release, spec).await?;
        let said = git.host().zip(guard.as_ref());
        let said = said.and_then(|(host, guard)| words_of(host.as_ref(), guard));
        Ok(Observed { tail: said.or(seen.tail.clone()), guard, ..seen })
    }

    async fn parts(
        &self,
        unit: &Unit,
        service: &mut Service,
        version: &Version,
        of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        let TargetSpec::Git(spec) = &mut service.target else {
            return Err(AdapterError::permanent(format!(
                "failed to use {unit}: it is not of target `git`"
            )));
        };
        spec.revision = spec.revision.replace("{version}", version.as_str());
        spec.commit = match of {
            PartsOf::Running => self.live_git(unit, spec)?.head().await?.ok_or_else(|| {
                AdapterError::permanent(format!(
                    "failed to adopt `{}`: it has no commit",
                    spec.repository
                ))
            })?,
            PartsOf::Disk | PartsOf::Recorded(_) => self.resolve(unit, spec).await?,
            PartsOf::Ahead(_) => self.resolve_ahead(unit, spec).await?,
        };
        Ok(Some(vec![Artifact {
            service: unit.service.clone(),
            path: spec.repository.clone(),
            digest: format!("{GIT_SCHEME}{}", spec.commit),
            kept: true,
        }]))
    }

    async fn earlier(
        &self,
        unit: &Unit,
        service: &Service,
        besides: &[String],
    ) -> Result<Option<Earlier>, AdapterError> {
        earlier::earlier(self, unit, service, besides).await
    }

    async fn mark_stable(&self, unit: &Unit, release: &Release) -> Result<(), AdapterError> {
        let spec = self.spec(unit, Some(release))?;
        self.mark_commit(&self.git(unit, spec)?, unit, spec).await
    }

    async fn restorable(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        match linked::of(self, unit, Some(release))? {
            Some(linked) => linked.restorable(release).await,
            None => Ok(Vec::new()),
        }
    }

    async fn rehearse(
        &self,
        unit: &Unit,
        release: &Release,
        _cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        let spec = self.spec(unit, Some(release))?;
        let git = self.live_git(unit, spec)?;
        let home = self.home(&git, unit, spec).await?;
        drill::rehearse(&git, &home, spec).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        let spec = self.spec(unit, Some(release))?;
        let git = self.git(unit, spec)?;
        let home = self.home(&git, unit, spec).await?;
        let mut farewell = farewell::farewell(&git, &home, unit, spec, act.is_some()).await?;
        if let Some(linked) = self.linked(unit, spec)? {
            let shown = linked.link.display();
            farewell.stays.push(format!("`{shown}` stays, and the worktree that it leads to"));
        }
        Ok(farewell)
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        let git = self.live_git(unit, self.spec(unit, Some(release))?)?;
        evidence::evidence(&git, limit_bytes).await
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, restore, revert, .. } => {
                let wanted = apply::Wanted {
                    release,
                    deployment: *deployment,
                    restore: *restore,
                    revert: revert.as_ref(),
                };
                match linked::of(self, unit, Some(release))? {
                    Some(linked) => linked::start(&linked, wanted, cx).await,
                    None => apply::start(self, unit, wanted, cx).await,
                }
            }
            TargetAction::Confirm { unit, deployment, .. } => match self.hosts.of(unit)? {
                Some(host) => confirm(host.as_ref(), unit, *deployment).await,
                None => Err(not_guarded(unit)),
            },
            TargetAction::Stop { unit, release, .. } => {
                match linked::of(self, unit, Some(release))? {
                    Some(linked) => linked::stop(&linked, cx).await,
                    None => apply::stop(self, unit, release, cx).await,
                }
            }
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        let spec = self.spec(unit, Some(release))?;
        let git = self.git(unit, spec)?;
        if let Some(linked) = self.linked(unit, spec)? {
            return linked.obstacles().await;
        }
        let note = self.home(&git, unit, spec).await?.read(&git).await?;
        let mut found = Vec::new();
        if let Some(other) =
            note.as_ref().and_then(|note| note.other_owner(unit, &self.options.ledger))
        {
            found.push(other);
        }
        // A move of our own that was cut short leaves a mixture; the next one sets it right.
        if note.is_none_or(|note| note.finished) {
            let changed = dirty::changed(&git).await?;
            if !changed.is_empty() {
                found.push(format!(
                    "`{}` has changes that no commit holds: {}; commit or stash them (--override nothing_in_the_way \
                     sets them aside instead)",
                    spec.repository,
                    dirty::sentence(&changed)
                ));
            }
            let closed = closed::folders(&git, &spec.commit).await?;
            if !closed.is_empty() {
                found.push(format!(
                    "files of `{}` are to change in folders that can't be written: {}; let us write there, or mount \
                     that file system for writing",
                    spec.repository,
                    dirty::sentence(&closed)
                ));
            }
        }
        Ok(found)
    }
}

/// A repository without a tree holds nothing that took turns in one.
fn linked_to_bare(git: &Git) -> bool {
    git.host().is_none() && !git.tree().join(".git").exists()
}

impl Note {
    fn marker(&self) -> Option<Marker> {
        Some(Marker { ledger: self.ledger.clone() })
    }
}
