//! `target.git`: a working tree of git that is moved from commit to commit.

use serde::{Deserialize, Serialize};

/// How the working tree gets to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitMove {
    /// `git checkout --detach`: no branch moves.
    #[default]
    Checkout,
    /// `git reset --hard`: the branch that is checked out moves along.
    Reset,
}

/// A branch of a remote that follows what is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitPush {
    /// Name of the remote.
    pub remote: String,
    /// Name of the branch there.
    pub branch: String,
}

/// A link that leads to the release that is live, each release a worktree of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitLink {
    /// The link; absolute, or relative to the folder of `backout.yaml`.
    pub current: String,
    /// The folder in which releases are kept, as `current` is written.
    pub releases: String,
}

/// `target.git`: one service as a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSpec {
    /// The working tree, or the repository of the worktrees, relative to the folder of `backout.yaml`.
    pub repository: String,
    /// Where releases stand, if they do not take turns in the working tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<GitLink>,
    /// Branch, tag or commit; `{version}` is filled in when the release is made.
    pub revision: String,
    /// How it gets there.
    #[serde(default)]
    pub by: GitMove,
    /// Submodules follow.
    #[serde(default)]
    pub submodules: bool,
    /// The remote that is fetched before a revision is looked up; none: only what is there already.
    #[serde(default)]
    pub remote: Option<String>,
    /// Protocols by which git may reach remotes and submodules.
    #[serde(default)]
    pub protocols: Vec<String>,
    /// A branch that follows what is deployed.
    #[serde(default)]
    pub push: Option<GitPush>,
    /// The tag that names the last commit that passed its bake.
    pub last_stable: String,
    /// Program and arguments that run after each move, such as a build or a reload.
    #[serde(default)]
    pub post_checkout: Vec<String>,
    /// Limit of one move with all that belongs to it, milliseconds.
    pub timeout_ms: u64,
    /// The commit, 40 (or 64) hex digits. Known once a release is made.
    #[serde(default)]
    pub commit: String,
}
