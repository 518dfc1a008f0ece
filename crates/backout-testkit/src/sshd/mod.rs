//! Real sshd on ports of this machine, each with a home folder of its own, and an ssh configuration that knows them.
//! They may run inside of systems of the tests' own ([`Machine`]): then a login reaches their units.

#![allow(clippy::unwrap_used, reason = "tests shall panic")]

mod relay;

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use relay::Relay;

use crate::systemd::Machine;

const PATIENCE: Duration = Duration::from_secs(60);
/// Daemons live there, which is not on everybody's `PATH`.
const SSHD: &str = "/usr/sbin/sshd";

/// Servers that end with this value.
pub struct SshServers {
    folder: tempfile::TempDir,
    servers: Vec<Server>,
    /// Where they run, if not here.
    machines: Vec<Arc<Machine>>,
}

struct Server {
    daemon: Child,
    /// The server's own process, which the daemon may only have brought inside.
    pid: u32,
    port: u16,
    /// What the configuration names: the server itself, or a relay in front of it.
    reached_by: u16,
}

impl SshServers {
    /// So many servers, named `host0`, `host1` and so on.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::of(count, Vec::new())
    }

    /// One in each of these systems, which see the folder of temporary files as it is here.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn inside(machines: Vec<Arc<Machine>>) -> Self {
        Self::of(machines.len(), machines)
    }

    fn of(count: usize, machines: Vec<Arc<Machine>>) -> Self {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir().unwrap();
        make_privilege_folder();
        keygen(&folder.path().join("login"));
        let public = std::fs::read(folder.path().join("login.pub")).unwrap();
        std::fs::write(folder.path().join("authorized"), public).unwrap();
        let mut this = Self { folder, servers: Vec::new(), machines };
        for index in 0..count {
            std::fs::create_dir(this.home(index)).unwrap();
            keygen(&this.host_key(index));
            let server = this.launch(index, None);
            this.servers.push(server);
        }
        this.write_config();
        this.write_known_hosts(|_| true);
        this
    }

    /// The folder of a server's logins.
    #[must_use]
    pub fn home(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("home{index}"))
    }

    /// An ssh_config file that knows all of them.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The known hosts of that file.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }

    /// Where a server listens.
    #[must_use]
    pub fn port(&self, index: usize) -> u16 {
        self.servers[index].port
    }

    /// A relay in front of a server: from now on it is reached through that.
    pub fn relay(&mut self, index: usize) -> Relay {
        let relay = Relay::to(self.servers[index].port);
        self.servers[index].reached_by = relay.port();
        self.write_config();
        self.write_known_hosts(|_| true);
        relay
    }

    /// Nobody knows the host key of this server any more.
    pub fn forget(&self, index: usize) {
        self.write_known_hosts(|other| other != index);
    }

    /// A server comes back with another host key, which nobody was told of.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn change_host_key(&mut self, index: usize) {
        self.stop(index);
        let key = self.host_key(index);
        std::fs::remove_file(&key).unwrap();
        std::fs::remove_file(key.with_extension("pub")).unwrap();
        keygen(&key);
        let old = (self.servers[index].port, self.servers[index].reached_by);
        self.servers[index] = self.launch(index, Some(old.0));
        self.servers[index].reached_by = old.1;
    }

    /// Stops a server and ends its sessions.
    pub fn stop(&mut self, index: usize) {
        end(&mut self.servers[index]);
    }

    /// A stopped server comes back on its port.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self, index: usize) {
        let old = (self.servers[index].port, self.servers[index].reached_by);
        self.servers[index] = self.launch(index, Some(old.0));
        self.servers[index].reached_by = old.1;
    }

    /// Ends the sessions of a server, as a machine that dies does; it goes on listening.
    pub fn kill_sessions(&self, index: usize) {
        kill_children(self.servers[index].pid);
    }

    /// How many connections a server has.
    #[must_use]
    pub fn connections(&self, index: usize) -> usize {
        children(self.servers[index].pid).len()
    }

    fn host_key(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("host{index}_key"))
    }

    fn launch(&self, index: usize, port: Option<u16>) -> Server {
        let begun = Instant::now();
        loop {
            let port = port.unwrap_or_else(free_port);
            let mut daemon = self.spawn(index, port);
            let up = comes_up(&mut daemon, port);
            let pid = match self.machines.get(index) {
                Some(_) => children(daemon.id()).first().copied().unwrap_or(daemon.id()),
                None => daemon.id(),
            };
            let mut server = Server { daemon, pid, port, reached_by: port };
            if up {
                return server;
            }
            end(&mut server);
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "sshd does not come up: {log}");
        }
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("host{index}.log"))
    }

    fn spawn(&self, index: usize, port: u16) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log(index)).unwrap();
        let mut command = match self.machines.get(index) {
            Some(machine) => {
                let made = machine.inside("mkdir").args(["-p", "/run/sshd"]).status();
                assert!(made.unwrap().success(), "a folder of sshd's own");
                machine.inside(SSHD)
            }
            None => Command::new(SSHD),
        };
        command.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()]);
        command.arg("-h").arg(self.host_key(index));
        for setting in [
            "ListenAddress=127.0.0.1".to_owned(),
            "PidFile=none".to_owned(),
            format!("AuthorizedKeysFile={}", self.folder.path().join("authorized").display()),
            "StrictModes=no".to_owned(),
            "UsePAM=no".to_owned(),
            "UseDNS=no".to_owned(),
            "PrintMotd=no".to_owned(),
            "PasswordAuthentication=no".to_owned(),
            "KbdInteractiveAuthentication=no".to_owned(),
            "LogLevel=ERROR".to_owned(),
            // A home folder of its own, so that servers of one machine do not meet in it.
            format!("SetEnv=HOME={}", self.home(index).display()),
        ] {
            command.arg("-o").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        command.spawn().unwrap_or_else(|e| panic!("failed to start {SSHD}: {e}"))
    }

    fn write_config(&self) {
        let mut text = String::new();
        for (index, server) in self.servers.iter().enumerate() {
            let _ = writeln!(
                text,
                "Host host{index}\n  HostName 127.0.0.1\n  Port {}",
                server.reached_by
            );
        }
        let folder = self.folder.path().display();
        let _ = writeln!(
            text,
            "Host *\n  User {}\n  IdentityFile {folder}/login\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
             UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null",
            user()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn write_known_hosts(&self, known: impl Fn(usize) -> bool) {
        let mut text = String::new();
        for (index, server) in self.servers.iter().enumerate().filter(|(index, _)| known(*index)) {
            let key = std::fs::read_to_string(self.host_key(index).with_extension("pub")).unwrap();
            let key: Vec<&str> = key.split_whitespace().take(2).collect();
            let _ = writeln!(text, "[127.0.0.1]:{} {}", server.reached_by, key.join(" "));
        }
        std::fs::write(self.known_hosts(), text).unwrap();
    }
}

impl Drop for SshServers {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(end);
    }
}

