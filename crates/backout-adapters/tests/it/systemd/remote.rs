//! Units of another host, on a real sshd inside of the system that runs them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::{Release, Severity};
use backout_core::ports::{
    AdapterError, ArtifactStore as _, ErrorClass, GuardState, Receipt, Revert, Running, StepCx,
    Target as _, TargetAction,
};
use backout_testkit::fixtures::step_cx;

use super::bench::{Bench, start};

const ALWAYS: &str = "Restart=always\nRestartSec=100ms\n";

impl Bench {
    /// What the link of the host leads to.
    fn leads(&self) -> std::path::PathBuf {
        std::fs::read_link(self.link(Slot::A)).unwrap()
    }

    /// The note is as it is in the middle of a start.
    fn unfinish(&self) {
        let note = self.link(Slot::A).with_file_name(".current.backout.json");
        let text = std::fs::read_to_string(&note).unwrap();
        assert!(text.contains("\"finished\": true"), "{text}");
        std::fs::write(&note, text.replace("\"finished\": true", "\"finished\": false")).unwrap();
    }

    pub(super) async fn guarded(
        &self,
        release: &Arc<Release>,
        deployment: u64,
        back_to: Option<&Arc<Release>>,
        within_ms: u64,
    ) -> Result<Receipt, AdapterError> {
        let action = TargetAction::Start {
            unit: self.unit(Slot::A),
            release: Arc::clone(release),
            deployment,
            restore: false,
            revert: Some(Revert { back_to: back_to.cloned(), within_ms }),
            batch: None,
        };
        let cx = self.cx(&format!("start-{deployment}"));
        self.target().apply(&action, &cx).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_over_whole_and_is_found_there_when_it_comes_back() {
    let bench = Bench::there(ALWAYS);
    let odd = bench.folder().join("build/v1/it's \"odd\"\n");
    std::fs::create_dir_all(&odd).unwrap();
    std::fs::write(odd.join("a\\data"), vec![7; 3 << 20]).unwrap();
    std::fs::write(bench.folder().join("build/v1/large"), vec![9; 9 << 20]).unwrap();
    std::os::unix::fs::symlink("serve", bench.folder().join("build/v1/link")).unwrap();
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    let missing = bench.target().restorable(&bench.unit(Slot::A), &v1).await.unwrap();
    assert_eq!(missing[1].status, Severity::Warning, "{missing:?}");
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let first = bench.leads();
    assert!(first.starts_with(format!("releases/{}.production", bench.app)), "{first:?}");
    let there = bench.link(Slot::A).canonicalize().unwrap();
    let mode = |name: &str| std::fs::metadata(there.join(name)).unwrap().permissions().mode();
    assert_eq!((mode("serve") & 0o777, mode("large") & 0o777), (0o555, 0o444));
    assert_eq!(std::fs::read(there.join("it's \"odd\"\n/a\\data")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(std::fs::read(there.join("large")).unwrap(), vec![9; 9 << 20]);
    assert_eq!(std::fs::read_link(there.join("link")).unwrap().to_str(), Some("serve"));
    bench.start(Slot::A, &v2, 2).await.unwrap();
    assert_ne!(bench.leads(), first);
    let found = bench.target().restorable(&bench.unit(Slot::A), &v1).await.unwrap();
    assert!(found.iter().all(|check| check.status == Severity::Pass), "{found:?}");

    // What somebody has changed there is mended, and what the program wrote stays.
    std::fs::remove_file(there.join("serve")).unwrap();
    std::fs::write(there.join("serve"), "garbage").unwrap();
    // Folders, where a file and a link were.
    for name in ["large", "link"] {
        std::fs::remove_file(there.join(name)).unwrap();
        std::fs::create_dir(there.join(name)).unwrap();
        std::fs::write(there.join(name).join("data"), "data").unwrap();
    }
    std::fs::write(there.join("own.log"), "the program's own").unwrap();
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(there.join(name)).unwrap().ino()
    };
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let back = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!((back.deployment, back.restarts), (Some(3), 0));
    assert_eq!(std::fs::read_to_string(there.join("own.log")).unwrap(), "the program's own");
    assert_eq!(std::fs::read_link(there.join("link")).unwrap().to_str(), Some("serve"));
    // What is whole is not sent again.
    let before = inode("large");
    bench.start(Slot::A, &v2, 4).await.unwrap();
    bench.start(Slot::A, &v1, 5).await.unwrap();
    assert_eq!(inode("large"), before);

    // Folders there go with the copies here, and never what runs.
    let keep = |release: &Release| vec![release.content.artifacts[0].digest.clone()];
    bench.artifacts().prune(&keep(&v1), &step_cx("prune")).await.unwrap();
    let left = std::fs::read_dir(there.parent().unwrap()).unwrap().count();
    assert_eq!(left, 2, "the folder and its label");
    bench.artifacts().prune(&[], &step_cx("prune")).await.unwrap();
    assert!(there.join("serve").exists(), "it runs");
    bench.stop(Slot::A, &v1).await.unwrap();
    assert!(!bench.link(Slot::A).exists());
    assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "inactive");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_there_is_told_by_the_journal_of_that_host() {
    let bench = Bench::there("Restart=no\n");
    bench.program("v1", "echo out of luck >&2\nexit 7");
    let v1 = bench.release("v1").await;
    // It may have failed before anybody looked.
    let _ = bench.start(Slot::A, &v1, 1).await;
    let over = bench.until(Slot::A, &v1, |seen| seen.gave_up).await;
    let tail = over.tail.unwrap();
    assert!(tail.contains("exit code 7") && tail.contains("out of luck"), "{tail}");
    let texts = bench.target().evidence(&bench.unit(Slot::A), &v1, 4 << 10).await.unwrap();
    let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
    assert_eq!(names, ["journal", "unit"]);
    let unit = format!("host0:/etc/systemd/system/{}", bench.file());
    bench.machine.write_unit(&bench.file(), &format!("{}Nice=5\n", bench.text("Restart=no\n")));
    let changed = bench.target().restorable(&bench.unit(Slot::A), &v1).await.unwrap();
    assert_eq!(changed[0].status, Severity::Error);
    assert!(changed[0].message.contains(&format!("{unit} was changed")), "{changed:?}");
}

/// Wherever the link breaks, the same start made again ends with the wanted release, started once or twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_link_breaks_anywhere_is_made_again() {
    let mut bench = Bench::there(ALWAYS);
    // Before anybody has connected.
    let relay = bench.there.as_mut().unwrap().servers.relay(0);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let began = relay.passed();
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let whole = relay.passed() - began;
    assert!(whole > 1_000, "{whole}");
    for part in 1..6 {
        let (wanted, number) = (if part % 2 == 1 { &v2 } else { &v1 }, 3 + part);
        relay.cut_after(whole * part / 6);
        let ended = AtomicBool::new(false);
        let starting = async {
            let started = bench.start(Slot::A, wanted, number).await;
            ended.store(true, Ordering::SeqCst);
            started
        };
        let healing = async {
            // It is back before all patience is at its end: the start may go on by itself then, or be made again.
            while !relay.is_cut() && !ended.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let was_cut = relay.is_cut();
            relay.restore();
            was_cut
        };
        let (started, was_cut) = tokio::join!(starting, healing);
        assert!(was_cut || part > 3, "{part}");
        if let Err(error) = started {
            assert_ne!(error.class, ErrorClass::Permanent, "{error}");
        }
        bench.start(Slot::A, wanted, number).await.unwrap();
        let seen = bench.until(Slot::A, wanted, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.release.as_ref()), (Some(number), Some(&wanted.id)));
        assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "active");
    }
}

