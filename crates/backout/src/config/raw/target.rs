//! `target`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::git::RawGit;
use super::systemd::RawSystemd;
use super::written::{At, Entries, EnvText, OneOrMany};
use crate::config::scalar::Duration;

/// What runs the services.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawTarget {
    /// Backout supervises the program.
    Process(RawProcess),
    /// A program of yours does the work, called with deploy, rollback, update-traffic, status and stop.
    Script(RawScript),
    /// Services of a compose file, run by Docker Compose.
    Compose(RawCompose),
    /// A working tree of git that is moved from commit to commit.
    Git(RawGit),
    /// Units of systemd that run what is behind a link.
    Systemd(RawSystemd),
}

/// A supervised program. `{version} {release} {slot} {port} {artifact} {config}` are filled in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawProcess {
    /// Program and arguments, as a list.
    pub command: Option<At<Vec<String>>>,
    /// Environment of the process beside PATH, HOME, USER, LANG, TZ and BACKOUT_*.
    pub env: Option<Entries<EnvText>>,
    /// Working folder. Default: the folder of backout.yaml.
    pub workdir: Option<String>,
    /// File or folder that is copied per release, or a list of them; `{version}` is filled in.
    pub artifact: Option<At<OneOrMany>>,
    /// Port it listens on: a number, or auto for a free one (built-in router).
    pub port: Option<At<RawPort>>,
    /// Name of the variable that carries the port. Default: PORT.
    pub port_env: Option<At<String>>,
    /// Restarts by the supervisor. Default: at most 5 within 60s.
    pub restart: Option<RawRestart>,
}

/// Services of a compose file. The Backout service named as one of them stands for it; a single one with another name
/// stands for all of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawCompose {
    /// The compose file, or a list of which later ones override. Default: compose.yaml.
    pub file: Option<At<OneOrMany>>,
    /// Name of the compose project. Default: the app and the environment, such as shop_production.
    pub project: Option<At<String>>,
    /// File of variables for the compose file, or a list of them. Default: .env.
    pub env_file: Option<At<OneOrMany>>,
    /// Profiles that are on.
    pub profiles: Option<Vec<At<String>>>,
    /// Variables for the compose file beside BACKOUT_VERSION, BACKOUT_APP and BACKOUT_ENVIRONMENT; `{version}` is filled in.
    pub env: Option<Entries<EnvText>>,
    /// The port inside of the container that takes requests. Default: the first that the service publishes.
    pub port: Option<At<RawPort>>,
    /// Limit of one start. Default: 5m.
    pub timeout: Option<At<Duration>>,
}

/// Your own program.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawScript {
    /// The program, relative to the folder of backout.yaml.
    pub program: Option<At<String>>,
    /// Arguments before the verb.
    pub args: Option<Vec<String>>,
    /// Limit of one call. Default: 10m.
    pub timeout: Option<At<Duration>>,
}

/// Bounded restarts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRestart {
    /// At most this many restarts …
    pub max: Option<u32>,
    /// … within this span.
    pub within: Option<At<Duration>>,
}

/// `auto`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPort {
    /// A free one.
    Auto,
    /// This one.
    Fixed(u16),
}

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.trim() {
            "auto" => Ok(RawPort::Auto),
            number => {
                number.parse().ok().filter(|port| *port != 0).map(RawPort::Fixed).ok_or_else(|| {
                    D::Error::custom(format!(
                        "`{text}` is not a port; write a number from 1 to 65535, or auto"
                    ))
                })
            }
        }
    }
}

impl JsonSchema for RawPort {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^auto$|^[0-9]{1,5}$|\\$\\{.+\\}"}
        ]})
    }
}
