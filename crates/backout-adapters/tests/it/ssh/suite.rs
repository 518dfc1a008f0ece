//! The suite of the port, and texts that a remote shell might take for something else.

use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::{LocalHost, LocalOptions};
use backout_core::ports::{Host as _, HostCommand, Secret};
use backout_testkit::host_suite::{ShellBench, check_host, sh};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_host_obeys_the_suite() {
    let world = World::new();
    check_host(&ShellBench(world.host.clone())).await;
    assert!(!world.has("oh-no"), "a shell has read what was none of its business");
    world.host.close().await;
    world.until_nobody_is_connected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_obeys_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let host = LocalHost::new(LocalOptions {
        folder: folder.path().to_owned(),
        state_dir: folder.path().join("state"),
        env: std::env::vars_os().collect(),
    });
    check_host(&ShellBench(Arc::new(host))).await;
}

/// Any text without a zero byte comes through as a word, as a variable and as a path.
#[tokio::test(flavor = "multi_thread")]
async fn any_text_comes_through() {
    let world = World::new();
    let mut runner = TestRunner::new_with_rng(
        Config { failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let odd = prop_oneof![
        3 => proptest::char::any(),
        2 => proptest::sample::select("'\"\\$`!*?[]{}()<>|&;#~%^ \t\n\r-=".chars().collect::<Vec<_>>()),
        1 => proptest::char::range('\u{1}', '\u{a0}'),
    ];
    let texts = proptest::collection::vec(
        proptest::collection::vec(odd, 0..40)
            .prop_map(|chars| chars.into_iter().filter(|c| *c != '\0').collect::<String>()),
        1..40,
    );
    for _ in 0..12 {
        let words = texts.new_tree(&mut runner).unwrap().current();
        let mut command = HostCommand::look(
            sh(r#"printf '%s\0' "$VALUE" "$@""#)
                .into_iter()
                .chain(["sh".to_owned()])
                .chain(words.clone()),
            Duration::from_secs(60),
        );
        command.env.insert("VALUE".to_owned(), Secret::new(words[0].clone()));
        let said = String::from_utf8(world.run(&command).await.stdout).unwrap();
        let said: Vec<&str> = said.split_terminator('\0').collect();
        assert_eq!(said[0], words[0]);
        assert_eq!(&said[1..], words.as_slice());
        let path: String = words[0].chars().filter(|c| *c != '/').take(40).collect();
        if !path.is_empty() && path != "." && path != ".." {
            world.host.write_atomic(&path, said[0].as_bytes(), 0o600).await.unwrap();
            assert_eq!(world.read(&path), words[0], "`{path:?}`");
        }
    }
    world.host.close().await;
}
