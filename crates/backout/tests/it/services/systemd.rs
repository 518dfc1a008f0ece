//! The same with units, on a real systemd.

use std::sync::Arc;

use backout_testkit::systemd::Machine;

use super::{deploy_alone, done, versions};
use crate::support::{Services, World};

/// Ends at SIGTERM; a version that is listed in `bad` does not start at all.
const PROGRAM: &str = r#"#!/bin/sh
grep -qx "$BACKOUT_SERVICE $BACKOUT_VERSION" "$1" && { echo "no licence"; exit 3; }
trap 'exit 0' TERM
while :; do sleep 0.1; done
"#;

/// `api` under `web`, a unit each.
struct Units {
    // Dropped before the machine, so that it can take down what runs.
    world: World,
    machine: Arc<Machine>,
}

impl Units {
    fn new() -> Self {
        let (world, machine) = (World::bare(), Machine::shared());
        world.set("DBUS_SYSTEM_BUS_ADDRESS", &machine.address());
        world.script("program", PROGRAM);
        world.write("bad", "");
        let units = Self { world, machine };
        for service in ["web", "api"] {
            let link = units.world.folder().join(format!("current-{service}"));
            let (link, bad) = (link.display(), units.world.folder().join("bad"));
            let text = format!(
                "[Service]\nEnvironmentFile=-{link}.env\nEnvironment=BACKOUT_SERVICE={service}\n\
                 ExecStart={link}/program {}\nRestart=no\n",
                bad.display()
            );
            units.machine.install(&units.unit(service), &text);
        }
        let target = format!(
            "{{ systemd: {{ unit: \"{}-{{service}}.service\", artifact: program, root: {} }} }}",
            units.app(),
            units.machine.root().display()
        );
        let yaml = Services::on(&target)
            .app(&units.app())
            .and("web", "depends_on: [api]")
            .and("api", "")
            .every("200ms");
        units.world.write("backout.yaml", &yaml.text());
        units
    }

    /// Its own name: tests share the machine.
    fn app(&self) -> String {
        format!("units{}", self.world.listen)
    }

    fn unit(&self, service: &str) -> String {
        format!("{}-{service}.service", self.app())
    }

    fn pid(&self, service: &str) -> String {
        self.machine.property(&self.unit(service), "MainPID")
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        for service in ["web", "api"] {
            let unit = self.unit(service);
            let _ = self.machine.systemctl(&["kill", "--signal=KILL", &unit]);
            let _ = self.machine.systemctl(&["stop", &unit]);
            let _ = std::fs::remove_file(self.machine.units().join(unit));
        }
    }
}

#[test]
fn a_unit_that_is_not_named_is_not_touched() {
    let units = Units::new();
    units.world.deployed("v1");
    let (web, api) = (units.pid("web"), units.pid("api"));
    deploy_alone(&units.world, "v2", &["api"]).expect(0);
    assert_eq!(units.pid("web"), web);
    assert_ne!(units.pid("api"), api);
    assert_eq!(versions(&units.world), "api v2, web v1");

    // What fails goes back alone, to the release with services from two.
    let api = units.pid("api");
    units.world.write("bad", "web v3\n");
    deploy_alone(&units.world, "v3", &["web"]).expect(10);
    assert_eq!(units.pid("api"), api);
    assert_eq!(versions(&units.world), "api v2, web v1");
    assert_eq!(units.world.status()["health"], "healthy");

    let web = units.pid("web");
    let document = units.world.rollback(&["--service", "api", "--force"]).expect(0).json();
    assert_eq!(done(&document).last().map(String::as_str), Some("start api"));
    assert_eq!(units.pid("web"), web);
    assert_eq!(versions(&units.world), "api v1, web v1");
}

/// Releases of all services stand in one folder.
#[test]
fn eject_leaves_each_unit_what_it_runs() {
    let units = Units::new();
    units.world.deployed("v1");
    units.world.script("program", &format!("{PROGRAM}# The second.\n"));
    deploy_alone(&units.world, "v2", &["api"]).expect(0);
    let before = [units.pid("web"), units.pid("api")];
    let leads = |service: &str| {
        let link = units.world.folder().join(format!("current-{service}"));
        std::fs::read_to_string(link.join("program")).unwrap_or_default()
    };
    assert_ne!(leads("web"), leads("api"));
    units.world.run(&["eject", "--yes"]).expect(0);
    assert_eq!([units.pid("web"), units.pid("api")], before);
    for (service, pid) in ["web", "api"].iter().zip(before) {
        assert!(leads(service).starts_with("#!/bin/sh"), "{service} has nothing to start any more");
        units.machine.expect(&["restart", &units.unit(service)]);
        assert_ne!(units.pid(service), pid);
        assert_eq!(units.machine.property(&units.unit(service), "ActiveState"), "active");
    }
    // Only what runs is left.
    let releases = units.world.folder().join("releases");
    let environment = std::fs::read_dir(releases).unwrap().next().unwrap().unwrap().path();
    let names = std::fs::read_dir(environment).unwrap().map(|entry| entry.unwrap().file_name());
    let folders = names.filter(|name| !name.to_string_lossy().starts_with('.')).count();
    assert_eq!(folders, 2);
}
