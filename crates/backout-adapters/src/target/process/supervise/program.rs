//! One run of the program.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::super::spec::SlotSpec;
use super::log::Log;
use crate::host::procfs::{ProcessId, stat};
use crate::host::start_error;

/// How long output is awaited after the end: a descendant may hold the pipe.
const DRAIN: Duration = Duration::from_millis(250);

/// A program that was started.
pub(crate) struct Program {
    pub id: ProcessId,
    output: JoinHandle<()>,
}

impl Program {
    /// Starts the program in a process group of its own.
    ///
    /// # Errors
    /// For people: why it could not be started.
    pub(crate) async fn start(
        spec: &SlotSpec,
        secrets: &BTreeMap<String, String>,
        log: &Log,
    ) -> Result<Self, String> {
        let (name, args) =
            spec.command.split_first().ok_or("failed to start: the command is empty")?;
        let failed = |e: io::Error| start_error(Path::new(name), &spec.cwd, e).to_string();
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut tries = 0;
        let child = loop {
            let mut command = Command::new(name);
            command.args(args).env_clear().envs(&spec.env).envs(secrets).current_dir(&spec.cwd);
            command.stdin(Stdio::null()).process_group(0);
            command
                .stdout(writer.try_clone().map_err(failed)?)
                .stderr(writer.try_clone().map_err(failed)?);
            match command.spawn() {
                Ok(child) => break child,
                // A copy that was just written may be open for writing in a process that is about to start.
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < 40 => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(e) => return Err(failed(e)),
            }
        };
        drop(writer);
        let pid = child.id();
        // It is ours to wait for, so its line in /proc stays also if it has ended already.
        let id = stat(pid)
            .map(|s| s.id())
            .ok_or_else(|| format!("failed to find process {pid} after its start"))?;
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
        Ok(Self { id, output: tokio::spawn(copy(reader, log.clone())) })
    }

    /// Takes what it wrote last into the log.
    pub(crate) async fn drain_output(self) {
        // The reader goes on if a descendant still writes.
        let _ = tokio::time::timeout(DRAIN, self.output).await;
    }
}

async fn copy(mut reader: pipe::Receiver, log: Log) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return,
            Ok(n) => log.write(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
