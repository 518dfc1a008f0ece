//! Containers on two hosts: each a real sshd, with a Docker Engine of its own.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backout_testkit::SshServers;
use backout_testkit::docker::{Engine, Registry};

use crate::support::{Background, Ran, World, wait_until};

/// One fleet at a time: each has an engine of its own beside the shared one.
static ALONE: Mutex<()> = Mutex::new(());

/// Healthy where the page begins with `v`.
const COMPOSE: &str = "services:
  web:
    image: IMAGE:${BACKOUT_VERSION}
    init: true
    restart: always
    stop_grace_period: 1s
    healthcheck: { test: [CMD, /bin/busybox, grep, -q, ^v, /www/health], interval: 1s, retries: 2 }
";

/// What it waits for before a start: while there is a file `hold-VERSION`.
const FIRST: &str = "    depends_on: { first: { condition: service_completed_successfully } }
  first:
    image: IMAGE:${BACKOUT_VERSION}
    init: true
    command: [/bin/busybox, sh, -c, \"while [ -e /gate/hold-${BACKOUT_VERSION} ]; do sleep 0.1; done\"]
    volumes: [\"GATE:/gate\"]
";

struct Fleet {
    // Dropped before what it runs on, so that it can take it down.
    world: World,
    servers: SshServers,
    engines: [Arc<Engine>; 2],
    app: String,
    _registry: Registry,
    _alone: MutexGuard<'static, ()>,
}

impl Fleet {
    /// Versions `v1`, `v2` and `v3-bad` in a registry that both engines reach, and in neither of them; `more` is added to
    /// the compose file.
    fn new(more: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (world, servers, registry) = (World::bare(), SshServers::start(2), Registry::start());
        let engines = [Engine::shared(), Arc::new(Engine::own())];
        let app = format!("fleet{}", world.listen);
        let image = registry.reference(&format!("{app}/web"));
        for (version, page) in [("v1", "v1"), ("v2", "v2"), ("v3-bad", "bad")] {
            let tag = format!("{image}:{version}");
            engines[0].web(&tag, page);
            engines[0].expect(&["push", "--quiet", &tag]);
            engines[0].expect(&["image", "rm", &tag]);
        }
        for (index, engine) in engines.iter().enumerate() {
            let link = servers.home(index).join("docker.sock");
            std::os::unix::fs::symlink(engine.folder().join("socket"), link).unwrap();
        }
        // What is set here leads nowhere, and must not win.
        for (name, value) in engines[0].env() {
            world.set(&name, &value);
        }
        world.set("DOCKER_HOST", "tcp://127.0.0.1:1");
        world.set("DOCKER_CONTEXT", "nowhere");
        let gate = servers.home(0).join("gate");
        fs::create_dir(&gate).unwrap();
        let compose = format!("{COMPOSE}{more}")
            .replace("IMAGE", &image)
            .replace("GATE", &gate.display().to_string());
        world.write("compose.yaml", &compose);
        let config = servers.config().display().to_string();
        world.write(
            "backout.yaml",
            &format!(
                "app: {app}\ntarget: compose\nhosts: [host0, host1]\n\
                 ssh: {{ config: {config}, docker_socket: docker.sock, jitter: 0s, connect_timeout: 5s }}\n\
                 shutdown: {{ grace: 2s }}\nbake_time: 1s\n\
                 health: {{ startup_timeout: 90s }}\n"
            ),
        );
        Self { world, servers, engines, app, _registry: registry, _alone: alone }
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&[args, &["--local-ledger"]].concat())
    }

    fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes"])
    }

    fn deploying(&self, version: &str) -> Background {
        self.world.spawn(&["deploy", "--version", version, "--yes", "--local-ledger"])
    }

    fn hold(&self, version: &str) {
        fs::write(self.servers.home(0).join(format!("gate/hold-{version}")), "").unwrap();
    }

    fn release(&self, version: &str) {
        fs::remove_file(self.servers.home(0).join(format!("gate/hold-{version}"))).unwrap();
    }

    /// Versions of the containers of a service that run, host by host.
    fn runs_as(&self, service: &str) -> Vec<String> {
        let app = format!("label=backout.app={}", self.app);
        let service = format!("label=com.docker.compose.service={service}");
        let args = ["ps", "--filter", &app, "--filter", &service, "--format"];
        let args = [&args[..], &["{{.Label \"backout.version\"}}"]].concat();
        self.engines.iter().map(|engine| engine.expect(&args)).collect()
    }

    fn runs(&self) -> Vec<String> {
        self.runs_as("web")
    }

    /// Waits until compose waits on both hosts.
    fn wait_for_start_of(&self, version: &str) {
        wait_until("it starts on both", || self.runs_as("first") == [version, version]);
    }
}

fn told(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

#[test]
fn two_hosts_are_brought_there_and_back_and_one_that_is_cut_off_is_told_by_name() {
    let mut fleet = Fleet::new("");
    let doctor = fleet.run(&["doctor", "--format", "json"]).stdout;
    for words in ["on host0 answers", "on host1 answers", "compose.yaml is valid"] {
        assert!(doctor.contains(words), "{words}: {doctor}");
    }
    fleet.deploy("v1").expect(0);
    assert_eq!(fleet.runs(), ["v1", "v1"]);
    fleet.deploy("v2").expect(0);
    assert_eq!(fleet.runs(), ["v2", "v2"]);
    fleet.deploy("v3-bad").expect(10);
    assert_eq!(fleet.runs(), ["v2", "v2"]);
    assert_eq!(fleet.world.row(3)["status"], "rolled_back");
    fleet.servers.stop(1);
    let ran = fleet.run(&["rollback", "--force", "--yes"]).expect(12);
    let said = told(&ran);
    assert!(said.contains("done on 1 of 2") && said.contains("failed to reach host1"), "{said}");
    assert!(!said.contains("daemon"), "Docker is not to blame: {said}");
    assert_eq!(fleet.runs(), ["v1", "v2"]);
    fleet.servers.start_again(1);
    fleet.run(&["recover", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), ["v1", "v1"]);
}

#[test]
fn a_link_that_breaks_in_the_middle_of_a_start_is_made_anew() {
    let fleet = Fleet::new(FIRST);
    fleet.deploy("v1").expect(0);
    // It is looked at over a new connection, and started again.
    fleet.hold("v2");
    let deploying = fleet.deploying("v2");
    fleet.wait_for_start_of("v2");
    fleet.servers.kill_sessions(1);
    fleet.release("v2");
    deploying.wait().expect(0);
    assert_eq!(fleet.runs(), ["v2", "v2"]);
    wait_until("nothing is left behind", || fleet.servers.connections(0) == 0);
}

/// Nobody knows what is on a host that was cut off in the middle of a start and stays away: it is part of the way back.
#[test]
fn a_host_that_stays_away_after_a_cut_start_is_brought_back_once_it_is_there() {
    let mut fleet = Fleet::new(FIRST);
    fleet.deploy("v1").expect(0);
    fleet.hold("v2");
    let deploying = fleet.deploying("v2");
    fleet.wait_for_start_of("v2");
    fleet.servers.stop(1);
    fleet.release("v2");
    let ran = deploying.wait().expect(12);
    let said = told(&ran);
    assert!(said.contains("failed to reach host1"), "{said}");
    assert_eq!(fleet.runs()[0], "v1", "{said}");
    fleet.servers.start_again(1);
    fleet.run(&["recover", "--yes"]).expect(0);
    assert_eq!(fleet.runs(), ["v1", "v1"]);
}
