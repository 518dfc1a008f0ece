//! What runs services, on this machine and on others: a supervised program, the user's script, Docker Compose, or a working tree of git.

pub mod compose;
mod git;
pub(crate) mod link;
pub mod process;
mod remote;
mod script;
mod script_call;
mod script_evidence;
mod script_remote;
pub mod systemd;

pub use compose::{ComposeHost, ComposeTarget, ComposeTargetOptions};
pub use git::{GitTarget, GitTargetOptions, worktrees};
pub use process::{ConfigBlobs, ProcessTarget, ProcessTargetOptions};
pub(crate) use remote::{confirm, finished, words_of};
pub use script::{ScriptHistory, ScriptTarget, ScriptTargetOptions};
pub(crate) use script_call::{Answer, CallContext, ScriptCall, ScriptHome, call_environment};
pub use systemd::{SystemdTarget, SystemdTargetOptions};

/// Only other hosts take a change back by themselves.
pub(crate) fn not_guarded(unit: &backout_core::ids::Unit) -> backout_core::ports::AdapterError {
    backout_core::ports::AdapterError::permanent(format!(
        "failed to confirm {unit}: nothing there would take it back by itself"
    ))
}
