//! This machine, behind the port that other hosts stand behind too.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use backout_core::ids::{HostName, Unit};
use backout_core::ports::{
    AdapterError, Host, HostChange, HostCommand, HostEnded, HostGuard, HostOutput, HostWords,
};

use super::{
    CommandLine, END_GRACE, Ended, FileLock, Finished, Leftover, Output, StartError,
    create_private_dirs, last_bytes, read_bounded, run_noting, write_atomic,
};

const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a [`LocalHost`] needs to know.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The folder to which paths are relative.
    pub folder: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The caller's environment.
    pub env: Vec<(OsString, OsString)>,
}

/// This machine.
#[derive(Debug, Clone)]
pub struct LocalHost {
    name: HostName,
    options: LocalOptions,
}

impl LocalHost {
    /// This machine, as `local`.
    #[must_use]
    pub fn new(options: LocalOptions) -> Self {
        Self { name: HostName::local(), options }
    }

    fn unit_folder(&self, unit: &Unit) -> PathBuf {
        let (app, environment) = (unit.key.app.as_str(), unit.key.environment.as_str());
        self.options.state_dir.join("hosts").join(app).join(environment)
    }

    /// Where the changing calls of a service write to.
    fn words_of(&self, unit: &Unit) -> [PathBuf; 2] {
        let folder = self.unit_folder(unit);
        ["out", "err"].map(|end| folder.join(format!("{}.{end}", unit.service)))
    }

    fn leftover(&self, unit: &Unit) -> Leftover {
        Leftover::at(self.unit_folder(unit).join(format!("{}.run.json", unit.service)))
    }

    fn line(&self, command: &HostCommand) -> Result<CommandLine, AdapterError> {
        let (program, args) = command.argv.split_first().ok_or_else(|| {
            AdapterError::permanent("failed to run a command that has no program")
        })?;
        let cwd = match &command.folder {
            Some(folder) => self.options.folder.join(folder),
            None => self.options.folder.clone(),
        };
        let mut env = self.options.env.clone();
        env.retain(|(name, _)| !command.env.keys().any(|ours| name == ours.as_str()));
        let ours = command.env.iter();
        env.extend(ours.map(|(name, value)| (name.into(), value.expose().to_owned().into())));
        Ok(CommandLine {
            program: if program.contains('/') { cwd.join(program) } else { program.into() },
            args: args.iter().map(OsString::from).collect(),
            env,
            cwd,
            stdin: command.stdin.clone(),
            timeout: command.timeout,
            end_grace: END_GRACE,
            keep: command.keep,
            output: Output::Pipe,
        })
    }

    async fn change(
        &self,
        command: &HostCommand,
        change: &HostChange,
    ) -> Result<Finished, AdapterError> {
        if change.revert.is_some() {
            return Err(AdapterError::permanent(
                "failed to guard a change: this machine can't lose the link to itself",
            ));
        }
        let failed = |e: io::Error| AdapterError::transient(e.to_string());
        let folder = self.unit_folder(&change.unit);
        create_private_dirs(&folder).map_err(failed)?;
        let leftover = self.leftover(&change.unit);
        let mut line = self.line(command)?;
        let [stdout, stderr] = self.words_of(&change.unit);
        line.output = Output::Files { stdout, stderr };
        let call = {
            let lock = FileLock::take(&folder.join("lock"), LOCK_PATIENCE).await.map_err(failed)?;
            let _lock =
                lock.ok_or_else(|| AdapterError::transient("failed to take the lock of a unit"))?;
            self.fence(&folder, change.epoch)?;
            leftover.end(END_GRACE).await.map_err(AdapterError::transient)?;
            leftover.announce(&command.argv.join(" ")).map_err(failed)?
        };
        line.env.push(call.variable());
        let ran = run_noting(line, |pid| call.note(pid)).await;
        leftover.forget();
        ran.map_err(|error| not_started(&error))
    }

    /// An older holder of the lease does nothing any more.
    fn fence(&self, folder: &std::path::Path, epoch: u64) -> Result<(), AdapterError> {
        let path = folder.join("epoch");
        let failed = |e: io::Error| AdapterError::transient(e.to_string());
        let bytes = read_bounded(&path, 64).map_err(failed)?.unwrap_or_default();
        let seen = String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0);
        if epoch < seen {
            let message = format!("failed here: somebody with a newer lease (epoch {seen}) works");
            return Err(AdapterError::permanent(message));
        }
        if epoch > seen {
            write_atomic(&path, epoch.to_string().as_bytes(), 0o600).map_err(failed)?;
        }
        Ok(())
    }
}

fn not_started(error: &StartError) -> AdapterError {
    match error {
        StartError::Other(..) => AdapterError::transient(error.to_string()),
        _ => AdapterError::permanent(error.to_string()),
    }
}

/// Only an absolute path means the same to everybody.
pub(super) fn absolute_socket(path: &str) -> Result<&str, AdapterError> {
    if path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(path);
    }
    Err(AdapterError::permanent(format!("failed to use the socket `{path}`: not an absolute path")))
}

fn output(finished: &Finished) -> HostOutput {
    HostOutput {
        ended: match finished.ended {
            Ended::Exited(code) => HostEnded::Exited(code),
            Ended::Signalled(signal) => HostEnded::Signalled(signal),
            Ended::TimedOut => HostEnded::TimedOut,
        },
        stdout: finished.stdout.bytes(),
        stderr: finished.stderr.bytes(),
        cut: finished.stdout.is_cut(),
        took: finished.took,
    }
}

#[async_trait]
impl Host for LocalHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutput, AdapterError> {
        let finished = match &command.change {
            Some(change) => self.change(command, change).await?,
            None => run_noting(self.line(command)?, |_| ()).await.map_err(|e| not_started(&e))?,
        };
        Ok(output(&finished))
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, AdapterError> {
        read_bounded(&self.options.folder.join(path), limit)
            .map_err(|e| AdapterError::permanent(format!("failed to read `{path}`: {e}")))
    }

    async fn write_atomic(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), AdapterError> {
        let path = self.options.folder.join(path);
        let failed = |e: io::Error| {
            AdapterError::permanent(format!("failed to write `{}`: {e}", path.display()))
        };
        if path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if let Some(folder) = path.parent() {
            create_private_dirs(folder).map_err(failed)?;
        }
        write_atomic(&path, bytes, mode).map_err(failed)
    }

    async fn exists(&self, path: &str) -> Result<bool, AdapterError> {
        let path = self.options.folder.join(path);
        Ok(path.symlink_metadata().is_ok())
    }

    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, AdapterError> {
        absolute_socket(remote).map(PathBuf::from)
    }

    async fn is_at_work(&self, unit: &Unit) -> Result<bool, AdapterError> {
        Ok(self.leftover(unit).is_at_work())
    }

    async fn last_words(&self, unit: &Unit, limit: usize) -> Result<HostWords, AdapterError> {
        let [stdout, stderr] = self.words_of(unit);
        let end = |path: &std::path::Path| last_bytes(path, limit).unwrap_or_default();
        Ok(HostWords { stdout: end(&stdout), stderr: end(&stderr), revert: Vec::new() })
    }

    async fn guard(&self, _unit: &Unit) -> Result<Option<HostGuard>, AdapterError> {
        Ok(None)
    }

    async fn confirm(
        &self,
        _unit: &Unit,
        _deployment: u64,
    ) -> Result<Option<HostGuard>, AdapterError> {
        Ok(None)
    }

    async fn close(&self) {}
}
