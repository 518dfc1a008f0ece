//! Deploys, ways back, and what people see of them.

use super::Shop;
use crate::support::{Service, free_port};

#[test]
fn a_canary_of_two_units_goes_out_and_comes_back() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    assert_eq!(shop.state("a"), "active");
    shop.build(Service { before: "# another build", ..Service::default() });
    let load = shop.world.load();
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    assert_eq!((shop.state("a"), shop.state("b")), ("inactive".to_owned(), "active".to_owned()));
    let readiness = &shop.world.status()["rollback_readiness"];
    assert_eq!(
        (&readiness["version"], &readiness["ready"]),
        (&"v1".into(), &true.into()),
        "{readiness:#}"
    );
    let answer = shop.world.rollback(&["--force"]).expect(0).json();
    shop.expect_serving("v1");
    assert_eq!(answer["status"], "completed");
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users met {tally:?}");
    let program = shop.world.folder().join("current-a/app");
    assert!(!std::fs::read_to_string(program).unwrap().contains("another build"));
    shop.world.run(&["down", "--yes"]).expect(0);
    assert_eq!((shop.state("a"), shop.state("b")), ("inactive".to_owned(), "inactive".to_owned()));
    assert!(!shop.world.folder().join("current-a").exists());
}

#[test]
fn what_runs_already_is_adopted_and_is_the_way_back() {
    let shop = Shop::new(false);
    let theirs = shop.world.folder().join("by-hand");
    std::fs::create_dir(&theirs).unwrap();
    let own = Service { claims: Some("v1"), ..Service::default() };
    own.write(&theirs.join("app"), &shop.world.program());
    std::os::unix::fs::symlink("by-hand", shop.world.folder().join("current")).unwrap();
    shop.machine.expect(&["start", &shop.unit("")]);
    shop.expect_serving("v1");
    shop.world.deploy("v2").expect(4).says("backout adopt");
    shop.world.run(&["adopt", "--version", "v1", "--yes"]).expect(0);
    shop.expect_serving("v1");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    // What was adopted was kept: what lies there may go.
    std::fs::remove_dir_all(&theirs).unwrap();
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    let story = shop.world.story();
    assert_eq!(story[0], "#2 rollback v1 stable", "{story:?}");
}

#[test]
fn unit_files_in_the_folder_come_back_with_the_release() {
    let shop = Shop::new(false);
    std::fs::remove_file(shop.machine.units().join(shop.file(false))).unwrap();
    let (file, first) = (shop.file(false), shop.text(false, "Environment=LIMIT=1\n"));
    shop.world.write(&file, &first);
    let path = shop.world.folder().join(&file).display().to_string();
    shop.machine.expect(&["link", &path]);
    shop.world.deployed("v1");
    shop.world.write(&file, &shop.text(false, "Environment=LIMIT=2\n"));
    shop.world.deployed("v2");
    assert!(shop.machine.property(&shop.unit(""), "Environment").contains("LIMIT=2"));
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    assert_eq!(shop.world.read(&file), first);
    assert!(shop.machine.property(&shop.unit(""), "Environment").contains("LIMIT=1"));
}

#[test]
fn two_environments_of_one_app_are_apart() {
    let shop = Shop::new(false);
    let app = shop.app();
    let other = format!("{app}-staging.service");
    let text = shop.text(false, "").replace("/current", "/staging/current");
    let port = free_port();
    let of_production = format!("PORT={}", shop.world.listen);
    shop.machine.install(&other, &text.replace(&of_production, &format!("PORT={port}")));
    let yaml = shop.world.read("backout.yaml");
    let root = shop.machine.root().display().to_string();
    let environments = |unit: &str, current: &str| {
        format!(
            "{yaml}environments:\n  production: {{}}\n  staging:\n    target: {{ systemd: {{ unit: \"{unit}\", artifact: app, current: {current}, root: {root} }} }}\n    health: {{ http: {{ url: \"http://127.0.0.1:{port}/health\" }} }}\n"
        )
    };
    let deploy = |environment: &str, version: &str| {
        shop.world.run(&[
            "deploy",
            "-e",
            environment,
            "--version",
            version,
            "--yes",
            "--format",
            "json",
        ])
    };
    shop.world.write("backout.yaml", &environments(&other, "staging/current"));
    deploy("production", "v1").expect(0);
    // By mistake staging names production's unit; and then its link too.
    let refused = [
        (shop.unit(""), "staging/current", "does not run what is behind"),
        (shop.unit(""), "current", "production"),
    ];
    for (unit, current, words) in &refused {
        shop.world.write("backout.yaml", &environments(unit, current));
        deploy("staging", "v2").expect(4).says(words);
        shop.expect_serving("v1");
    }
    shop.world.write("backout.yaml", &environments(&other, "staging/current"));
    let pid = shop.machine.property(&shop.unit(""), "MainPID");
    deploy("staging", "v2").expect(0);
    assert_eq!(shop.machine.property(&other, "ActiveState"), "active");
    shop.world.run(&["down", "-e", "staging", "--yes"]).expect(0);
    assert_eq!(shop.machine.property(&other, "ActiveState"), "inactive");
    assert_eq!(shop.machine.property(&shop.unit(""), "MainPID"), pid, "production was left alone");
    shop.expect_serving("v1");
    shop.world.run(&["down", "-e", "production", "--yes"]).expect(0);
}

#[test]
fn a_new_file_and_a_check_up_know_units() {
    let shop = Shop::new(false);
    let folder = shop.world.folder();
    std::fs::remove_file(folder.join("backout.yaml")).unwrap();
    let link = folder.join("current").display().to_string();
    shop.world.write(&shop.file(false), &format!("[Service]\nExecStart={link}/app --quiet\n"));
    shop.world.run(&["init"]).expect(0).says(&shop.file(false));
    let written = shop.world.read("backout.yaml");
    assert!(written.contains(&format!("unit: \"{}\"", shop.file(false))), "{written}");
    assert!(written.contains("artifact: \"app\"") && written.contains(&link), "{written}");
    shop.configure(false, "");
    let item = |name: &str| {
        let doctor = shop.world.run(&["doctor", "--format", "json"]).json();
        let items = doctor.as_array().unwrap();
        let found = items.iter().find(|item| item["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {doctor:#}")).clone()
    };
    assert_eq!(item("service_manager")["status"], "pass");
    let unit = item("unit");
    assert_eq!(unit["status"], "pass", "{unit:#}");
    assert!(unit["message"].as_str().unwrap().contains("starts at boot only"), "{unit:#}");
    shop.machine.install(&shop.file(false), "[Service]\nExecStart=/bin/sleep 9\n");
    assert_eq!(item("unit")["status"], "error");
    let nowhere = [("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")];
    let doctor = shop.world.run_with(&["doctor"], &nowhere).expect(1);
    assert!(doctor.stdout.contains("service_manager"), "{}", doctor.stdout);
    // The bus is named in what a deploy says, and nothing has changed.
    shop.world
        .run_with(&["deploy", "--version", "v1", "--yes"], &nowhere)
        .expect(1)
        .says("D-Bus must run");
}
