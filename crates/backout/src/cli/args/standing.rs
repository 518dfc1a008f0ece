//! Processes that stand by: `serve`, `proxy`, and those that other commands start.

use std::path::PathBuf;

use backout_core::ids::Version;
use clap::Args;

use crate::cli::values;

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
