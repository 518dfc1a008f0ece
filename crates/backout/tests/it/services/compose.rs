//! The same with containers, on a real engine.

use std::sync::Arc;

use backout_testkit::docker::Engine;

use super::{deploy_alone, done, versions};
use crate::support::{Services, World};

/// `api` under `web`, of one compose file.
struct Shop {
    // Dropped before the engine, so that it can take down what runs.
    world: World,
    engine: Arc<Engine>,
}

impl Shop {
    fn new() -> Self {
        let (world, engine) = (World::bare(), Engine::shared());
        for (name, value) in engine.env() {
            world.set(&name, &value);
        }
        let shop = Self { world, engine };
        for service in ["web", "api"] {
            for version in ["v1", "v2"] {
                shop.engine.web(&format!("{}/{service}:{version}", shop.app()), version);
            }
        }
        let service = |name: &str| {
            format!(
                "  {name}:\n    image: {}/{name}:${{BACKOUT_VERSION}}\n    init: true\n    restart: always\n    \
                 stop_grace_period: 1s\n",
                shop.app()
            )
        };
        let file = format!("services:\n{}{}", service("web"), service("api"));
        shop.world.write("compose.yaml", &file);
        let yaml = Services::on("compose")
            .app(&shop.app())
            .and("web", "depends_on: [api]")
            .and("api", "")
            .every("200ms")
            .text();
        shop.world.write("backout.yaml", &yaml);
        shop
    }

    fn app(&self) -> String {
        format!("shop{}", self.world.listen)
    }

    /// Id of a service's container, and when it began.
    fn container(&self, service: &str) -> (String, String) {
        let name = format!("{}_production-{service}-1", self.app());
        let format = "{{.Id}} {{.State.StartedAt}}";
        let told = self.engine.expect(&["inspect", "--format", format, &name]);
        let (id, began) = told.trim().split_once(' ').unwrap();
        (id.to_owned(), began.to_owned())
    }
}

#[test]
fn a_container_that_is_not_named_is_not_touched() {
    let shop = Shop::new();
    shop.world.deployed("v1");
    let (web, api) = (shop.container("web"), shop.container("api"));
    deploy_alone(&shop.world, "v2", &["api"]).expect(0);
    assert_eq!(shop.container("web"), web);
    assert_ne!(shop.container("api"), api);
    assert_eq!(versions(&shop.world), "api v2, web v1");
    let document = shop.world.rollback(&["--service", "api", "--force"]).expect(0).json();
    assert_eq!(done(&document), ["start api"]);
    assert_eq!(shop.container("web"), web);
    assert_eq!(versions(&shop.world), "api v1, web v1");

    // What is gone is started again, and nothing else.
    let api = shop.container("api");
    shop.engine.expect(&["rm", "--force", &api.0]);
    shop.world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(shop.container("web"), web);
    assert_ne!(shop.container("api"), api);
}

#[test]
fn dependents_stop_first_and_come_back_last() {
    let shop = Shop::new();
    shop.world.deployed("v1");
    let bad = format!("{}/web:v3", shop.app());
    shop.engine.image(&bad, &[], &["/bin/busybox", "false"]);
    shop.engine.web(&format!("{}/api:v3", shop.app()), "v3");
    let document = shop.world.deploy("v3").expect(10).json();
    let done = done(&document["rollback"]);
    assert!(
        done == ["stop web", "start api", "start web"] || done == ["start api", "start web"],
        "{done:?}"
    );
    assert!(shop.container("api").1 < shop.container("web").1);
    assert_eq!(versions(&shop.world), "api v1, web v1");
}

#[test]
fn a_job_runs_in_a_container_once_and_is_not_started_again() {
    let shop = Shop::new();
    let job = |version: &str, applet: &str| {
        let image = format!("{}/migrate:{version}", shop.app());
        shop.engine.image(&image, &[], &["/bin/busybox", applet]);
    };
    job("v1", "true");
    job("v2", "false");
    let file = shop.world.read("compose.yaml");
    let own = format!(
        "  migrate:\n    image: {}/migrate:${{BACKOUT_VERSION}}\n    restart: always\n",
        shop.app()
    );
    shop.world.write("compose.yaml", &format!("{file}{own}"));
    let yaml = shop.world.read("backout.yaml").replace(
        "  api: {}",
        "  api: { depends_on: [migrate] }\n  migrate: { job: true, timeout: 60s }",
    );
    shop.world.write("backout.yaml", &yaml);
    shop.world.deployed("v1");
    let (migrate, api, web) =
        (shop.container("migrate"), shop.container("api"), shop.container("web"));
    assert!(migrate.1 < api.1, "{migrate:?} {api:?}");
    assert_eq!(shop.world.status()["health"], "healthy");

    let document = shop.world.deploy("v2").expect(10).json();
    let error = document["deployment"]["error_message"].as_str().unwrap();
    assert!(error.contains("migrate ended with exit code 1"), "{error}");
    // Nothing else was begun, and the job of v1 has run.
    assert_eq!(done(&document["rollback"]), [""; 0]);
    assert_eq!((shop.container("api"), shop.container("web")), (api, web));
    assert_eq!(versions(&shop.world), "api v1, migrate v1, web v1");
    assert_eq!(shop.world.status()["health"], "healthy");
}
