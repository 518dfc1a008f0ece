//! `target.systemd`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::target::RawPort;
use super::written::{At, OneOrMany};
use crate::config::scalar::Duration;

/// Units of systemd that run what is behind a link. `{slot}` in the name of a unit makes it two, side by side.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSystemd {
    /// Name of the unit, such as shop.service, or shop@{slot}.service behind the built-in router; `{service}` is filled in.
    pub unit: Option<At<String>>,
    /// File or folder that makes a release, or a list of them; `{version}` is filled in.
    pub artifact: Option<At<OneOrMany>>,
    /// The link to the release that runs, which the unit names in its ExecStart. Default: current, beside backout.yaml.
    pub current: Option<At<String>>,
    /// The folder in which releases are kept. Default: releases, beside the link.
    pub releases: Option<At<String>>,
    /// Port it listens on: a number, or auto for a free one, handed over as PORT (built-in router).
    pub port: Option<At<RawPort>>,
    /// Whose units they are: system, user, or an address of D-Bus. Default: system.
    pub bus: Option<At<String>>,
    /// The manager's root folder as seen from here, for a manager in a container. Default: /.
    pub root: Option<At<String>>,
    /// Limit of one start or stop. Default: 2m.
    pub timeout: Option<At<Duration>>,
}
