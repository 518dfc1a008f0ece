//! The long-lived processes: `proxy` and the hidden `supervise`.

use super::args::{self, Global};
use super::serve::log;
use super::session;
use crate::error::CommandError;
use crate::exit_code;
use crate::registry;

/// `proxy`: serves until it is told to end.
pub fn proxy(global: &Global, args: &args::Proxy) -> Result<u8, CommandError> {
    if args.detached {
        // A session of its own: the terminal of whoever started it has no hold on it.
        let _ = rustix::process::setsid();
    }
    // Into `proxy.log` beside its routes, where it was started by a deploy.
    log::begin(global);
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            let dirs = session::state_dirs(global)?;
            registry::proxy_dir(&dirs[0].path)
        }
    };
    registry::run_proxy(dir, args.exit_when_idle).map_err(CommandError::failed)?;
    Ok(exit_code::OK)
}

/// `supervise`: runs the program of one slot.
pub fn supervise(args: &args::Supervise) -> u8 {
    let code = registry::run_supervisor(&args.spec);
    u8::try_from(code).unwrap_or(exit_code::FAILED)
}
