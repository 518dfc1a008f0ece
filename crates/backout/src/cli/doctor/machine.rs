//! What this machine must offer.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::Item;
use crate::cli::session;

/// All of it.
pub fn items() -> Vec<Item> {
    vec![kernel(), program(), clock()]
}

/// Leases and supervisors tell processes apart by what `/proc` says.
fn kernel() -> Item {
    let name = "kernel";
    for path in ["/proc/sys/kernel/random/boot_id", "/proc/self/stat", "/proc/self/ns/pid"] {
        let there = if path.ends_with("/pid") {
            fs_err::read_link(path).map(|_| ())
        } else {
            fs_err::read(path).map(|_| ())
        };
        if let Err(error) = there {
            return Item::error(name, format!("{error}; processes can't be told apart without it"))
                .fix("mount -t proc proc /proc");
        }
    }
    if let Err(error) =
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
    {
        return Item::warning(
            name,
            format!(
                "process descriptors are not available ({error}): a process is signalled by its id"
            ),
        );
    }
    let uname = rustix::system::uname();
    Item::pass(name, format!("Linux {}, /proc is readable", uname.release().to_string_lossy()))
}

/// The supervisors and the proxy run this very file.
fn program() -> Item {
    let name = "backout";
    match session::this_program() {
        Ok(path) if path.is_file() => {
            Item::pass(name, format!("{} {}", path.display(), env!("CARGO_PKG_VERSION")))
        }
        Ok(path) => Item::error(
            name,
            format!("{} is gone: supervisors and the proxy are started from it", path.display()),
        ),
        Err(error) => Item::error(name, error.message),
    }
}

/// Records carry wall-clock times; what was built or written later than now tells of a wrong clock.
fn clock() -> Item {
    let name = "clock";
    let now = SystemTime::now();
    let built = session::this_program().ok().and_then(|path| modified(&path));
    let ahead = built.and_then(|built| built.duration_since(now).ok());
    match ahead.filter(|ahead| *ahead > Duration::from_secs(60)) {
        Some(ahead) => Item::error(
            name,
            format!(
                "the clock says {}, yet this program was written {} s later: set the clock",
                Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC"),
                ahead.as_secs()
            ),
        ),
        None => Item::pass(name, Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs_err::metadata(path).ok()?.modified().ok()
}
