//! What the tasks need on the machine: one table of how to find and how to install it.

mod apt;
mod compose;
mod systemd;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, paths, run};

const CARGO_DENY_VERSION: &str = "0.20.2";

/// Something that must be on the machine before an area can run.
struct Component {
    name: &'static str,
    /// Areas of `test`, or `bench`.
    needed_by: &'static [&'static str],
    why: &'static str,
    find: Find,
    install: Install,
}

enum Find {
    /// The program starts and succeeds with these arguments.
    Answers(&'static str, &'static [&'static str]),
    /// As before, as a subcommand of the cargo in use.
    CargoAnswers(&'static [&'static str]),
    CargoDeny,
    Compose,
    SmallSystem,
}

enum Install {
    Apt(&'static [&'static str]),
    Rustup(&'static str),
    CargoDeny,
    Compose,
    SmallSystem,
}

/// Debian keeps the server's programs off the `PATH`.
const POSTGRES_IS_HERE: &str = "for folder in /usr/lib/postgresql/*/bin; do PATH=$folder:$PATH; done; \
     initdb --version && postgres --version && psql --version";

const COMPONENTS: &[Component] = &[
    Component {
        name: "git",
        needed_by: &["tidy", "deny", "test"],
        why: "lists the files of the checkout, holds the advisory database",
        find: Find::Answers("git", &["--version"]),
        install: Install::Apt(&["git"]),
    },
    Component {
        name: "rustfmt",
        needed_by: &["fmt"],
        why: "checks the form of the code",
        find: Find::CargoAnswers(&["fmt", "--version"]),
        install: Install::Rustup("rustfmt"),
    },
    Component {
        name: "clippy",
        needed_by: &["clippy"],
        why: "checks the code",
        find: Find::CargoAnswers(&["clippy", "--version"]),
        install: Install::Rustup("clippy"),
    },
    Component {
        name: "C compiler",
        needed_by: &["clippy", "test", "docs", "bench"],
        why: "builds the bundled SQLite and links",
        find: Find::Answers("cc", &["--version"]),
        install: Install::Apt(&["gcc", "libc6-dev"]),
    },
    Component {
        name: "cargo-deny",
        needed_by: &["deny"],
        why: "judges licences, sources and advisories of dependencies",
        find: Find::CargoDeny,
        install: Install::CargoDeny,
    },
    Component {
        name: "tar",
        needed_by: &["deny"],
        why: "unpacks the advisory database",
        find: Find::Answers("tar", &["--version"]),
        install: Install::Apt(&["tar"]),
    },
    Component {
        name: "strace",
        needed_by: &["test"],
        why: "kills and fails system calls in fault tests",
        find: Find::Answers("strace", &["-V"]),
        install: Install::Apt(&["strace"]),
    },
    Component {
        name: "systemd-analyze",
        needed_by: &["test"],
        why: "checks the unit of the controller",
        find: Find::Answers("systemd-analyze", &["--version"]),
        install: Install::Apt(&["systemd"]),
    },
    Component {
        name: "systemd-nspawn",
        needed_by: &["test", "bench"],
        why: "runs a systemd of the tests' own",
        find: Find::Answers("systemd-nspawn", &["--version"]),
        install: Install::Apt(&["systemd-container"]),
    },
    Component {
        name: "debootstrap",
        needed_by: &["test", "bench"],
        why: "makes the small system that it runs",
        find: Find::Answers("debootstrap", &["--version"]),
        install: Install::Apt(&["debootstrap"]),
    },
    Component {
        name: "small system",
        needed_by: &["test", "bench"],
        why: "where units of the systemd target run",
        find: Find::SmallSystem,
        install: Install::SmallSystem,
    },
    Component {
        name: "python3",
        needed_by: &["test"],
        why: "holds a lock of the ledger, as any other program may",
        find: Find::Answers("python3", &["-c", "import sqlite3"]),
        install: Install::Apt(&["python3"]),
    },
    Component {
        name: "prometheus",
        needed_by: &["test"],
        why: "a source of metrics to read from",
        find: Find::Answers("prometheus", &["--version"]),
        install: Install::Apt(&["prometheus"]),
    },
    Component {
        name: "dockerd",
        needed_by: &["test", "bench"],
        why: "the engine that the compose target is tested on",
        find: Find::Answers("dockerd", &["--version"]),
        install: Install::Apt(&["docker.io", "iptables"]),
    },
    Component {
        name: "iptables",
        needed_by: &["test", "bench"],
        why: "publishes ports of containers",
        find: Find::Answers("iptables", &["--version"]),
        install: Install::Apt(&["iptables"]),
    },
    Component {
        name: "docker",
        needed_by: &["test", "bench"],
        why: "the command that everything goes through",
        find: Find::Answers("docker", &["--version"]),
        install: Install::Apt(&["docker.io"]),
    },
    Component {
        name: "compose",
        needed_by: &["test", "bench"],
        why: "Docker Compose v2, a plugin of docker",
        find: Find::Compose,
        install: Install::Compose,
    },
    Component {
        name: "registry",
        needed_by: &["test", "bench"],
        why: "holds images that tests pull",
        find: Find::Answers("docker-registry", &["--version"]),
        install: Install::Apt(&["docker-registry"]),
    },
    Component {
        name: "busybox",
        needed_by: &["test", "bench"],
        why: "what small images are made of",
        // Static, since nothing else is in those images.
        find: Find::Answers(
            "sh",
            &["-c", "test -x /bin/busybox && ! ldd /bin/busybox > /dev/null 2>&1"],
        ),
        install: Install::Apt(&["busybox-static"]),
    },
    Component {
        name: "ssh",
        needed_by: &["test", "bench"],
        why: "the user's own way to other hosts",
        find: Find::Answers("ssh", &["-V"]),
        install: Install::Apt(&["openssh-client"]),
    },
    Component {
        name: "sshd",
        needed_by: &["test", "bench"],
        why: "other hosts, on ports of this machine",
        // It tells its version only with a complaint.
        find: Find::Answers("test", &["-x", "/usr/sbin/sshd"]),
        install: Install::Apt(&["openssh-server"]),
    },
    Component {
        name: "faketime",
        needed_by: &["test"],
        why: "sets the clock of commands in tests of leases",
        find: Find::Answers("faketime", &["--version"]),
        install: Install::Apt(&["faketime"]),
    },
    Component {
        name: "PostgreSQL",
        needed_by: &["test", "bench"],
        why: "holds the shared ledger in tests and figures",
        find: Find::Answers("sh", &["-c", POSTGRES_IS_HERE]),
        install: Install::Apt(&["postgresql"]),
    },
    Component {
        name: "haproxy",
        needed_by: &["bench"],
        why: "the proxy to compare with",
        find: Find::Answers("haproxy", &["-v"]),
        install: Install::Apt(&["haproxy"]),
    },
    Component {
        name: "nginx",
        needed_by: &["bench"],
        why: "the proxy to compare with",
        find: Find::Answers("nginx", &["-v"]),
        install: Install::Apt(&["nginx-light"]),
    },
];

/// Finds, or installs after saying so, what the given areas need; fails with what is missing.
pub fn ensure(areas: &[&str], may_install: bool) -> Outcome<()> {
    let needed: Vec<&Component> =
        COMPONENTS.iter().filter(|c| c.needed_by.iter().any(|by| areas.contains(by))).collect();
    let mut missing = Vec::new();
    for component in needed {
        let there = component.is_there()?;
        let word = if there { "found" } else { "missing" };
        println!("  {word:<8} {:<11} {}", component.name, component.why);
        if !there {
            missing.push(component);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !may_install {
        return Err(list_of_missing(&missing)?);
    }
    install(&missing)?;
    let mut still_missing = Vec::new();
    for component in missing {
        if !component.is_there()? {
            still_missing.push(component);
        }
    }
    if still_missing.is_empty() { Ok(()) } else { Err(list_of_missing(&still_missing)?) }
}

/// The path of the right cargo-deny: our own, or one on `PATH` of the same version.
pub fn cargo_deny() -> Outcome<Option<PathBuf>> {
    let own = tools_dir()?.join("bin/cargo-deny");
    Ok([own, PathBuf::from("cargo-deny")].into_iter().find(|path| is_right_cargo_deny(path)))
}

fn is_right_cargo_deny(path: &Path) -> bool {
    let mut command = Command::new(path);
    command.arg("--version");
    run::output(command)
        .is_ok_and(|said| said.split_whitespace().last() == Some(CARGO_DENY_VERSION))
}

fn tools_dir() -> Outcome<PathBuf> {
    Ok(paths::cache_dir()?.join("tools"))
}

impl Component {
    fn is_there(&self) -> Outcome<bool> {
        Ok(match self.find {
            Find::Answers(program, args) => {
                let mut command = Command::new(program);
                command.args(args).env("PATH", with_system_folders());
                run::succeeds(command)
            }
            Find::CargoAnswers(args) => run::succeeds(run::cargo(args)?),
            Find::CargoDeny => cargo_deny()?.is_some(),
            Find::Compose => compose::is_there(&tools_dir()?),
            Find::SmallSystem => systemd::is_there(&tools_dir()?),
        })
    }

    fn how_to_install(&self) -> Outcome<String> {
        Ok(match self.install {
            Install::Apt(packages) => format!("apt-get install {}", packages.join(" ")),
            Install::Rustup(component) => format!("rustup component add {component}"),
            Install::CargoDeny => run::words(&install_cargo_deny()?),
            Install::Compose => compose::how_to_install(),
            Install::SmallSystem => systemd::how_to_install(),
        })
    }
}

/// Daemons live in `/usr/sbin`, which is not on everybody's `PATH`.
pub fn with_system_folders() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

fn list_of_missing(missing: &[&Component]) -> Outcome<String> {
    let mut list =
        "failed to find what is needed; nothing was skipped, nothing was run:".to_owned();
    for component in missing {
        let Component { name, needed_by, .. } = component;
        let by = needed_by.join(", ");
        write!(list, "\n  {name} (needed by {by}): {}", component.how_to_install()?)
            .map_err(|e| e.to_string())?;
    }
    Ok(list)
}

fn install(missing: &[&Component]) -> Outcome<()> {
    println!("About to install:");
    for component in missing {
        println!("  {:<11} {}", component.name, component.how_to_install()?);
    }
    let packages: Vec<&str> = missing
        .iter()
        .filter_map(|component| match component.install {
            Install::Apt(packages) => Some(packages),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    for component in missing {
        match component.install {
            Install::Apt(_) => {}
            Install::Rustup(name) => {
                let mut command = Command::new("rustup");
                command.args(["component", "add", name]);
                run::run(command)?;
            }
            Install::CargoDeny => run::run(install_cargo_deny()?)?,
            Install::Compose => compose::install(&tools_dir()?)?,
            Install::SmallSystem => systemd::install(&tools_dir()?)?,
        }
    }
    Ok(())
}

/// Its objects go into a folder that cargo removes: kept apart from ours, and only needed once.
fn install_cargo_deny() -> Outcome<Command> {
    let root = tools_dir()?;
    let root = root.to_str().ok_or("failed to use a cache folder whose name is not UTF-8")?;
    let args = ["install", "cargo-deny", "--quiet", "--locked", "--version", CARGO_DENY_VERSION];
    let mut command = run::cargo(&args)?;
    command.args(["--root", root]).env_remove("CARGO_TARGET_DIR");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Area;

    #[test]
    fn every_component_is_needed_by_an_area_that_exists() {
        for component in COMPONENTS {
            assert!(!component.needed_by.is_empty(), "{}", component.name);
            for by in component.needed_by {
                let known = *by == "bench" || Area::ALL.iter().any(|area| area.name() == *by);
                assert!(known, "{} is needed by `{by}`", component.name);
            }
        }
    }

    #[test]
    fn what_is_missing_is_listed_with_the_way_to_get_it() {
        let absent = Component {
            name: "unheard-of",
            needed_by: &["test"],
            why: "",
            find: Find::Answers("backout-unheard-of", &[]),
            install: Install::Apt(&["unheard-of", "libunheard"]),
        };
        assert!(!absent.is_there().unwrap());
        let list = list_of_missing(&[&absent]).unwrap();
        assert!(
            list.contains("unheard-of (needed by test): apt-get install unheard-of libunheard")
        );
    }
}
