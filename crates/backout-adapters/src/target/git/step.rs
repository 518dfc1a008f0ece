//! One change of a working tree or a link, with what it needs at each turn.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::model::{GitSpec, Release};
use backout_core::ports::{AdapterError, StepCx};
use tokio::task::JoinSet;

use super::apply::Wanted;
use super::note::{Home, Note};
use super::{GitTarget, push};
use crate::git::{Git, Turn};
use crate::host::Ended;
use crate::target::{CallContext, call_environment};

/// What a command after a move means with this exit code, as for scripts.
const TRY_LATER: i32 = 75;

/// Who makes a change, of what, and until when.
pub(super) struct Step<'a> {
    pub target: &'a GitTarget,
    /// In the repository.
    pub git: Git,
    pub home: Home,
    pub spec: &'a GitSpec,
    pub unit: &'a Unit,
    pub cx: &'a StepCx,
    pub turn: Turn,
    end: Instant,
    pub warnings: Vec<String>,
}

impl<'a> Step<'a> {
    /// Nobody else of ours works there from here on.
    pub(super) async fn begin(
        target: &'a GitTarget,
        unit: &'a Unit,
        spec: &'a GitSpec,
        cx: &'a StepCx,
        home: Home,
    ) -> Result<Self, AdapterError> {
        let git = target.git(unit, spec)?;
        let turn = git.begin(home.folder(), unit, cx).await?;
        let limit = Duration::from_millis(spec.timeout_ms).min(cx.timeout);
        let (end, warnings) = (Instant::now() + limit, Vec::new());
        Ok(Self { target, git, home, spec, unit, cx, turn, end, warnings })
    }

    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))
    }

    pub(super) async fn change(&self, args: &[&str]) -> Result<(), AdapterError> {
        self.git.change(args, self.left(), Some(&self.turn)).await
    }

    /// Runs the command after the move in `folder`, with the contract of scripts.
    async fn after(
        &self,
        release: &Release,
        deployment: u64,
        folder: &Path,
    ) -> Result<(), AdapterError> {
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
        let git = self.git.at(folder.to_owned());
        let finished = git.program(&argv, env, self.left(), Some(&self.turn)).await?;
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

    /// What follows a move: the command. While it runs there is time for what users do not wait for: the tag follows a
    /// way back, and the last note is on disk beside its place, on this machine. That note is given back.
    pub(super) async fn follow(
        &mut self,
        all: &Wanted<'_>,
        folder: &Path,
        note: &Note,
    ) -> Result<Option<PathBuf>, AdapterError> {
        let mut marking = JoinSet::new();
        if all.restore {
            let (target, git) = (self.target.clone(), self.git.clone());
            let (unit, spec) = (self.unit.clone(), self.spec.clone());
            marking.spawn(async move { target.mark_commit(&git, &unit, &spec).await });
        }
        let prepare = async {
            let is_here = self.git.host().is_none();
            is_here.then(|| self.home.prepare(note)).transpose()
        };
        let (ran, prepared) =
            tokio::join!(self.after(all.release, all.deployment, folder), prepare);
        // It ends before the turn does, whatever came of the command.
        let marked = marking.join_next().await;
        ran?;
        self.push(all.restore).await?;
        let failed = match marked {
            Some(Ok(Err(error))) => Some(error.to_string()),
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(Ok(()))) | None => None,
        };
        if let Some(why) = failed {
            // Users are back on the good release; a name for people must not hold that up.
            let tag = &self.spec.last_stable;
            self.warnings.push(format!("the tag {tag} does not follow: {why}"));
        }
        prepared
    }

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

/// App and environment as part of a reference.
pub(super) fn reference(unit: &Unit) -> String {
    format!("{}/{}", unit.key.app, unit.key.environment)
}

pub(super) fn short(commit: &str) -> &str {
    let name = commit.trim_start_matches("refs/heads/");
    if crate::git::is_commit_id(name) { &name[..12] } else { name }
}
