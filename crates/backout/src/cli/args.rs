//! The command line: every verb with its flags. What later versions add is not here.

use std::path::{Path, PathBuf};

use backout_core::ids::{AppName, ServiceName, Version};
use backout_core::model::DeploymentStatus;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;

mod audit;
mod drill;
mod eject;
mod ledger;

pub use audit::{Audit, AuditCommand, AuditExport, AuditVerify};
pub use drill::Drill;
pub use eject::Eject;
pub use ledger::{LedgerArgs, LedgerCommand};

use super::values::{self, DeploymentName, RollbackPoint};
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

Exit codes: 0 done, healthy; 1 failed, nothing changed; 2 usage or configuration; 3 stopped watching;
4 refused; 5 busy; 10 deploy rolled back, healthy; 11 rolled back, unhealthy; 12 stuck; 13 failing, left live.")]
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
  backout judge replay requests.ndjson")]
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

/// `deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    /// Version to ship
    #[arg(long, value_name = "V", value_parser = values::version)]
    pub version: Version,
    /// Another strategy than the configuration's
    #[arg(
        long,
        value_enum,
        value_name = "recreate|rolling|blue_green|canary",
        hide_possible_values = true
    )]
    pub strategy: Option<StrategyName>,
    /// Ship only this service, the others stay what they are; may be repeated
    #[arg(long = "service", value_name = "S", value_parser = values::service)]
    pub services: Vec<ServiceName>,
    /// Config files: keep what is on disk, or take those of deployment N
    #[arg(long, value_name = "keep|N", value_parser = values::config_choice)]
    pub config: Option<ConfigChoice>,
    /// Lift one failing check by its name; may be repeated
    #[arg(long = "override", value_name = "CHECK", value_parser = PossibleValuesParser::new(values::DEPLOY_CHECKS), hide_possible_values = true)]
    pub overrides: Vec<String>,
    /// Leave it to the controller, and return once it has begun
    #[arg(long)]
    pub detach: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `--strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum StrategyName {
    /// Old stops, new starts.
    Recreate,
    /// Host after host.
    Rolling,
    /// All traffic at once.
    #[value(alias = "blue-green")]
    BlueGreen,
    /// In stages.
    Canary,
}

impl StrategyName {
    /// The word in `backout.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StrategyName::Recreate => "recreate",
            StrategyName::Rolling => "rolling",
            StrategyName::BlueGreen => "blue_green",
            StrategyName::Canary => "canary",
        }
    }
}

/// `--config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChoice {
    /// What is on disk.
    Keep,
    /// The files of this deployment.
    Deployment(u64),
}

