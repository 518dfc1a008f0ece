//! Deploys, ways back, and what people see of them.

use std::process::Command;

use backout_testkit::docker::Registry;

use super::{Shop, WEB};
use crate::support::{Ran, free_port};

#[test]
fn a_canary_of_containers_goes_out_and_comes_back_with_its_file() {
    let shop = Shop::new(true);
    let file = format!("{WEB}    env_file: web.env\n    volumes: [\"uploads:/uploads\"]\nvolumes: {{ uploads: {{}} }}\n")
        .replace("127.0.0.1:PORT:", "");
    shop.world.write("web.env", "LIMIT=1\n");
    shop.compose(&file);
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    let first = shop.world.read("compose.yaml");
    shop.compose(&file.replace("stop_grace_period: 1s", "stop_grace_period: 2s # changed"));
    shop.world.write("web.env", "LIMIT=2\n");
    let load = shop.world.load();
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let project = format!("{}_production", shop.app());
    assert_eq!(shop.containers(), [format!("{project}-b-web-1")]);
    let readiness = &shop.world.status()["rollback_readiness"];
    assert_eq!((&readiness["version"], &readiness["ready"]), (&"v1".into(), &true.into()));

    // Nothing that cleans images up takes the way back away.
    shop.engine.expect(&["image", "rm", &shop.image("v1")]);
    let answer = shop.world.rollback(&["--force"]).expect(0).json();
    shop.expect_serving("v1");
    assert_eq!(answer["status"], "completed");
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users met {tally:?}");
    assert_eq!(shop.world.read("compose.yaml"), first);
    assert_eq!(shop.world.read("web.env"), "LIMIT=1\n");
    let env = shop.engine.expect(&["exec", &format!("{project}-web-1"), "/bin/busybox", "env"]);
    assert!(env.contains("LIMIT=1"), "{env}");

    shop.world.run(&["down", "--yes"]).expect(0);
    assert_eq!(shop.containers(), [""; 0]);
    shop.engine.expect(&["volume", "inspect", &format!("{project}_uploads")]);
}

#[test]
fn what_runs_already_is_adopted_and_is_the_way_back() {
    let shop = Shop::new(false);
    let folder = shop.world.folder();
    let mut up = Command::new("docker");
    up.args(["compose", "-p", &format!("{}_production", shop.app()), "up", "-d"])
        .current_dir(&folder);
    let up = up.envs(shop.engine.env()).env("BACKOUT_VERSION", "v1").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    shop.expect_serving("v1");
    shop.world.deploy("v2").expect(4).says("backout adopt");
    shop.world.run(&["adopt", "--version", "v1", "--yes"]).expect(0);
    shop.expect_serving("v1");
    // The tag moves; what was adopted is what ran.
    shop.engine.web(&shop.image("v1"), "moved");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    let story = shop.world.story();
    assert_eq!(story[0], "#2 rollback v1 stable", "{story:?}");
}

