//! Somebody else has a say in the middle.

use std::path::PathBuf;
use std::sync::Arc;

use backout_adapters::host::FileLock;
use backout_adapters::host::procfs::{self, ProcessId};
use backout_core::ids::Slot;
use backout_core::ports::{ErrorClass, Running};
use backout_testkit::SshServers;
use backout_testkit::systemd::Machine;
use rustix::process::Signal;

use super::bench::{Bench, There, host};
use super::relay::{Cut, Relay};
use crate::world::PATIENCE;

/// A file at which a unit waits, until this is dropped.
struct Flag(PathBuf);

impl Flag {
    fn path(bench: &Bench, name: &str) -> PathBuf {
        bench.folder().join(name)
    }

    fn raise(bench: &Bench, name: &str) -> Self {
        let path = Self::path(bench, name);
        std::fs::write(&path, "").unwrap();
        Self(path)
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A unit of another host that waits at a flag before its program starts, and at another before it ends.
fn waiting(bench: Bench) -> Bench {
    let at = |setting: &str, flag: &str| {
        let flag = Flag::path(&bench, flag).display().to_string();
        format!("{setting}=/bin/sh -c 'while [ -e {flag} ]; do sleep 0.05; done'\n")
    };
    let lines = ["Restart=always\n", &at("ExecStartPre", "start-pre"), &at("ExecStop", "stop")];
    bench.machine.install(&bench.file(), &bench.text(&lines.concat()));
    bench
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, seen).await.unwrap_or_else(|_| panic!("{what}"))
}

/// The one that asks the manager to start the unit anew, once it waits there.
async fn asking(bench: &Bench, sub: &str) -> ProcessId {
    let unit = bench.name(Slot::A);
    until("the unit waits", || (bench.machine.property(&unit, "SubState") == sub).then_some(()))
        .await;
    let is_it = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words[0] == b"systemctl" && ["restart", &unit].iter().all(|w| words.contains(&w.as_bytes()))
    };
    until("somebody asks", || procfs::all().into_iter().find(|seen| is_it(seen.pid))).await.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_waited_for_its_turn_ends_what_was_started_meanwhile() {
    let bench = Bench::new(false);
    let v1 = bench.release("v1").await;
    let unit = bench.name(Slot::A);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    bench.machine.expect(&["stop", &unit]);
    let path = bench.link(Slot::A).with_file_name(".current.backout.lock");
    let turn = FileLock::try_take(&path).unwrap().expect("nobody else has it");
    let holders = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path)).count()
    };
    let meanwhile = async {
        // It opens the file once it has looked at the unit.
        until("it waits for its turn", || (holders() == 2).then_some(())).await;
        bench.machine.expect(&["start", &unit]);
        drop(turn);
    };
    let (stopped, ()) = tokio::join!(bench.stop(Slot::A, &v1), meanwhile);
    let said = stopped.unwrap().message;
    assert!(said.contains("ended"), "{said}");
    assert_eq!(bench.machine.property(&unit, "ActiveState"), "inactive");
    assert!(!bench.link(Slot::A).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_start_whose_call_is_ended_is_no_bad_release() {
    let bench = waiting(Bench::there(""));
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    // While the old program ends, and while the new one is about to start.
    for (sub, number, old, new) in [("stop", 2, &v1, &v2), ("start-pre", 3, &v2, &v1)] {
        let flag = Flag::raise(&bench, sub);
        let start = || bench.guarded(new, number, Some(old), 600_000);
        let ends = async { assert!(asking(&bench, sub).await.signal(Signal::TERM)) };
        let (started, ()) = tokio::join!(start(), ends);
        let error = started.unwrap_err();
        assert_eq!(error.class, ErrorClass::Unknown, "{sub}: {error}");
        drop(flag);
        start().await.unwrap_or_else(|e| panic!("{sub}: {e}"));
        let seen = bench.until(Slot::A, new, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.release.as_ref()), (Some(number), Some(&new.id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_start_that_somebody_stops_is_no_bad_release() {
    let bench = waiting(Bench::there(""));
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    for (sub, number, old, new) in [("stop", 2, &v1, &v2), ("start-pre", 3, &v2, &v1)] {
        let flag = Flag::raise(&bench, sub);
        let start = || bench.guarded(new, number, Some(old), 600_000);
        let stops = async {
            asking(&bench, sub).await;
            bench.machine.expect(&["stop", "--no-block", &bench.name(Slot::A)]);
        };
        let (started, ()) = tokio::join!(start(), stops);
        let error = started.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{sub}: {error}");
        assert!(error.message.contains("somebody else"), "{sub}: {error}");
        drop(flag);
        start().await.unwrap_or_else(|e| panic!("{sub}: {e}"));
        let seen = bench.until(Slot::A, new, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.release.as_ref()), (Some(number), Some(&new.id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_start_whose_manager_replaces_itself_is_no_bad_release() {
    // Its own: whoever else asks it meanwhile would be turned away too.
    let machine = Arc::new(Machine::own());
    let mut bench = Bench::on(Arc::clone(&machine), false, "");
    let servers = SshServers::inside(vec![machine]);
    std::fs::create_dir(servers.home(0).join("app")).unwrap();
    let host = Arc::new(host(&servers));
    bench.spec.root = None;
    bench.there = Some(There { servers, host });
    let bench = waiting(bench);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    for (sub, number, old, new) in [("stop", 2, &v1, &v2), ("start-pre", 3, &v2, &v1)] {
        let flag = Flag::raise(&bench, sub);
        let start = || bench.guarded(new, number, Some(old), 600_000);
        let replaces = async {
            let asking = asking(&bench, sub).await;
            bench.machine.expect(&["daemon-reexec"]);
            until("it was turned away", || (!asking.is_alive()).then_some(())).await;
        };
        let (started, ()) = tokio::join!(start(), replaces);
        if let Err(error) = started {
            assert_ne!(error.class, ErrorClass::Permanent, "{sub}: {error}");
        }
        drop(flag);
        start().await.unwrap_or_else(|e| panic!("{sub}: {e}"));
        let seen = bench.until(Slot::A, new, |seen| seen.running == Running::Yes).await;
        assert_eq!((seen.deployment, seen.release.as_ref()), (Some(number), Some(&new.id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_away_before_it_is_asked_is_waited_for() {
    for word in ["ResetFailedUnit", "Subscribe"] {
        for cut in [Cut::Before, Cut::After] {
            let mut bench = Bench::new(false);
            let folder = tempfile::tempdir().unwrap();
            let relay = Relay::start(folder.path(), bench.machine.socket(), word, cut, 4);
            let v1 = bench.release("v1").await;
            bench.bus = relay.address.clone();
            bench.start(Slot::A, &v1, 1).await.unwrap_or_else(|e| panic!("{word} {cut:?} {e}"));
            assert_ne!(relay.cut(), 0);
            let seen = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
            assert_eq!((seen.deployment, seen.restarts), (Some(1), 0));
        }
    }
}
