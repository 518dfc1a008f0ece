//! What a changing command reads comes over the link whole, or is not used.

use std::time::Duration;

use backout_adapters::host::{SshHost, procfs};
use backout_core::ids::ServiceName;
use backout_core::ports::{ErrorClass, GuardState, Host, HostCommand, HostEnded};
use backout_testkit::sshd::{Relay, SshServers};

use super::world::{World, change, guarded, look, options};

/// Longer than all that waits in pipes and windows on the way.
const BYTES: usize = 4 << 20;
const HALF: u64 = BYTES as u64 / 2;
/// What it read stands in `got`, and that it ran in `log`.
const READS: &str = "cat > got; echo read >> log";

/// No part of it is like another one.
fn input() -> Vec<u8> {
    let text: String = (0..BYTES / 8).map(|number| format!("{number:07}\n")).collect();
    text.into_bytes()
}

fn with_input(command: HostCommand) -> HostCommand {
    HostCommand { stdin: Some(input()), ..command }
}

/// A process on the host whose command line is like this one.
fn runs(world: &World, is: impl Fn(&str) -> bool) -> bool {
    let home = format!("HOME={}\0", world.servers.home(0).display());
    procfs::all().into_iter().any(|process| {
        let read = |what| std::fs::read(format!("/proc/{}/{what}", process.pid));
        let text = |what| String::from_utf8_lossy(&read(what).unwrap_or_default()).into_owned();
        is(text("cmdline").replace('\0', " ").trim_end()) && text("environ").contains(&home)
    })
}

fn reads_input(world: &World) -> bool {
    runs(world, |line| line == format!("head -c {BYTES}"))
}

/// Sends it over a link that is lost in the middle of its input, without a word to the host.
async fn send_half(world: &World, relay: &Relay, command: HostCommand) {
    let host = SshHost::new(options(&world.servers, 0));
    host.run(&look("true")).await.unwrap();
    relay.orphan_after(HALF);
    let error = host.run(&with_input(command)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    world.until("the rest of the input is waited for", reads_input).await;
}

/// The names of inputs that lie with the state on the host.
fn inputs_left(world: &World) -> Vec<String> {
    let state = world.servers.home(0).join(".local/state/backout-host/units");
    let found = std::process::Command::new("find").arg(state).args(["-name", "*.in*"]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

fn world_with_relay() -> (World, Relay) {
    let mut servers = SshServers::start(1);
    let relay = servers.relay(0);
    (World::on(servers), relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_falls_silent_in_the_middle_of_an_input_holds_nobody_up() {
    let (world, relay) = world_with_relay();
    send_half(&world, &relay, change(READS, "1")).await;
    // The same step again, a later one, another service of the environment, and a word that needs the lock.
    world.run(&with_input(change(READS, "1"))).await;
    assert!(world.read("got").into_bytes() == input(), "the whole input, and not the half");
    world.run(&change("echo later >> log", "2")).await;
    let mut other = change("echo other >> log", "1");
    other.change.as_mut().unwrap().unit.service = ServiceName::new("worker").unwrap();
    world.run(&other).await;
    assert_eq!(world.host.confirm(&world.unit(), 7).await.unwrap(), None);
    assert!(reads_input(&world), "all that time it was waited for");
    assert_eq!(inputs_left(&world), [""; 0]);
    // The server hears that nobody is there any more.
    relay.restore();
    world.until("it is given up", |world| !reads_input(world)).await;
    world.until_nobody_is_connected().await;
    assert_eq!(world.read("log"), "read\nlater\nother\n", "what came half is never run");
    assert_eq!(inputs_left(&world), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_change_is_taken_back_and_confirmed_whatever_half_came_after_it() {
    const WITHIN: Duration = Duration::from_secs(2);
    let (world, relay) = world_with_relay();
    // Two that are guarded: nobody confirms the first, and the second in time.
    let mut second = guarded("echo second >> log", "1", Duration::from_secs(600), "false");
    let mut unit = world.unit();
    unit.service = ServiceName::new("worker").unwrap();
    second.change.as_mut().unwrap().unit = unit.clone();
    world.run(&second).await;
    world.run(&guarded("echo first >> log", "1", WITHIN, "echo back >> log")).await;
    send_half(&world, &relay, change(READS, "2")).await;
    world.until("taken back", |world| world.read("log") == "second\nfirst\nback\n").await;
    let guard = world.host.confirm(&unit, 7).await.unwrap().unwrap();
    assert_eq!(guard.state, GuardState::Confirmed);
    assert!(reads_input(&world), "all that time it was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_of_a_call_at_work_is_its_own_whatever_comes_later() {
    const SLOWLY: &str = "echo begun >> log; IFS= read -r line; echo \"$line\" > got; \
                          while [ ! -e go ]; do sleep 0.05; done; cat >> got; echo said";
    let mut world = World::new();
    let command = with_input(change(SLOWLY, "1"));
    let spawn = |host: &std::sync::Arc<SshHost>| {
        let (host, command) = (host.clone(), command.clone());
        tokio::spawn(async move { host.run(&command).await.unwrap() })
    };
    let first = spawn(&world.host);
    world.until("it reads", |world| world.has("got")).await;
    let second = spawn(&world.host);
    world.until("joined", |world| runs(world, |line| line == "sleep 0.1")).await;
    // Those that were connected before do not notice a third one that is lost.
    let relay = world.servers.relay(0);
    send_half(&world, &relay, command.clone()).await;
    world.write("go", "");
    for call in [first, second] {
        let output = call.await.unwrap();
        assert_eq!((output.ended, output.stdout), (HostEnded::Exited(0), b"said\n".to_vec()));
    }
    assert!(world.read("got").into_bytes() == input(), "all of its input");
    assert_eq!(world.read("log"), "begun\n", "it ran once");
    assert_eq!(inputs_left(&world), [""; 0]);
}
