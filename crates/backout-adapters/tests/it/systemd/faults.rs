//! What goes wrong in the middle.

use backout_core::ids::Slot;
use backout_core::model::{PortSpec, TargetSpec};
use backout_core::ports::{ErrorClass, OwnHealth, Running, Target};

use super::bench::{Bench, web};
use super::relay::{Cut, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_never_becomes_active_is_seen_starting_and_then_failed() {
    let lines = "Type=notify\nNotifyAccess=all\nTimeoutStartSec=2s\n";
    let bench = Bench::with(false, lines);
    bench.program("v2", "systemd-notify --ready\nexec sleep 3000");
    bench.program("v1", "echo waiting for something\nexec sleep 3000");
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let beginning = bench.observe(Slot::A, &v1).await;
    assert_eq!((beginning.running, beginning.health), (Running::Yes, OwnHealth::Starting));
    let over = bench.until(Slot::A, &v1, |seen| seen.gave_up).await;
    let tail = over.tail.unwrap();
    assert!(over.running == Running::No, "{tail}");
    assert!(
        tail.contains("did not become ready") && tail.contains("waiting for something"),
        "{tail}"
    );
    // Another release goes on where it failed, and says itself that it is ready.
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let well = bench.until(Slot::A, &v2, |seen| seen.health == OwnHealth::Passing).await;
    assert_eq!((well.running, well.gave_up), (Running::Yes, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_counted() {
    let bench =
        Bench::with(false, "Restart=always\nRestartSec=20ms\n[Unit]\nStartLimitIntervalSec=0\n");
    bench.program("v1", "echo out of luck >&2\nexit 7");
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let seen =
        bench.until(Slot::A, &v1, |seen| seen.restarts >= 3 && seen.last_exit.is_some()).await;
    assert_eq!(seen.last_exit.and_then(|exit| exit.code), Some(7));
    assert!(!seen.gave_up, "systemd goes on");
    let down = bench.until(Slot::A, &v1, |seen| seen.running == Running::No).await;
    assert!(down.tail.unwrap().contains("out of luck"));
    // A new start of the same begins to count anew.
    bench.program("v2", "exec sleep 3000");
    let v2 = bench.release("v2").await;
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let well = bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    // One end of the other may fall between the count's end and the start.
    assert!(well.restarts <= 1, "the other release's: {}", well.restarts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_limit_is_seen_and_holds_no_way_back_up() {
    let lines =
        "Restart=always\nRestartSec=10ms\n[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=600\n";
    let bench = Bench::with(false, lines);
    let v1 = bench.release("v1").await;
    bench.program("v2", "echo cannot go on >&2\nexit 3");
    let v2 = bench.release("v2").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let _ = bench.start(Slot::A, &v2, 2).await;
    let over = bench.until(Slot::A, &v2, |seen| seen.gave_up).await;
    let tail = over.tail.unwrap();
    assert!(tail.contains("too often") && tail.contains("cannot go on"), "{tail}");
    assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "failed");
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let back = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!((back.gave_up, back.deployment), (false, Some(3)));
    let evidence = bench.target().evidence(&bench.unit(Slot::A), &v2, 4096).await.unwrap();
    let journal = evidence.iter().find(|text| text.name == "journal").unwrap();
    assert!(journal.text.contains("cannot go on"), "{}", journal.text);
    assert!(evidence.iter().any(|text| text.name == "unit" && text.text.contains("restarts")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_fails_the_start() {
    let bench = Bench::with(false, "Type=exec\nRestart=no\n");
    let folder = bench.folder().join("build/v3");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("readme"), "no program").unwrap();
    let v3 = bench.release("v3").await;
    let error = bench.start(Slot::A, &v3, 1).await.unwrap_err();
    assert!(error.class == ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("its program is not there"), "{error}");
    let seen = bench.observe(Slot::A, &v3).await;
    assert_eq!((seen.running, seen.gave_up), (Running::No, true));
    bench.stop(Slot::A, &v3).await.unwrap();
    assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "inactive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_can_not_be_written_changes_nothing() {
    let bench = Bench::new(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let before = bench.observe(Slot::A, &v1).await;
    {
        let _read_only = ReadOnly::new(bench.folder().join("run"));
        let error = bench.start(Slot::A, &v2, 2).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
        assert!(error.to_string().contains("mount that file system for writing"), "{error}");
        let now = bench.observe(Slot::A, &v1).await;
        assert_eq!((now.pid, now.release), (before.pid, before.release));
    }
    bench.start(Slot::A, &v2, 2).await.unwrap();
    bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
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
async fn a_connection_that_is_lost_in_the_middle_is_made_again() {
    for cut in [Cut::Before, Cut::After] {
        let mut bench = Bench::new(false);
        let folder = tempfile::tempdir().unwrap();
        let relay = Relay::start(folder.path(), bench.machine.socket(), "RestartUnit", cut, 1);
        let v1 = bench.release("v1").await;
        bench.bus = relay.address.clone();
        bench.start(Slot::A, &v1, 1).await.unwrap_or_else(|e| panic!("{cut:?} {e}"));
        assert_eq!(relay.cut(), 1);
        let seen = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.restarts), (Some(1), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_never_answers_leaves_an_unknown_outcome_that_is_made_good() {
    let mut bench = Bench::new(false);
    let folder = tempfile::tempdir().unwrap();
    let relay =
        Relay::start(folder.path(), bench.machine.socket(), "RestartUnit", Cut::Before, u32::MAX);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let direct = std::mem::replace(&mut bench.bus, relay.address.clone());
    let error = bench.start(Slot::A, &v2, 2).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    // Which release runs can't be told now, and is not claimed.
    let seen = bench.observe(Slot::A, &v2).await;
    assert_eq!((seen.running, seen.release), (Running::Unknown, None));
    relay.heal();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    bench.bus = direct;
    assert_eq!(bench.observe(Slot::A, &v2).await.deployment, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_reads_its_files_all_the_time_still_starts_and_stops() {
    // Its own: whoever else asks it meanwhile would be turned away too.
    let machine = std::sync::Arc::new(backout_testkit::systemd::Machine::own());
    let bench = Bench::on(machine, false, "Restart=always\n");
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    let machine = std::sync::Arc::clone(&bench.machine);
    let on = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let going = std::sync::Arc::clone(&on);
    let busy = std::thread::spawn(move || {
        let mut times = 0;
        while going.load(std::sync::atomic::Ordering::SeqCst) {
            // Now and then it replaces itself, and is away from the bus meanwhile.
            let verb = if times % 4 == 3 { "daemon-reexec" } else { "daemon-reload" };
            let _ = machine.systemctl(&[verb]);
            times += 1;
        }
        times
    });
    let target = bench.target();
    for (number, release) in [&v1, &v2, &v1, &v2].into_iter().enumerate() {
        let number = u64::try_from(number).unwrap() + 1;
        let action = super::bench::start(bench.unit(Slot::A), release, number);
        let started = target.apply(&action, &bench.cx("start")).await;
        assert!(started.is_ok(), "{started:?}");
        let seen = bench.until(Slot::A, release, |seen| seen.running == Running::Yes).await;
        assert_eq!(seen.deployment, Some(number));
    }
    bench.stop(Slot::A, &v2).await.unwrap();
    on.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(busy.join().unwrap() > 2);
    assert_eq!(bench.observe(Slot::A, &v2).await.running, Running::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_by_name() {
    let mut bench = Bench::new(false);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    bench.spec.port = Some(PortSpec::Fixed(port));
    let v1 = bench.release("v1").await;
    assert!(matches!(v1.content.services[&web()].target, TargetSpec::Systemd(_)));
    let found = bench.target().obstacles(&bench.unit(Slot::A), &v1).await.unwrap().join(" ");
    assert!(found.contains(&format!("port {port} is taken by process")), "{found}");
    drop(listener);
    assert_eq!(bench.target().obstacles(&bench.unit(Slot::A), &v1).await.unwrap(), [""; 0]);
}
