//! The compose target as people use it, on a real engine.

mod beside;
mod deploys;
mod faults;
mod hosts;
mod kept;
mod ports;
mod rolling;

use std::sync::Arc;

use backout_testkit::docker::Engine;

use crate::support::{World, wait_for};

/// A shop whose web service stands in a compose file.
pub struct Shop {
    // Dropped before the engine, so that it can take down what runs.
    pub world: World,
    pub engine: Arc<Engine>,
}

const WEB: &str = "services:
  web:
    image: IMAGE:${BACKOUT_VERSION}
    init: true
    restart: always
    stop_grace_period: 1s
    ports: [\"127.0.0.1:PORT:8080\"]
";

impl Shop {
    /// With images `v1` and `v2` of a service that is well.
    pub fn new(routed: bool) -> Self {
        Self::on(Engine::shared(), routed)
    }

    fn on(engine: Arc<Engine>, routed: bool) -> Self {
        let world = World::bare();
        for (name, value) in engine.env() {
            world.set(&name, &value);
        }
        let shop = Self { world, engine };
        for version in ["v1", "v2"] {
            shop.engine.web(&shop.image(version), version);
        }
        shop.compose(WEB);
        let (router, probe) = match routed {
            true => (
                "router: { builtin: { listen: \"127.0.0.1:LISTEN\" } }\nstrategy: { canary: { stages: [50], hold: 400ms, hold_max: 3s, on_no_data: promote } }\n",
                "{port}",
            ),
            false => ("", "LISTEN"),
        };
        shop.configure(router, probe, "");
        shop
    }

    fn configure(&self, router: &str, probe: &str, extra: &str) {
        let text = format!(
            "app: {}\ntarget: compose\nservices: {{ web: {{}} }}\n{router}\
             health:\n  http: {{ url: \"http://127.0.0.1:{probe}/health\", timeout: 8s }}\n  \
             during_rollout: {{ interval: 200ms }}\n  consecutive_passes: 2\n  startup_timeout: 30s\n\
             shutdown: {{ drain: 1s, grace: 2s }}\nbake_time: 1s\n{extra}",
            self.app()
        );
        self.world.write("backout.yaml", &text.replace("LISTEN", &self.world.listen.to_string()));
    }

    /// Its own name: tests share the engine.
    pub fn app(&self) -> String {
        format!("shop{}", self.world.listen)
    }

    pub fn image(&self, version: &str) -> String {
        format!("{}/web:{version}", self.app())
    }

    /// Writes the compose file; without a router its port is the one that users ask.
    fn compose(&self, text: &str) {
        let image = format!("{}/web", self.app());
        let text = text.replace("IMAGE", &image).replace("PORT", &self.world.listen.to_string());
        self.world.write("compose.yaml", &text);
    }

    pub fn expect_serving(&self, version: &str) {
        wait_for(&format!("an answer of {version}"), || {
            self.world.get("/").is_ok_and(|answer| answer.body == version).then_some(())
        });
    }

    /// Names of all containers of this app, sorted.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("label=backout.app={}", self.app());
        let listed =
            self.engine.expect(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}
