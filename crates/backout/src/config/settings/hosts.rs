//! Where it runs: this machine, and others by ssh.

use std::path::PathBuf;

use backout_core::ids::HostName;
use backout_core::model::{HostsPolicy, Policy, RouterPolicy, TargetKind};

use super::Findings;
use crate::config::node::Position;
use crate::config::raw::{At, Raw, RawSsh, RawTarget};
use crate::config::scalar::Duration;

/// More than this at once is no protection any more.
const MAX_AT_ONCE: u32 = 500;
/// A watcher that fires before anybody could have confirmed would take back every change.
const SHORTEST_CONFIRM_MS: u64 = 1_000;
const LONGEST_CONNECT_MS: u64 = 600_000;

/// How the other machines are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    /// So many hosts at once at most.
    pub at_once: u32,
    /// Each begins up to this much later, milliseconds.
    pub jitter_ms: u64,
    /// Until a host counts as unreachable, milliseconds.
    pub connect_timeout_ms: u64,
    /// An ssh_config file in place of the user's own, relative to the folder of `backout.yaml`.
    pub config: Option<PathBuf>,
    /// The folder on the hosts; empty: the home folder of the login.
    pub folder: String,
    /// A host takes a change back by itself unless it is confirmed within this time, milliseconds.
    pub confirm_ms: Option<u64>,
    /// Where Docker listens on the hosts: absolute, or below the home folder of the login; none: where it does by default.
    pub docker_socket: Option<String>,
}

/// Names by which this machine may be meant.
fn is_this_machine(host: &str) -> bool {
    let uname = rustix::system::uname();
    matches!(host, "local" | "localhost" | "127.0.0.1" | "::1")
        || uname.nodename().to_str() == Ok(host)
}

/// The hosts in the order of the file, at least one.
pub(super) fn hosts(raw: &Raw, found: &mut Findings) -> Vec<HostName> {
    let Some(written) = &raw.hosts else { return vec![HostName::local()] };
    let mut hosts: Vec<HostName> = Vec::new();
    for name in written {
        let host = if is_this_machine(&name.value) {
            Some(HostName::local())
        } else {
            found.name(name.at, HostName::new(name.value.as_str()))
        };
        match host {
            Some(host) if hosts.contains(&host) => found.refuse_at(
                name.at,
                format!("host `{}` stands here twice", name.value),
                "remove one of them",
            ),
            Some(host) => hosts.push(host),
            None => {}
        }
    }
    if hosts.is_empty() {
        hosts.push(HostName::local());
    }
    hosts
}

/// How plans go over them.
pub(super) fn policy(hosts: &[HostName], ssh: &SshSettings) -> HostsPolicy {
    HostsPolicy {
        names: hosts.to_vec(),
        at_once: usize::try_from(ssh.at_once).unwrap_or(1),
        jitter_ms: ssh.jitter_ms,
        confirm_ms: ssh.confirm_ms,
    }
}

pub(super) fn ssh(raw: &Raw, hosts: &[HostName], found: &mut Findings) -> SshSettings {
    let none = RawSsh::default();
    let written = raw.ssh.as_ref();
    let ssh = written.map_or(&none, |written| &written.value);
    if let Some(config) = &ssh.config
        && (config.value.trim().is_empty() || config.value.contains(char::is_control))
    {
        found.refuse_at(
            config.at,
            "`config` is not a path",
            "name an ssh_config file, or leave it out: then the user's own is used",
        );
    }
    if let Some(confirm) = &ssh.confirm
        && hosts.iter().all(HostName::is_local)
    {
        found.refuse_at(
            confirm.at,
            "`confirm` protects other hosts, and `hosts` names none",
            "remove it: this machine can't lose the link to itself",
        );
    }
    SshSettings {
        at_once: found.within("at_once", ssh.at_once.as_ref(), 10, (1, MAX_AT_ONCE)),
        jitter_ms: ssh.jitter.map_or(200, |jitter| jitter.0),
        connect_timeout_ms: connect_timeout_ms(ssh.connect_timeout.as_ref(), found),
        config: ssh.config.as_ref().map(|path| PathBuf::from(&path.value)),
        folder: ssh.folder.as_ref().map(|folder| remote_folder(folder, found)).unwrap_or_default(),
        confirm_ms: ssh.confirm.as_ref().map(|confirm| confirm_ms(confirm, found)),
        docker_socket: ssh.docker_socket.as_ref().map(|socket| docker_socket(socket, found)),
    }
}

/// ssh counts whole seconds.
fn connect_timeout_ms(written: Option<&At<Duration>>, found: &mut Findings) -> u64 {
    let Some(At { at, value: Duration(ms) }) = written else { return 10_000 };
    if !(1_000..=LONGEST_CONNECT_MS).contains(ms) {
        found.refuse_at(*at, "`connect_timeout` must be from 1s to 10m", "10s is the default");
    }
    *ms
}

