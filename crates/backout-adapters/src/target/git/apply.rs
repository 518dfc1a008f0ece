//! Moves a working tree to a commit.

use std::path::Path;
use std::sync::Arc;

use backout_core::ids::Unit;
use backout_core::model::{GitMove, GitSpec, Release};
use backout_core::ports::{AdapterError, Receipt, Revert, StepCx};

use super::marker::LastStable;
use super::note::{Home, Note};
use super::step::{Step, reference, short};
use super::{GitTarget, dirty, way_back};
use crate::git::Git;

/// What a start is to bring about.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub release: &'a Arc<Release>,
    pub deployment: u64,
    pub restore: bool,
    pub revert: Option<&'a Revert>,
}

/// Lock files of git that a killed call of ours may have left: nobody else removes them.
pub(super) const STALE_LOCKS: [&str; 2] = ["index.lock", "HEAD.lock"];

/// What came of a move that git may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gently {
    NotTried,
    /// Something is in the way, or its time has come to fail: then half of it may be made.
    Refused,
    Moved {
        /// Changes that were in nobody's way are still there.
        keeps: bool,
    },
}

impl Step<'_> {
    /// Keeps what no commit holds under a reference of ours, and then the tree is clean.
    async fn set_aside(&mut self, changed: &[String]) -> Result<(), AdapterError> {
        if changed.is_empty() {
            return Ok(());
        }
        let words = format!("set aside by backout before {}", self.cx.operation);
        let identity = ["-c", "user.name=backout", "-c", "user.email=backout@localhost"];
        let args: Vec<&str> = identity.into_iter().chain(["stash", "create", &words]).collect();
        let saved = self.git.look(&args).await?;
        if saved.is_empty() {
            // Nothing is thrown away that is not kept somewhere.
            return Err(AdapterError::permanent(format!(
                "failed to set changes of `{}` aside: {}",
                self.spec.repository,
                dirty::sentence(changed)
            ))
            .with_hint("commit or stash them, and try again"));
        }
        let name = format!("refs/backout/{}/set-aside/{}", reference(self.unit), self.cx.operation);
        self.change(&["update-ref", &name, &saved]).await?;
        self.warnings.push(format!(
            "changes that no commit held were set aside ({}): `git stash apply {}` brings them back",
            dirty::sentence(changed),
            saved.get(..12).unwrap_or(&saved)
        ));
        self.change(&["reset", "--quiet", "--hard", "HEAD"]).await
    }

    async fn move_untracked_away(&mut self, head: Option<&str>) -> Result<(), AdapterError> {
        let found = dirty::in_the_way(&self.git, head, &self.spec.commit).await?;
        if found.is_empty() {
            return Ok(());
        }
        let top = self.git.look(&["rev-parse", "--show-toplevel"]).await?;
        let place = self.home.folder().join("set-aside").join(self.cx.operation.to_string());
        for path in &found {
            self.git.move_file(&Path::new(&top).join(path), &place.join(path), &self.turn).await?;
        }
        self.warnings.push(format!(
            "files that no commit holds were in the way and were moved to `{}`: {}",
            place.display(),
            dirty::sentence(&found)
        ));
        Ok(())
    }

    async fn check_out(&self) -> Result<(), AdapterError> {
        let commit = self.spec.commit.as_str();
        match self.spec.by {
            GitMove::Checkout => {
                self.change(&["checkout", "--quiet", "--force", "--detach", commit]).await?
            }
            GitMove::Reset => self.change(&["reset", "--quiet", "--hard", commit]).await?,
        }
        if self.spec.submodules {
            let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
            self.change(&args).await?;
        }
        Ok(())
    }

    async fn remove_stale_locks(&self, git_dir: &Path) -> Result<(), AdapterError> {
        for name in STALE_LOCKS {
            self.git.remove_file(&git_dir.join(name), Some(&self.turn)).await?;
        }
        Ok(())
    }

    /// Another git works in this tree: nothing is noted yet, so that its lock is never taken for one of ours.
    fn refuse_foreign_lock(&self, git_dir: &Path) -> Result<(), AdapterError> {
        let lock = git_dir.join(STALE_LOCKS[0]);
        if self.git.host().is_some() || !lock.exists() {
            return Ok(());
        }
        let message =
            format!("failed to move `{}`: `{}` is there", self.spec.repository, lock.display());
        Err(AdapterError::transient(message).with_hint(
            "another git works in this tree, or one was killed: if none does, remove the lock file",
        ))
    }

    /// Nothing was changed yet: from here on the host goes back by itself if it is left alone.
    async fn guard(
        &self,
        git_dir: &Path,
        wanted: Wanted<'_>,
        before: Option<&Note>,
        first: Option<&String>,
    ) -> Result<(), AdapterError> {
        let Some(revert) = wanted.revert else { return Ok(()) };
        let back = way_back::Back {
            git: &self.git,
            git_dir,
            home: &self.home,
            unit: self.unit,
            ledger: &self.target.options.ledger,
            cx: self.cx,
            before,
            first,
            turn: &self.turn,
        };
        let way_back = back.plan(self.spec, wanted, revert).await?;
        self.git.arm(&self.turn, way_back).await
    }

    /// Most trees are as the last move left them, and then one call does it all: git itself refuses where it would
    /// write over what no commit holds.
    async fn moves_gently(
        &self,
        all: Wanted<'_>,
        before: Option<&Note>,
        wanted: &Note,
    ) -> Result<Gently, AdapterError> {
        let simple = self.spec.by == GitMove::Checkout && !self.spec.submodules;
        if !simple || all.revert.is_some() || !before.is_some_and(|note| note.finished) {
            return Ok(Gently::NotTried);
        }
        self.home.write(&self.git, &wanted.gentle(), &self.turn).await?;
        let commit = self.spec.commit.as_str();
        // Not quietly: it lists the changes that it keeps, and nothing else, on stdout (git-checkout(1), `--quiet`).
        let args = ["checkout", "--no-overwrite-ignore", "--detach", commit];
        let moved = self.git.attempt(&args, self.left(), Some(&self.turn)).await?;
        Ok(moved.map_or(Gently::Refused, |keeps| Gently::Moved { keeps }))
    }

    /// What git has let be since it was in nobody's way is no part of the release all the same.
    async fn settle(&mut self, gently: Gently) -> Result<(), AdapterError> {
        let kept = async {
            match gently {
                Gently::Moved { keeps: true } => dirty::changed(&self.git).await,
                _ => Ok(Vec::new()),
            }
        };
        // Git does not wait for files of a working tree: power may fail once the note says finished.
        let synced = self.git.sync(&self.turn, self.left());
        let (kept, synced) = tokio::join!(kept, synced);
        synced?;
        let kept = kept?;
        if kept.is_empty() {
            return Ok(());
        }
        self.set_aside(&kept).await?;
        self.git.sync(&self.turn, self.left()).await
    }

    /// With a look at everything first, so that nothing is lost whatever there is. `None`: the commit is not there.
    async fn moves_anyway(
        &mut self,
        git_dir: &Path,
        all: Wanted<'_>,
        (before, gently): (Option<&Note>, Gently),
        wanted: &Note,
    ) -> Result<Option<Note>, AdapterError> {
        if self.git.commit(&self.spec.commit).await?.is_none() {
            return Ok(None);
        }
        let seen = dirty::look(&self.git).await?;
        let first = match before {
            None => seen.checked_out(self.spec.by),
            Some(note) => note.before.clone().filter(|_| !note.finished),
        };
        self.guard(git_dir, all, before, first.as_ref()).await?;
        match before {
            // Our own half-done move: what it left is nobody's work, unless it began without a look.
            Some(note) if !note.finished => {
                if gently == Gently::NotTried {
                    self.remove_stale_locks(git_dir).await?;
                }
                if note.gentle {
                    let own = dirty::neither(&self.git, seen.changed, &note.commit).await?;
                    self.set_aside(&own).await?;
                }
            }
            _ => self.set_aside(&seen.changed).await?,
        }
        self.move_untracked_away(seen.head.as_deref()).await?;
        let note = Note { before: first, ..wanted.clone() };
        self.home.write(&self.git, &note, &self.turn).await?;
        self.check_out().await?;
        Ok(Some(note))
    }
}

