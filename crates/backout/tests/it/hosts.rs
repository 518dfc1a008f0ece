//! A script on several hosts, each a real sshd with a home folder of its own.

use crate::support::{Fleet, wait_until};

fn all(version: &str, count: usize) -> Vec<String> {
    vec![version.to_owned(); count]
}

#[test]
fn every_host_is_brought_there_and_back_and_told_apart() {
    let fleet = Fleet::new(3, "", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2").expect(0);
    assert_eq!(fleet.runs(), all("v2", 3));
    let healthy = |index: usize| (format!("host{index}"), "healthy".to_owned());
    assert_eq!(fleet.services(), (0..3).map(healthy).collect::<Vec<_>>());
    fleet.deploy("v3-bad").expect(10);
    assert_eq!(fleet.runs(), all("v2", 3));
    fleet.run(&["rollback", "--force", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), all("v1", 3));
    for index in 0..3 {
        let calls = ["deploy v1", "deploy v2", "deploy v3-bad", "rollback v2", "rollback v1"];
        assert_eq!(fleet.changes(index), calls);
    }
    // One host falls behind: it is named, and `status` says so.
    fleet.put(1, "runs", "v0-bad\n");
    let ran = fleet.run(&["status", "--check"]).expect(0);
    assert!(ran.stdout.contains("2 of 3 healthy, shop@host1 failing"), "{}", ran.stdout);
    assert_eq!(fleet.services()[1], ("host1".to_owned(), "failing".to_owned()));
    fleet.run(&["down", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), all("", 3));
}

#[test]
fn a_batch_that_fails_spares_the_hosts_behind_it() {
    let fleet = Fleet::new(3, "strategy: { rolling: { batch: 1 } }\n", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2-bad").expect(10);
    assert_eq!(fleet.runs(), all("v1", 3));
    assert_eq!(fleet.changes(0), ["deploy v1", "deploy v2-bad", "rollback v1"]);
    assert_eq!(fleet.changes(1), ["deploy v1"]);
    assert_eq!(fleet.changes(2), ["deploy v1"]);
}

#[test]
fn a_host_that_refuses_makes_it_mixed_and_takes_the_others_back() {
    let fleet = Fleet::new(3, "", "");
    fleet.deploy("v1").expect(0);
    fleet.put(1, "fail-deploy", "3");
    let ran = fleet.deploy("v2").expect(10);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("mixed, done on 2 of 3"), "{told}");
    assert!(told.contains("shop@host1"), "{told}");
    assert_eq!(fleet.runs(), all("v1", 3));
    assert_eq!(fleet.world.row(2)["status"], "rolled_back");
}

#[test]
fn a_host_that_can_not_be_reached_is_left_alone_and_the_others_go_back() {
    let mut fleet = Fleet::new(3, "", "");
    fleet.deploy("v1").expect(0);
    fleet.servers.stop(2);
    let ran = fleet.run(&["status", "--check"]).expect(0);
    assert!(ran.stdout.contains("2 of 3 healthy, shop@host2 unknown"), "{}", ran.stdout);
    let ran = fleet.run(&["doctor"]).expect(1);
    assert!(ran.stdout.contains("failed to reach host2"), "{}", ran.stdout);
    let ran = fleet.deploy("v2").expect(10);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("shop@host2"), "{told}");
    assert_eq!(fleet.runs(), all("v1", 3));
    assert_eq!(fleet.changes(2), ["deploy v1"], "it was never told to change");
}

#[test]
fn a_way_back_that_misses_a_host_is_stuck_by_its_name_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::new(3, "", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2").expect(0);
    fleet.servers.stop(1);
    let ran = fleet.run(&["rollback", "--force", "--yes"]).expect(12);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("host1") && told.contains("done on 2 of 3"), "{told}");
    assert_eq!(fleet.runs(), ["v1", "v2", "v1"]);
    fleet.servers.start_again(1);
    fleet.run(&["recover", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), all("v1", 3));
    assert_eq!(fleet.changes(0).last().unwrap(), "rollback v1", "once, not again");
    assert_eq!(fleet.changes(0).iter().filter(|call| *call == "rollback v1").count(), 1);
}

#[test]
fn killed_in_the_middle_of_a_wave_it_goes_back_on_every_host() {
    let fleet = Fleet::new(3, "", "");
    fleet.deploy("v1").expect(0);
    fleet.put(1, "hang-deploy", "");
    let deploying = fleet.deploying("v2");
    wait_until("the others have it", || {
        fleet.file(0, "runs").trim() == "v2" && fleet.changes(1).len() == 2
    });
    deploying.signal(rustix::process::Signal::KILL);
    deploying.wait();
    fleet.remove(1, "hang-deploy");
    fleet.run(&["recover", "--yes"]).expect(10);
    assert_eq!(fleet.runs(), all("v1", 3));
}

