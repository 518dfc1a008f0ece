//! Supervised programs that misbehave, and supervisors that die.

use std::time::Duration;

use backout_adapters::host::procfs::ProcessId;
use backout_core::ids::Slot;
use backout_core::model::{PortSpec, ProcessSpec, RestartPolicy};
use backout_core::ports::{ErrorClass, Running, Target};
use backout_testkit::fixtures::{process, unit};
use rustix::process::Signal;

use crate::world::{
    World, is_running, no_restarts, observe, observed, pid_in, process_release, sh, sleeper, start,
    stop, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_exits_at_once_is_given_up_after_its_restarts() {
    let world = World::new();
    let spec = ProcessSpec {
        restart: RestartPolicy { max: 2, within_ms: 60_000 },
        ..sh("echo ran >> runs; echo why >&2; exit 3")
    };
    let release = process_release("v1", spec);
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.expect("it was started, whatever it does then");
    let seen = observed(&target, &unit(Slot::A), "given up", |o| o.gave_up).await;
    assert_eq!((seen.running, seen.restarts), (Running::No, 2));
    assert_eq!(seen.last_exit.unwrap().code, Some(3));
    assert_eq!((seen.deployment, seen.release.as_ref()), (Some(1), Some(&release.id)));
    assert!(seen.tail.as_ref().unwrap().contains("why"), "{seen:?}");
    assert_eq!(world.read("runs").lines().count(), 3);
    let seen = stop(&target, Slot::A, &release, 100).await.unwrap();
    assert!(seen.warnings.is_empty());
    start(&target, Slot::A, &release, 2).await.expect("another try begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_dies_is_started_again_with_its_secrets_and_port() {
    let world = World::new();
    let mut spec = sh("echo $$ > pid; echo \"$API_KEY $PORT\" >> seen; exec sleep 600");
    spec.port = Some(PortSpec::Auto);
    spec.env.insert("API_KEY".to_owned(), backout_core::model::EnvValue::Secret);
    let release = process_release("v1", spec);
    let target = world.target();
    let cx = backout_testkit::fixtures::with_secrets(
        backout_testkit::fixtures::step_cx("s"),
        &[("API_KEY", "key")],
    );
    crate::world::start_with(&target, Slot::A, &release, 1, &cx).await.unwrap();
    let first = pid_in(&world.folder().join("pid")).await;
    assert!(first.signal(Signal::KILL));
    let seen =
        observed(&target, &unit(Slot::A), "restarted", |o| is_running(o) && o.restarts == 1).await;
    assert_eq!(seen.last_exit.unwrap().signal, Some(9));
    assert!(!seen.gave_up && seen.pid != Some(first.pid));
    world.until("run twice", |w| w.read("seen").lines().count() == 2).await;
    let said = world.read("seen");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert!(lines[0].starts_with("key "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let world = World::new();
    let release =
        process_release("v1", sh("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done"));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let pid = pid_in(&world.folder().join("pid")).await;
    let began = std::time::Instant::now();
    let receipt = stop(&target, Slot::A, &release, 500).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(500), "it had its grace");
    assert!(receipt.warnings.is_empty(), "{receipt:?}");
    assert!(!pid.is_alive());
    assert_eq!(observe(&target, Slot::A).await.last_exit.unwrap().signal, Some(9));
}

/// Forks twice, out of its group and session, and ends.
const DAEMON: &str =
    "setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 0.05; done' & ";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_goes_into_the_background_is_ended_whole() {
    let world = World::new();
    // It leaves only once the daemon has written its id.
    let text = format!("{DAEMON} until [ -s daemon ]; do sleep 0.01; done; exit 0");
    let release = process_release("v1", no_restarts(sh(&text)));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let daemon = pid_in(&world.folder().join("daemon")).await;
    let seen = observed(&target, &unit(Slot::A), "given up", |o| o.gave_up).await;
    assert!(!daemon.is_alive(), "what it left was ended");
    assert!(seen.tail.unwrap().contains("must stay in the foreground"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_left_the_group_too() {
    let world = World::new();
    let release = process_release("v1", sh(&format!("{DAEMON} exec sleep 600")));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let daemon = pid_in(&world.folder().join("daemon")).await;
    stop(&target, Slot::A, &release, 300).await.unwrap();
    assert!(!daemon.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_leaves_an_orphan_that_the_next_call_ends() {
    let world = World::new();
    let text = format!("{DAEMON} echo $$ > pid; exec sleep 600");
    let release = process_release("v1", sh(&text));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let (program, daemon) =
        (pid_in(&world.folder().join("pid")).await, pid_in(&world.folder().join("daemon")).await);
    kill_supervisor(&world);
    let seen = observed(&target, &unit(Slot::A), "orphaned", |o| o.orphaned).await;
    assert_eq!((seen.running, seen.pid), (Running::Yes, Some(program.pid)), "it does run");
    let receipt = start(&target, Slot::A, &release, 1).await.expect("the same again");
    assert_eq!(receipt.warnings.len(), 1, "{receipt:?}");
    assert!(!program.is_alive() && !daemon.is_alive());
    let seen = observe(&target, Slot::A).await;
    assert!(is_running(&seen) && seen.pid != Some(program.pid));

    std::fs::remove_file(world.folder().join("daemon")).unwrap();
    kill_supervisor(&world);
    let program = ProcessId::of(seen.pid.unwrap()).unwrap();
    let receipt = stop(&target, Slot::A, &release, 300).await.unwrap();
    assert_eq!(receipt.warnings.len(), 1, "{receipt:?}");
    assert!(!program.is_alive());
    assert_eq!(observe(&target, Slot::A).await.running, Running::No);
}

fn kill_supervisor(world: &World) {
    let status = std::fs::read(world.slot(Slot::A).join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let supervisor: ProcessId = serde_json::from_value(status["supervisor"].clone()).unwrap();
    assert!(supervisor.signal(Signal::KILL));
    let end = std::time::Instant::now() + crate::world::PATIENCE;
    while supervisor.is_alive() {
        assert!(std::time::Instant::now() < end, "it does not die");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_supervisor_that_does_not_obey_is_killed() {
    let world = World::new();
    let release = process_release("v1", sh("echo $$ > pid; exec sleep 600"));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let program = pid_in(&world.folder().join("pid")).await;
    let status = std::fs::read(world.slot(Slot::A).join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let supervisor: ProcessId = serde_json::from_value(status["supervisor"].clone()).unwrap();
    assert!(supervisor.signal(Signal::STOP), "hung");
    let receipt = stop(&target, Slot::A, &release, 100).await.unwrap();
    assert!(receipt.warnings[0].contains("did not obey"), "{receipt:?}");
    assert!(!program.is_alive() && !supervisor.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_started_says_why() {
    let world = World::new();
    let target = world.target();
    world.write("plain.sh", "#!/bin/sh\n");
    let cases = [
        (process(["./none"]), "no such program"),
        (process(["no-such-name-anywhere"]), "no such program"),
        (process(["./plain.sh"]), "not executable"),
        (process::<String>([]), "command is empty"),
        (ProcessSpec { workdir: "gone".to_owned(), ..sleeper() }, "working folder"),
        (process(["sleep", "{port}"]), "{port}"),
        (process(["{artifact}"]), "{artifact}"),
    ];
    for (spec, word) in cases {
        let error = start(&target, Slot::A, &process_release("v1", spec), 1).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Permanent, "{error}");
        assert!(error.to_string().contains(word), "`{word}` in: {error}");
        assert_eq!(observe(&target, Slot::A).await.running, Running::No);
    }
    start(&target, Slot::A, &process_release("v1", sleeper()), 1)
        .await
        .expect("nothing of them is in the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_listener_on_the_fixed_port_is_named() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let release =
        process_release("v1", ProcessSpec { port: Some(PortSpec::Fixed(port)), ..sleeper() });
    let obstacles = world.target().obstacles(&unit(Slot::A), &release).await.unwrap();
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert!(
        obstacles[0].contains(&std::process::id().to_string())
            && obstacles[0].contains(name.trim()),
        "{obstacles:?}"
    );
    drop(listener);
    assert!(world.target().obstacles(&unit(Slot::A), &release).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_stays_within_the_cap() {
    let world = World::new();
    let options = backout_adapters::target::ProcessTargetOptions {
        log_cap_bytes: 64 << 10,
        ..world.options()
    };
    let target = backout_adapters::target::ProcessTarget::new(options);
    let release = process_release(
        "v1",
        sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end; exec sleep 600"),
    );
    start(&target, Slot::A, &release, 1).await.unwrap();
    observed(&target, &unit(Slot::A), "through", |o| {
        o.tail.as_ref().is_some_and(|t| t.ends_with("end"))
    })
    .await;
    let logs = std::fs::read_dir(world.slot(Slot::A).join("log")).unwrap();
    let sizes: Vec<u64> = logs.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_alone_does_nothing_without_its_hand_over() {
    let world = World::new();
    let release = process_release("v1", sh("echo ran > ran; exec sleep 600"));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    world.until("ran", |w| !w.read("ran").is_empty()).await;
    std::fs::remove_file(world.folder().join("ran")).unwrap();
    kill_supervisor(&world);
    until("free", || {
        !backout_adapters::host::FileLock::is_held(&world.slot(Slot::A).join("supervisor.lock"))
            .unwrap()
    })
    .await;
    let alone = std::process::Command::new(crate::world::supervisor())
        .arg(world.slot(Slot::A).join("spec.json"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("hand-over"), "{alone:?}");
    assert_eq!(world.read("ran"), "");
    stop(&target, Slot::A, &release, 2000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_pause_before_a_restart_is_obeyed() {
    let world = World::new();
    let spec = ProcessSpec { restart: RestartPolicy { max: 1000, within_ms: 1 }, ..sh("exit 1") };
    let release = process_release("v1", spec);
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    observed(&target, &unit(Slot::A), "restarting", |o| o.restarts >= 3).await;
    stop(&target, Slot::A, &release, 2000).await.unwrap();
    let seen = observe(&target, Slot::A).await;
    assert_eq!((seen.running, seen.gave_up), (Running::No, false));
}

/// The same as `setsid` by a program that has started a supervisor of another app.
const DETACHED: &str = "BACKOUT_DETACHED=1 setsid sh -c 'echo $$ > detached; exec sleep 600' & ";

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_that_a_program_has_started_are_not_its_family() {
    let world = World::new();
    let release = process_release("v1", sh(&format!("{DETACHED} exec sleep 600")));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let detached = pid_in(&world.folder().join("detached")).await;
    let receipt = stop(&target, Slot::A, &release, 300).await.unwrap();
    let survived = detached.is_alive();
    let _ = detached.signal(Signal::KILL);
    assert!(survived, "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_given_up_half_way_never_begins() {
    use std::io::Write;
    let world = World::new();
    let old = process_release("v1", sh("echo old >> ran; exec sleep 600"));
    let target = world.target();
    start(&target, Slot::A, &old, 1).await.unwrap();
    world.until("ran", |w| !w.read("ran").is_empty()).await;
    let spec = world.slot(Slot::A).join("spec.json");
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&spec).unwrap()).unwrap();
    kill_supervisor(&world);
    // A supervisor whose starter hangs just before the hand-over …
    let mut late = std::process::Command::new(crate::world::supervisor())
        .arg(&spec)
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // … while another start is made.
    let new = process_release("v2", sh("echo new >> ran; exec sleep 600"));
    start(&target, Slot::A, &new, 2).await.unwrap();
    let hand_over =
        serde_json::json!({ "format": 1, "instance": written["instance"], "secrets": {} });
    late.stdin.take().unwrap().write_all(hand_over.to_string().as_bytes()).unwrap();
    assert!(!late.wait().unwrap().success());
    stop(&target, Slot::A, &new, 2000).await.unwrap();
    // Alone with the slot, but with a specification that is gone: still nothing.
    assert_eq!(world.read("ran"), "old\nnew\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_do_not_disturb_starts_and_stops() {
    let world = World::new();
    let release = process_release("v1", sleeper());
    let target = world.target();
    let observers: Vec<_> = (0..4)
        .map(|_| {
            let target = world.target();
            tokio::spawn(async move {
                loop {
                    target.observe(&unit(Slot::A), None).await.unwrap();
                }
            })
        })
        .collect();
    for deployment in 1..=8 {
        start(&target, Slot::A, &release, deployment).await.unwrap();
        kill_supervisor(&world);
        start(&target, Slot::A, &release, deployment).await.unwrap();
        assert!(is_running(&observe(&target, Slot::A).await));
        stop(&target, Slot::A, &release, 2000).await.unwrap();
    }
    for observer in observers {
        observer.abort();
        assert!(observer.await.unwrap_err().is_cancelled(), "no observer failed");
    }
}
