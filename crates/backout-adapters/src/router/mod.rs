//! What moves traffic beside the built-in proxy.

mod script;

pub use script::{ScriptRouter, ScriptRouterOptions};
