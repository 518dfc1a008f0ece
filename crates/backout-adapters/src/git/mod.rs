//! The `git` command on one working tree: the one way by which anything here talks to git.
//!
//! Names come from configuration files and from the people who deploy, and a repository may be somebody else's, so
//! git is kept from running what it holds: no hooks, no file system monitor, no protocol that was not allowed (`ext::`
//! runs commands), revisions only behind `--end-of-options`, no question on a terminal.

mod layout;
mod place;
mod worktree;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backout_core::ports::{AdapterError, Host};

use crate::host::{self, Announced, CommandLine, Ended, Finished, Output, StartError};
use crate::target::finished;

pub(crate) use place::Turn;
pub(crate) use worktree::Standing;
pub use worktree::Worktrees;

/// Reading never holds anybody up for longer.
pub(crate) const LOOK: Duration = Duration::from_secs(30);
const KEEP_BYTES: usize = 4 << 20;
const MESSAGE_BYTES: usize = 700;

/// Settings that hold for every call, whatever the repository or the user's file says.
const ALWAYS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
];

/// Runs `git` in one working tree.
#[derive(Clone)]
pub struct Git {
    tree: PathBuf,
    env: Vec<(OsString, OsString)>,
    protocols: String,
    /// Where the tree is, if not here.
    host: Option<Arc<dyn Host>>,
    /// Where commits come from that are not there yet.
    remote: Option<String>,
}

impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map(|host| host.name());
        f.debug_struct("Git").field("tree", &self.tree).field("host", &host).finish_non_exhaustive()
    }
}

impl Git {
    /// Git in `tree`, with the caller's environment, reaching others by these protocols only.
    #[must_use]
    pub fn new(tree: PathBuf, caller: &[(OsString, OsString)], protocols: &[String]) -> Self {
        // A caller inside of a git command or hook has variables that lead to another repository.
        let kept = |name: &OsString| {
            let name = name.to_string_lossy();
            !name.starts_with("GIT_")
                || ["GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"].contains(&&*name)
        };
        let mut env: Vec<_> = caller.iter().filter(|(name, _)| kept(name)).cloned().collect();
        if !env.iter().any(|(name, _)| name == "GIT_SSH_COMMAND" || name == "GIT_SSH") {
            env.push(("GIT_SSH_COMMAND".into(), "ssh -o BatchMode=yes".into()));
        }
        let ours = [("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0")];
        env.retain(|(name, _)| ours.iter().all(|(our, _)| name != our));
        env.extend(ours.map(|(name, value)| (name.into(), value.into())));
        Self { tree, env, protocols: protocols.join(":"), host: None, remote: None }
    }

    /// The same in another working tree of the repository.
    #[must_use]
    pub(crate) fn at(&self, tree: PathBuf) -> Self {
        Self { tree, ..self.clone() }
    }

    /// The same with one more variable.
    #[must_use]
    pub(crate) fn with_variable(&self, name: &str, value: &std::ffi::OsStr) -> Self {
        let mut git = self.clone();
        git.env.push((name.into(), value.to_owned()));
        git
    }

