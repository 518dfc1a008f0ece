//! Some services alone: the others are neither stopped nor started, and keep their version.

use super::{calls, deploy_alone, let_fail, scripted, supervised, versions};

#[test]
fn a_script_is_called_for_the_named_service_only() {
    let world = scripted();
    world.deployed("1");
    calls(&world);
    let document = deploy_alone(&world, "2", &["api"]).expect(0).json();
    assert_eq!(calls(&world), ["deploy api 2"]);
    assert_eq!(document["deployment"]["services"], serde_json::json!(["api"]));
    assert_eq!(document["deployment"]["partial"], true);
    assert_eq!(versions(&world), "api 2, db 1, web 1");
    assert_eq!(world.status()["version"], "2");

    // On top of that another one: each has what it was given last.
    deploy_alone(&world, "3", &["web"]).expect(0);
    assert_eq!(calls(&world), ["deploy web 3"]);
    assert_eq!(versions(&world), "api 2, db 1, web 3");

    let release = world.run(&["inspect", "#3", "--format", "json"]).expect(0).json();
    let versions_of = &release["release"]["versions"];
    assert_eq!(*versions_of, serde_json::json!({ "api": "2", "db": "1", "web": "3" }));
    let text = world.run(&["inspect", "#3"]).expect(0).stdout;
    assert!(text.contains("deploy of web"), "{text}");

    // A whole rollback takes back only what differs.
    let document = world.rollback(&["--force"]).expect(0).json();
    assert_eq!(calls(&world), ["rollback web 1"]);
    assert_eq!(
        (&document["partial"], &document["services"]),
        (&false.into(), &serde_json::json!([]))
    );
    assert_eq!(versions(&world), "api 2, db 1, web 1");
    world.rollback(&["--force", "--to", "1"]).expect(0);
    assert_eq!(calls(&world), ["rollback api 1"]);
    assert_eq!(versions(&world), "api 1, db 1, web 1");
}

#[test]
fn what_fails_alone_goes_back_alone() {
    for world in [scripted(), supervised()] {
        world.deployed("1");
        let before = running(&world);
        let_fail(&world, "api", "2");
        calls(&world);
        let document = deploy_alone(&world, "2", &["api"]).expect(10).json();
        let noted = calls(&world);
        assert!(!noted.is_empty() && noted.iter().all(|call| call.contains(" api ")), "{noted:?}");
        assert!(noted.last().unwrap().ends_with("api 1"), "{noted:?}");
        assert_eq!(document["rollback"]["status"], "completed");
        assert_eq!(document["rollback"]["health"]["db"], "healthy", "{document}");
        assert_eq!(versions(&world), "api 1, db 1, web 1");
        assert_eq!(kept(&before, &running(&world), "api"), Vec::<String>::new());
        assert_eq!(world.status()["health"], "healthy");
        let story = world.story();
        assert_eq!(story[..2], ["#3 rollback 1 stable", "#2 deploy 2 rolled_back rejected"]);
    }
}

/// `web 1 pid` and so on, of programs that run.
fn running(world: &crate::support::World) -> Vec<(String, i32)> {
    let service = |process: &crate::support::Process, name: &str| {
        process.has(name) && process.has("/bin/sh") && !process.has("supervise")
    };
    let of = |name: &str| {
        let found = world.processes().into_iter().filter(|process| service(process, name));
        found.map(|process| (name.to_owned(), process.pid)).collect::<Vec<_>>()
    };
    let look = || ["web", "api", "db"].into_iter().flat_map(of).collect::<Vec<_>>();
    // Between fork and exec what a shell starts looks like the shell itself, for less than a moment.
    let (first, mut second) = (look(), {
        std::thread::sleep(std::time::Duration::from_millis(40));
        look()
    });
    second.retain(|one| first.contains(one));
    second
}

/// Programs that ran before and are gone, but for those of `changed`.
fn kept(before: &[(String, i32)], now: &[(String, i32)], changed: &str) -> Vec<String> {
    before
        .iter()
        .filter(|(name, _)| name != changed)
        .filter(|one| !now.contains(one))
        .map(|(name, pid)| format!("{name} {pid}"))
        .collect()
}

#[test]
fn programs_that_are_not_named_go_on() {
    let world = supervised();
    world.deployed("1");
    let first = running(&world);
    assert_eq!(first.len(), 3, "{first:?}");
    calls(&world);
    deploy_alone(&world, "2", &["api"]).expect(0);
    assert_eq!(calls(&world), ["stop api 1", "start api 2"]);
    let second = running(&world);
    assert_eq!(kept(&first, &second, "api"), Vec::<String>::new());
    assert_eq!(versions(&world), "api 2, db 1, web 1");
    let status = world.status();
    assert_eq!(status["slots"].as_array().unwrap().len(), 1, "{status}");

    let document =
        world.rollback(&["--service", "api", "--force", "--reason", "slow"]).expect(0).json();
    assert_eq!(calls(&world), ["stop api 2", "start api 1"]);
    assert_eq!(kept(&second, &running(&world), "api"), Vec::<String>::new());
    assert_eq!(document["partial"], true);
    assert_eq!(document["services"], serde_json::json!(["api"]));
    assert_eq!(document["target_version"], "1");
    assert_eq!(versions(&world), "api 1, db 1, web 1");
    // These are the very services of #1, so that it is that release again, and stable at once.
    assert_eq!(world.row(3)["release"], world.row(1)["release"]);
    assert_eq!(world.row(3)["status"], "stable");
    let rows = world.run(&["history"]).expect(0).stdout;
    assert!(rows.contains("rollback (manual) from 2 of api"), "{rows}");
}

#[test]
fn a_service_goes_back_out_of_a_whole_release() {
    let world = supervised();
    world.deployed("1");
    world.deployed("2");
    let before = running(&world);
    calls(&world);
    let args = ["--service", "web", "--force"];
    let document = world.rollback(&args).expect(0).json();
    assert_eq!(calls(&world), ["stop web 2", "start web 1"]);
    assert_eq!(kept(&before, &running(&world), "web"), Vec::<String>::new());
    assert_eq!(versions(&world), "api 2, db 2, web 1");
    assert_eq!(document["health"].as_object().unwrap().len(), 3, "{document}");
    // Web 1 and api 2 were never stable together.
    assert_eq!(world.row(3)["status"], "baking");
    world.rollback(&["--service", "web", "--force"]).expect(4).says("never anything else");
    // The next command that changes something finds it healthy after its bake time.
    deploy_alone(&world, "3", &["db"]).expect(0);
    assert_eq!(world.row(3)["status"], "stable");
    assert_eq!(versions(&world), "api 2, db 3, web 1");
    world.run(&["down", "--yes"]).expect(0);
    world.expect_nothing_running();
    world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(versions(&world), "api 2, db 3, web 1");
    calls(&world);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = scripted();
    deploy_alone(&world, "1", &["web"]).expect(4).says("nothing is live");
    world.deployed("1");
    deploy_alone(&world, "2", &["cache"]).expect(4).says("there is no service `cache`");
    world.rollback(&["--service", "cache", "--force", "--to", "1"]).expect(4).says("cache");
    world.rollback(&["--service", "web", "--force", "--to", "1"]).expect(4).says("what it is now");
    assert_eq!(world.history().len(), 1);
}
