//! Last words of a unit, from the journal.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backout_core::model::SystemdBus;
use backout_core::ports::{Host, HostCommand};
use jiff::Timestamp;

use crate::host::{self, CommandLine, Ended, Finished, Output};
use crate::target::finished;

const LIMIT: Duration = Duration::from_secs(5);
/// The same on another host.
const LIMIT_THERE: Duration = Duration::from_secs(20);
/// Lines that are looked at; a line has some hundred bytes.
const BYTES_PER_LINE: usize = 60;

/// Where a manager's journal is.
#[derive(Clone)]
pub(crate) struct Journal {
    /// The host, if it is another one.
    pub host: Option<Arc<dyn Host>>,
    /// The manager's root folder as it is seen from here; none: the same.
    pub root: Option<PathBuf>,
    /// Whose units they are.
    pub bus: SystemdBus,
}

/// The end of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Last {
    /// The text.
    pub text: String,
    /// There is more before it.
    pub cut: bool,
}

impl Journal {
    /// The last lines of a unit since a moment, at most `limit` bytes. `None` where there are none or nobody may read
    /// them: nothing depends on it.
    pub(crate) async fn last(
        &self,
        unit: &str,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Option<Last> {
        let lines = (limit / BYTES_PER_LINE).max(10);
        let mut args: Vec<String> =
            ["--no-pager", "--quiet", "--output=cat"].map(Into::into).into();
        args.push(format!("--lines={lines}"));
        if matches!(self.bus, SystemdBus::User) {
            args.push("--user".to_owned());
        }
        args.push(format!("--unit={unit}"));
        if let Some(since) = since {
            args.push(format!("--since=@{}", since.as_second()));
        }
        let finished = match &self.host {
            Some(host) => {
                let argv = std::iter::once("journalctl".to_owned()).chain(args);
                let command = HostCommand { keep: limit, ..HostCommand::look(argv, LIMIT_THERE) };
                finished(host.run(&command).await.ok()?, limit)
            }
            None => self.here(args, limit).await?,
        };
        let text = finished.stdout.last_text(limit);
        let cut = finished.stdout.total() > limit as u64 || text.lines().count() >= lines;
        (finished.ended == Ended::Exited(0) && !text.is_empty()).then_some(Last { text, cut })
    }

    async fn here(&self, args: Vec<String>, limit: usize) -> Option<Finished> {
        let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        if let Some(root) = &self.root {
            args.push("--root".into());
            args.push(root.into());
        }
        let env = ["PATH", "XDG_RUNTIME_DIR"]
            .into_iter()
            .filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let line = CommandLine {
            program: PathBuf::from("journalctl"),
            args,
            env: env.collect(),
            cwd: PathBuf::from("/"),
            stdin: None,
            timeout: LIMIT,
            end_grace: host::END_GRACE,
            keep: limit,
            output: Output::Pipe,
        };
        host::run(line).await.ok()
    }
}