pub(super) async fn start(
    target: &GitTarget,
    unit: &Unit,
    all: Wanted<'_>,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let Wanted { release, deployment, .. } = all;
    let spec = target.spec(unit, Some(release))?;
    let git_dir = target.git(unit, spec)?.git_dir_at_once().await?;
    let mut step = Step::begin(target, unit, spec, cx, Home::in_tree(&git_dir, unit)).await?;
    let before = step.home.read(&step.git).await?;
    if let Some(other) =
        before.as_ref().and_then(|note| note.other_owner(unit, &target.options.ledger))
    {
        return Err(AdapterError::permanent(format!("failed to use {unit}: {other}")));
    }
    let wanted = Note::new(unit, &target.options.ledger, release, &spec.commit, deployment);
    let same = |note: &Note| {
        note.finished && note.release == wanted.release && note.deployment == deployment
    };
    if before.as_ref().is_some_and(same) && step.git.head().await?.as_ref() == Some(&spec.commit) {
        return Ok(Receipt {
            message: format!("{} is checked out already", short(&spec.commit)),
            ..Receipt::default()
        });
    }
    if before.as_ref().is_none_or(|note| note.finished) {
        step.refuse_foreign_lock(&git_dir)?;
    }
    let gently = step.moves_gently(all, before.as_ref(), &wanted).await?;
    let note = match gently {
        Gently::Moved { .. } => wanted,
        Gently::NotTried | Gently::Refused => {
            let tried = (gently == Gently::Refused).then(|| wanted.gentle());
            let now = (tried.as_ref().or(before.as_ref()), gently);
            let moved = step.moves_anyway(&git_dir, all, now, &wanted).await?;
            if let (None, Some(before)) = (&moved, before.as_ref().filter(|_| tried.is_some())) {
                // Nothing can have been moved to a commit that is not there.
                step.home.write(&step.git, before, &step.turn).await?;
            }
            moved.ok_or_else(|| no_commit(spec))?
        }
    };
    step.settle(gently).await?;
    let (tree, finished) = (step.git.tree().to_owned(), note.finished());
    match step.follow(&all, &tree, &finished).await? {
        Some(prepared) => step.home.put(&prepared).map_err(|e| {
            let note = step.home.note().display();
            AdapterError::transient(format!("failed to write `{note}`: {e}"))
        })?,
        None => step.home.write(&step.git, &finished, &step.turn).await?,
    }
    Ok(Receipt {
        message: format!("{} is checked out in {}", short(&spec.commit), spec.repository),
        warnings: step.warnings,
        ..Receipt::default()
    })
}

