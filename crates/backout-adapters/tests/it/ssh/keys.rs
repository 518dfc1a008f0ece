//! Whom to trust, and what is said where nobody can be.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backout_adapters::host::{SshHost, SshOptions};
use backout_core::ids::HostName;
use backout_core::ports::{AdapterError, ErrorClass, Host};
use backout_testkit::sshd::SshServers;

use super::world::{World, change, look, options};

async fn refused(world: &World) -> AdapterError {
    let host = SshHost::new(options(&world.servers, 0));
    let error = host.run(&change("touch ran", "1")).await.unwrap_err();
    assert!(!world.has("ran"));
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_is_not_known_is_refused_and_never_added() {
    let world = World::new();
    world.servers.forget(0);
    let error = refused(&world).await;
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("is not known here"), "{error}");
    let way = format!("ssh -F {} host0", world.servers.config().display());
    assert!(error.hint.as_ref().unwrap().contains(&way), "{error}");
    assert_eq!(std::fs::read_to_string(world.servers.known_hosts()).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_changed_is_refused_with_the_way_out() {
    let mut world = World::new();
    world.run(&look("true")).await;
    let known = std::fs::read_to_string(world.servers.known_hosts()).unwrap();
    world.servers.change_host_key(0);
    let error = refused(&world).await;
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("is another one"), "{error}");
    assert!(error.message.contains("known_hosts:1"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("ssh-keygen -f"), "{error}");
    assert_eq!(std::fs::read_to_string(world.servers.known_hosts()).unwrap(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_and_a_name_that_nobody_knows_are_permanent() {
    let world = World::new();
    std::fs::write(world.servers.config().with_file_name("authorized"), "").unwrap();
    let error = refused(&world).await;
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("Permission denied"), "{error}");
    let nobody = HostName::new("no-such-host.invalid").unwrap();
    let options = SshOptions {
        config: Some(world.servers.config()),
        connect_timeout: Duration::from_secs(20),
        ..SshOptions::new(nobody)
    };
    // Without a network a name server is away, which may pass.
    let error = SshHost::new(options).run(&look("true")).await.unwrap_err();
    assert_ne!(error.class, ErrorClass::Unknown, "{error}");
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

/// An agent of the user's, which ends with this value.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        Self { process: command.spawn().unwrap(), socket }
    }

    fn add(&self, words: &[&Path]) -> bool {
        let mut command = Command::new("ssh-add");
        command.arg("-q").args(words).env("SSH_AUTH_SOCK", &self.socket);
        command.stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_the_agent_has_opens_the_way() {
    let world = World::new();
    let folder = world.servers.config().parent().unwrap().to_owned();
    let agent = Agent::start(&folder);
    world.until("the agent listens", |_| agent.socket.exists()).await;
    let text = std::fs::read_to_string(world.servers.config()).unwrap();
    let mut own: Vec<String> = text
        .lines()
        .filter(|line| !["IdentityFile ", "IdentitiesOnly "].iter().any(|word| line.contains(word)))
        .map(|line| {
            line.replace("IdentityAgent none", &format!("IdentityAgent {}", agent.socket.display()))
        })
        .collect();
    own.push(String::new());
    std::fs::write(world.servers.config(), own.join("\n")).unwrap();
    let key = folder.join("login");
    let added = async {
        while !agent.add(&[&key]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), added).await.expect("the agent takes the key");
    for name in ["login", "login.pub"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    assert_eq!(world.run(&change("echo in", "1")).await.stdout, b"in\n");
    // Without it there is no other way.
    assert!(agent.add(&[Path::new("-D")]));
    let error = refused(&world).await;
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("Permission denied"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("ssh-add"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_transient_and_comes_back() {
    let mut world = World::on(SshServers::start(1));
    world.run(&look("true")).await;
    world.servers.stop(0);
    let error = refused(&world).await;
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    world.servers.start_again(0);
    // The connection that stood before is made again by itself.
    let output = world.run(&change("echo back", "2")).await;
    assert_eq!(output.stdout, b"back\n");
}