fn end(server: &mut Server) {
    // First the daemon, so that no session begins while the others end.
    let sessions = children(server.pid);
    if server.pid != server.daemon.id() {
        signal(server.pid);
    }
    let _ = server.daemon.kill();
    let _ = server.daemon.wait();
    sessions.into_iter().for_each(kill);
}

fn kill_children(of: u32) {
    children(of).into_iter().for_each(kill);
}

/// A session and what it has started to serve it; what it was asked to leave running stays.
fn kill(session: u32) {
    for child in children(session) {
        if name_of(child).as_deref() == Some("sshd") {
            signal(child);
        }
    }
    signal(session);
}

fn signal(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn stat(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
    (fields.first()? != &"Z").then_some(())?;
    Some((text[open + 1..close].to_owned(), fields.get(1)?.parse().ok()?))
}

fn name_of(pid: u32) -> Option<String> {
    stat(pid).map(|(name, _)| name)
}

fn children(of: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of))
        .collect()
}

fn keygen(path: &Path) {
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f"];
    let made = Command::new("ssh-keygen").args(args).arg(path).stdin(Stdio::null()).status();
    assert!(made.unwrap().success(), "ssh-keygen makes a key");
}

/// As root sshd wants a folder that Debian makes when the service starts.
fn make_privilege_folder() {
    let folder = Path::new("/run/sshd");
    if !folder.exists() {
        let _ = std::fs::create_dir(folder);
    }
}

fn user() -> String {
    let said = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether our own daemon answers there, and not another program that took the port first.
fn comes_up(daemon: &mut Child, port: u16) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if daemon.try_wait().unwrap().is_some() {
            return false;
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let mut banner = [0; 4];
            if stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-" {
                return daemon.try_wait().unwrap().is_none();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
