//! The command line: every verb with its flags. What later versions add is not here.

use std::path::{Path, PathBuf};

use backout_core::ids::Version;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod audit;
mod deploy;
mod drill;
mod eject;
mod judge;
mod ledger;
mod reading;
mod rollback;
mod standing;

pub use audit::{Audit, AuditCommand, AuditExport, AuditVerify};
pub use deploy::{ConfigChoice, Deploy, StrategyName};
pub use drill::Drill;
pub use eject::Eject;
pub use judge::{Judge, JudgeCommand, JudgeExplain, JudgeReplay};
pub use ledger::{LedgerArgs, LedgerCommand};
pub use reading::{Check, History, Inspect, Status};
pub use rollback::Rollback;
pub use standing::{DemoJanitor, DemoService, Proxy, Serve, Supervise};

use super::values;
use crate::config;

/// Makes every deployment reversible: proves the way back, watches the release, and takes it back when it hurts.
#[derive(Debug, Parser)]
#[command(
    name = "backout",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
#[command(after_help = "Examples:
  backout init                          write backout.yaml from what is found here
  backout deploy --version 1.4.2        ship it, watch it, take it back if it fails
  backout rollback                      back to the last known good release
  backout status -w                     what runs, and how it does

Exit codes:
  0   done, healthy                        5   busy: somebody else is at work
  1   failed, nothing changed              10  deploy rolled back, healthy
  2   usage or configuration               11  rolled back, unhealthy
  3   stopped watching or waiting          12  stuck
  4   refused                              13  failing, left live")]
pub struct Cli {
    /// Flags that every verb has.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags before or after any verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file; `serve` takes several, and folders [default: backout.yaml]
    #[arg(short, long = "file", global = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Environment; may be left out where there is one
    #[arg(short, long = "env", global = true, value_name = "ENV")]
    pub env: Option<String>,
    /// Output: a table for people, or one JSON document
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, hide_possible_values = true, value_name = "table|json")]
    pub format: Format,
    /// Answer the confirmation with yes
    #[arg(long, global = true)]
    pub yes: bool,
    /// Explain more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// State folder [default: BACKOUT_STATE_DIR, or a folder of this user]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Keep the history of other hosts on this machine only
    #[arg(long, global = true)]
    pub local_ledger: bool,
    /// Only the ledger in the state folder, whatever the environment names.
    #[arg(skip)]
    pub own_ledger: bool,
}

impl Global {
    /// The configuration file that is meant.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        self.file().unwrap_or(Path::new(config::DEFAULT_FILE))
    }

    /// The file that was named.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document on standard output.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write backout.yaml from what is found here
    #[command(after_help = "Examples:
  backout init
  backout init -f deploy/backout.yaml")]
    Init,
    /// Record what runs now as deployment #0, so that the first deploy has a way back
    #[command(after_help = "Examples:
  backout adopt -e production --version 1.4.1")]
    Adopt(Adopt),
    /// Check everything that a deploy and a rollback will need
    #[command(after_help = "Examples:
  backout doctor -e production")]
    Doctor,
    /// Ship a version, watch it, and take it back if it fails
    #[command(after_help = "Examples:
  backout deploy -e production --version 1.4.2
  backout deploy --version 1.4.2 --strategy blue_green --yes
  backout deploy --version 1.4.2 --yes --detach      a controller does it
  backout deploy --version 1.4.2 --dry-run --format json")]
    Deploy(Deploy),
    /// Go back: to the last known good release, or to the one that is named
    #[command(after_help = "Examples:
  backout rollback -e production --reason \"checkout fails\"
  backout rollback --version 1.4.1
  backout rollback --to-revision 41
  backout rollback --to '2h ago'
  backout rollback --dry-run")]
    Rollback(Rollback),
    /// Show what runs, how it does, and whether a rollback is ready
    #[command(after_help = "Examples:
  backout status
  backout status -w
  backout status --check --format json")]
    Status(Status),
    /// List deployments and rollbacks, newest first
    #[command(after_help = "Examples:
  backout history --limit 10
  backout history --rollbacks --since '7d ago'
  backout history --status rolled_back --format json")]
    History(History),
    /// Show one deployment, rollback or operation in full
    #[command(after_help = "Examples:
  backout inspect '#42'
  backout inspect dep_0123456789ab --format json
  backout inspect 1.4.2 --show-history")]
    Inspect(Inspect),
    /// End the current hold of the running rollout
    #[command(after_help = "Examples:
  backout promote
  backout promote --full                go to 100 % at once")]
    Promote(Promote),
    /// Stop the hold clock of the running rollout; the judge goes on watching
    #[command(after_help = "Examples:
  backout pause -e production")]
    Pause,
    /// Let the hold clock run again
    #[command(after_help = "Examples:
  backout resume -e production")]
    Resume,
    /// Repeat the failed step of a stuck operation
    #[command(after_help = "Examples:
  backout retry -e production")]
    Retry,
    /// Move traffic to the stable side and stop the new one
    #[command(after_help = "Examples:
  backout abort -e production")]
    Abort,
    /// Finish an interrupted operation, and start what should run
    #[command(after_help = "Examples:
  backout recover
  backout recover -e production --yes")]
    Recover,
    /// Declare a stuck operation settled by hand
    #[command(after_help = "Examples:
  backout resolve --reason \"restarted the database, service is up\"")]
    Resolve(Resolve),
    /// Stop what runs in an environment; recover or deploy brings it back
    #[command(after_help = "Examples:
  backout down -e staging --yes")]
    Down,
    /// Rehearse going back beside what runs, without traffic, and measure how long it takes
    #[command(after_help = "Examples:
  backout drill -e production --yes
  backout drill --to-revision 41
  backout drill --dry-run

