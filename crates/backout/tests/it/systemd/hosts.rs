//! Units of two other hosts, each a system of its own with a real sshd in it.

use std::fs;
use std::sync::Arc;

use backout_testkit::SshServers;
use backout_testkit::systemd::Machine;

use crate::support::{Ran, World, wait_until, write_program};

struct Fleet {
    // Dropped before the machines, so that it can take down what runs.
    world: World,
    servers: SshServers,
    machines: Vec<Arc<Machine>>,
    unit: String,
}

impl Fleet {
    fn new(ssh: &str, more: &str) -> Self {
        let machines = vec![Machine::shared(), Arc::new(Machine::own())];
        let servers = SshServers::inside(machines.clone());
        let world = World::bare();
        let app = format!("fleet{}", world.listen);
        let this = Self { world, servers, machines, unit: format!("{app}.service") };
        for version in ["v1", "v2"] {
            this.program(version, "exec sleep 3000");
        }
        this.program("v3-bad", "exit 1");
        for (index, machine) in this.machines.iter().enumerate() {
            let link = this.servers.home(index).join("shop/current");
            fs::create_dir(this.servers.home(index).join("shop")).unwrap();
            let link = link.display();
            let text = format!(
                "[Service]\nExecStart={link}/serve\nEnvironmentFile=-{link}.env\nRestart=always\nRestartSec=100ms\n"
            );
            machine.install(&this.unit, &text);
        }
        this.world.write(
            "backout.yaml",
            &format!(
                "app: {app}\ntarget: {{ systemd: {{ unit: {}, artifact: \"build/{{version}}\" }} }}\n\
                 hosts: [host0, host1]\n\
                 ssh: {{ config: {}, folder: shop, jitter: 0s, connect_timeout: 10s{ssh} }}\n\
                 health: {{ consecutive_passes: 2, during_rollout: {{ interval: 200ms }}, startup_timeout: 60s }}\n\
                 bake_time: 500ms\n{more}",
                this.unit,
                this.servers.config().display(),
            ),
        );
        this
    }

    fn program(&self, version: &str, script: &str) {
        let folder = self.world.folder().join("build").join(version);
        fs::create_dir_all(&folder).unwrap();
        write_program(&folder.join("serve"), &format!("#!/bin/sh\n{script}\n"));
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&[args, &["--local-ledger"]].concat())
    }

    fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes"])
    }

    /// What the unit of a host was told that it runs, while it does.
    fn runs(&self, index: usize) -> String {
        if self.machines[index].property(&self.unit, "ActiveState") != "active" {
            return String::new();
        }
        let env = fs::read_to_string(self.servers.home(index).join("shop/current.env"));
        let env = env.unwrap_or_default();
        let line = env.lines().find_map(|line| line.strip_prefix("BACKOUT_VERSION=\""));
        line.map(|version| version.trim_end_matches('"').to_owned()).unwrap_or_default()
    }

    fn all_run(&self, version: &str) {
        assert_eq!([self.runs(0), self.runs(1)], [version, version]);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for machine in &self.machines {
            let _ = machine.systemctl(&["stop", &self.unit]);
            let _ = machine.systemctl(&["reset-failed", &self.unit]);
            let _ = fs::remove_file(machine.units().join(&self.unit));
        }
    }
}

