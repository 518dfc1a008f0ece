//! One unit whose link is switched.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backout_core::ids::Slot;
use backout_core::model::{Severity, TargetSpec};
use backout_core::ports::{ArtifactStore, ErrorClass, PartsOf, Running, Target};
use backout_testkit::fixtures::step_cx;

use super::bench::{Bench, web};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_a_folder_behind_the_link_and_comes_back() {
    let bench = Bench::new(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    let started = bench.start(Slot::A, &v1, 1).await.unwrap();
    assert!(started.message.contains(&bench.name(Slot::A)), "{}", started.message);
    let first = std::fs::read_link(bench.link(Slot::A)).unwrap();
    assert!(first.starts_with(format!("releases/{}.production", bench.app)), "{first:?}");
    let program = bench.link(Slot::A).join("serve");
    let mode = std::fs::metadata(&program).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555, "whoever the unit runs as can read it, and nobody write");
    let one = bench.observe(Slot::A, &v1).await;
    assert_eq!((one.running, one.deployment, one.gave_up), (Running::Yes, Some(1), false));
    // What lies beside backout.yaml may change: the release is what was deployed.
    bench.program("v1", "exit 1");
    bench.start(Slot::A, &v2, 2).await.unwrap();
    assert_ne!(std::fs::read_link(bench.link(Slot::A)).unwrap(), first);
    let two = bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    assert_ne!(two.pid, one.pid);
    bench.start(Slot::A, &v1, 3).await.unwrap();
    assert_eq!(std::fs::read_link(bench.link(Slot::A)).unwrap(), first);
    let back = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!((back.deployment, back.restarts), (Some(3), 0));

    // A release is known by its note: what the link leads to by hand is none of ours.
    std::fs::remove_file(bench.link(Slot::A)).unwrap();
    std::os::unix::fs::symlink("releases", bench.link(Slot::A)).unwrap();
    let moved = bench.observe(Slot::A, &v1).await;
    assert_ne!(moved.release.as_ref(), Some(&v1.id));
    assert!(moved.tail.unwrap().contains("somebody moved it"));
    bench.stop(Slot::A, &v1).await.unwrap();
    assert_eq!(std::fs::read_link(bench.link(Slot::A)).unwrap(), Path::new("releases"));
    assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "inactive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_changed_is_mended_before_it_is_started() {
    let bench = Bench::new(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let folder = bench.link(Slot::A).canonicalize().unwrap();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    std::fs::remove_file(folder.join("serve")).unwrap();
    std::fs::write(folder.join("serve"), "garbage").unwrap();
    std::fs::write(folder.join("own.log"), "the program's own").unwrap();
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let seen = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!(seen.restarts, 0, "it was whole at its first start");
    assert_eq!(std::fs::read_to_string(folder.join("own.log")).unwrap(), "the program's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_go_with_the_copies_they_were_made_from() {
    let bench = Bench::new(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let first = bench.link(Slot::A).canonicalize().unwrap();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let second = bench.link(Slot::A).canonicalize().unwrap();
    let keep =
        |release: &backout_core::model::Release| vec![release.content.artifacts[0].digest.clone()];
    bench.artifacts().prune(&[keep(&v1), keep(&v2)].concat(), &step_cx("prune")).await.unwrap();
    assert!(first.is_dir() && second.is_dir());
    // What runs is never taken away, whatever is asked for.
    bench.artifacts().prune(&keep(&v1), &step_cx("prune")).await.unwrap();
    assert!(first.is_dir() && second.is_dir());
    bench.artifacts().prune(&keep(&v2), &step_cx("prune")).await.unwrap();
    assert!(!first.exists() && second.is_dir());
    let error = bench.start(Slot::A, &v1, 3).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert_eq!(bench.observe(Slot::A, &v2).await.running, Running::Yes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_and_a_farewell_leave_what_runs_alone() {
    let bench = Bench::new(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let before = bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    let (target, unit) = (bench.target(), bench.unit(Slot::A));
    let rehearsal = target.rehearse(&unit, &v1, &step_cx("rehearse")).await.unwrap();
    assert!(rehearsal.rehearsed[0].contains("each file whole"), "{rehearsal:?}");
    assert!(rehearsal.left_out[0].contains("was not started"), "{rehearsal:?}");
    let told = target.farewell(&unit, &v2, None).await.unwrap();
    assert!(told.stays[0].contains("runs v2") && !told.keeps_copies, "{told:?}");
    assert_eq!(bench.observe(Slot::A, &v2).await.pid, before.pid);
    assert_eq!(target.farewell(&unit, &v2, Some(&step_cx("farewell"))).await.unwrap(), told);
    assert_eq!(
        target.farewell(&unit, &v2, Some(&step_cx("farewell"))).await.unwrap().removed,
        [""; 0],
        "twice is once"
    );
    // Releases of this environment may be another service's: who knows all links removes them.
    bench.artifacts().prune(&[], &step_cx("prune")).await.unwrap();
    let pid = bench.machine.property(&bench.name(Slot::A), "MainPID");
    assert_eq!(Some(pid), before.pid.map(|pid| pid.to_string()), "it runs on");
    assert!(bench.link(Slot::A).join("serve").exists());
    let left = std::fs::read_dir(bench.link(Slot::A).canonicalize().unwrap().parent().unwrap());
    let shown = |name: &std::ffi::OsString| !name.to_string_lossy().starts_with('.');
    let left: Vec<_> =
        left.unwrap().map(|entry| entry.unwrap().file_name()).filter(shown).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unit_files_that_changed_are_an_item_of_readiness() {
    let bench = Bench::new(false);
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let ready = bench.restorable(&v1).await;
    assert_eq!((ready.name.as_str(), ready.status), ("unit_files_unchanged", Severity::Pass));
    let was = bench.text("Restart=always\nRestartSec=100ms\n");
    bench.machine.write_unit(&bench.file(), &format!("{was}Nice=5\n"));
    let changed = bench.restorable(&v1).await;
    assert_eq!(changed.status, Severity::Error);
    assert!(changed.message.contains(&format!("{} was changed", bench.file())), "{changed:?}");
    bench.machine.install(&bench.file(), &was);
    assert_eq!(bench.restorable(&v1).await.status, Severity::Pass);
    let drop_in = format!("{}.d/limits.conf", bench.file());
    bench.machine.install(&drop_in, "[Service]\nLimitNOFILE=99\n");
    let changed = bench.restorable(&v1).await;
    assert!(changed.message.contains("limits.conf is new"), "{changed:?}");
    // A release that is made now is another one, and runs under what is there now.
    let same = bench.release("v1").await;
    assert_ne!(same.id, v1.id);
    assert_eq!(bench.restorable(&same).await.status, Severity::Pass);
    std::fs::remove_file(bench.machine.units().join(bench.file())).unwrap();
    bench.machine.reload();
    bench.machine.expect(&["stop", &bench.name(Slot::A)]);
    let gone = bench.restorable(&same).await;
    assert_eq!(gone.status, Severity::Error, "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_beside_backout_yaml_are_linked_and_read_again() {
    let bench = Bench::new(false);
    std::fs::remove_file(bench.machine.units().join(bench.file())).unwrap();
    let own = bench.folder().join(bench.file());
    let text = bench.text("Restart=always\n");
    std::fs::write(&own, &text).unwrap();
    bench.machine.expect(&["link", &own.display().to_string()]);
    bench.machine.reload();
    let v1 = bench.release("v1").await;
    let TargetSpec::Systemd(spec) = &v1.content.services[&web()].target else { panic!() };
    assert!(spec.files.is_empty(), "they are config of the release: {:?}", spec.files);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    // As a restored config does it: the manager is told before the start, and says so.
    std::fs::write(&own, format!("{text}Environment=LATE=yes\n")).unwrap();
    assert_eq!(bench.restorable(&v1).await.status, Severity::Pass);
    let started = bench.start(Slot::A, &v1, 2).await.unwrap();
    assert!(
        started.warnings.iter().any(|w| w.contains("read all unit files again")),
        "{started:?}"
    );
    let environment = bench.machine.property(&bench.name(Slot::A), "Environment");
    assert!(environment.contains("LATE=yes"), "{environment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_already_is_adopted_and_is_the_way_back() {
    let bench = Bench::new(false);
    // Somebody's own layout, which nobody has to change.
    let theirs = bench.folder().join("run/by-hand/2026-11-20");
    std::fs::create_dir_all(&theirs).unwrap();
    let program = bench.folder().join("build/v1/serve");
    std::fs::copy(&program, theirs.join("serve")).unwrap();
    std::os::unix::fs::symlink("by-hand/2026-11-20", bench.link(Slot::A)).unwrap();
    bench.machine.expect(&["start", &bench.name(Slot::A)]);
    let v2 = bench.release("v2").await;
    let found = bench.target().obstacles(&bench.unit(Slot::A), &v2).await.unwrap().join(" ");
    assert!(found.contains("backout adopt"), "{found}");
    let adopted = bench.make("v1", PartsOf::Running).await.unwrap();
    let seen = bench.observe(Slot::A, &adopted).await;
    assert_eq!(
        (seen.running, seen.release.as_ref()),
        (Running::Yes, Some(&adopted.id)),
        "{seen:?}"
    );
    assert_eq!(bench.target().obstacles(&bench.unit(Slot::A), &v2).await.unwrap(), [""; 0]);
    bench.start(Slot::A, &v2, 1).await.unwrap();
    std::fs::remove_dir_all(&theirs).unwrap();
    bench.start(Slot::A, &adopted, 2).await.unwrap();
    let back = bench.until(Slot::A, &adopted, |seen| seen.running == Running::Yes).await;
    assert_eq!((back.deployment, back.restarts), (Some(2), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_never_touch_each_other() {
    let (mut bench, mut other) = (Bench::new(false), Bench::new(false));
    other.environment = "staging".to_owned();
    let (v1, theirs) = (bench.release("v1").await, other.release("v1").await);
    other.start(Slot::A, &theirs, 1).await.unwrap();
    // Production names staging's unit and link by mistake.
    let own = std::mem::replace(&mut bench.spec, other.spec.clone());
    bench.spec.current = other.link(Slot::A).display().to_string();
    let mut content = v1.content.clone();
    content.services = [(web(), bench.service())].into();
    let wrong = backout_testkit::fixtures::release_of(content);
    let found = bench.target().obstacles(&bench.unit(Slot::A), &wrong).await.unwrap().join(" ");
    assert!(found.contains("belongs to") && found.contains("staging"), "{found}");
    let error = bench.start(Slot::A, &wrong, 1).await.unwrap_err();
    assert!(error.class == ErrorClass::Permanent && error.message.contains("staging"), "{error}");
    let error = bench.stop(Slot::A, &wrong).await.unwrap_err();
    assert!(error.message.contains("staging"), "{error}");
    assert_eq!(bench.observe(Slot::A, &wrong).await.running, Running::No, "it is not its own");
    // Only the unit is the same, and the link is another: the unit is still not its own.
    bench.spec.current = own.current.clone();
    let mut content = v1.content.clone();
    content.services = [(web(), bench.service())].into();
    let wrong = backout_testkit::fixtures::release_of(content);
    let found = bench.target().obstacles(&bench.unit(Slot::A), &wrong).await.unwrap().join(" ");
    assert!(found.contains("does not run what is behind"), "{found}");
    assert_eq!(bench.observe(Slot::A, &wrong).await.running, Running::No);
    bench.stop(Slot::A, &wrong).await.unwrap();
    assert_eq!(other.observe(Slot::A, &theirs).await.running, Running::Yes, "it was left alone");
    // Another ledger with the same names.
    other.ledger = "others".to_owned();
    let error = other.start(Slot::A, &theirs, 2).await.unwrap_err();
    assert!(error.message.contains("led_tests manages"), "{error}");
    let marker = other.observe(Slot::A, &theirs).await.marker.unwrap();
    assert_eq!(marker.ledger, backout_testkit::fixtures::ledger("tests"));
}
