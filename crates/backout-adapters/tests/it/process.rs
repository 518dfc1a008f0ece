//! A supervised program as it should be.

use std::os::unix::fs::PermissionsExt;

use backout_core::ids::Slot;
use backout_core::model::{EnvValue, PortSpec, ProcessSpec};
use backout_core::ports::{ErrorClass, Marker, Running, Target};
use backout_testkit::fixtures::{ledger, step_cx, unit, with_secrets};

use crate::world::{
    World, is_running, observe, observed, pid_in, process_release, sh, sleeper, start, start_with,
    stop,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_exactly_its_environment() {
    let world = World::new();
    let mut spec = sh(
        "env | sort > env.txt; ls -l /proc/self/fd/0 >> env.txt; pwd >> env.txt; echo . > done; exec sleep 600",
    );
    spec.env.insert(
        "URL".to_owned(),
        EnvValue::Plain("http://x:{port}/{version}/{slot}/{release}".to_owned()),
    );
    spec.env.insert("API_KEY".to_owned(), EnvValue::Secret);
    spec.port = Some(PortSpec::Auto);
    spec.port_env = "LISTEN_PORT".to_owned();
    spec.workdir = "sub".to_owned();
    world.write("sub/keep", "");
    let release = process_release("v1", spec);
    let cx = with_secrets(step_cx("start"), &[("API_KEY", "s3cret"), ("OTHER", "not asked for")]);
    let receipt = start_with(&world.target(), Slot::B, &release, 7, &cx).await.unwrap();
    world.until("written", |w| !w.read("sub/done").is_empty()).await;
    let env = world.read("sub/env.txt");
    let port = receipt.data["port"].as_u64().unwrap();
    for line in [
        "API_KEY=s3cret",
        "BACKOUT_APP=shop",
        "BACKOUT_ENVIRONMENT=production",
        "BACKOUT_SERVICE=web",
        "BACKOUT_VERSION=v1",
        "BACKOUT_SLOT=b",
        "BACKOUT_DEPLOYMENT=7",
        &format!("BACKOUT_RELEASE={}", release.id),
        &format!("LISTEN_PORT={port}"),
        &format!("URL=http://x:{port}/v1/b/{}", release.id),
    ] {
        assert!(env.lines().any(|l| l == line), "no `{line}` in {env}");
    }
    assert!(!env.contains("CALLERS_OWN") && !env.contains("OTHER="), "{env}");
    assert!(env.contains("/dev/null"), "stdin is closed: {env}");
    assert!(env.trim_end().ends_with("/folder/sub"), "{env}");
    let observed = observe(&world.target(), Slot::B).await;
    assert_eq!(observed.address.map(|a| u64::from(a.port())), Some(port));
    assert_eq!(observed.marker, Some(Marker { ledger: ledger("here") }));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_written_nowhere() {
    let world = World::new();
    let mut spec = sleeper();
    spec.env.insert("API_KEY".to_owned(), EnvValue::Secret);
    let release = process_release("v1", spec);
    let missing = start(&world.target(), Slot::A, &release, 1).await.unwrap_err();
    assert!(
        missing.class == ErrorClass::Permanent && missing.to_string().contains("`API_KEY`"),
        "{missing}"
    );
    let cx = with_secrets(step_cx("start"), &[("API_KEY", "s3cret-value")]);
    start_with(&world.target(), Slot::A, &release, 1, &cx).await.unwrap();
    let found = std::process::Command::new("grep")
        .args(["-r", "s3cret-value"])
        .arg(world.state())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let supervisor = supervisor_pid(&world, Slot::A);
    let seen = std::fs::read(format!("/proc/{supervisor}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("s3cret-value"));
    let mode = std::fs::metadata(world.slot(Slot::A)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mode =
        std::fs::metadata(world.slot(Slot::A).join("spec.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn supervisor_pid(world: &World, slot: Slot) -> u64 {
    let status = std::fs::read(world.slot(slot).join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["supervisor"]["pid"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_its_caller_and_is_found_again() {
    let world = World::new();
    let release = process_release("v1", sleeper());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = world.target();
    let task = runtime.spawn(async move {
        let world_release = release;
        start(&target, Slot::A, &world_release, 1).await.unwrap()
    });
    task.await.unwrap();
    runtime.shutdown_background();
    let seen = observe(&world.target(), Slot::A).await;
    assert!(is_running(&seen), "{seen:?}");
    let supervisor = u32::try_from(supervisor_pid(&world, Slot::A)).unwrap();
    let session =
        rustix::process::getsid(rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()))
            .unwrap();
    assert_eq!(
        session.as_raw_pid(),
        i32::try_from(supervisor).unwrap(),
        "it has a session of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_a_program_finish() {
    let world = World::new();
    let release = process_release(
        "v1",
        sh("trap 'echo finished > end; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done"),
    );
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let pid = pid_in(&world.folder().join("pid")).await;
    let receipt = stop(&target, Slot::A, &release, 20_000).await.unwrap();
    assert_eq!(receipt.warnings, Vec::<String>::new());
    assert_eq!(world.read("end"), "finished\n");
    assert!(!pid.is_alive());
    let seen = observe(&target, Slot::A).await;
    assert_eq!((seen.running, seen.marker, seen.release), (Running::No, None, None));
    assert_eq!(seen.last_exit.unwrap().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_found_by_path_by_name_or_below_the_folder() {
    let world = World::new();
    world.script("bin/serve", "exec sleep 600");
    world.script("tool", "exec sleep 600");
    world.write("work/keep", "");
    for command in ["bin/serve", "./tool", "tool", "/bin/sleep", "sleep"] {
        let mut spec = sleeper();
        spec.command = vec![command.to_owned(), "600".to_owned()];
        spec.workdir = "work".to_owned();
        let release = process_release("v1", spec);
        start(&world.target(), Slot::A, &release, 1)
            .await
            .unwrap_or_else(|e| panic!("{command}: {e}"));
        stop(&world.target(), Slot::A, &release, 2000).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_holds_the_last_words_and_no_more() {
    let world = World::new();
    let release =
        process_release("v1", sh("seq 1 2000; printf 'last\\033[2J words\\n' >&2; exec sleep 600"));
    let target = world.target();
    start(&target, Slot::A, &release, 1).await.unwrap();
    let seen = observed(&target, &unit(Slot::A), "talking", |o| {
        o.tail.as_ref().is_some_and(|t| t.contains("words"))
    })
    .await;
    let tail = seen.tail.unwrap();
    assert!(tail.len() <= 2048 && tail.ends_with("2000\nlast[2J words"), "{tail}");
    let log = target.log(&unit(Slot::A), 1, 1 << 20).unwrap();
    assert!(log.starts_with("1\n2\n"), "all of it is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_a_time_are_one() {
    let world = World::new();
    let release = process_release("v1", sh("echo $$ >> pids; exec sleep 600"));
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let (target, release) = (world.target(), std::sync::Arc::clone(&release));
            tokio::spawn(async move { start(&target, Slot::A, &release, 1).await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    world.until("started", |w| !w.read("pids").is_empty()).await;
    stop(&world.target(), Slot::A, &release, 2000).await.unwrap();
    assert_eq!(world.read("pids").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sides_get_two_ports() {
    let world = World::new();
    let release =
        |v: &str| process_release(v, ProcessSpec { port: Some(PortSpec::Auto), ..sleeper() });
    let target = world.target();
    start(&target, Slot::A, &release("v1"), 1).await.unwrap();
    start(&target, Slot::B, &release("v2"), 2).await.unwrap();
    let (a, b) = (observe(&target, Slot::A).await, observe(&target, Slot::B).await);
    assert!(a.address.is_some() && b.address.is_some() && a.address != b.address, "{a:?} {b:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ledgers_slot_is_refused_by_name() {
    let world = World::new();
    let release = process_release("v1", sleeper());
    start(&world.target(), Slot::A, &release, 1).await.unwrap();
    let other = backout_adapters::target::ProcessTargetOptions {
        ledger: ledger("there"),
        ..world.options()
    };
    let other = backout_adapters::target::ProcessTarget::new(other);
    let refused = [
        start(&other, Slot::A, &release, 1).await.unwrap_err(),
        stop(&other, Slot::A, &release, 100).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.class, ErrorClass::Permanent);
        assert!(
            error.message.contains("led_here") && error.message.contains("led_there"),
            "{error}"
        );
    }
    assert_eq!(observe(&other, Slot::A).await.marker, Some(Marker { ledger: ledger("here") }));
    assert_eq!(other.obstacles(&unit(Slot::A), &release).await.unwrap().len(), 1);
    assert!(is_running(&observe(&world.target(), Slot::A).await));
    stop(&world.target(), Slot::A, &release, 2000).await.unwrap();
    start(&other, Slot::A, &release, 1).await.expect("a stopped slot is free");
}
