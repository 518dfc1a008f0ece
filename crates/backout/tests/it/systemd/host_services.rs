//! Two services of one host that run the same build.

use std::fs;
use std::sync::Arc;

use backout_testkit::SshServers;
use backout_testkit::systemd::Machine;

use crate::support::{Ran, World, write_program};

const SERVICES: [&str; 2] = ["web", "api"];

struct Pair {
    // Dropped before the machine, so that it can take down what runs.
    world: World,
    servers: SshServers,
    machine: Arc<Machine>,
    app: String,
}

impl Pair {
    fn new() -> Self {
        let (machine, world) = (Machine::shared(), World::bare());
        let servers = SshServers::inside(vec![Arc::clone(&machine)]);
        let app = format!("pair{}", world.listen);
        let pair = Self { world, servers, machine, app };
        fs::create_dir(pair.servers.home(0).join("shop")).unwrap();
        for service in SERVICES {
            let link = pair.link(service);
            let text = format!("[Service]\nExecStart={}/serve\nRestart=always\n", link.display());
            pair.machine.install(&pair.unit(service), &text);
        }
        let app = &pair.app;
        pair.world.write(
            "backout.yaml",
            &format!(
                "app: {app}\n\
                 target: {{ systemd: {{ unit: \"{app}-{{service}}.service\", artifact: build }} }}\n\
                 services: {{ web: {{}}, api: {{}} }}\n\
                 hosts: [host0]\n\
                 ssh: {{ config: {}, folder: shop, jitter: 0s, connect_timeout: 10s }}\n\
                 health: {{ consecutive_passes: 2, during_rollout: {{ interval: 200ms }}, startup_timeout: 60s }}\n\
                 bake_time: 500ms\n",
                pair.servers.config().display(),
            ),
        );
        pair
    }

    fn unit(&self, service: &str) -> String {
        format!("{}-{service}.service", self.app)
    }

    fn link(&self, service: &str) -> std::path::PathBuf {
        self.servers.home(0).join(format!("shop/current-{service}"))
    }

    fn build(&self, byte: u8) {
        let folder = self.world.folder().join("build");
        fs::create_dir_all(&folder).unwrap();
        write_program(&folder.join("serve"), "#!/bin/sh\nexec sleep 3000\n");
        // Several pieces of what goes over at once.
        fs::write(folder.join("large"), vec![byte; 18 << 20]).unwrap();
    }

    fn large(&self, service: &str) -> (usize, u8) {
        let bytes = fs::read(self.link(service).join("large")).unwrap_or_default();
        (bytes.len(), bytes.last().copied().unwrap_or_default())
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&[args, &["--yes", "--local-ledger"]].concat())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for service in SERVICES {
            let unit = self.unit(service);
            let _ = self.machine.systemctl(&["stop", &unit]);
            let _ = fs::remove_file(self.machine.units().join(unit));
        }
    }
}

#[test]
fn what_both_need_arrives_whole_and_eject_leaves_each_what_it_runs() {
    let pair = Pair::new();
    pair.build(1);
    pair.run(&["deploy", "--version", "v1"]).expect(0);
    assert_eq!(SERVICES.map(|service| pair.large(service)), [(18 << 20, 1); 2]);
    pair.build(2);
    pair.run(&["deploy", "--version", "v2", "--service", "api"]).expect(0);
    assert_eq!(SERVICES.map(|service| pair.large(service)), [(18 << 20, 1), (18 << 20, 2)]);
    pair.run(&["eject"]).expect(0);
    assert_eq!(SERVICES.map(|service| pair.large(service)), [(18 << 20, 1), (18 << 20, 2)]);
    for service in SERVICES {
        pair.machine.expect(&["restart", &pair.unit(service)]);
        assert_eq!(pair.machine.property(&pair.unit(service), "ActiveState"), "active");
    }
    let releases = pair.servers.home(0).join(format!("shop/releases/{}.production", pair.app));
    let names: Vec<_> = fs::read_dir(releases).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "two folders and their labels: {names:?}");
}
