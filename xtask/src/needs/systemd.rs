//! A small system with systemd as its first process, for a container. It is made once, of packages from the mirror that
//! this machine uses, and kept in the tools folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, run};

/// What is in it beside the smallest system.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server";
/// Another one for each change of what is in it; the testkit looks there.
const FOLDER: &str = "systemd/root-2";
/// What nobody reads there.
const UNREAD: [&str; 5] = [
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
];

fn root(tools: &Path) -> PathBuf {
    tools.join(FOLDER)
}

pub(super) fn is_there(tools: &Path) -> bool {
    root(tools).join("usr/lib/systemd/systemd").exists()
}

pub(super) fn how_to_install() -> String {
    format!("debootstrap --variant=minbase --include={PACKAGES} (into the tools folder, as root)")
}

/// As root: files of the system belong to it.
pub(super) fn install(tools: &Path) -> Outcome<()> {
    let failed = |what: &str, e: std::io::Error| format!("failed to {what}: {e}");
    let (suite, mirror) = (suite()?, mirror()?);
    let folder = tools.join("systemd");
    let new = tools.join(format!("{FOLDER}.new"));
    std::fs::create_dir_all(&folder).map_err(|e| failed("make a folder", e))?;
    // A run that was cut short leaves half a system.
    let _ = std::fs::remove_dir_all(&new);
    let mut make = Command::new("debootstrap");
    make.args(["--variant=minbase", &format!("--include={PACKAGES}"), &suite]);
    make.arg(&new).arg(mirror).env("PATH", super::with_system_folders());
    run::run(make)?;
    for unread in UNREAD {
        let _ = std::fs::remove_dir_all(new.join(unread));
    }
    std::fs::rename(&new, root(tools)).map_err(|e| failed("keep the system", e))
}

/// The release of this machine, so that its programs run there too.
fn suite() -> Outcome<String> {
    let text = std::fs::read_to_string("/etc/os-release")
        .map_err(|e| format!("failed to read /etc/os-release: {e}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.map(|name| name.trim_matches('"').to_owned()).filter(|name| !name.is_empty());
    name.ok_or_else(|| "failed to tell which Debian or Ubuntu this is".to_owned())
}

/// Where this machine takes its own packages from.
fn mirror() -> Outcome<String> {
    for label in ["Debian", "Ubuntu"] {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
        command.arg(format!("Label: {label}"));
        let said = run::output(command)?;
        let first = said.lines().next().map(|line| line.trim().trim_end_matches('/').to_owned());
        if let Some(mirror) = first.filter(|mirror| !mirror.is_empty()) {
            return Ok(mirror);
        }
    }
    Err("failed to find a mirror in this machine's sources of packages".to_owned())
}