Exits 0 if the way back works, 1 if it would fail.")]
    Drill(Drill),
    /// Let an environment go: remove what is Backout's own and leave running what runs
    #[command(after_help = "Examples:
  backout eject --dry-run
  backout eject -e staging --yes")]
    Eject(Eject),
    /// Check health now: exits 0 if healthy, 1 if not
    #[command(after_help = "Examples:
  backout check
  backout check --wait --max-wait 2m
  backout check --endpoint http://127.0.0.1:8080/health")]
    Check(Check),
    /// Check that the history is as it was written, or write it to a file that proves itself
    #[command(subcommand_required = true, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  backout audit verify
  backout audit export --to /mnt/elsewhere/")]
    Audit(Audit),
    /// Move the history to where several machines can use it
    #[command(subcommand_required = true, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  backout ledger copy --to postgres://backout@db.example/backout")]
    Ledger(LedgerArgs),
    /// Ask the judge about recorded rollouts
    #[command(subcommand_required = true, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  backout judge explain                         why the newest deployment was judged so
  backout judge replay requests.ndjson          what another setting would have done")]
    Judge(Judge),
    /// Print the JSON Schema of backout.yaml for editors
    #[command(after_help = "Examples:
  backout schema > backout.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(after_help = "Examples:
  backout completions bash > /etc/bash_completion.d/backout")]
    Completions(Completions),
    /// Stand by as a controller: finish what was interrupted, keep health fresh, take detached deploys
    #[command(after_help = "Examples:
  backout serve --headless
  backout serve --headless -f shop/backout.yaml -f blog/backout.yaml --format json
  backout serve --headless -f /srv                    every backout.yaml there and one folder below
  backout serve --print-unit > /etc/systemd/system/backout.service

SIGTERM lets it leave: deploys are handed over, a way back is finished. SIGHUP reads the files again.
--format json writes the log as JSON lines.")]
    Serve(Serve),
    /// Run the built-in proxy; deploy starts it by itself
    #[command(after_help = "Examples:
  backout proxy")]
    Proxy(Proxy),
    /// Show it all in under a minute: a bad release is caught and taken back
    #[command(after_help = "Examples:
  backout demo
  backout demo --format json")]
    Demo,
    /// The detached parent of one slot's program.
    #[command(hide = true)]
    Supervise(Supervise),
    /// The web service that the demo deploys.
    #[command(hide = true)]
    DemoService(DemoService),
    /// Cleans up after a demo that was killed.
    #[command(hide = true)]
    DemoJanitor(DemoJanitor),
}

/// `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Version label of what runs now [a script: the first line of its status]
    #[arg(long, value_name = "V", value_parser = values::version)]
    pub version: Option<Version>,
}

/// `promote`.
#[derive(Debug, Args)]
pub struct Promote {
    /// Go to 100 % at once
    #[arg(long)]
    pub full: bool,
}

/// `resolve`.
#[derive(Debug, Args)]
pub struct Resolve {
    /// What was done by hand, and why it is settled
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: String,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[cfg(test)]
mod tests;
