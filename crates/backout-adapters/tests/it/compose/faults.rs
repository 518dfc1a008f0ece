//! What goes wrong in the middle.

use std::sync::Arc;

use backout_core::ids::Slot;
use backout_core::ports::{ErrorClass, Running, Target};
use backout_testkit::docker::Engine;

use super::bench::{Bench, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_files_are_told_with_their_place() {
    let bench = Bench::with_images(false);
    for (file, words) in [
        ("services:\n  web:\n    image: x\n   oops: 1\n", "yaml: line"),
        ("services:\n  web:\n    imag: x\n", "services.web"),
        ("services:\n  web:\n    image: \"x:${NOPE}\"\n", "the variable NOPE has no value"),
        ("services:\n  web:\n    image: x\n    env_file: [gone.env]\n", "gone.env not found"),
        ("services:\n  web:\n    image: \"x:${MUST:?give it}\"\n", "give it"),
        ("services: {}\n", "no service"),
    ] {
        bench.write("compose.yaml", file);
        let error = bench.try_release("v1").await.unwrap_err();
        let text = error.to_string();
        assert!(
            error.class == ErrorClass::Permanent
                && text.contains(words)
                && text.contains("compose.yaml"),
            "{text}"
        );
    }
    std::fs::remove_file(bench.folder().join("compose.yaml")).unwrap();
    let error = bench.try_release("v1").await.unwrap_err().to_string();
    assert!(error.contains("compose.yaml") && error.contains("no such file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_by_name_and_the_old_release_comes_back() {
    let bench = Bench::with_images(false);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    bench.write(".env", &format!("PORT={port}\n"));
    let v1 = bench.release("v1").await;
    let obstacles = bench.target().obstacles(&bench.unit("web", Slot::A), &v1).await.unwrap();
    assert!(obstacles.len() == 1 && obstacles[0].contains(&port), "{obstacles:?}");
    let error = bench.start(Slot::A, &v1, 1).await.unwrap_err();
    let text = error.to_string();
    assert!(
        error.class == ErrorClass::Permanent
            && text.contains(&port)
            && text.contains("has this port"),
        "{text}"
    );
    assert_ne!(bench.observe(Slot::A, &v1).await.running, Running::Yes);
    drop(listener);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &v1).await, "v1");
    bench.stop(Slot::A, &v1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_started_again_is_waited_for() {
    let bench = Bench::on(Arc::new(Engine::own()), false);
    bench.engine.web(&bench.image("v1"), "v1");
    let release = bench.release("v1").await;
    bench.engine.stop();
    let error =
        bench.target().observe(&bench.unit("web", Slot::A), Some(&release)).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Transient
            && error.to_string().contains("start the Docker daemon"),
        "{error}"
    );
    let starting = {
        let (release, bench) = (Arc::clone(&release), &bench);
        async move { bench.start(Slot::A, &release, 1).await }
    };
    let engine = Arc::clone(&bench.engine);
    let again = std::thread::spawn(move || engine.start());
    starting.await.unwrap();
    again.join().unwrap();
    assert_eq!(bench.answer(Slot::A, &release).await, "v1");
    // What ran is gone with it where no restart policy says otherwise, and that is seen.
    bench.engine.stop();
    bench.engine.start();
    let seen = bench.until(Slot::A, &release, |seen| seen.running == Running::No).await;
    assert!(seen.gave_up, "{seen:?}");
    bench.start(Slot::A, &release, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &release).await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cut_off_anywhere_can_come_again() {
    let bench = Bench::with_images(false);
    bench.write("compose.yaml", &format!("{WEB}  db:\n    image: ${{IMAGE}}:v1\n    init: true\n"));
    let release = bench.release("v1").await;
    for cut_after_ms in [40, 150, 300, 600] {
        let cut = std::time::Duration::from_millis(cut_after_ms);
        // Dropped, it ends what it runs.
        let _ = tokio::time::timeout(cut, bench.start(Slot::A, &release, 1)).await;
        let seen = bench.observe(Slot::A, &release).await;
        if seen.running == Running::Yes {
            assert_eq!(seen.release.as_ref(), Some(&release.id));
        }
        bench.start(Slot::A, &release, 1).await.unwrap();
        assert_eq!(bench.answer(Slot::A, &release).await, "v1");
        let project = bench.project();
        assert_eq!(
            bench.containers(&project),
            [format!("{project}-db-1"), format!("{project}-web-1")]
        );
        bench.stop(Slot::A, &release).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ignores_the_signal_ends_by_its_own_grace_period() {
    let bench = Bench::new(false);
    // A shell as first process ignores SIGTERM.
    bench.engine.image(
        &bench.image("v1"),
        &[],
        &["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
    );
    bench.write("compose.yaml", &WEB.replace("init: true", "init: false").replace("2s", "1s"));
    let release = bench.release("v1").await;
    bench.start(Slot::A, &release, 1).await.unwrap();
    let began = std::time::Instant::now();
    bench.stop(Slot::A, &release).await;
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "it was given its second");
    assert_eq!(bench.observe(Slot::A, &release).await.running, Running::No);
}

/// A folder that nobody can write to, until it is dropped.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    fn new(folder: std::path::PathBuf) -> Self {
        let mount = |args: &[&str]| {
            let mut command = std::process::Command::new("mount");
            assert!(command.args(args).arg(&folder).status().unwrap().success(), "{args:?}");
        };
        mount(&["--bind", &folder.display().to_string()]);
        mount(&["-o", "remount,ro,bind"]);
        Self(folder)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_can_not_be_written_changes_nothing() {
    let bench = Bench::with_images(true);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let before = bench.containers(&format!("{}-b", bench.project()));
    {
        let _read_only = ReadOnly::new(bench.state_dir());
        let error = bench.start(Slot::B, &v2, 2).await.unwrap_err();
        let text = error.to_string();
        assert!(
            error.class == ErrorClass::Transient && text.contains("ead-only file system"),
            "{text}"
        );
        assert_eq!(bench.answer(Slot::A, &v1).await, "v1");
        assert_eq!(bench.containers(&format!("{}-b", bench.project())), before);
    }
    bench.start(Slot::B, &v2, 2).await.unwrap();
    assert_eq!(bench.answer(Slot::B, &v2).await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_other_side_holds_is_never_given_twice() {
    let bench = Bench::with_images(true);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.start(Slot::B, &v2, 2).await.unwrap();
    let (a, b) =
        (bench.observe(Slot::A, &v1).await.address, bench.observe(Slot::B, &v2).await.address);
    assert!(a.is_some() && b.is_some() && a != b, "{a:?} {b:?}");
    // A container that is started again by the engine is found where it was.
    let container = format!("{}-b-web-1", bench.project());
    bench.engine.expect(&["restart", "-t", "1", &container]);
    assert_eq!(bench.answer(Slot::B, &v2).await, "v2");
    assert_eq!(bench.observe(Slot::B, &v2).await.address, b);
}
