//! What runs a service: part of the release, so that a rollback uses the old definition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::git::GitSpec;
use super::systemd::SystemdSpec;

/// The kinds of target that this version can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Backout supervises the program.
    Process,
    /// A program of the user's does the work.
    Script,
    /// Docker Compose.
    Compose,
    /// A working tree of git.
    Git,
    /// Units of systemd.
    Systemd,
}

impl TargetKind {
    /// The word in `backout.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TargetKind::Process => "process",
            TargetKind::Script => "script",
            TargetKind::Compose => "compose",
            TargetKind::Git => "git",
            TargetKind::Systemd => "systemd",
        }
    }
}

/// A service's target definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetSpec {
    /// A supervised program.
    Process(ProcessSpec),
    /// The user's program.
    Script(ScriptSpec),
    /// Services of a compose file.
    Compose(ComposeSpec),
    /// A working tree.
    Git(GitSpec),
    /// A unit.
    Systemd(SystemdSpec),
}

impl TargetSpec {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> TargetKind {
        match self {
            TargetSpec::Process(_) => TargetKind::Process,
            TargetSpec::Script(_) => TargetKind::Script,
            TargetSpec::Compose(_) => TargetKind::Compose,
            TargetSpec::Git(_) => TargetKind::Git,
            TargetSpec::Systemd(_) => TargetKind::Systemd,
        }
    }

    /// The variables that a start of it is given.
    pub fn env(&self) -> impl Iterator<Item = (&String, &EnvValue)> {
        match self {
            TargetSpec::Process(process) => Some(&process.env),
            TargetSpec::Compose(compose) => Some(&compose.env),
            TargetSpec::Script(_) | TargetSpec::Git(_) | TargetSpec::Systemd(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// How many instances of it run on one host, where they can be replaced some at a time.
    #[must_use]
    pub fn replicas(&self) -> Option<Replicas> {
        match self {
            TargetSpec::Compose(compose) => compose.replicas.filter(|replicas| replicas.count > 0),
            _ => None,
        }
    }

    /// How long one call of what does the work may take, where it sets a limit of its own, milliseconds.
    #[must_use]
    pub fn call_limit_ms(&self) -> Option<u64> {
        match self {
            TargetSpec::Process(_) => None,
            TargetSpec::Script(script) => Some(script.timeout_ms),
            TargetSpec::Compose(compose) => Some(compose.timeout_ms),
            TargetSpec::Git(git) => Some(git.timeout_ms),
            TargetSpec::Systemd(unit) => Some(unit.timeout_ms),
        }
    }
}

/// `target.process`. Texts may hold `{version} {release} {slot} {port} {artifact} {config}`, filled in at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment of the process beside `PATH HOME USER LANG TZ` and `BACKOUT_*`.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// Working folder, relative to the folder of `backout.yaml`.
    #[serde(default)]
    pub workdir: String,
    /// Files or folders copied per release, relative to the folder of `backout.yaml`; `{version}` is filled in already.
    #[serde(default)]
    pub artifact: Vec<String>,
    /// The port it listens on, none for a program without one.
    #[serde(default)]
    pub port: Option<PortSpec>,
    /// Name of the variable that carries the port.
    #[serde(default = "default_port_env")]
    pub port_env: String,
    /// Restarts by the supervisor.
    #[serde(default)]
    pub restart: RestartPolicy,
}

fn default_port_env() -> String {
    "PORT".to_owned()
}

/// A value in a process's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// Recorded with the release and reused on rollback.
    Plain(String),
    /// Its key stands under `secrets:`; the value comes from whoever calls and is never recorded.
    Secret,
}

/// How a port is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortSpec {
    /// A free one, recorded.
    Auto,
    /// Always this one.
    Fixed(u16),
}

/// Bounded restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// At most this many …
    pub max: u32,
    /// … within this span, milliseconds.
    pub within_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { max: 5, within_ms: 60_000 }
    }
}

/// `target.script` (`INTERFACES`, "Script target").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptSpec {
    /// The program, relative to the folder of `backout.yaml`.
    pub program: String,
    /// Arguments put before the verb.
    #[serde(default)]
    pub args: Vec<String>,
    /// One call's limit, milliseconds.
    #[serde(default = "default_script_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_script_timeout_ms() -> u64 {
    600_000
}

/// `target.compose`: one service of an app as services of a compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposeSpec {
    /// The compose files, relative to the folder of `backout.yaml`; later ones override.
    pub files: Vec<String>,
    /// Files of variables for the compose files; none: `.env`.
    #[serde(default)]
    pub env_files: Vec<String>,
    /// Profiles that are on.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Variables for the compose files beside `BACKOUT_*`; `{version}` is filled in when the release is made.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// Name of the compose project; the second slot's has `-b` behind it.
    pub project: String,
    /// Images by service of the compose file, in place of those that the file names.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// The port inside of the container that takes requests; none: the first one that is published.
    #[serde(default)]
    pub port: Option<u16>,
    /// One call's limit, milliseconds.
    #[serde(default = "default_compose_timeout_ms")]
    pub timeout_ms: u64,
    /// The services of the compose file, in the order in which they start. Known once a release is made.
    #[serde(default)]
    pub services: Vec<String>,
    /// Longest `stop_grace_period` among them, milliseconds. Known once a release is made.
    #[serde(default)]
    pub stop_grace_ms: u64,
    /// Containers of its one service; none where it has several, or where two of them can't stand beside each other.
    /// Known once a release is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
}

/// Instances of a service on one host that can be replaced some at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// How many run.
    pub count: u32,
    /// How many there is room for, those of an older release among them; more than `count`. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
}

/// Some instances of a service are replaced while the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaBatch {
    /// So many are of the wanted release then.
    pub upto: u32,
    /// So many of any other release stay beside them.
    pub keep: u32,
    /// Never more of all of them at once.
    pub most: u32,
    /// Those of the wanted release must be ready within this time before any other ends, milliseconds.
    pub ready_ms: u64,
}

fn default_compose_timeout_ms() -> u64 {
    300_000
}
