//! Deploys, ways back, and what people see of them.

use std::process::Command;

use super::{Shop, WEB};

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
