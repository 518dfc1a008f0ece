//! What runs services on this machine: a supervised program, the user's script, or Docker Compose.

pub mod compose;
pub mod process;
mod script;
mod script_call;

pub use compose::{ComposeTarget, ComposeTargetOptions};
pub use process::{ConfigBlobs, ProcessTarget, ProcessTargetOptions};
pub use script::{ScriptTarget, ScriptTargetOptions};
pub(crate) use script_call::{Answer, CallContext, ScriptCall, ScriptHome};