/// A link that never holds for as long as the whole takes, and a release that is larger than what comes through at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_release_arrives_over_a_link_that_breaks_again_and_again() {
    const MB: u64 = 1 << 20;
    let mut bench = Bench::there(ALWAYS);
    let relay = bench.there.as_mut().unwrap().servers.relay(0);
    let random = |count: usize| {
        let mut bytes = vec![0; count];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
        bytes
    };
    std::fs::write(bench.folder().join("build/v1/large"), random(21 << 20)).unwrap();
    let v1 = bench.release("v1").await;
    let (unit, cx) = (bench.unit(Slot::A), bench.cx("pin-1"));
    let (mut tries, began) = (0, relay.passed());
    let is_whole = loop {
        tries += 1;
        relay.cut_after(9 * MB);
        let prepared = bench.target().prepare(&unit, &v1, &cx).await;
        relay.restore();
        match prepared {
            Ok(()) => break true,
            Err(error) if tries < 8 => assert_ne!(error.class, ErrorClass::Permanent, "{error}"),
            Err(_) => break false,
        }
    };
    assert!(is_whole, "it never arrives");
    assert!(tries > 2, "the link broke on the way: {tries}");
    let passed = relay.passed() - began;
    assert!(passed < 45 * MB, "what had come over was sent again: {passed} bytes");
    // Nothing runs yet, and the start has nothing left to send.
    assert_eq!(bench.observe(Slot::A, &v1).await.running, Running::No);
    assert!(!bench.link(Slot::A).exists());
    let before = relay.passed();
    bench.start(Slot::A, &v1, 1).await.unwrap();
    assert!(relay.passed() - before < MB, "{} bytes", relay.passed() - before);
    let there = std::fs::read(bench.link(Slot::A).join("large")).unwrap();
    assert!(there == std::fs::read(bench.folder().join("build/v1/large")).unwrap());
    let names =
        std::fs::read_dir(bench.base().join(format!("run/releases/{}.production", bench.app)));
    assert_eq!(names.unwrap().count(), 2, "the folder and its label");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_over_of_something_else_is_not_built_upon() {
    let bench = Bench::there(ALWAYS);
    std::fs::write(bench.folder().join("build/v1/large"), vec![7; 9 << 20]).unwrap();
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let folder = bench.link(Slot::A).canonicalize().unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let service = bench.unit(Slot::A).service;
    let packed = folder.with_file_name(format!(".new-{name}.{service}.tar"));
    for size in [5 << 20, 30 << 20] {
        std::fs::remove_file(folder.join("large")).unwrap();
        std::fs::write(&packed, vec![1; size]).unwrap();
        bench.target().prepare(&bench.unit(Slot::A), &v1, &bench.cx("pin")).await.unwrap();
        assert_eq!(std::fs::read(folder.join("large")).unwrap(), vec![7; 9 << 20]);
        assert!(!packed.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_lease_changes_nothing_there() {
    let bench = Bench::there(ALWAYS);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.program("v3", "exec sleep 3000");
    bench.target().prepare(&bench.unit(Slot::A), &v2, &bench.cx("pin")).await.unwrap();
    let newer = StepCx { epoch: 7, ..bench.cx("newer") };
    bench.target().apply(&start(bench.unit(Slot::A), &v1, 1), &newer).await.unwrap();
    let first = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    let older = StepCx { epoch: 6, ..bench.cx("older") };
    let error =
        bench.target().apply(&start(bench.unit(Slot::A), &v2, 2), &older).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    let stop = TargetAction::Stop { unit: bench.unit(Slot::A), release: v1.clone(), grace_ms: 0 };
    let error = bench.target().apply(&stop, &older).await.unwrap_err();
    assert!(error.message.contains("newer lease"), "{error}");
    // Neither does it remove what nobody needed when it looked, nor sends, nor forgets anything.
    let (target, unit) = (bench.target(), bench.unit(Slot::A));
    for refused in [
        bench.artifacts().prune(&[], &older).await.map(drop),
        target.farewell(&unit, &v1, Some(&older)).await.map(drop),
        target.prepare(&unit, bench.release("v3").await.as_ref(), &older).await,
    ] {
        let error = refused.unwrap_err();
        assert!(error.message.contains("newer lease"), "{error}");
    }
    target.rehearse(&unit, &v2, &newer).await.unwrap();
    bench.artifacts().prune(&[], &newer).await.unwrap();
    let seen = bench.observe(Slot::A, &v1).await;
    assert_eq!((seen.running, seen.pid, seen.deployment), (Running::Yes, first.pid, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_told_to_keep_a_start_goes_back_by_itself() {
    let bench = Bench::there(ALWAYS);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let first = bench.leads();
    bench.guarded(&v2, 2, Some(&v1), 1_500).await.unwrap();
    let reverted = |seen: &backout_core::ports::Observed| {
        matches!(seen.guard.as_ref().map(|guard| &guard.state), Some(GuardState::Reverted(_)))
    };
    let back = bench.until(Slot::A, &v1, reverted).await;
    assert_eq!((back.running, back.deployment), (Running::Yes, Some(1)), "{back:?}");
    assert_eq!((back.release.as_ref(), bench.leads()), (Some(&v1.id), first));
    assert!(back.tail.unwrap().contains("by itself"));
    let env = std::fs::read_to_string(bench.link(Slot::A).with_file_name("current.env")).unwrap();
    assert!(env.contains("BACKOUT_VERSION=\"v1\""), "{env}");

    // Told in time it stays.
    bench.guarded(&v2, 3, Some(&v1), 600_000).await.unwrap();
    let (unit, release) = (bench.unit(Slot::A), v2.clone());
    let keep = TargetAction::Confirm { unit, release, deployment: 3 };
    bench.target().apply(&keep, &bench.cx("confirm-3")).await.unwrap();
    let kept = bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    assert_eq!(kept.guard.map(|guard| guard.state), Some(GuardState::Confirmed));
    // What a way back would have put into its places goes with what nobody needs any more.
    let kept_back = || {
        ["json", "env"].map(|end| {
            bench.link(Slot::A).with_file_name(format!(".current.backout.back.{end}")).exists()
        })
    };
    assert_eq!(kept_back(), [true, true]);
    let digests = [&v1, &v2].map(|release| release.content.artifacts[0].digest.clone());
    bench.artifacts().prune(&digests, &bench.cx("prune")).await.unwrap();
    assert_eq!(kept_back(), [false, false]);
    bench.stop(Slot::A, &v2).await.unwrap();

    // A start that is made again, since its link broke, knows for which deployment the old release ran.
    bench.start(Slot::A, &v1, 4).await.unwrap();
    for _ in 0..2 {
        bench.guarded(&v2, 5, Some(&v1), 600_000).await.unwrap();
        let note = bench.link(Slot::A).with_file_name(".current.backout.back.json");
        let note: serde_json::Value =
            serde_json::from_slice(&std::fs::read(note).unwrap()).unwrap();
        assert_eq!(note["deployment"], 4, "{note}");
        bench.unfinish();
    }
    bench.stop(Slot::A, &v2).await.unwrap();

    // Where nothing ran before, nothing runs then.
    bench.guarded(&v1, 6, None, 1_000).await.unwrap();
    bench.until(Slot::A, &v1, reverted).await;
    assert_eq!(bench.observe(Slot::A, &v1).await.running, Running::No);
    assert!(!bench.link(Slot::A).exists());
}
