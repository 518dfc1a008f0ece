//! Runs one command to its end, bounded in time and output.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::capture::Captured;
use super::group::{GroupGuard, group_exists, signal_group};
use super::output::OutputFiles;
use std::os::unix::process::ExitStatusExt;

/// Between asking a command to end and killing it, for commands that change something.
pub const END_GRACE: Duration = Duration::from_secs(2);
/// How long output is still read after the command itself has ended: a service that it left running may hold the pipe.
const DRAIN: Duration = Duration::from_millis(250);

/// Where output goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// Into pipes: for commands that leave nothing running. What they leave loses its output.
    Pipe,
    /// Appended to files, so that what a command leaves running can go on writing.
    Files {
        /// For stdout.
        stdout: PathBuf,
        /// For stderr.
        stderr: PathBuf,
    },
}

/// What to run. Nothing is inherited: no variable, no terminal.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// The program: a path, or a name looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// What it reads; nothing: closed.
    pub stdin: Option<Vec<u8>>,
    /// Its time limit.
    pub timeout: Duration,
    /// Between asking it to end and killing it, when its time is over or nobody waits for it any more.
    pub end_grace: Duration,
    /// Bytes kept of the beginning and of the end of each stream.
    pub keep: usize,
    /// Where output goes.
    pub output: Output,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// It was ended because its time was over.
    TimedOut,
}

/// A command that ran.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Its stdout.
    pub stdout: Captured,
    /// Its stderr.
    pub stderr: Captured,
    /// How long it ran.
    pub took: Duration,
}

/// Why a command did not start. Nothing happened then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error("failed to start `{0}`: no such program")]
    Missing(String),
    /// It may not be run.
    #[error("failed to start `{0}`: it is not executable")]
    NotExecutable(String),
    /// The system does not know how to run it.
    #[error(
        "failed to start `{0}`: it is neither a program for this machine nor does it begin with `#!`"
    )]
    BadFormat(String),
    /// The interpreter in its first line is missing.
    #[error("failed to start `{0}`: the interpreter named in its first line is missing")]
    NoInterpreter(String),
    /// The working folder is missing.
    #[error("failed to start `{0}`: the working folder `{1}` is missing")]
    NoFolder(String, String),
    /// Something that may pass.
    #[error("failed to start `{0}`: {1}")]
    Other(String, io::Error),
}

/// Runs a command in a process group of its own. Dropping the future ends the whole group.
///
/// # Errors
/// [`StartError`]: it did not start, nothing happened.
pub async fn run(line: CommandLine) -> Result<Finished, StartError> {
    run_noting(line, |_| ()).await
}

/// As [`run`]; `started` is told the process id at once, so that a later process can find what a killed one left.
///
/// # Errors
/// [`StartError`]: it did not start, nothing happened.
pub async fn run_noting(
    line: CommandLine,
    started: impl FnOnce(u32),
) -> Result<Finished, StartError> {
    let began = Instant::now();
    let mut files = OutputFiles::open(&line)?;
    let mut child = spawn(&line, &files)?;
    let group = child.id().unwrap_or_default();
    let mut guard = GroupGuard::new(group, line.end_grace);
    started(group);
    let (mut stdout, mut stderr) = (Captured::new(line.keep), Captured::new(line.keep));
    let (pipe_in, pipe_out, pipe_err) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let bytes = line.stdin.clone().unwrap_or_default();
    let ended = {
        let streams = async {
            tokio::join!(
                feed(pipe_in, bytes),
                pump(pipe_out, &mut stdout),
                pump(pipe_err, &mut stderr)
            );
        };
        tokio::pin!(streams);
        let mut streams_done = false;
        let exit = tokio::time::timeout(line.timeout, async {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut streams, if !streams_done => streams_done = true,
                    _ = tick.tick() => files.keep_short(),
                }
            }
        })
        .await;
        let ended = match exit {
            Ok(Ok(status)) => ended(status),
            Ok(Err(_)) | Err(_) => {
                end_group(&mut child, group, line.end_grace).await;
                Ended::TimedOut
            }
        };
        if !streams_done {
            let _ = tokio::time::timeout(DRAIN, &mut streams).await;
        }
        ended
    };
    guard.let_go();
    files.read_into(&mut stdout, &mut stderr, line.keep);
    Ok(Finished { ended, stdout, stderr, took: began.elapsed() })
}

