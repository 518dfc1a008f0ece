//! How a host moves its tree back by itself: a list of commands, since nobody is there to ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backout_core::ids::{LedgerId, Unit};
use backout_core::model::{GitMove, GitSpec, TargetSpec};
use backout_core::ports::{AdapterError, HostRevert, Revert, Secret, StepCx};

use super::apply::{STALE_LOCKS, Wanted};
use super::note::{Home, Note};
use crate::git::{Git, Turn};
use crate::target::{CallContext, call_environment};

/// The arguments of git that bring back what was checked out before the first deployment: a branch or a commit.
pub(super) fn to_what_was_there(by: GitMove, before: &str) -> Vec<&str> {
    match (by, before.starts_with("refs/heads/")) {
        (GitMove::Reset, _) => vec!["reset", "--quiet", "--hard", before],
        (GitMove::Checkout, true) => {
            let branch = before.trim_start_matches("refs/heads/");
            vec!["checkout", "--quiet", "--force", branch, "--"]
        }
        (GitMove::Checkout, false) => vec!["checkout", "--quiet", "--force", "--detach", before],
    }
}

/// What the way back is made from.
pub(super) struct Back<'a> {
    pub git: &'a Git,
    pub git_dir: &'a Path,
    pub home: &'a Home,
    pub unit: &'a Unit,
    pub ledger: &'a LedgerId,
    pub cx: &'a StepCx,
    /// The note as it is now.
    pub before: Option<&'a Note>,
    /// What was checked out before the first deployment.
    pub first: Option<&'a String>,
    pub turn: &'a Turn,
}

impl Back<'_> {
    /// The way back to the release that the guard names, else to what was there before the first one. Uncommitted
    /// changes are nobody's but those of the move that is taken back: what else there was has been set aside by then.
    pub(super) async fn plan(
        &self,
        spec: &GitSpec,
        wanted: Wanted<'_>,
        revert: &Revert,
    ) -> Result<HostRevert, AdapterError> {
        let mut locks: Vec<String> = ["rm", "-f", "--"].map(str::to_owned).to_vec();
        locks.extend(STALE_LOCKS.map(|name| self.git_dir.join(name).display().to_string()));
        let mut commands = vec![locks];
        let (env, timeout_ms) = match &revert.back_to {
            Some(_) => self.to_release(wanted, revert, &mut commands).await?,
            None => {
                if let Some(first) = self.first {
                    commands.push(self.call(&to_what_was_there(spec.by, first)));
                }
                let note = self.home.note().display().to_string();
                commands.push(["rm", "-f", "--", &note].map(str::to_owned).to_vec());
                (BTreeMap::new(), spec.timeout_ms)
            }
        };
        Ok(HostRevert {
            deployment: wanted.deployment,
            within: Duration::from_millis(revert.within_ms),
            commands,
            env,
            folder: Some(self.git.tree().display().to_string()),
            timeout: Duration::from_millis(timeout_ms),
        })
    }

    fn call(&self, args: &[&str]) -> Vec<String> {
        let args = args.iter().map(ToString::to_string);
        self.git.words().into_iter().chain(args).collect()
    }

    async fn to_release(
        &self,
        wanted: Wanted<'_>,
        revert: &Revert,
        commands: &mut Vec<Vec<String>>,
    ) -> Result<(BTreeMap<String, Secret>, u64), AdapterError> {
        let unit = self.unit;
        let old = revert.back_to.as_deref().and_then(|old| {
            let service = old.content.services.get(&unit.service)?;
            match &service.target {
                TargetSpec::Git(spec) => Some((old, spec)),
                _ => None,
            }
        });
        let Some((old, spec)) = old else {
            return Err(AdapterError::permanent(format!(
                "failed to guard {unit}: the release to go back to has no such service of target `git`"
            )));
        };
        if self.git.commit(&spec.commit).await?.is_none() {
            return Err(AdapterError::permanent(format!(
                "failed to guard {unit}: the commit to go back to ({}) is not there",
                spec.commit
            ))
            .with_hint("fetch it from where it was pushed"));
        }
        commands.push(self.call(&match spec.by {
            GitMove::Reset => vec!["reset", "--quiet", "--hard", &spec.commit],
            GitMove::Checkout => {
                vec!["checkout", "--quiet", "--force", "--detach", &spec.commit]
            }
        }));
        if spec.submodules {
            let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
            commands.push(self.call(&args));
        }
        if !spec.post_checkout.is_empty() {
            commands.push(spec.post_checkout.clone());
        }
        let same = match self.before {
            Some(note) if note.release == old.id => Some(note.deployment),
            // A try of this start that was cut off has noted the new one already.
            Some(note) if note.deployment == wanted.deployment => {
                self.home.read_aside(self.git, &old.id).await?.map(|note| note.deployment)
            }
            _ => None,
        };
        let deployment = same.unwrap_or(wanted.deployment);
        let note = Note::new(unit, self.ledger, old, &spec.commit, deployment);
        let (to, from) = self.home.write_aside(self.git, &note.finished(), self.turn).await?;
        let words = ["mv", "-f", "--"].map(str::to_owned).into_iter();
        commands.push(words.chain([from, to].map(|path| path.display().to_string())).collect());

        let cx = StepCx {
            step_id: format!("{}/not-confirmed", self.cx.step_id),
            from_version: Some(wanted.release.content.version.clone()),
            reason: format!("not confirmed within {} s", revert.within_ms.div_ceil(1000)),
            ..self.cx.clone()
        };
        let context = CallContext {
            key: &unit.key,
            service: &unit.service,
            slot: unit.slot,
            version: Some(&old.content.version),
            release: Some(&old.id),
            deployment: Some(wanted.deployment),
            cx: Some(&cx),
        };
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let all = call_environment(&[], &context).into_iter();
        let mut env: BTreeMap<String, Secret> =
            all.map(|(name, value)| (text(name), Secret::new(text(value)))).collect();
        env.insert("COMMIT_SHA".to_owned(), Secret::new(spec.commit.clone()));
        Ok((env, spec.timeout_ms))
    }
}