fn no_commit(spec: &GitSpec) -> AdapterError {
    AdapterError::permanent(format!(
        "failed to check out {}: the repository no longer has it",
        spec.commit
    ))
    .with_hint("fetch it from where it was pushed")
}

/// Nothing runs that could be stopped. What was checked out before the first deployment comes back.
pub(super) async fn stop(
    target: &GitTarget,
    unit: &Unit,
    release: &Release,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let spec = target.spec(unit, Some(release))?;
    let git = target.git(unit, spec)?;
    let git_dir = git.git_dir().await?;
    let home = Home::in_tree(&git_dir, unit);
    let Some(note) = home.read(&git).await? else {
        return Ok(Receipt {
            message: format!("{unit} is not managed any more"),
            ..Receipt::default()
        });
    };
    if let Some(other) = note.other_owner(unit, &target.options.ledger) {
        return Err(AdapterError::permanent(format!("failed to leave {unit}: {other}")));
    }
    let mut step = Step::begin(target, unit, spec, cx, home).await?;
    let mut message = format!("the files of {} stay as they are", spec.repository);
    if let Some(before) = &note.before {
        if note.finished {
            let changed = dirty::changed(&step.git).await?;
            step.set_aside(&changed).await?;
        } else {
            step.remove_stale_locks(&git_dir).await?;
        }
        let args = way_back::to_what_was_there(spec.by, before);
        step.change(&args).await?;
        message = format!(
            "{} is checked out in {} again, as before the first deployment",
            short(before),
            spec.repository
        );
    }
    step.home.remove(&step.git, Some(&step.turn)).await?;
    Ok(Receipt { message, warnings: step.warnings, ..Receipt::default() })
}

impl GitTarget {
    /// Names the commit for people.
    pub(super) async fn mark_commit(
        &self,
        git: &Git,
        unit: &Unit,
        spec: &GitSpec,
    ) -> Result<(), AdapterError> {
        LastStable::of(git, spec, &unit.key).await?.set(git, &spec.commit).await
    }
}