fn confirm_ms(written: &At<Duration>, found: &mut Findings) -> u64 {
    if written.value.0 < SHORTEST_CONFIRM_MS {
        found.refuse_at(
            written.at,
            "`confirm` must be at least 1s",
            "write a time in which a slow link still gets through, such as `60s`",
        );
    }
    written.value.0
}

fn docker_socket(written: &At<String>, found: &mut Findings) -> String {
    let socket = written.value.strip_prefix("unix://").unwrap_or(&written.value);
    let socket = socket.strip_prefix("~/").unwrap_or(socket);
    if socket.is_empty()
        || socket.starts_with('~')
        || socket.contains("://")
        || socket.contains(char::is_control)
    {
        found.refuse_at(
            written.at,
            format!("the socket `{}` can't be used", written.value),
            "write the path of a Unix socket on the hosts, such as `/run/user/1000/docker.sock`",
        );
    }
    socket.to_owned()
}

fn remote_folder(written: &At<String>, found: &mut Findings) -> String {
    let folder = written.value.strip_prefix("~/").unwrap_or(&written.value);
    let folder = if folder == "~" { "" } else { folder.trim_end_matches('/') };
    if folder.starts_with('~') || folder.contains(char::is_control) {
        found.refuse_at(
            written.at,
            format!("the folder `{}` can't be used", written.value),
            "write an absolute path such as `/srv/shop`, or one below the home folder such as `shop`",
        );
    }
    folder.to_owned()
}

/// What has another meaning, or none, with containers.
fn check_compose(raw: &Raw, target: TargetKind, found: &mut Findings) {
    let Some(ssh) = raw.ssh.as_ref().map(|ssh| &ssh.value) else { return };
    match (target, &ssh.confirm, &ssh.docker_socket) {
        (TargetKind::Compose, Some(confirm), _) => found.refuse_at(
            confirm.at,
            "`confirm` needs a way back that a host knows alone, and the compose file is on this machine",
            "remove it: a host that is cut off keeps what runs until it is reached again",
        ),
        (TargetKind::Compose, None, _) | (_, _, None) => {}
        (_, _, Some(socket)) => found.refuse_at(
            socket.at,
            format!("`docker_socket` is for target `compose`, not for `{}`", target.as_str()),
            "remove it",
        ),
    }
}

/// Where a manager is said to be by a key that means something of this machine.
fn check_systemd(raw: &Raw, found: &mut Findings) {
    let Some(RawTarget::Systemd(target)) = raw.target.as_ref().map(|target| &target.value) else {
        return;
    };
    let elsewhere = |bus: &&At<String>| !matches!(bus.value.as_str(), "system" | "user");
    for (key, written) in
        [("bus", target.bus.as_ref().filter(elsewhere)), ("root", target.root.as_ref())]
    {
        let Some(written) = written else { continue };
        found.refuse_at(
            written.at,
            format!(
                "`{key}: {}` is a place of this machine, and `hosts` names others",
                written.value
            ),
            "on other hosts write `bus: system` or `bus: user`, and no `root`",
        );
    }
}

/// What works on this machine only.
pub(super) fn check_remote(raw: &Raw, hosts: &[HostName], policy: &Policy, found: &mut Findings) {
    let Some(remote) = hosts.iter().find(|host| !host.is_local()) else { return };
    let at = |at: Option<Position>| at.unwrap_or_default();
    if !matches!(
        policy.target,
        TargetKind::Script | TargetKind::Git | TargetKind::Compose | TargetKind::Systemd
    ) {
        found.refuse_at(
            at(raw.target.as_ref().map(|target| target.at)),
            format!(
                "target `{}` runs on this machine only, and `hosts` names `{remote}`",
                policy.target.as_str()
            ),
            "on other hosts use target `script`, `git`, `compose` or `systemd`; or run backout there, with `hosts` left out",
        );
    }
    if let Some(RawTarget::Git(git)) = raw.target.as_ref().map(|target| &target.value)
        && let Some(current) = &git.current
    {
        found.refuse_at(
            current.at,
            format!("a link to worktrees is switched on this machine only, and `hosts` names `{remote}`"),
            "take `current` out, so that releases take turns in the tree there, or run backout there",
        );
    }
    check_compose(raw, policy.target, found);
    check_systemd(raw, found);
    let hint = "let the load balancer in front of the hosts decide by its own health checks, and leave `router` out";
    let refused = match policy.router {
        RouterPolicy::Builtin { .. } => Some("the built-in router proxies to this machine only"),
        RouterPolicy::Script => Some(
            "`router: script` calls a program of this machine, and the target's is on the hosts",
        ),
        _ => None,
    };
    if let Some(why) = refused {
        let message = format!("{why}, and `hosts` names `{remote}`");
        found.refuse_at(at(raw.router.as_ref().map(|router| router.at)), message, hint);
    }
    if raw.config.as_ref().is_some_and(|config| !config.is_empty()) {
        found.warnings.push(format!(
            "the files under `config` are those of this machine: they are versioned and restored here, and not on `{remote}`"
        ));
    }
}
