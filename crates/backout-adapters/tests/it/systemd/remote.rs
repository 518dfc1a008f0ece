//! Units of another host, on a real sshd inside of the system that runs them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use backout_core::ids::Slot;
use backout_core::model::{Release, Severity};
use backout_core::ports::{
    ArtifactStore as _, ErrorClass, GuardState, Receipt, Revert, Running, StepCx, Target as _,
    TargetAction,
};

use super::bench::{Bench, start};

const ALWAYS: &str = "Restart=always\nRestartSec=100ms\n";

impl Bench {
    /// What the link of the host leads to.
    fn leads(&self) -> std::path::PathBuf {
        std::fs::read_link(self.link(Slot::A)).unwrap()
    }

    async fn guarded(
        &self,
        release: &Arc<Release>,
        deployment: u64,
        back_to: Option<&Arc<Release>>,
        within_ms: u64,
    ) -> Receipt {
        let action = TargetAction::Start {
            unit: self.unit(Slot::A),
            release: Arc::clone(release),
            deployment,
            restore: false,
            revert: Some(Revert { back_to: back_to.cloned(), within_ms }),
            batch: None,
        };
        let cx = self.cx(&format!("start-{deployment}"));
        self.target().apply(&action, &cx).await.unwrap_or_else(|e| panic!("{e}"))
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
    std::fs::write(there.join("own.log"), "the program's own").unwrap();
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(there.join(name)).unwrap().ino()
    };
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let back = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!((back.deployment, back.restarts), (Some(3), 0));
    assert_eq!(std::fs::read_to_string(there.join("own.log")).unwrap(), "the program's own");
    // What is whole is not sent again.
    let before = inode("large");
    bench.start(Slot::A, &v2, 4).await.unwrap();
    bench.start(Slot::A, &v1, 5).await.unwrap();
    assert_eq!(inode("large"), before);

    // Folders there go with the copies here, and never what runs.
    let keep = |release: &Release| vec![release.content.artifacts[0].digest.clone()];
    bench.artifacts().prune(&keep(&v1)).await.unwrap();
    let left = std::fs::read_dir(there.parent().unwrap()).unwrap().count();
    assert_eq!(left, 2, "the folder and its label");
    bench.artifacts().prune(&[]).await.unwrap();
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
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    let relay = bench.there.as_mut().unwrap().servers.relay(0);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let began = relay.passed();
    bench.start(Slot::A, &v1, 3).await.unwrap();
    let whole = relay.passed() - began;
    for part in 1..6 {
        let (wanted, number) = (if part % 2 == 1 { &v2 } else { &v1 }, 3 + part);
        relay.cut_after(whole * part / 6);
        if let Err(error) = bench.start(Slot::A, wanted, number).await {
            assert_ne!(error.class, ErrorClass::Permanent, "{error}");
        }
        relay.restore();
        bench.start(Slot::A, wanted, number).await.unwrap();
        let seen = bench.until(Slot::A, wanted, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.release.as_ref()), (Some(number), Some(&wanted.id)));
        assert_eq!(bench.machine.property(&bench.name(Slot::A), "ActiveState"), "active");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_lease_changes_nothing_there() {
    let bench = Bench::there(ALWAYS);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
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
    let seen = bench.observe(Slot::A, &v1).await;
    assert_eq!((seen.running, seen.pid, seen.deployment), (Running::Yes, first.pid, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_told_to_keep_a_start_goes_back_by_itself() {
    let bench = Bench::there(ALWAYS);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let first = bench.leads();
    bench.guarded(&v2, 2, Some(&v1), 1_500).await;
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
    bench.guarded(&v2, 3, Some(&v1), 600_000).await;
    let (unit, release) = (bench.unit(Slot::A), v2.clone());
    let keep = TargetAction::Confirm { unit, release, deployment: 3 };
    bench.target().apply(&keep, &bench.cx("confirm-3")).await.unwrap();
    let kept = bench.until(Slot::A, &v2, |seen| seen.running == Running::Yes).await;
    assert_eq!(kept.guard.map(|guard| guard.state), Some(GuardState::Confirmed));
    bench.stop(Slot::A, &v2).await.unwrap();

    // Where nothing ran before, nothing runs then.
    bench.guarded(&v1, 4, None, 1_000).await;
    bench.until(Slot::A, &v1, reverted).await;
    assert_eq!(bench.observe(Slot::A, &v1).await.running, Running::No);
    assert!(!bench.link(Slot::A).exists());
}
