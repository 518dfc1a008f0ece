//! The systemd target as people use it, on a real systemd.

mod beside;
mod controller;
mod deploys;
mod faults;
mod host_services;
mod hosts;

use std::sync::Arc;

use backout_testkit::systemd::Machine;

use crate::support::{Service, World, wait_for};

/// A shop whose program is run by a unit.
pub struct Shop {
    // Dropped before the machine, so that it can take down what runs.
    pub world: World,
    pub machine: Arc<Machine>,
}

impl Shop {
    /// In place, or a template with two sides behind the proxy.
    pub fn new(routed: bool) -> Self {
        Self::with(routed, "Restart=always\nRestartSec=100ms\n")
    }

    /// The same with other lines in the unit.
    fn with(routed: bool, lines: &str) -> Self {
        let machine = Machine::shared();
        let world = World::bare();
        world.set("DBUS_SYSTEM_BUS_ADDRESS", &machine.address());
        let shop = Self { world, machine };
        shop.build(Service::default());
        shop.install(routed, lines);
        shop.configure(routed, "");
        shop
    }

    /// Its own name: tests share the machine.
    fn app(&self) -> String {
        format!("shop{}", self.world.listen)
    }

    /// Writes the next build of the program. It takes its version and its port from what the unit hands over.
    pub fn build(&self, service: Service<'_>) {
        let claims = Some(service.claims.unwrap_or("$BACKOUT_VERSION"));
        let service = Service { claims, ..service };
        service.write(&self.world.folder().join("app"), &self.world.program());
    }

    fn file(&self, routed: bool) -> String {
        if routed { format!("{}@.service", self.app()) } else { format!("{}.service", self.app()) }
    }

    fn text(&self, routed: bool, lines: &str) -> String {
        let link = self.world.folder().join(if routed { "current-%i" } else { "current" });
        let (link, port) = (link.display(), self.world.listen);
        format!(
            "[Service]\nEnvironment=PORT={port}\nEnvironmentFile=-{link}.env\nExecStart={link}/app\n{lines}"
        )
    }

    fn install(&self, routed: bool, lines: &str) {
        self.machine.install(&self.file(routed), &self.text(routed, lines));
    }

    fn configure(&self, routed: bool, extra: &str) {
        let (unit, router, probe) = match routed {
            true => (
                format!("{}@{{slot}}.service", self.app()),
                "router: { builtin: { listen: \"127.0.0.1:LISTEN\" } }\nstrategy: { canary: { stages: [50], hold: 400ms, hold_max: 3s, on_no_data: promote } }\n",
                "{port}",
            ),
            false => (self.file(false), "", "LISTEN"),
        };
        let text = format!(
            "app: {app}\ntarget: {{ systemd: {{ unit: \"{unit}\", artifact: app, root: {root} }} }}\n{router}\
             health:\n  http: {{ url: \"http://127.0.0.1:{probe}/health\", timeout: 8s }}\n  \
             during_rollout: {{ interval: 200ms }}\n  consecutive_passes: 2\n  startup_timeout: 30s\n\
             shutdown: {{ drain: 1s, grace: 2s }}\nbake_time: 1s\n{extra}",
            app = self.app(),
            root = self.machine.root().display(),
        );
        self.world.write("backout.yaml", &text.replace("LISTEN", &self.world.listen.to_string()));
    }

    pub fn expect_serving(&self, version: &str) {
        wait_for(&format!("an answer of {version}"), || {
            self.world.get("/").is_ok_and(|answer| answer.body == version).then_some(())
        });
    }

    /// The unit of a slot, or the only one.
    pub fn unit(&self, slot: &str) -> String {
        match slot {
            "" => self.file(false),
            slot => format!("{}@{slot}.service", self.app()),
        }
    }

    fn state(&self, slot: &str) -> String {
        self.machine.property(&self.unit(slot), "ActiveState")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // What a failed test leaves must not answer for the next one.
        for slot in ["", "a", "b"] {
            let _ = self.machine.systemctl(&["kill", "--signal=KILL", &self.unit(slot)]);
            let _ = self.machine.systemctl(&["stop", &self.unit(slot)]);
        }
        for routed in [false, true] {
            let _ = std::fs::remove_file(self.machine.units().join(self.file(routed)));
        }
    }
}
