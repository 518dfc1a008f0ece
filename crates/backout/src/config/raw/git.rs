//! `target.git`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::written::At;
use crate::config::scalar::Duration;

/// A working tree that is moved from commit to commit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawGit {
    /// The working tree, or with `current` the repository of the worktrees. Default: the folder of backout.yaml.
    pub repository: Option<At<String>>,
    /// A link to the release that is live: each release is a worktree of its own then. Default: none, releases take
    /// turns in the working tree.
    pub current: Option<At<String>>,
    /// The folder of the worktrees. Default: releases, beside the link.
    pub releases: Option<At<String>>,
    /// Branch, tag or commit that a version stands for; `{version}` is filled in. Default: {version}.
    pub revision: Option<At<String>>,
    /// checkout (no branch moves) or reset (the branch that is checked out moves along). Default: checkout.
    pub by: Option<RawGitMove>,
    /// Whether submodules follow. Default: false.
    pub submodules: Option<bool>,
    /// The remote that is fetched before a version is looked up. Default: none.
    pub remote: Option<At<String>>,
    /// Protocols by which remotes and submodules may be reached: https, ssh, http, git, file. Default: https and ssh.
    pub protocols: Option<Vec<At<String>>>,
    /// A branch of a remote that follows what is deployed. Default: none.
    pub push: Option<RawGitPush>,
    /// The tag that names the last commit that passed its bake. Default: last-stable.
    pub last_stable: Option<At<String>>,
    /// Program and arguments that run in the working tree after each move, as a list. Default: none.
    pub post_checkout: Option<At<Vec<String>>>,
    /// Limit of one move with all that belongs to it. Default: 5m.
    pub timeout: Option<At<Duration>>,
}

/// How the working tree gets to a commit.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawGitMove {
    /// `git checkout --detach`.
    Checkout,
    /// `git reset --hard`.
    Reset,
}

/// A branch of a remote.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawGitPush {
    /// Name of the remote. Default: origin.
    pub remote: Option<At<String>>,
    /// Name of the branch there.
    pub branch: Option<At<String>>,
}