/// `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The app, to be sure that the right file is read
    #[arg(value_name = "APP", value_parser = values::app)]
    pub app: Option<AppName>,
    /// Go back to this version
    #[arg(long, value_name = "V", value_parser = values::version, conflicts_with_all = ["to_revision", "to"])]
    pub version: Option<Version>,
    /// Go back to deployment N
    #[arg(long, alias = "to-version", value_name = "N", value_parser = values::revision, conflicts_with = "to")]
    pub to_revision: Option<u64>,
    /// Go back to deployment N, or to what was live at a time
    #[arg(long, value_name = "N|TIME", value_parser = values::rollback_point)]
    pub to: Option<RollbackPoint>,
    /// Only this service goes back, the others stay what they are; may be repeated
    #[arg(long = "service", value_name = "S", value_parser = values::service)]
    pub services: Vec<ServiceName>,
    /// Why; asked of people in production environments
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
    /// Roll back although the current release looks healthy
    #[arg(long)]
    pub force: bool,
    /// Lift one failing safety check by its name; may be repeated
    #[arg(long = "override", value_name = "CHECK", value_parser = PossibleValuesParser::new(values::SAFETY_CHECKS), hide_possible_values = true)]
    pub overrides: Vec<String>,
    /// Skip checks that only advise
    #[arg(long)]
    pub skip_validation: bool,
    /// Time for the work itself; past it the rollback is stuck [default: rollback.timeout]
    #[arg(long, value_name = "D", value_parser = values::positive_duration_ms)]
    pub timeout: Option<u64>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Rollback {
    /// Where to, if somewhere is named; the flags exclude each other.
    #[must_use]
    pub fn point(&self) -> Option<RollbackPoint> {
        self.to_revision.map(RollbackPoint::Revision).or(self.to)
    }
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
    /// Probe now instead of showing the last result
    #[arg(long)]
    pub check: bool,
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only rollbacks
    #[arg(long)]
    pub rollbacks: bool,
    /// At most N, newest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: Option<u32>,
    /// Only what began since: '7d ago', 2026-11-20, or a full time
    #[arg(long, value_name = "TIME", value_parser = values::past_time)]
    pub since: Option<Timestamp>,
    /// Only with this status, such as stable or rolled_back
    #[arg(long, value_name = "STATUS", value_parser = values::deployment_status)]
    pub status: Option<DeploymentStatus>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An id, a number such as '#42', or a version
    #[arg(value_name = "ID|#N|NAME", value_parser = values::deployment_name)]
    pub what: DeploymentName,
    /// Also list what happened to its release before and after
    #[arg(long)]
    pub show_history: bool,
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

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Wait until it is healthy
    #[arg(long)]
    pub wait: bool,
    /// Wait at most this long; past it exits 3
    #[arg(long, value_name = "D", value_parser = values::positive_duration_ms, requires = "wait")]
    pub max_wait: Option<u64>,
    /// Ask this address instead of the configured checks
    #[arg(long, value_name = "URL", value_parser = values::endpoint)]
    pub endpoint: Option<String>,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `serve`.
#[derive(Debug, Args)]
#[group(id = "how", required = true)]
pub struct Serve {
    /// Only the loop: no API, no dashboard
    #[arg(long, group = "how")]
    pub headless: bool,
    /// Print a systemd unit that runs it with these flags
    #[arg(long, group = "how")]
    pub print_unit: bool,
}

/// `proxy`.
#[derive(Debug, Args)]
pub struct Proxy {
    /// Its folder [default: proxy in the state folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stop once the last route was removed, or where none came within a minute
    #[arg(long)]
    pub exit_when_idle: bool,
    /// Leave the terminal's session; a deploy starts it so.
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// `supervise`.
#[derive(Debug, Args)]
pub struct Supervise {
    /// The slot's specification.
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
}

/// `demo-service`.
#[derive(Debug, Args)]
pub struct DemoService {
    /// Version it answers with.
    #[arg(long, value_name = "V", value_parser = values::version)]
    pub version: Version,
    /// Port it listens on.
    #[arg(long, env = "PORT", value_name = "N")]
    pub port: u16,
    /// JSON file with `fail_percent` and `latency_ms`, read once; it stands above the flags.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Percent of requests that it fails.
    #[arg(long, value_name = "P", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,
    /// Only requests for this path fail, all of them if `--fail-percent` says nothing else.
    #[arg(long, value_name = "PATH")]
    pub fail_path: Option<String>,
    /// `/metrics` answers with what this file holds at the time.
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Time that each answer takes.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_ms: u64,
    /// `/health` says 503, for ever.
    #[arg(long)]
    pub never_ready: bool,
    /// `/health` takes the request and never answers.
    #[arg(long)]
    pub hang_health: bool,
    /// `/health` says 200 with the status `unhealthy`.
    #[arg(long)]
    pub health_unhealthy: bool,
    /// `/health` answers with these bytes, whatever they are.
    #[arg(long, value_name = "FILE")]
    pub health_body: Option<PathBuf>,
    /// Ends by itself with exit code 3 after this time.
    #[arg(long, value_name = "MS")]
    pub exit_after_ms: Option<u64>,
    /// SIGTERM changes nothing.
    #[arg(long)]
    pub ignore_sigterm: bool,
    /// Leaves a child behind in a process group of its own, which ignores SIGTERM.
    #[arg(long)]
    pub spawn_daemon: bool,
}

/// `demo-janitor`.
#[derive(Debug, Args)]
pub struct DemoJanitor {
    /// The demo's temporary folder.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

#[cfg(test)]
mod tests;

/// `judge`.
#[derive(Debug, Args)]
pub struct Judge {
    /// What is asked.
    #[command(subcommand)]
    pub command: JudgeCommand,
}

/// What the judge is asked.
#[derive(Debug, Subcommand)]
pub enum JudgeCommand {
    /// Run the sequential tests over recorded requests: what would another setting have done?
    #[command(after_help = "Examples:
  backout judge replay requests.ndjson
  backout judge replay requests.ndjson --false-rollback-probability 0.001 --metrics errors

One JSON object a line, ordered by t (seconds); the first gives the weight:
  {\"t\":0,\"weight\":0.1}
  {\"t\":12.031,\"arm\":\"canary\",\"ok\":false,\"latency_ms\":84.2}
  {\"t\":3600,\"end\":true}

Exits 0 if the verdict never failed, 1 if it did, 2 for a line that can't be used.")]
    Replay(JudgeReplay),
    /// Say why: the verdict of the running deployment, or of a past one, with its evidence over time
    #[command(after_help = "Examples:
  backout judge explain
  backout judge explain 42 --svg evidence.svg
  backout judge explain --format json

Only reads. Of each environment the accounts of some 200 deployments are kept.")]
    Explain(JudgeExplain),
}

/// `judge explain`.
#[derive(Debug, Args)]
pub struct JudgeExplain {
    /// The deployment's number; without it the newest that was judged
    #[arg(value_name = "N", value_parser = values::revision)]
    pub number: Option<u64>,
    /// Also draw the chart into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `judge replay`.
#[derive(Debug, Args)]
pub struct JudgeReplay {
    /// The recorded requests; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Highest probability of taking a harmless release back
    #[arg(long, value_name = "A", default_value_t = 0.01)]
    pub false_rollback_probability: f64,
    /// Comparisons are muted for this long after the canary's first request
    #[arg(long, value_name = "D", default_value = "0s", value_parser = config::parse_duration_ms)]
    pub warm_up: u64,
    /// Comparisons of latency are muted for this long
    #[arg(long, value_name = "D", default_value = "0s", value_parser = config::parse_duration_ms)]
    pub latency_warm_up: u64,
    /// Relative increase in errors or latency that is harmless
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub tolerance: f64,
    /// Error rate (fraction) up to which errors are harmless
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub harmless_error_rate: f64,
    /// Relative slowdown that is harmless
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub harmless_latency_increase: f64,
    /// What is compared
    #[arg(long, value_name = "errors,latency", value_delimiter = ',', default_value = "errors,latency", value_parser = ["errors", "latency"])]
    pub metrics: Vec<String>,
}
