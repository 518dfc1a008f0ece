//! What runs services on this machine: a supervised program, the user's script, Docker Compose, or a working tree of git.

pub mod compose;
mod git;
pub mod process;
mod script;
mod script_call;

pub use compose::{ComposeTarget, ComposeTargetOptions};
pub use git::{GitTarget, GitTargetOptions};
pub use process::{ConfigBlobs, ProcessTarget, ProcessTargetOptions};
pub use script::{ScriptTarget, ScriptTargetOptions};
pub(crate) use script_call::{Answer, CallContext, ScriptCall, ScriptHome, call_environment};
