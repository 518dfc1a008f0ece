//! Whom to trust, and what is said where nobody can be.

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
