//! Two releases side by side.

use backout_core::ids::Slot;
use backout_core::model::Severity;
use backout_core::ports::{ErrorClass, Running, Target};

use super::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn each_side_has_its_link_its_port_and_its_variables() {
    let bench = Bench::with(true, "Restart=on-failure\n");
    bench.program(
        "v1",
        "echo port $PORT version $BACKOUT_VERSION slot $BACKOUT_SLOT\nexec sleep 3000",
    );
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.start(Slot::B, &v2, 2).await.unwrap();
    let (a, b) = (bench.observe(Slot::A, &v1).await, bench.observe(Slot::B, &v2).await);
    assert_eq!((a.running, b.running), (Running::Yes, Running::Yes), "{a:?} {b:?}");
    let (port, other) = (a.address.unwrap().port(), b.address.unwrap().port());
    assert_ne!(port, other);
    let variables = bench.folder().join("run/current-a.env");
    let text = std::fs::read_to_string(&variables).unwrap();
    assert!(text.contains(&format!("PORT=\"{port}\"")), "{text}");
    let said = || {
        let journal =
            bench.machine.inside("journalctl").args(["--unit", &bench.name(Slot::A)]).output();
        String::from_utf8_lossy(&journal.unwrap().stdout).into_owned()
    };
    let end = std::time::Instant::now() + crate::world::PATIENCE;
    while !said().contains(&format!("port {port} version v1 slot a")) {
        assert!(std::time::Instant::now() < end, "{}", said());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // The old side goes on as it is, whatever becomes of the new one.
    let pid = a.pid;
    bench.stop(Slot::B, &v2).await.unwrap();
    assert_eq!(bench.observe(Slot::A, &v1).await.pid, pid);
    assert!(!bench.link(Slot::B).exists() && bench.link(Slot::A).exists());
    bench.stop(Slot::A, &v1).await.unwrap();
    assert!(!variables.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_side_goes_on_under_the_definition_it_was_started_with() {
    let bench = Bench::new(true);
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.machine.install(&bench.file(), &bench.text("Restart=always\nNice=2\n"));
    let warm = bench.restorable(&v1).await;
    assert!(warm.status == Severity::Pass && warm.message.contains("still runs v1"), "{warm:?}");
    // Once it was stopped, going back would start it under another one.
    bench.stop(Slot::A, &v1).await.unwrap();
    assert_eq!(bench.restorable(&v1).await.status, Severity::Error);
    let drop_in = format!("{}.d/only-b.conf", bench.name(Slot::B));
    bench.machine.install(&bench.file(), &bench.text("Restart=always\nRestartSec=100ms\n"));
    assert_eq!(bench.restorable(&v1).await.status, Severity::Pass);
    bench.machine.install(&drop_in, "[Service]\nNice=4\n");
    let other = bench.restorable(&v1).await;
    assert!(other.message.contains("only-b.conf is new"), "the other side is one too: {other:?}");
    std::fs::remove_dir_all(bench.machine.units().join(format!("{}.d", bench.name(Slot::B))))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_unit_must_say_is_told_before_anything_starts() {
    let mut bench = Bench::new(true);
    let v1 = bench.release("v1").await;
    let obstacles =
        async |bench: &Bench| bench.target().obstacles(&bench.unit(Slot::A), &v1).await.unwrap();
    assert_eq!(obstacles(&bench).await, [""; 0]);
    let link = bench.link(Slot::A).display().to_string().replace("current-a", "current-%i");
    bench.machine.install(&bench.file(), &format!("[Service]\nExecStart={link}/serve\n"));
    let found = obstacles(&bench).await;
    assert!(found.len() == 1 && found[0].contains("EnvironmentFile=-"), "{found:?}");
    bench.machine.install(&bench.file(), "[Service]\nExecStart=/bin/sleep 3000\n");
    let found = obstacles(&bench).await;
    assert!(found.len() == 1 && found[0].contains("does not run what is behind"), "{found:?}");
    std::fs::create_dir(bench.folder().join("run")).unwrap();
    std::fs::create_dir(bench.link(Slot::A)).unwrap();
    let found = obstacles(&bench).await.join(" ");
    assert!(found.contains("is no link"), "{found}");
    let error = bench.start(Slot::A, &v1, 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    bench.spec.unit = "nobody-wrote-it@{slot}.service".to_owned();
    let mut content = v1.content.clone();
    content.services = [(super::bench::web(), bench.service())].into();
    let lost = backout_testkit::fixtures::release_of(content);
    let found = bench.target().obstacles(&bench.unit(Slot::A), &lost).await.unwrap().join(" ");
    assert!(found.contains("systemd has no such unit"), "{found}");
    let error = bench.start(Slot::A, &lost, 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
}
