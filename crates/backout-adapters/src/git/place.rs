//! What a working tree needs beside git: files, other programs, and one mover at a time; here or on another host.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, ServiceName, Slot, Unit};
use backout_core::ports::{
    AdapterError, Host, HostChange, HostCommand, HostRevert, Secret, StepCx,
};

use super::{ALWAYS, Git, KEEP_BYTES, LOOK};
use crate::host::{
    self, CommandLine, Ended, FileLock, Finished, Leftover, Output, StartError,
    create_private_dirs, read_bounded, remove_file_if_there, write_atomic,
};
use crate::target::finished;

const PATIENCE: Duration = Duration::from_secs(10);
const PROGRAM_KEEP_BYTES: usize = 16 << 10;

/// The turn of one mover: nobody else of ours works in the tree meanwhile.
pub(crate) enum Turn {
    /// A lock, and the place where calls are noted.
    Here { leftover: Leftover, _lock: FileLock },
    /// The host sees to it by itself.
    There(Box<HostChange>),
}

/// FILE TEXT: for its owner only, whole or not at all.
const WRITE: &str = r#"
set -e
umask 077
folder=${1%/*}
mkdir -p -- "$folder"
printf '%s' "$2" > "$1.new"
sync -- "$1.new" 2> /dev/null || sync
mv -f -- "$1.new" "$1"
sync -- "$folder" 2> /dev/null || sync"#;

impl Turn {
    pub(super) fn leftover(&self) -> Option<&Leftover> {
        match self {
            Turn::Here { leftover, .. } => Some(leftover),
            Turn::There(_) => None,
        }
    }

    fn change(&self) -> Option<HostChange> {
        match self {
            Turn::Here { .. } => None,
            Turn::There(change) => Some(HostChange::clone(change)),
        }
    }
}

impl Git {
    /// Git in a working tree of another host, which `tree` names there, fetching from `remote` what is not there yet.
    #[must_use]
    pub fn on(
        host: Arc<dyn Host>,
        tree: PathBuf,
        protocols: &[String],
        remote: Option<String>,
    ) -> Self {
        Self { host: Some(host), remote, ..Self::new(tree, &[], protocols) }
    }

    /// The host, if it is another one.
    pub(crate) fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.as_ref()
    }

    /// Gets a commit from the remote, where there is one and the commit is not here.
    pub(crate) async fn obtain(&self, commit: &str) -> Result<(), AdapterError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        if self.commit(commit).await?.is_some() {
            return Ok(());
        }
        let args = ["fetch", "--quiet", "--tags", "--", remote];
        self.change(&args, Duration::from_secs(300), None).await
    }

    /// As a command of its host's.
    pub(super) fn there(
        &self,
        host: &dyn Host,
        args: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> HostCommand {
        let mut argv = self.words();
        argv.extend(args.iter().map(ToString::to_string));
        tracing::trace!(host = %host.name(), "Runs `git {}`.", args.join(" "));
        HostCommand {
            keep: KEEP_BYTES,
            folder: Some(self.tree.display().to_string()),
            change: turn.and_then(Turn::change),
            ..HostCommand::look(argv, timeout)
        }
    }

    /// Git with its variables and settings, as words: none of them is a secret.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec!["env".to_owned()];
        for (name, value) in &self.env {
            words.push(format!("{}={}", name.display(), value.display()));
        }
        words.push(format!("GIT_ALLOW_PROTOCOL={}", self.protocols));
        words.push("git".to_owned());
        words.extend(ALWAYS.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        words
    }

    /// Takes the turn; what an earlier mover left running has ended then.
    pub(crate) async fn begin(
        &self,
        folder: &Path,
        unit: &Unit,
        cx: &StepCx,
    ) -> Result<Turn, AdapterError> {
        if self.host.is_some() {
            let (unit, step) = (unit.clone(), cx.step_id.clone());
            let change = HostChange { unit, step, epoch: cx.epoch, revert: None };
            return Ok(Turn::There(Box::new(change)));
        }
        self.begin_here(folder, &unit.to_string()).await
    }

    /// The same on this machine, in a folder for the turn's files; `what` is for messages.
    pub(crate) async fn begin_here(&self, folder: &Path, what: &str) -> Result<Turn, AdapterError> {
        let io = |e: std::io::Error| {
            AdapterError::transient(format!("failed to use `{}`: {e}", folder.display()))
        };
        create_private_dirs(folder).map_err(io)?;
        let lock = FileLock::take(&folder.join("lock"), PATIENCE).await.map_err(io)?;
        let lock = lock.ok_or_else(|| {
            AdapterError::transient(format!(
                "failed to use {what}: another call of ours works in its tree"
            ))
        })?;
        let leftover = Leftover::at(folder.join("call.json"));
        leftover.end(host::END_GRACE).await.map_err(AdapterError::transient)?;
        Ok(Turn::Here { leftover, _lock: lock })
    }

    /// The turn of something that is about no service of its own, where it is on another host.
    pub(crate) fn turn_there(&self, key: &EnvironmentKey, what: &str, cx: &StepCx) -> Option<Turn> {
        let host = self.host.as_ref()?.name().clone();
        let service = ServiceName::new(what).ok()?;
        let unit = Unit { key: key.clone(), service, host, slot: Slot::A };
        let (step, epoch) = (cx.step_id.clone(), cx.epoch);
        Some(Turn::There(Box::new(HostChange { unit, step, epoch, revert: None })))
    }

    /// Arms the guard of what comes next in this turn.
    pub(crate) async fn arm(&self, turn: &Turn, revert: HostRevert) -> Result<(), AdapterError> {
        let (Some(host), Some(change)) = (&self.host, turn.change()) else {
            return Err(AdapterError::permanent(
                "failed to guard a move: this machine can't lose the link to itself",
            ));
        };
        let change = HostChange { revert: Some(revert), ..change };
        let command = HostCommand { change: Some(change), ..HostCommand::look(["true"], LOOK) };
        host.run(&command).await.map(drop)
    }

    /// A file; `None` if there is none.
    pub(crate) async fn read_file(
        &self,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, AdapterError> {
        match &self.host {
            Some(host) => host.read(&path.display().to_string(), limit).await,
            None => read_bounded(path, limit).map_err(|e| {
                AdapterError::permanent(format!("failed to read `{}`: {e}", path.display()))
            }),
        }
    }

    /// Replaces a file, for its owner only.
    pub(crate) async fn write_file(
        &self,
        path: &Path,
        text: &str,
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        if self.host.is_some() {
            let shown = path.display().to_string();
            let argv = ["sh", "-c", WRITE, "sh", &shown, text];
            return self.there_does(&format!("write `{shown}`"), &argv, LOOK, Some(turn)).await;
        }
        let made = path.parent().map_or(Ok(()), create_private_dirs);
        made.and_then(|()| write_atomic(path, text.as_bytes(), 0o600)).map_err(|e| {
            AdapterError::transient(format!("failed to write `{}`: {e}", path.display()))
        })
    }

    /// Removes a file, if it is there.
    pub(crate) async fn remove_file(
        &self,
        path: &Path,
        turn: Option<&Turn>,
    ) -> Result<(), AdapterError> {
        if self.host.is_some() {
            let path = path.display().to_string();
            return self.there_must(&["rm", "-f", "--", &path], LOOK, turn).await;
        }
        remove_file_if_there(path).map(drop).map_err(|e| {
            AdapterError::transient(format!("failed to remove `{}`: {e}", path.display()))
        })
    }

    /// Moves a file; missing folders are made.
    pub(crate) async fn move_file(
        &self,
        from: &Path,
        to: &Path,
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        let parent = to.parent().unwrap_or(to);
        if self.host.is_some() {
            let words = [from, to, parent].map(|path| path.display().to_string());
            let [from, to, parent] = [&*words[0], &*words[1], &*words[2]];
            self.there_must(&["mkdir", "-p", "--", parent], LOOK, Some(turn)).await?;
            return self.there_must(&["mv", "-f", "--", from, to], LOOK, Some(turn)).await;
        }
        create_private_dirs(parent).and_then(|()| std::fs::rename(from, to)).map_err(|e| {
            let from = from.display();
            AdapterError::transient(format!("failed to move `{from}` out of the way: {e}"))
        })
    }

    /// Makes the files of the tree durable: git does not wait for them.
    pub(crate) async fn sync(&self, turn: &Turn, timeout: Duration) -> Result<(), AdapterError> {
        if self.host.is_some() {
            return self.there_must(&["sync"], timeout, Some(turn)).await;
        }
        let tree = std::fs::File::open(&self.tree);
        tree.and_then(|tree| rustix::fs::syncfs(&tree).map_err(Into::into)).map_err(|e| {
            AdapterError::transient(format!("failed to sync `{}`: {e}", self.tree.display()))
        })
    }

    async fn there_must(
        &self,
        argv: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<(), AdapterError> {
        self.there_does(&format!("run `{}`", argv.join(" ")), argv, timeout, turn).await
    }

    async fn there_does(
        &self,
        doing: &str,
        argv: &[&str],
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<(), AdapterError> {
        let ran = self.program(argv, BTreeMap::new(), timeout, turn).await?;
        let said = || ran.stderr.last_text(300);
        match ran.ended {
            Ended::Exited(0) => Ok(()),
            _ => Err(AdapterError::transient(format!("failed to {doing}: {}", said()))),
        }
    }

    /// Runs another program in the tree.
    pub(crate) async fn program(
        &self,
        argv: &[&str],
        env: BTreeMap<OsString, OsString>,
        timeout: Duration,
        turn: Option<&Turn>,
    ) -> Result<Finished, AdapterError> {
        let Some((program, args)) = argv.split_first() else {
            return Err(AdapterError::permanent("failed to run a command that has no program"));
        };
        if let Some(host) = &self.host {
            let text = |value: OsString| value.to_string_lossy().into_owned();
            let env = env.into_iter();
            let command = HostCommand {
                env: env.map(|(name, value)| (text(name), Secret::new(text(value)))).collect(),
                folder: Some(self.tree.display().to_string()),
                keep: PROGRAM_KEEP_BYTES,
                change: turn.and_then(Turn::change),
                ..HostCommand::look(argv.iter().copied(), timeout)
            };
            return Ok(finished(host.run(&command).await?, PROGRAM_KEEP_BYTES));
        }
        let what = format!("`{program}` after the move");
        let leftover = turn.and_then(Turn::leftover);
        let call = leftover.map(|leftover| leftover.announce(&what)).transpose();
        let call = call.map_err(|e| {
            AdapterError::transient(format!("failed to write down that {what} starts: {e}"))
        })?;
        let mut env: Vec<_> = env.into_iter().collect();
        env.extend(call.iter().map(host::Announced::variable));
        let path = if program.contains('/') { self.tree.join(program) } else { program.into() };
        let line = CommandLine {
            program: path,
            args: args.iter().map(OsString::from).collect(),
            env,
            cwd: self.tree.clone(),
            stdin: None,
            timeout,
            end_grace: host::END_GRACE,
            keep: PROGRAM_KEEP_BYTES,
            output: Output::Pipe,
        };
        let ran = host::run_noting(line, |pid| call.iter().for_each(|call| call.note(pid))).await;
        if let Some(leftover) = leftover {
            leftover.forget();
        }
        ran.map_err(|error| match error {
            StartError::Other(..) => AdapterError::transient(error.to_string()),
            error => AdapterError::permanent(error.to_string())
                .with_hint("`post_checkout` is relative to the repository, or a name on PATH"),
        })
    }
}
