//! Moves a working tree to a commit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::model::{GitMove, GitSpec, Release};
use backout_core::ports::{AdapterError, Receipt, Revert, StepCx};

use super::marker::LastStable;
use super::note::Note;
use super::{GitTarget, dirty, push, way_back};
use crate::git::{Git, Turn};
use crate::host::Ended;
use crate::target::{CallContext, call_environment};

/// What a command after a move means with this exit code, as for scripts.
const TRY_LATER: i32 = 75;

/// What a start is to bring about.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub release: &'a Arc<Release>,
    pub deployment: u64,
    pub restore: bool,
    pub revert: Option<&'a Revert>,
}

/// One move, with what it needs at each turn.
struct Move<'a> {
    target: &'a GitTarget,
    git: Git,
    spec: &'a GitSpec,
    unit: &'a Unit,
    cx: &'a StepCx,
    turn: Turn,
    end: Instant,
    warnings: Vec<String>,
}

impl<'a> Move<'a> {
    /// Nobody else of ours works in the tree from here on.
    async fn begin(
        target: &'a GitTarget,
        unit: &'a Unit,
        spec: &'a GitSpec,
        cx: &'a StepCx,
        git_dir: &Path,
    ) -> Result<Self, AdapterError> {
        let git = target.git(unit, spec)?;
        let turn = git.begin(&Note::folder(git_dir), unit, cx).await?;
        let limit = Duration::from_millis(spec.timeout_ms).min(cx.timeout);
        Ok(Self {
            target,
            git,
            spec,
            unit,
            cx,
            turn,
            end: Instant::now() + limit,
            warnings: Vec::new(),
        })
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))
    }

    async fn change(&self, args: &[&str]) -> Result<(), AdapterError> {
        self.git.change(args, self.left(), Some(&self.turn)).await
    }

    /// Keeps what no commit holds under a reference of ours, and then the tree is clean.
    async fn set_aside(&mut self) -> Result<(), AdapterError> {
        let changed = dirty::changed(&self.git).await?;
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
                dirty::sentence(&changed)
            ))
            .with_hint("commit or stash them, and try again"));
        }
        let name = format!("refs/backout/{}/set-aside/{}", reference(self.unit), self.cx.operation);
        self.change(&["update-ref", &name, &saved]).await?;
        self.warnings.push(format!(
            "changes that no commit held were set aside ({}): `git stash apply {}` brings them back",
            dirty::sentence(&changed),
            saved.get(..12).unwrap_or(&saved)
        ));
        self.change(&["reset", "--quiet", "--hard", "HEAD"]).await
    }

    /// Files that no commit knows and that the wanted one would overwrite.
    async fn move_untracked_away(&mut self, git_dir: &Path) -> Result<(), AdapterError> {
        let others = self.git.look(&["ls-files", "--others", "-z"]).await?;
        if others.is_empty() {
            return Ok(());
        }
        let wanted =
            self.git.look(&["ls-tree", "-r", "-z", "--name-only", &self.spec.commit]).await?;
        let wanted: std::collections::BTreeSet<&str> = wanted.split('\0').collect();
        let top = self.git.look(&["rev-parse", "--show-toplevel"]).await?;
        let place = Note::folder(git_dir).join("set-aside").join(self.cx.operation.to_string());
        let mut moved = Vec::new();
        for path in others.split('\0').filter(|path| !path.is_empty() && wanted.contains(path)) {
            let to = place.join(path);
            self.git.move_file(&Path::new(&top).join(path), &to, &self.turn).await?;
            moved.push(path.to_owned());
        }
        if !moved.is_empty() {
            self.warnings.push(format!(
                "files that no commit holds were in the way and were moved to `{}`: {}",
                place.display(),
                dirty::sentence(&moved)
            ));
        }
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
        // Git does not wait for files of a working tree: power may fail once the note says finished.
        self.git.sync(&self.turn, self.left()).await
    }

    /// Runs the command after the move, with the contract of scripts.
    async fn after(&self, release: &Release, deployment: u64) -> Result<(), AdapterError> {
        let Some(program) = self.spec.post_checkout.first() else { return Ok(()) };
        let context = CallContext {
            key: &self.unit.key,
            service: &self.unit.service,
            slot: self.unit.slot,
            version: Some(&release.content.version),
            release: Some(&release.id),
            deployment: Some(deployment),
            cx: Some(self.cx),
        };
        // On another host its login's environment is there already.
        let caller = match self.git.host() {
            Some(_) => &[][..],
            None => &self.target.options.env,
        };
        let env = call_environment(caller, &context).into_iter();
        let commit = [("COMMIT_SHA".into(), self.spec.commit.clone().into())];
        let env = env.chain(commit).collect();
        let what = format!("`{program}` after the move");
        let argv: Vec<&str> = self.spec.post_checkout.iter().map(String::as_str).collect();
        let finished = self.git.program(&argv, env, self.left(), Some(&self.turn)).await?;
        let said = match finished.stderr.total() {
            0 => finished.stdout.last_text(700),
            _ => finished.stderr.last_text(700),
        };
        match finished.ended {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(TRY_LATER) => Err(AdapterError::transient(format!(
                "failed to run {what}: it asks to try again later: {said}"
            ))),
            Ended::Exited(code) => Err(AdapterError::permanent(format!(
                "failed to run {what}: exit code {code}: {said}"
            ))),
            Ended::Signalled(signal) => Err(AdapterError::unknown(format!(
                "failed to learn how {what} went: signal {signal} ended it"
            ))),
            Ended::TimedOut => Err(AdapterError::unknown(format!(
                "failed to learn how {what} went: it was ended after {} s: {said}",
                finished.took.as_secs()
            ))),
        }
    }
}

