//! `ssh`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::written::At;
use crate::config::scalar::Duration;

/// How the other machines under `hosts` are reached, and where on them Backout works.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSsh {
    /// So many hosts are worked on at once at most. Default: 10.
    pub at_once: Option<At<u32>>,
    /// Each host begins up to this much later than the first, by chance. Default: 200ms.
    pub jitter: Option<Duration>,
    /// A host that has not let us in by then counts as unreachable. Default: 10s.
    pub connect_timeout: Option<At<Duration>>,
    /// An ssh_config file, in place of the user's own. Default: the user's own.
    pub config: Option<At<String>>,
    /// The folder on the hosts to which `program` and `repository` are relative: absolute, or below the home folder of the
    /// login. Default: that home folder.
    pub folder: Option<At<String>>,
    /// A host takes a change back by itself unless it is confirmed within this time. Default: it does not.
    pub confirm: Option<At<Duration>>,
    /// Target compose: the socket of Docker Engine on the hosts, absolute or below the home folder of the login. Default:
    /// the one in the login's DOCKER_HOST, else /var/run/docker.sock, else that of a rootless engine.
    pub docker_socket: Option<At<String>>,
}
