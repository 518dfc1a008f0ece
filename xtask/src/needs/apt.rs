//! Installing Debian and Ubuntu packages without letting their daemons start.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Outcome, run};

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Exit 101 forbids maintainer scripts to start a service.
const POLICY_TEXT: &str = "#!/bin/sh\nexit 101\n";

pub(super) fn install(packages: &[&str]) -> Outcome<()> {
    let by_hand = format!("run it yourself: apt-get install {}", packages.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!("failed to find apt-get; {by_hand}, or what your system calls them"));
    }
    let rights = Rights::find().ok_or(format!("failed to become root by sudo; {by_hand}"))?;
    let _policy = Policy::ensure(&rights)?;
    update(&rights)?;
    let mut command = rights.command("apt-get");
    command.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    run::run(command)
}

/// Mirrors fail now and then: one more try, no more.
fn update(rights: &Rights) -> Outcome<()> {
    let once = || {
        let mut command = rights.command("apt-get");
        command.args(["update", "-qq"]);
        run::run(command)
    };
    once().or_else(|first| {
        println!("{first}; trying once more");
        once()
    })
}

enum Rights {
    Root,
    Sudo,
}

impl Rights {
    fn find() -> Option<Self> {
        let mut id = Command::new("id");
        id.arg("-u");
        if run::output(id).is_ok_and(|said| said.trim() == "0") {
            return Some(Self::Root);
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "true"]);
        run::succeeds(sudo).then_some(Self::Sudo)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", "env"]);
                command
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", program]);
        command
    }
}

/// Our own `policy-rc.d`, there only while packages are installed; one that exists stays as it is.
struct Policy<'a> {
    rights: &'a Rights,
    ours: bool,
}

impl<'a> Policy<'a> {
    fn ensure(rights: &'a Rights) -> Outcome<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            let mut command = rights.command("install");
            command.args(["-m", "755", "/dev/stdin", POLICY]).stdin(Stdio::piped());
            let failed = |e: std::io::Error| format!("failed to write {POLICY}: {e}");
            let mut child = command.spawn().map_err(failed)?;
            // Taken, written and dropped: the end of input is what `install` waits for.
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(POLICY_TEXT.as_bytes()).map_err(failed)?;
            }
            let status = child.wait().map_err(failed)?;
            if !status.success() {
                return Err(format!("failed to write {POLICY}: {status}"));
            }
        }
        Ok(Self { rights, ours })
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        if self.ours {
            let mut command = self.rights.command("rm");
            command.args(["-f", POLICY]);
            if let Err(error) = run::run(command) {
                eprintln!(
                    "{error}: remove {POLICY} yourself, or daemons will not start on install"
                );
            }
        }
    }
}