#[test]
fn units_of_two_hosts_are_brought_there_and_back() {
    let mut fleet = Fleet::new("", "");
    let ran = fleet.run(&["doctor"]).expect(0);
    assert!(ran.stdout.contains("host1: systemd"), "{}", ran.stdout);
    fleet.deploy("v1").expect(0);
    fleet.all_run("v1");
    fleet.deploy("v2").expect(0);
    fleet.all_run("v2");
    fleet.deploy("v3-bad").expect(10);
    fleet.all_run("v2");

    // One can't be reached on the way back: the other goes, and it follows when it is there again.
    fleet.servers.stop(1);
    let ran = fleet.run(&["rollback", "--force", "--yes"]).expect(12);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("host1") && told.contains("done on 1 of 2"), "{told}");
    assert_eq!([fleet.runs(0), fleet.runs(1)], ["v1", "v2"]);
    fleet.servers.start_again(1);
    fleet.run(&["recover", "--yes"]).expect(0);
    fleet.all_run("v1");

    // The same with the first one, which is asked first for whatever is about all of them.
    fleet.deploy("v2").expect(0);
    fleet.servers.stop(0);
    let ran = fleet.run(&["rollback", "--force", "--yes"]).expect(12);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("host0") && told.contains("done on 1 of 2"), "{told}");
    assert_eq!([fleet.runs(0), fleet.runs(1)], ["v2", "v1"]);
    fleet.servers.start_again(0);
    fleet.run(&["recover", "--yes"]).expect(0);
    fleet.all_run("v1");

    // Killed in the middle, with the release begun on one of them at least.
    let deploying = fleet.world.spawn(&["deploy", "--version", "v2", "--yes", "--local-ledger"]);
    wait_until("one has it", || fleet.runs(0) == "v2" || fleet.runs(1) == "v2");
    deploying.signal(rustix::process::Signal::KILL);
    deploying.wait();
    let code = fleet.run(&["recover", "--yes"]).code;
    // It may have been done but for its bake.
    assert!(matches!(code, Some(0 | 10)), "{code:?}");
    let live = fleet.runs(0);
    assert!(["v1", "v2"].contains(&live.as_str()), "{live:?} runs");
    fleet.all_run(&live);
    fleet.run(&["down", "--yes"]).expect(0);
    assert_eq!([fleet.runs(0), fleet.runs(1)], ["", ""]);
}

#[test]
fn a_release_that_does_not_arrive_everywhere_changes_nothing_anywhere() {
    let mut fleet = Fleet::new("", "");
    fleet.deploy("v1").expect(0);
    fleet.servers.stop(1);
    let ran = fleet.deploy("v2").expect(1);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("failed to reach host1"), "{told}");
    fleet.all_run("v1");
    assert_eq!(fleet.world.status()["version"], "v1");
    fleet.servers.start_again(1);
    fleet.deploy("v2").expect(0);
    fleet.all_run("v2");
}

#[test]
fn a_unit_file_that_was_changed_on_any_host_is_told() {
    let fleet = Fleet::new("", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2").expect(0);
    let ready = || {
        let status = fleet.run(&["status", "--check", "--format", "json"]).json();
        status["environments"][0]["rollback_readiness"].clone()
    };
    let before = ready();
    assert_eq!(before["ready"], true, "{before:#}");
    let link = fleet.servers.home(1).join("shop/current");
    let text = format!("[Service]\nExecStart={}/serve --other\n", link.display());
    fleet.machines[1].install(&fleet.unit, &text);
    let after = ready();
    assert_eq!(after["ready"], false, "{after:#}");
    let told = after.to_string();
    assert!(told.contains("host1") && !told.contains("host0:/"), "{after:#}");
}

#[test]
fn a_unit_that_nobody_confirms_goes_back_and_the_others_follow() {
    let mut fleet = Fleet::new(", confirm: 8s", "strategy: { rolling: { batch: 1, pause: 4s } }\n");
    let relay = fleet.servers.relay(0);
    fleet.deploy("v1").expect(0);
    fleet.all_run("v1");
    let deploying = fleet.world.spawn(&["deploy", "--version", "v2", "--yes", "--local-ledger"]);
    wait_until("it has begun there", || fleet.runs(0) == "v2");
    relay.swallow();
    wait_until("it went back by itself", || fleet.runs(0) == "v1");
    relay.restore();
    let ran = deploying.wait();
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(10), "{told}");
    assert!(told.contains("by itself"), "{told}");
    fleet.all_run("v1");
    fleet.run(&["down", "--yes"]).expect(0);
}