/// App and environment as part of a reference.
pub(super) fn reference(unit: &Unit) -> String {
    format!("{}/{}", unit.key.app, unit.key.environment)
}

/// Lock files of git that a killed call of ours may have left: nobody else removes them.
pub(super) const STALE_LOCKS: [&str; 2] = ["index.lock", "HEAD.lock"];

impl Move<'_> {
    async fn remove_stale_locks(&self, git_dir: &Path) -> Result<(), AdapterError> {
        for name in STALE_LOCKS {
            self.git.remove_file(&git_dir.join(name), Some(&self.turn)).await?;
        }
        Ok(())
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
            unit: self.unit,
            ledger: &self.target.options.ledger,
            cx: self.cx,
            before,
            first,
        };
        let way_back = back.plan(self.spec, wanted, revert).await?;
        self.git.arm(&self.turn, way_back).await
    }
}

pub(super) async fn start(
    target: &GitTarget,
    unit: &Unit,
    all: Wanted<'_>,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let Wanted { release, deployment, restore, .. } = all;
    let spec = target.spec(unit, Some(release))?;
    let git_dir = target.git(unit, spec)?.git_dir().await?;
    let mut step = Move::begin(target, unit, spec, cx, &git_dir).await?;
    let before = Note::read(&step.git, &git_dir, unit).await?;
    if let Some(other) =
        before.as_ref().and_then(|note| note.other_owner(unit, &target.options.ledger))
    {
        return Err(AdapterError::permanent(format!("failed to use {unit}: {other}")));
    }
    let wanted = Note::new(unit, &target.options.ledger, release, &spec.commit, deployment);
    let head = step.git.head().await?;
    let same = |note: &Note| {
        note.finished && note.release == wanted.release && note.deployment == deployment
    };
    if before.as_ref().is_some_and(same) && head.as_ref() == Some(&spec.commit) {
        return Ok(Receipt {
            message: format!("{} is checked out already", short(&spec.commit)),
            ..Receipt::default()
        });
    }
    if step.git.commit(&spec.commit).await?.is_none() {
        return Err(AdapterError::permanent(format!(
            "failed to check out {}: the repository no longer has it",
            spec.commit
        ))
        .with_hint("fetch it from where it was pushed"));
    }
    let first = match &before {
        None => checked_out(&step.git, spec.by).await?,
        Some(note) => note.before.clone().filter(|_| !note.finished),
    };
    step.guard(&git_dir, all, before.as_ref(), first.as_ref()).await?;
    match &before {
        // Our own half-done move: what it left is nobody's work.
        Some(note) if !note.finished => step.remove_stale_locks(&git_dir).await?,
        _ => step.set_aside().await?,
    }
    step.move_untracked_away(&git_dir).await?;
    let note = Note { before: first, ..wanted };
    note.write(&step.git, &git_dir, unit).await?;
    step.check_out().await?;
    step.after(release, deployment).await?;
    step.push(restore).await?;
    if restore {
        target.mark_commit(&step.git, unit, spec).await?;
    }
    Note { finished: true, ..note }.write(&step.git, &git_dir, unit).await?;
    Ok(Receipt {
        message: format!("{} is checked out in {}", short(&spec.commit), spec.repository),
        warnings: step.warnings,
        ..Receipt::default()
    })
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
    let Some(note) = Note::read(&git, &git_dir, unit).await? else {
        return Ok(Receipt {
            message: format!("{unit} is not managed any more"),
            ..Receipt::default()
        });
    };
    if let Some(other) = note.other_owner(unit, &target.options.ledger) {
        return Err(AdapterError::permanent(format!("failed to leave {unit}: {other}")));
    }
    let mut step = Move::begin(target, unit, spec, cx, &git_dir).await?;
    let mut message = format!("the files of {} stay as they are", spec.repository);
    if let Some(before) = &note.before {
        if note.finished {
            step.set_aside().await?;
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
    Note::remove(&step.git, &git_dir, unit, Some(&step.turn)).await?;
    Ok(Receipt { message, warnings: step.warnings, ..Receipt::default() })
}

/// What to come back to: the branch that is checked out, where it does not move, else the commit.
async fn checked_out(git: &Git, by: GitMove) -> Result<Option<String>, AdapterError> {
    let head = git.head().await?;
    if head.is_none() || by == GitMove::Reset {
        return Ok(head);
    }
    Ok(git.ask(&["symbolic-ref", "--quiet", "HEAD"]).await?.or(head))
}

fn short(commit: &str) -> &str {
    let name = commit.trim_start_matches("refs/heads/");
    if crate::git::is_commit_id(name) { &name[..12] } else { name }
}

impl Move<'_> {
    async fn push(&mut self, restore: bool) -> Result<(), AdapterError> {
        let Some(wanted) = &self.spec.push else { return Ok(()) };
        match push::push(&self.git, wanted, self.unit, &self.spec.commit, self.left(), &self.turn)
            .await
        {
            Ok(()) => Ok(()),
            // Users are back on the good release; a remote that can't be told must not hold that up.
            Err(error) if restore => {
                self.warnings.push(format!("{} does not follow: {error}", wanted.branch));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
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
