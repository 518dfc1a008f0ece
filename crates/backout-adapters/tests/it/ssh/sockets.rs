//! Unix sockets of a host that are reached from here.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ports::{ErrorClass, Host};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::world::{World, look};

/// Says its name and then what it hears.
fn echo(path: &Path, name: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

async fn ask(path: &Path, text: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

async fn forward(world: &World, name: &str) -> PathBuf {
    let remote = world.folder().join(name).display().to_string();
    world.host.forward_socket(&remote).await.unwrap_or_else(|e| panic!("{e}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_the_host_is_reached_over_the_one_connection() {
    let world = World::new();
    echo(&world.folder().join("one"), "one:");
    echo(&world.folder().join("two"), "two:");
    let (one, two) = (forward(&world, "one").await, forward(&world, "two").await);
    let big = "x".repeat(1 << 20);
    assert_eq!(ask(&one, &big).await.unwrap(), format!("one:{big}"));
    assert_eq!(ask(&two, "b").await.unwrap(), "two:b");
    assert_eq!(forward(&world, "one").await, one, "the same again");
    assert_eq!(world.servers.connections(0), 1);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert!(one.metadata().unwrap().file_type().is_socket());
    assert_eq!((mode(&one), mode(one.parent().unwrap())), (0o600, 0o700));
    assert!(one.as_os_str().len() < 108);
    // Commands have the connection beside it.
    world.run(&look("true")).await;
    world.host.close().await;
    assert!(!one.exists(), "gone with the connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_told_by_another_path() {
    let mut world = World::new();
    echo(&world.folder().join("one"), "one:");
    let first = forward(&world, "one").await;
    let mut open = UnixStream::connect(&first).await.unwrap();
    open.read_exact(&mut [0; 4]).await.unwrap();
    world.servers.kill_sessions(0);
    let left = open.read(&mut [0; 4]).await.unwrap_or_default();
    assert_eq!(left, 0, "what was open ends with the connection");
    world.run(&look("true")).await;
    let second = forward(&world, "one").await;
    assert_ne!(first, second);
    assert_eq!(ask(&second, "a").await.unwrap(), "one:a");
    world.servers.stop(0);
    let remote = world.folder().join("one").display().to_string();
    let refused = async {
        loop {
            match world.host.forward_socket(&remote).await {
                Ok(path) => assert_eq!(path, second, "no other connection comes about"),
                Err(error) => break error,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(error.message.contains("failed to reach host0"), "{error}");
    world.servers.start_again(0);
    assert_eq!(ask(&forward(&world, "one").await, "b").await.unwrap(), "one:b");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_there_is_an_end_and_not_a_wait() {
    let world = World::new();
    let path = forward(&world, "nobody").await;
    let said = ask(&path, "").await;
    assert!(said.as_ref().map_or(true, String::is_empty), "{said:?}");
    // Somebody who comes later is reached by the same path.
    echo(&world.folder().join("nobody"), "late:");
    assert_eq!(ask(&path, "a").await.unwrap(), "late:a");
    for wrong in ["docker.sock", "", "/run/a\nb"] {
        let error = world.host.forward_socket(wrong).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    }
}
