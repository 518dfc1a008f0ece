//! What runs services on this machine: a supervised program, or the user's script.

pub mod process;
mod script;
mod script_call;

pub use process::{ConfigBlobs, ProcessTarget, ProcessTargetOptions};
pub use script::{ScriptTarget, ScriptTargetOptions};
pub(crate) use script_call::{Answer, CallContext, ScriptCall, ScriptHome};
