//! Cleaning up: the end of every demo, and of one that was killed.
//!
//! The janitor is started before anything else, in a session of its own. Its standard input is a pipe that only
//! the demo holds: it ends when the demo does, whatever ended it, and no process id can be mistaken for another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backout_adapters::host::end_processes;
use backout_adapters::host::procfs::{self, ProcessId};

use super::folder::PREFIX;
use crate::cli::args::DemoJanitor;
use crate::error::CommandError;
use crate::exit_code;

/// The hidden verb.
const VERB: &str = "demo-janitor";
/// What the demo says when there is nothing left to do.
const DISMISSED: &[u8] = b"dismissed\n";
const READY: &str = "ready\n";
/// How long processes may take to end when they are asked.
const GRACE: Duration = Duration::from_secs(3);
/// Between two looks that both have to find nothing: what was just started becomes visible.
const PAUSE: Duration = Duration::from_millis(50);
const TRIES: u32 = 40;

/// The janitor as the demo sees it.
pub struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts it, and waits until it watches.
    ///
    /// # Errors
    /// When it can't be started: then nothing else was either.
    pub fn hire(exe: &Path, dir: &Path) -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| {
            CommandError::failed(format!("failed to start the demo's janitor: {error}"))
        };
        let mut child = Command::new(exe)
            .arg(VERB)
            .arg("--dir")
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out.take(64)).read_line(&mut line).map_err(failed)?;
        }
        if line != READY {
            let _ = child.kill();
            let _ = child.wait();
            return Err(CommandError::failed("failed to start the demo's janitor: it ended"));
        }
        Ok(Self { child })
    }

    /// Sends it home: everything is clean.
    pub fn dismiss(mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(DISMISSED);
        }
        let _ = self.child.wait();
    }
}

/// `demo-janitor`.
///
/// # Errors
/// When the folder is not a demo's, or could not be cleaned.
pub async fn run(args: &DemoJanitor) -> Result<u8, CommandError> {
    // Ctrl-C and the end of the terminal are for the demo only.
    let _ = rustix::process::setsid();
    let mut out = std::io::stdout();
    let _ = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
    let mut said = Vec::new();
    // A thread of its own to read with: nothing else runs here, so this one may block.
    let _ = std::io::stdin().take(64).read_to_end(&mut said);
    if said == DISMISSED {
        return Ok(exit_code::OK);
    }
    // Looked at only now: it is made when somebody already watches.
    clean(&demo_folder(&args.dir)?).await.map(|()| exit_code::OK)
}

/// Only a folder that a demo made is ever removed, or one that is gone already and was named like that.
fn demo_folder(dir: &Path) -> Result<PathBuf, CommandError> {
    let refused = || CommandError::refused(format!("{} is not a folder of a demo", dir.display()));
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(PREFIX) || !dir.is_absolute() {
        return Err(refused());
    }
    match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(dir.to_owned()),
        Ok(meta)
            if meta.is_dir()
                && meta.mode() & 0o777 == 0o700
                && meta.uid() == rustix::process::geteuid().as_raw() =>
        {
            Ok(dir.to_owned())
        }
        _ => Err(refused()),
    }
}

/// Ends what runs from the folder, and removes it.
///
/// # Errors
/// When something could not be ended or removed: then it is named.
pub async fn clean(dir: &Path) -> Result<(), CommandError> {
    let mut trouble = String::new();
    let mut empty_looks = 0;
    for _ in 0..TRIES {
        let left = end_processes(|| running(dir), GRACE).await;
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                trouble = error.to_string();
                empty_looks = 0;
            }
            _ if left.is_empty() && running(dir).is_empty() => {
                empty_looks += 1;
                if empty_looks == 2 {
                    return Ok(());
                }
            }
            _ => {
                trouble = format!("{} process(es) do not end", left.len());
                empty_looks = 0;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(CommandError::failed(format!("failed to clean up {}: {trouble}", dir.display()))
        .hint("end what still runs from it, then remove it"))
}

/// Programs that run from the folder, this program where it works in it, and everything they started.
fn running(dir: &Path) -> Vec<ProcessId> {
    let me = std::process::id();
    let own = file_of(me);
    let mut found: Vec<ProcessId> = procfs::all()
        .iter()
        .filter(|process| process.pid != me && belongs(process.pid, dir, own))
        .map(procfs::Stat::id)
        .collect();
    let roots: Vec<u32> = found.iter().map(|process| process.pid).collect();
    for process in procfs::descendants(&roots) {
        if !found.iter().any(|known| known.pid == process.pid) {
            found.push(process.id());
        }
    }
    found
}

fn belongs(pid: u32, dir: &Path, own: Option<(u64, u64)>) -> bool {
    let Ok(program) = std::fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    if program.starts_with(dir) {
        return true;
    }
    if own.is_none() || file_of(pid) != own {
        // Somebody's editor or pager on one of the files is none of ours.
        return false;
    }
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut arguments = line.split(|byte| *byte == 0).skip(1);
    let verb = arguments.next().unwrap_or_default();
    verb != VERB.as_bytes()
        && arguments.any(|argument| {
            std::str::from_utf8(argument).is_ok_and(|text| Path::new(text).starts_with(dir))
        })
}

/// Device and inode of a process's program; right also if the file was replaced since.
fn file_of(pid: u32) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_demos_own_folder_is_cleaned() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        assert!(demo_folder(&make(&format!("{PREFIX}abc"), 0o700)).is_ok());
        assert!(demo_folder(&parent.path().join(format!("{PREFIX}gone"))).is_ok());
        for wrong in [
            make("home", 0o700),
            make(&format!("{PREFIX}open"), 0o755),
            parent.path().join("missing"),
            PathBuf::from("/"),
            PathBuf::from(format!("{PREFIX}relative")),
        ] {
            assert!(demo_folder(&wrong).is_err(), "{}", wrong.display());
        }
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(parent.path().join("home"), &link).unwrap();
        assert!(demo_folder(&link).is_err());
    }

    #[tokio::test]
    async fn ends_what_runs_from_the_folder_and_nothing_else() {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let sleep = dir.join("sleep");
        // Another process writes the copy: one open for writing here could not be started.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&sleep).status().unwrap().success());
        let mut inside = Command::new(&sleep).arg("600").spawn().unwrap();
        // Another's program that only reads there.
        let file = dir.join("notes");
        std::fs::write(&file, "").unwrap();
        let mut outside = Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        let waiting = tokio::task::spawn_blocking(move || inside.wait().unwrap());
        clean(&dir).await.unwrap();
        assert!(!waiting.await.unwrap().success() && !dir.exists());
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