    /// The working tree.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Runs git to its end, whatever its exit code.
    pub(crate) async fn run(
        &self,
        args: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<Finished, AdapterError> {
        if let Some(host) = &self.host {
            let command = self.there(host.as_ref(), args, timeout, turn);
            return Ok(finished(host.run(&command).await?, KEEP_BYTES));
        }
        let noted = turn.and_then(Turn::leftover);
        let mut env = self.env.clone();
        // An empty list would allow none, an absent one git's own choice.
        env.push(("GIT_ALLOW_PROTOCOL".into(), self.protocols.clone().into()));
        let words = format!("git {}", args.join(" "));
        let announced = noted.map(|noted| noted.announce(&words)).transpose();
        let announced = announced.map_err(|e| {
            AdapterError::transient(format!("failed to write down that `{words}` starts: {e}"))
        })?;
        env.extend(announced.iter().map(Announced::variable));
        let settings = ALWAYS.iter().flat_map(|setting| ["-c", *setting]);
        let line = CommandLine {
            program: PathBuf::from("git"),
            args: settings.chain(args.iter().copied()).map(OsString::from).collect(),
            env,
            cwd: self.tree.clone(),
            stdin: None,
            timeout,
            end_grace: host::END_GRACE,
            keep: KEEP_BYTES,
            output: Output::Pipe,
        };
        let ran = host::run_noting(line, |pid| {
            if let Some(announced) = &announced {
                announced.note(pid);
            }
        })
        .await;
        if let Some(noted) = noted {
            noted.forget();
        }
        ran.map_err(|error| match error {
            StartError::Missing(_) => {
                AdapterError::permanent("failed to start `git`: no such program on PATH")
                    .with_hint("install git")
            }
            StartError::NoFolder(_, folder) => {
                AdapterError::permanent(format!("failed to find the working tree `{folder}`"))
                    .with_hint("`repository` is relative to the folder of backout.yaml")
            }
            error => AdapterError::transient(error.to_string()),
        })
    }

    /// What a call that only looks has printed, without the last line's end. `None`: it exited with 1, which is
    /// git's way to say no.
    pub(crate) async fn ask(&self, args: &[&str]) -> Result<Option<String>, AdapterError> {
        let finished = self.run(args, LOOK, None).await?;
        match finished.ended {
            Ended::Exited(0) if finished.stdout.is_cut() => Err(AdapterError::permanent(format!(
                "failed to read `git {}`: it printed too much",
                args.join(" ")
            ))),
            Ended::Exited(0) => {
                let text = String::from_utf8_lossy(&finished.stdout.bytes()).into_owned();
                Ok(Some(text.trim_end_matches('\n').to_owned()))
            }
            Ended::Exited(1) => Ok(None),
            _ => Err(failed(args, &finished, Effect::None)),
        }
    }

    /// As [`Git::ask`], where a no is a failure.
    pub(crate) async fn look(&self, args: &[&str]) -> Result<String, AdapterError> {
        let no = || {
            AdapterError::permanent(format!("failed to run `git {}`: it says no", args.join(" ")))
        };
        self.ask(args).await?.ok_or_else(no)
    }

    /// Runs a call that changes something.
    pub(crate) async fn change(
        &self,
        args: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<(), AdapterError> {
        let finished = self.run(args, timeout, turn).await?;
        match finished.ended {
            Ended::Exited(0) => Ok(()),
            _ => Err(failed(args, &finished, Effect::Maybe)),
        }
    }

    /// Runs a call that git may refuse, in which case it has said why to nobody. `None`: it did; else whether the call
    /// has printed anything.
    pub(crate) async fn attempt(
        &self,
        args: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<Option<bool>, AdapterError> {
        let finished = self.run(args, timeout, turn).await?;
        match finished.ended {
            Ended::Exited(code) => Ok((code == 0).then(|| finished.stdout.total() > 0)),
            _ => Err(failed(args, &finished, Effect::Maybe)),
        }
    }

    /// The commit that a revision names.
    pub(crate) async fn commit(&self, revision: &str) -> Result<Option<String>, AdapterError> {
        if revision.is_empty() || revision.contains(char::is_control) {
            return Ok(None);
        }
        let wanted = format!("{revision}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted];
        let finished = self.run(&args, LOOK, None).await?;
        match finished.ended {
            Ended::Exited(0) => {
                let text = finished.stdout.last_text(200);
                let commit = text.trim().trim_start_matches("--end-of-options").trim();
                Ok(is_commit_id(commit).then(|| commit.to_owned()))
            }
            // 128 too: no such thing, or an ambiguous one. That there is a repository was seen before.
            Ended::Exited(_) => Ok(None),
            _ => Err(failed(&args, &finished, Effect::None)),
        }
    }

    /// What is checked out; `None` in a repository without a commit.
    pub(crate) async fn head(&self) -> Result<Option<String>, AdapterError> {
        self.commit("HEAD").await
    }

    /// As [`Git::git_dir`], from the file system where that says it.
    pub(crate) async fn git_dir_at_once(&self) -> Result<PathBuf, AdapterError> {
        let known = if self.host.is_none() { layout::git_dir(&self.tree) } else { None };
        match known {
            Some(known) => Ok(known),
            None => self.git_dir().await,
        }
    }

    /// Makes a tag or another reference that stands in a file of its own name a commit, as git would. `false`: git has to.
    pub(crate) fn move_loose(&self, reference: &str, commit: &str) -> bool {
        self.host.is_none()
            && layout::git_dir(&self.tree)
                .is_some_and(|dir| layout::move_loose(&dir, reference, commit).unwrap_or(false))
    }

    /// Whether a reference is seen to be there without asking git; `false` says nothing.
    pub(crate) fn has_loose(&self, reference: &str) -> bool {
        self.host.is_none()
            && layout::git_dir(&self.tree).is_some_and(|dir| layout::has_loose(&dir, reference))
    }

    /// The folder in which git keeps what belongs to this working tree.
    pub(crate) async fn git_dir(&self) -> Result<PathBuf, AdapterError> {
        self.look(&["rev-parse", "--absolute-git-dir"]).await.map(PathBuf::from).map_err(|error| {
            AdapterError {
                message: format!("failed to use `{}`: {}", self.tree.display(), error.message),
                ..error
            }
        })
    }
}

/// Whether a text is the full id of a commit.
pub(crate) fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What a failed call may have done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Maybe,
}

fn failed(args: &[&str], finished: &Finished, effect: Effect) -> AdapterError {
    let said = finished.stderr.last_text(MESSAGE_BYTES);
    let words = args.first().copied().unwrap_or_default();
    let how = match finished.ended {
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Signalled(signal) => format!("signal {signal} ended it"),
        Ended::TimedOut => format!("it was ended after {} s", finished.took.as_secs()),
    };
    let message = format!("failed to run `git {words}`: {how}: {said}");
    match finished.ended {
        Ended::Exited(_) if said.contains("index.lock") || said.contains("Unable to create") => {
            AdapterError::transient(message)
                .with_hint("another git works in this tree, or one was killed: if none does, remove the lock file that it names")
        }
        Ended::Exited(_) if is_away(&said) => AdapterError::transient(message),
        Ended::Exited(_) => AdapterError::permanent(message),
        _ if effect == Effect::Maybe => AdapterError::unknown(message),
        _ => AdapterError::transient(message),
    }
}

/// A remote that did not answer.
fn is_away(said: &str) -> bool {
    [
        "Could not resolve",
        "Connection refused",
        "Connection timed out",
        "unable to access",
        "Could not read from remote",
    ]
    .iter()
    .any(|words| said.contains(words))
}
