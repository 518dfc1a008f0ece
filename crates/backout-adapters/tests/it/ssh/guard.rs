//! A host takes a change back by itself, unless it is told in time that it may stay.

use std::time::Duration;

use backout_core::ports::{ErrorClass, GuardState, Host, HostEnded};
use backout_testkit::sshd::SshServers;

use super::world::{World, change, guarded};

const SOON: Duration = Duration::from_millis(700);
const LATER: Duration = Duration::from_secs(120);
const BACK: &str = "echo \"$BACK\" >> log";

async fn state(world: &World) -> GuardState {
    let guard = world.guard().await.expect("it was guarded");
    assert_eq!(guard.deployment, 7);
    guard.state
}

async fn until_state(world: &World, is: impl Fn(&GuardState) -> bool) -> GuardState {
    let wait = async {
        loop {
            let now = state(world).await;
            if is(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), wait).await.expect("the guard changes")
}

fn is_reverted(state: &GuardState) -> bool {
    matches!(state, GuardState::Reverted(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_confirms_is_taken_back_once() {
    let world = World::new();
    let output = world.run(&guarded("echo new >> log; echo said", "1", SOON, BACK)).await;
    assert_eq!((output.ended, output.stdout.as_slice()), (HostEnded::Exited(0), &b"said\n"[..]));
    until_state(&world, is_reverted).await;
    assert_eq!(world.read("log"), "new\nway back\n");
    let error = world.host.confirm(&world.unit(), 7).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("host0 took it back at 2"), "{error}");
    // A command of the same step that comes too late finds that out.
    let error = world.host.run(&change("echo late >> log", "1")).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.message.contains("took the change back"),
        "{error}"
    );
    // The next step begins anew.
    world.run(&change("echo next >> log", "2")).await;
    assert_eq!(world.guard().await, None);
    assert_eq!(world.read("log"), "new\nway back\nnext\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_in_time_stays() {
    let world = World::new();
    world.run(&guarded("echo new >> log", "1", Duration::from_secs(20), BACK)).await;
    assert_eq!(state(&world).await, GuardState::Armed);
    for _ in 0..2 {
        let guard = world.host.confirm(&world.unit(), 7).await.unwrap().unwrap();
        assert_eq!(guard.state, GuardState::Confirmed, "as often as one likes");
    }
    assert_eq!(world.host.confirm(&world.unit(), 8).await.unwrap(), None, "of another deployment");
    world.until("the watcher leaves", |_| watchers(&world) == 0).await;
    assert_eq!(world.read("log"), "new\n");
    assert_eq!(state(&world).await, GuardState::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_reaches_any_more_goes_back_alone() {
    let mut servers = SshServers::start(1);
    let relay = servers.relay(0);
    let world = World::on(servers);
    world.run(&guarded("echo new >> log", "1", SOON, BACK)).await;
    relay.cut();
    let unreached = world.host.confirm(&world.unit(), 7).await.unwrap_err();
    assert_ne!(unreached.class, ErrorClass::Permanent, "{unreached}");
    world.until("taken back", |world| world.read("log") == "new\nway back\n").await;
    relay.restore();
    until_state(&world, is_reverted).await;
    let error = world.host.confirm(&world.unit(), 7).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_in_the_middle_of_the_change_is_guarded_too() {
    let world = World::new();
    let line = "echo new >> log; while [ ! -e go ]; do sleep 0.05; done";
    let host = world.host.clone();
    let call = tokio::spawn(async move { host.run(&guarded(line, "1", SOON, BACK)).await });
    world.until("it has begun", |world| world.has("log")).await;
    world.servers.kill_sessions(0);
    assert_eq!(call.await.unwrap().unwrap_err().class, ErrorClass::Unknown);
    // Time counts from the end of the change: nothing is taken back under it.
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(state(&world).await, GuardState::Armed);
    assert_eq!(world.read("log"), "new\n");
    world.write("go", "");
    until_state(&world, is_reverted).await;
    assert_eq!(world.read("log"), "new\nway back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_change_ends_the_guard_of_the_one_before() {
    let world = World::new();
    world.run(&guarded("echo one >> log", "1", LATER, BACK)).await;
    world.run(&guarded("echo two >> log", "2", LATER, BACK)).await;
    world.until("only one watches", |_| watchers(&world) == 1).await;
    world.run(&change("echo three >> log", "3")).await;
    world.until("nobody watches", |_| watchers(&world) == 0).await;
    assert_eq!(world.guard().await, None);
    assert_eq!(world.read("log"), "one\ntwo\nthree\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_guarded_step_leaves_its_guard_alone() {
    let world = World::new();
    world.run(&guarded("echo one >> log", "start-1", LATER, BACK)).await;
    world.run(&change("echo part >> log", "start-1/back")).await;
    assert_eq!(state(&world).await, GuardState::Armed);
    assert_eq!(watchers(&world), 1);
    // A name that only begins like it is another step's.
    world.run(&change("echo other >> log", "start-10/back")).await;
    assert_eq!(world.guard().await, None);
    // What was taken back meanwhile takes no part any more.
    world.run(&guarded("echo two >> log", "start-2", SOON, BACK)).await;
    until_state(&world, is_reverted).await;
    let error = world.host.run(&change("echo late >> log", "start-2/back")).await.unwrap_err();
    assert!(error.message.contains("took the change back"), "{error}");
    assert_eq!(world.read("log"), "one\npart\nother\ntwo\nway back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_fails_is_said_with_its_words() {
    let world = World::new();
    world.run(&guarded("true", "1", SOON, "echo no such release >&2; exit 3")).await;
    let failed = until_state(&world, |state| matches!(state, GuardState::Failed(..))).await;
    let GuardState::Failed(_, said) = failed else { panic!("{failed:?}") };
    assert_eq!(said, "no such release");
    assert!(world.host.confirm(&world.unit(), 7).await.is_err());
    let words = world.host.last_words(&world.unit(), 1_000).await.unwrap();
    assert_eq!(words.revert, b"no such release\n");
    // The next change has nothing to do with it.
    world.run(&change("echo next; echo to stderr >&2", "2")).await;
    let words = world.host.last_words(&world.unit(), 1_000).await.unwrap();
    assert!(
        words.stdout.ends_with(b"next\n") && words.stderr.ends_with(b"to stderr\n"),
        "{words:?}"
    );
    assert_eq!(words.revert, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_was_killed_is_not_believed_to_watch() {
    let world = World::new();
    world.run(&guarded("true", "1", LATER, BACK)).await;
    for pid in watcher_pids(&world) {
        kill(pid);
    }
    until_state(&world, |state| *state == GuardState::Lost).await;
    let guard = world.host.confirm(&world.unit(), 7).await.unwrap().unwrap();
    assert_eq!(guard.state, GuardState::Confirmed);
}

fn watcher_pids(world: &World) -> Vec<u32> {
    let mark = world.servers.home(0).display().to_string();
    backout_adapters::host::procfs::all()
        .into_iter()
        .map(|process| process.pid)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&mark) && line.contains(".sh watch ")
        })
        .collect()
}

fn watchers(world: &World) -> usize {
    watcher_pids(world).len()
}

fn kill(pid: u32) {
    if let Some(process) = backout_adapters::host::procfs::ProcessId::of(pid) {
        let _ = process.signal(rustix::process::Signal::KILL);
    }
}
