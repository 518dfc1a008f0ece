//! What may be written in `backout.yaml`. The descriptions end in the JSON Schema that editors show.
//!
//! Nothing is required here: an environment may leave to the top level whatever it likes. What is missing
//! after merging is found on the way to the settings.

mod git;
mod health;
mod metrics;
mod service;
mod ssh;
mod strategy;
mod systemd;
mod target;
mod written;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Duration;

pub use git::{RawGit, RawGitMove};
pub use health::{
    RawDuringRollout, RawExec, RawHealth, RawHttp, RawLimit, RawServiceHealth, RawTcp,
};
pub use metrics::{RawMetrics, RawPrometheus, RawRequests, RawSeries, RawWorse};
pub use service::{RawOnRollback, RawService};
pub use ssh::RawSsh;
pub use strategy::{RawBatch, RawCanary, RawOnNoData, RawRolling, RawStage, RawStrategy};
pub use systemd::RawSystemd;
pub use target::{RawCompose, RawPort, RawProcess, RawScript, RawTarget};
pub use written::{At, Entries, EnvText, OneOrMany};

/// backout.yaml: how an application is deployed, watched and taken back.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Name of the application: a-z, 0-9 and -, at most 63.
    pub app: Option<At<String>>,
    /// What runs the services.
    pub target: Option<At<RawTarget>>,
    /// The deployable parts; without it there is one, named as the app.
    pub services: Option<At<Entries<RawService>>>,
    /// Compose target: images by service, in place of those in the compose file, with `{version}` filled in; `keep: copy`
    /// keeps a copy of each image in the state folder too.
    pub artifacts: Option<Entries<At<String>>>,
    /// Named places where it runs, each overriding by key what stands at the top; without it there is one, production.
    pub environments: Option<Entries<Raw>>,
    /// Only within an environment: people must give a reason for a rollback here.
    pub production: Option<bool>,
    /// Where it runs: names that ssh knows, and `local` for this machine. Default: this machine.
    pub hosts: Option<Vec<At<String>>>,
    /// How the other machines under `hosts` are reached.
    pub ssh: Option<At<RawSsh>>,
    /// Globs of config files that are versioned with every release and restored with it.
    pub config: Option<Vec<At<String>>>,
    /// Names of keys whose values are redacted, never recorded, and keep today's value on a rollback.
    pub secrets: Option<Vec<At<String>>>,
    /// How a release replaces another. Default: canary with a router, recreate without.
    pub strategy: Option<At<RawStrategy>>,
    /// What moves traffic. Default: none.
    pub router: Option<At<RawRouter>>,
    /// How a side is ended.
    pub shutdown: RawShutdown,
    /// What is checked, and how it is judged.
    pub health: Option<At<RawHealth>>,
    /// Limits of a deploy.
    pub deploy: RawDeploy,
    /// The watch after 100 %. Default: 30m.
    pub bake_time: Option<Duration>,
    /// Rules of rollbacks.
    pub rollback: RawRollback,
}

/// What moves traffic.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawRouter {
    /// Nothing does.
    None,
    /// The built-in proxy.
    Builtin(RawBuiltin),
    /// The script target's update-traffic.
    Script,
}

/// The built-in proxy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBuiltin {
    /// Where it listens: an address and a port, such as 0.0.0.0:80.
    pub listen: Option<At<String>>,
    /// Without a sign from the watcher for this long, traffic returns to the stable side by itself. Default: 15s.
    pub dead_man: Option<At<Duration>>,
}

/// How a side is ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawShutdown {
    /// Wait for requests in flight at most this long. Default: 30s.
    pub drain: Option<Duration>,
    /// Between SIGTERM and SIGKILL. Default: 30s.
    pub grace: Option<Duration>,
}

/// Limits of a deploy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDeploy {
    /// Time for the work itself; holds and bake do not count. Past it the deploy is taken back. Default: 30m.
    pub timeout: Option<At<Duration>>,
}

/// Rules of rollbacks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRollback {
    /// A failing verdict takes the release back by itself. Default: true.
    pub automatic: Option<bool>,
    /// Failing verdict to healthy again; past it, page again and keep going. Default: 2m.
    pub deadline: Option<At<Duration>>,
    /// Time for the work itself, 5m to 60m; past it the operation is stuck. Default: 15m.
    pub timeout: Option<At<Duration>>,
    /// Stable releases whose readiness is kept intact. Default: 5.
    pub keep: Option<At<u32>>,
}
