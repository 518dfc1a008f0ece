//! What is left behind, what is seen by others, and many at once.

use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::{SshHost, SshOptions, procfs};
use backout_core::ports::{ErrorClass, Host, Secret};
use backout_testkit::sshd::SshServers;

use super::world::{World, change, look, options};

fn lines_with(text: &str) -> Vec<String> {
    procfs::all()
        .into_iter()
        .filter_map(|process| std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_a_host_is_let_go() {
    let world = World::new();
    let config = world.servers.config().display().to_string();
    for orderly in [true, false] {
        let host = SshHost::new(options(&world.servers, 0));
        host.run(&look("true")).await.unwrap();
        let ours = lines_with(&config);
        assert_eq!(ours.len(), 1, "one connection a host: {ours:?}");
        let socket = ours[0].split(' ').skip_while(|word| *word != "-S").nth(1).unwrap().to_owned();
        assert!(std::path::Path::new(&socket).exists());
        if orderly {
            host.close().await;
            assert_eq!(lines_with(&config), Vec::<String>::new());
        }
        drop(host);
        world.until("ssh ends", |_| lines_with(&config).is_empty()).await;
        let folder = std::path::Path::new(&socket).parent().unwrap().to_owned();
        world.until("its folder goes", |_| !folder.exists()).await;
        world.until_nobody_is_connected().await;
    }
    let mut left: Vec<_> = std::fs::read_dir(world.servers.home(0)).unwrap().flatten().collect();
    left.retain(|entry| entry.file_name() != "app");
    assert_eq!(left.len(), 1, "only the folder of state: {left:?}");
    assert_eq!(left[0].file_name(), ".local");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_in_no_argument_list_and_no_file() {
    let world = World::new();
    let mut command =
        change("echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done; echo \"$TOKEN\"", "1");
    let value = "hunter2-'quoted'-secret";
    command.env.insert("TOKEN".to_owned(), Secret::new(value.to_owned()));
    let host = world.host.clone();
    let call = tokio::spawn(async move { host.run(&command).await.unwrap() });
    world.until("it has begun", |world| world.has("pid")).await;
    assert_eq!(lines_with("hunter2"), Vec::<String>::new());
    let state = world.servers.home(0).join(".local");
    let found = std::process::Command::new("grep").arg("-rl").arg("hunter2").arg(state).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    world.write("go", "");
    assert_eq!(call.await.unwrap().stdout, format!("{value}\n").into_bytes());
}

/// More commands than the server allows sessions wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_share_one_connection() {
    let world = World::new();
    let calls: Vec<_> = (0..30)
        .map(|number| {
            let host = world.host.clone();
            tokio::spawn(async move { host.run(&look(&format!("echo {number}"))).await.unwrap() })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().stdout, format!("{number}\n").into_bytes());
    }
    assert_eq!(world.servers.connections(0), 1);
}

/// Fifty at once; those that are down fail for themselves.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_hosts_at_once_each_have_a_result_of_their_own() {
    let mut servers = SshServers::start(50);
    let down = [7, 23];
    for index in down {
        servers.stop(index);
    }
    let host = |index| {
        let options = SshOptions { folder: String::new(), ..options(&servers, index) };
        Arc::new(SshHost::new(options))
    };
    let hosts: Vec<_> = (0..50).map(host).collect();
    let calls: Vec<_> = hosts
        .iter()
        .cloned()
        .map(|host| {
            tokio::spawn(async move {
                host.write_atomic("it", host.name().as_str().as_bytes(), 0o600).await?;
                host.run(&look("cat it")).await
            })
        })
        .collect();
    for (index, call) in calls.into_iter().enumerate() {
        let result = tokio::time::timeout(Duration::from_secs(120), call).await.unwrap().unwrap();
        if down.contains(&index) {
            assert_eq!(result.unwrap_err().class, ErrorClass::Transient);
        } else {
            assert_eq!(result.unwrap().stdout, format!("host{index}").into_bytes());
        }
    }
    for host in &hosts {
        host.close().await;
    }
}