#[test]
fn a_new_file_and_a_check_up_know_compose() {
    let shop = Shop::new(false);
    std::fs::remove_file(shop.world.folder().join("backout.yaml")).unwrap();
    shop.world.run(&["init"]).expect(0).says("compose.yaml");
    let written = shop.world.read("backout.yaml");
    assert!(written.contains("compose: { file: compose.yaml }"), "{written}");
    let doctor = shop.world.run(&["doctor", "--format", "json"]).json();
    let item = |name: &str| {
        let items = doctor.as_array().unwrap();
        items
            .iter()
            .find(|item| item["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {doctor:#}"))
            .clone()
    };
    for name in ["docker", "compose", "compose_file"] {
        assert_eq!(item(name)["status"], "pass", "{:#}", item(name));
    }
    shop.world.write("compose.yaml", "services:\n  web:\n    imag: x\n");
    let doctor = shop.world.run(&["doctor"]).expect(1);
    assert!(
        format!("{}{}", doctor.stdout, doctor.stderr).contains("imag"),
        "{} {}",
        doctor.stdout,
        doctor.stderr
    );
    let nowhere = [("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
    let doctor = shop.world.run_with(&["doctor"], &nowhere).expect(1);
    let said = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(said.contains("start the Docker daemon"), "{said}");
}

#[test]
fn a_plan_that_nobody_has_agreed_to_pulls_nothing() {
    let shop = Shop::new(false);
    let registry = Registry::start();
    let reference = registry.reference("web");
    shop.compose(&WEB.replace("IMAGE", &reference));
    let tag = format!("{reference}:v1");
    shop.engine.web(&tag, "v1");
    shop.engine.expect(&["push", "--quiet", &tag]);
    let id = shop.engine.expect(&["image", "inspect", "--format", "{{.Id}}", &tag]);
    shop.engine.expect(&["image", "rm", &tag]);
    let dry = |version: &str| shop.world.run(&["deploy", "--version", version, "--dry-run"]);
    dry("v1").expect(0);
    assert!(!shop.engine.docker(&["image", "inspect", &tag]).status.success());
    // What it foresees is what it is: the release has the same id.
    let plan = |ran: Ran| ran.expect(0).json()["digest"].as_str().unwrap().to_owned();
    let json = ["deploy", "--version", "v1", "--dry-run", "--format", "json"];
    let foreseen = plan(shop.world.run(&json));
    shop.engine.expect(&["pull", "--quiet", &tag]);
    assert_eq!(shop.engine.expect(&["image", "inspect", "--format", "{{.Id}}", &tag]), id);
    assert_eq!(plan(shop.world.run(&json)), foreseen);
    dry("v9").expect(1).says("v9");
    shop.world.deployed("v1");
    shop.expect_serving("v1");
}

#[test]
fn two_environments_on_one_engine_leave_each_other_alone() {
    let shop = Shop::new(false);
    let port = shop.world.listen.to_string();
    let other = free_port().to_string();
    shop.compose(
        &WEB.replace("127.0.0.1:PORT", "127.0.0.1:${AT}")
            .replace("services:", "volumes: { data: {} }\nservices:")
            .replace("    init: true\n", "    init: true\n    volumes: [\"data:/data\"]\n"),
    );
    let text =
        shop.world.read("backout.yaml").replace(&format!("127.0.0.1:{port}"), "127.0.0.1:{AT}");
    // Each asks its own; the environment of a target is merged by key.
    let of = |name: &str, port: &str| {
        format!(
            "  {name}:\n    target: {{ compose: {{ env: {{ AT: \"{port}\" }} }} }}\n    \
             health: {{ http: {{ url: \"http://127.0.0.1:{port}/health\" }} }}\n"
        )
    };
    let environments = of("production", &port) + &of("staging", &other);
    let text = text.replace("target: compose\n", "target: { compose: { env: { AT: \"0\" } } }\n")
        + &format!("rollback: {{ keep: 1 }}\nenvironments:\n{environments}");
    shop.world.write("backout.yaml", &text.replace("127.0.0.1:{AT}", &format!("127.0.0.1:{port}")));
    let on = |environment: &str, args: &[&str]| {
        shop.world.run(&[&["-e", environment, "--yes"], args].concat()).expect(0)
    };
    // Containers, those that only hold images among them, names of images, volumes and networks.
    let things_of = |environment: &str| {
        let (app, name) = (shop.app(), format!("{}_{environment}", shop.app()));
        let list = |args: &[&str]| shop.engine.expect(args);
        let form = "{{.ID}} {{.Label \"backout.pin\"}}";
        let held = list(&["ps", "-a", "--filter", "label=backout.pin", "--format", form]);
        let ours = [
            format!("label=backout.app={app}"),
            format!("label=backout.environment={environment}"),
        ];
        let things = [
            list(&["ps", "-aq", "--filter", &ours[0], "--filter", &ours[1]]),
            held.lines().filter(|line| line.contains(&format!("{app}/{environment}/"))).collect(),
            list(&["images", "--quiet", "--filter", &format!("reference=backout/{name}/*")]),
            list(&["volume", "ls", "--quiet", "--filter", &format!("name={name}_")]),
            list(&["network", "ls", "--quiet", "--filter", &format!("name={name}_")]),
        ];
        // The engine lists them in no order that lasts.
        things.map(|lines: String| {
            let mut lines: Vec<&str> = lines.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        })
    };
    on("production", &["deploy", "--version", "v1"]);
    on("production", &["deploy", "--version", "v2"]);
    let production = things_of("production");
    assert_eq!(production[2].lines().count(), 2, "{production:?}");
    for version in ["v2", "v1", "v2"] {
        on("staging", &["deploy", "--version", version]);
    }
    on("staging", &["rollback", "--force"]);
    assert_eq!(things_of("production"), production);
    shop.expect_serving("v2");
    let staging = things_of("staging");
    on("production", &["rollback", "--force"]);
    on("production", &["down"]);
    assert_eq!(things_of("staging"), staging);
    let volumes = shop.engine.expect(&["volume", "ls", "--quiet"]);
    assert!(volumes.contains(&format!("{}_production_data", shop.app())), "{volumes}");
    on("staging", &["down"]);
}