fn spawn(line: &CommandLine, files: &OutputFiles) -> Result<Child, StartError> {
    let mut found = on_path(line);
    let mut command = command(line, files, found.as_deref())?;
    let mut tries = 0;
    loop {
        match command.spawn() {
            // Nothing has started. What has no first line for it, or one that leads nowhere, the name may do for.
            Err(_) if found.take().is_some() => command = self::command(line, files, None)?,
            // A file that was just written may still be open for writing in a process about to start.
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < 20 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(start_error(&line.program, &line.cwd, e)),
            Ok(child) => return Ok(child),
        }
    }
}

/// The command, by the path that was found for its name.
fn command(
    line: &CommandLine,
    files: &OutputFiles,
    found: Option<&Path>,
) -> Result<Command, StartError> {
    let mut command = Command::new(found.unwrap_or(&line.program));
    command
        .arg0(&line.program)
        .args(&line.args)
        .env_clear()
        .envs(line.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&line.cwd);
    command.stdin(if line.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(files.stdout.stdio(&line.program)?).stderr(files.stderr.stdio(&line.program)?);
    command.process_group(0);
    Ok(command)
}

/// Where a name leads to by the `PATH` of the environment that the command is given. The standard library would look it
/// up in a fork of this process; a path it starts without one, which is faster the more memory this process has.
fn on_path(line: &CommandLine) -> Option<PathBuf> {
    let name = &line.program;
    if name.as_os_str().is_empty() || name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return None;
    }
    let (_, folders) = line.env.iter().rev().find(|(variable, _)| variable == "PATH")?;
    let may_run = |path: &PathBuf| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    // Relative ones mean the command's own folder: the name is left to the system then.
    std::env::split_paths(folders)
        .take_while(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(may_run)
}

/// Says why a program could not be started.
pub(crate) fn start_error(program: &Path, cwd: &Path, error: io::Error) -> StartError {
    const ENOEXEC: i32 = 8;
    let name = program.display().to_string();
    if !cwd.is_dir() {
        return StartError::NoFolder(name, cwd.display().to_string());
    }
    let at = cwd.join(program);
    match error.kind() {
        io::ErrorKind::NotFound if at.is_file() => StartError::NoInterpreter(name),
        io::ErrorKind::NotFound => StartError::Missing(name),
        io::ErrorKind::PermissionDenied => StartError::NotExecutable(name),
        _ if error.raw_os_error() == Some(ENOEXEC) => StartError::BadFormat(name),
        _ => StartError::Other(name, error),
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}

async fn end_group(child: &mut Child, group: u32, grace: Duration) {
    signal_group(group, Signal::TERM);
    let _ = tokio::time::timeout(grace, async {
        let _ = child.wait().await;
        while group_exists(group) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    signal_group(group, Signal::KILL);
    let _ = tokio::time::timeout(END_GRACE, child.wait()).await;
}

async fn feed(pipe: Option<tokio::process::ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut pipe) = pipe {
        // A command that does not read its input is its own affair.
        let _ = pipe.write_all(&bytes).await;
        let _ = pipe.shutdown().await;
    }
}

async fn pump(pipe: Option<impl AsyncRead + Unpin>, into: &mut Captured) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        into.push(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_is_looked_up_in_the_path_that_the_command_is_given() {
        let root = tempfile::tempdir().unwrap();
        for (folder, mode) in [("plain", 0o644), ("first", 0o755), ("second", 0o755)] {
            let file = root.path().join(folder).join("tool");
            std::fs::create_dir(root.path().join(folder)).unwrap();
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let at = |folders: &[&str]| {
            let folders = folders.iter().map(|folder| root.path().join(folder));
            std::env::join_paths(folders).unwrap()
        };
        let found = |program: &str, path: std::ffi::OsString| {
            let env = [("PATH".into(), "/nowhere".into()), ("PATH".into(), path)];
            on_path(&CommandLine {
                program: program.into(),
                args: Vec::new(),
                env: env.to_vec(),
                cwd: root.path().to_owned(),
                stdin: None,
                timeout: Duration::from_secs(1),
                end_grace: END_GRACE,
                keep: 1,
                output: Output::Pipe,
            })
        };
        let first = Some(root.path().join("first/tool"));
        assert_eq!(found("tool", at(&["plain", "first", "second"])), first);
        assert_eq!(found("tool", at(&["plain"])), None);
        assert_eq!(found("./tool", at(&["first"])), None, "a path is taken as it is");
        assert_eq!(found("", at(&["first"])), None);
        assert_eq!(found("tool", "first".into()), None, "what that means is for the system to say");
    }
}