/// The caller hangs for longer than its lease lasts, and goes on when another one has taken it all back.
#[test]
fn a_caller_that_slept_through_its_lease_changes_no_host_any_more() {
    let fleet = Fleet::new(2, "", "");
    fleet.deploy("v1").expect(0);
    fleet.put(1, "hang-deploy", "");
    let deploying = fleet.deploying("v2");
    wait_until("host1 is at it", || {
        fleet.file(0, "runs").trim() == "v2" && fleet.changes(1).len() == 2
    });
    deploying.signal(rustix::process::Signal::STOP);
    fleet.remove(1, "hang-deploy");
    // It claims the next epoch once the term is over.
    fleet.run(&["rollback", "--force", "--reason", "it does not answer", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), all("v1", 2));
    let calls: Vec<_> = (0..2).map(|index| fleet.changes(index)).collect();
    deploying.signal(rustix::process::Signal::CONT);
    let ran = deploying.wait();
    assert_ne!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!((0..2).map(|index| fleet.changes(index)).collect::<Vec<_>>(), calls);
    assert_eq!(fleet.runs(), all("v1", 2));
    let status = fleet.world.status();
    assert_eq!(
        (&status["version"], &status["operation"]),
        (&"v1".into(), &serde_json::Value::Null)
    );
}

#[test]
fn a_host_that_hears_nothing_goes_back_by_itself_and_all_follow() {
    let mut fleet = Fleet::new(2, "", "");
    let relay = fleet.servers.relay(0);
    fleet.configure("strategy: { rolling: { batch: 1, pause: 4s } }\n", ", confirm: 8s");
    fleet.deploy("v1").expect(0);
    assert_eq!(fleet.changes(0), ["deploy v1"], "confirmed, so that it stays");

    let deploying = fleet.deploying("v2");
    // Its answer has come, and nothing is confirmed before the pause is over.
    wait_until("it is watched there", || {
        fleet.world.status()["operation"]["step"] == "await_batch"
    });
    relay.swallow();
    wait_until("it went back by itself", || fleet.file(0, "runs").trim() == "v1");
    assert_eq!(fleet.changes(0), ["deploy v1", "deploy v2", "rollback v1"]);
    relay.restore();
    let ran = deploying.wait();
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(10), "{told}");
    assert!(told.contains("took it back"), "{told}");
    assert_eq!(fleet.runs(), all("v1", 2), "{told}");
    assert_eq!(fleet.changes(1), ["deploy v1"], "the second batch was never begun");
    assert_eq!(fleet.world.row(2)["rejected"], false, "{told}");
}

/// Wherever the link of one host breaks in a deploy or a rollback, and stays away until the command is over.
#[test]
fn a_link_that_breaks_anywhere_ends_with_one_release_on_all_hosts() {
    let mut fleet = Fleet::new(2, "", "");
    // Before anybody has connected.
    let relay = fleet.servers.relay(0);
    fleet.deploy("v1").expect(0);
    let bytes_of = |args: &[&str]| {
        let before = relay.passed();
        fleet.run(args).expect(0);
        relay.passed() - before
    };
    let back = ["rollback", "--force", "--yes"];
    let deploy_bytes = bytes_of(&["deploy", "--version", "v2", "--yes"]);
    let back_bytes = bytes_of(&back);
    for part in 1..7 {
        let is_deploy = part % 2 == 1;
        let version = format!("w{part}");
        let deploy = ["deploy", "--version", &version, "--yes"];
        let (args, bytes) =
            if is_deploy { (&deploy[..], deploy_bytes) } else { (&back[..], back_bytes) };
        relay.cut_after(bytes * part / 7);
        let ran = fleet.run(args);
        assert!(relay.is_cut(), "{part}: {}", ran.stderr);
        assert!(
            matches!(ran.code, Some(0 | 1 | 4 | 10 | 11 | 12)),
            "{part}: {:?} {}",
            ran.code,
            ran.stderr
        );
        relay.restore();
        let recovered = fleet.run(&["recover", "--yes"]);
        assert!(matches!(recovered.code, Some(0 | 10)), "{part}: {}", recovered.stderr);
        let runs = fleet.runs();
        assert_eq!(runs[0], runs[1], "{part}: {}", ran.stderr);
        let status = fleet.world.status();
        assert_eq!(
            (&status["version"], &status["operation"]),
            (&runs[0].as_str().into(), &serde_json::Value::Null),
            "{part}: {status:#}"
        );
        // What comes next finds nothing in its way.
        fleet.deploy(&format!("x{part}")).expect(0);
    }
}

#[test]
fn a_host_whose_key_changed_is_not_talked_to_and_the_others_go_back() {
    let mut fleet = Fleet::new(2, "", "");
    fleet.deploy("v1").expect(0);
    fleet.servers.change_host_key(1);
    let ran = fleet.deploy("v2");
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(matches!(ran.code, Some(4 | 10)), "{:?} {told}", ran.code);
    assert!(told.contains("host key is another one than the one that is known"), "{told}");
    assert!(told.contains("ssh-keygen"), "{told}");
    assert_eq!(fleet.runs(), all("v1", 2));
    assert_eq!(fleet.changes(1), ["deploy v1"], "it was told nothing");
    assert_eq!(fleet.world.status()["version"], "v1");
    let ran = fleet.run(&["doctor"]).expect(1);
    assert!(ran.stdout.contains("failed to reach host1"), "{}", ran.stdout);
}

#[test]
fn other_hosts_need_a_ledger_that_others_can_read() {
    let fleet = Fleet::new(1, "", "");
    fleet.world.run(&["deploy", "--version", "v1", "--yes"]).expect(4).says("--local-ledger");
    // Who goes back with the wrong state folder is told where the history is, not to begin another one.
    let ran = fleet.world.run(&["rollback", "--yes"]).expect(4);
    assert!(!ran.stderr.contains("--local-ledger"), "{}", ran.stderr);
    assert!(fleet.changes(0).is_empty());
}
