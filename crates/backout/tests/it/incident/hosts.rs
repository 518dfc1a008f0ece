//! What scripts said on other hosts, and what is left of a bundle whose process was killed.

use super::{all_text, files, folder, names, shown};
use crate::support::{Fleet, Service, World, Yaml, wait_until};

#[test]
fn the_last_words_of_scripts_on_other_hosts_are_kept() {
    let fleet = Fleet::new(2, "secrets: [TOKEN]\n", "");
    fleet.world.set("TOKEN", "t0ken-of-today");
    let script = fleet.file(0, "deploy.sh");
    let talkative = script.replace("case \"$1\" in", "echo \"with $TOKEN\"\ncase \"$1\" in");
    assert_ne!(script, talkative);
    fleet.put(0, "deploy.sh", &talkative);
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2-bad").expect(10);
    let bundle = shown(&fleet.world, "#2");
    let kept = files(&bundle);
    for host in 0..2 {
        for end in ["out", "err"] {
            let wanted = format!("shop-host{host}.script.{end}");
            assert!(kept.contains(&wanted), "{wanted} in {kept:?}");
        }
    }
    assert_eq!(bundle["problems"], serde_json::json!([]), "{bundle:#}");
    let path = folder(&fleet.world).join(bundle["id"].as_str().unwrap());
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let said = read("shop-host0.script.out");
    assert!(said.contains("deploy of shop v2-bad on ") && said.contains("home0/shop"), "{said}");
    assert!(said.contains("with [redacted]"), "{said}");
    assert!(!said.contains("rollback"), "it is kept before anything is taken back: {said}");
    assert!(read("shop-host1.script.err").contains("deploy of shop says this to stderr"));
    assert!(!all_text(&folder(&fleet.world)).contains("t0ken"));

    // Whoever looks sees them, under the name of their host; and the app lists what there is.
    let text = fleet.run(&["inspect", "#2"]).expect(0).stdout;
    assert!(text.contains("shop-host1.script.out") && text.contains("v2-bad on"), "{text}");
    let listed = fleet.run(&["inspect", "shop"]).expect(0).stdout;
    let id = bundle["id"].as_str().unwrap();
    assert!(listed.contains("incident bundles") && listed.contains(id), "{listed}");
    let document = fleet.run(&["inspect", "shop", "--format", "json"]).expect(0).json();
    let listed = &document["environments"][0]["incidents"];
    assert_eq!((&listed[0]["id"], &listed[0]["deployment"]), (&id.into(), &2.into()), "{listed:#}");
}

#[test]
fn a_host_that_is_away_costs_its_own_words_only() {
    let mut fleet = Fleet::new(2, "", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy("v2").expect(0);
    fleet.servers.stop(1);
    fleet.run(&["rollback", "--force", "--yes"]).expect(12);
    let bundle = shown(&fleet.world, "#2");
    let kept = files(&bundle);
    assert!(kept.contains(&"shop-host0.script.out".to_owned()), "{kept:?}");
    assert!(!kept.iter().any(|name| name.starts_with("shop-host1")), "{kept:?}");
    let problems = bundle["problems"].to_string();
    assert!(problems.contains("logs of shop@host1"), "{problems}");
}

/// Nothing of a connection outlives its command, and what a killed one has left goes with the next.
#[test]
fn control_sockets_go_with_their_command() {
    let fleet = Fleet::new(2, "", "");
    let none = Vec::<String>::new();
    for args in [
        &["deploy", "--version", "v1", "--yes"][..],
        &["deploy", "--version", "v2", "--yes"],
        &["status", "--check"],
        &["doctor"],
        &["check"],
        &["rollback", "--force", "--yes", "--dry-run"],
        &["rollback", "--force", "--yes"],
        &["inspect", "#3"],
        &["recover", "--yes"],
    ] {
        let ran = fleet.run(args);
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        assert_eq!(fleet.socket_folders(), none, "after {args:?}");
    }
    fleet.put(0, "hang-deploy", "");
    let deploying = fleet.deploying("v3");
    wait_until("it works there", || fleet.changes(0).contains(&"deploy v3".to_owned()));
    assert_eq!(fleet.socket_folders().len(), 2, "one for each host");
    // Whoever comes meanwhile leaves them alone.
    fleet.run(&["status", "--check"]).expect(0);
    assert_eq!(fleet.socket_folders().len(), 2);
    deploying.signal(rustix::process::Signal::KILL);
    deploying.wait();
    assert_eq!(fleet.socket_folders().len(), 2, "a killed process removes nothing");
    fleet.remove(0, "hang-deploy");
    fleet.run(&["recover", "--yes"]).expect(10);
    assert_eq!(fleet.socket_folders(), none);
}

#[test]
fn what_a_killed_process_has_left_half_made_goes_with_the_next_deploy() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    world.build(Service { before: "echo v2", ..crate::cases::UNHEALTHY });
    world.run_killed(&["deploy", "--version", "v2", "--yes"], "during_effect/keep_evidence:1");
    // As if it had been killed a moment later, while it wrote.
    let half = folder(&world).join(".new-rb_half");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("shop.log"), "half").unwrap();
    world.run(&["resolve", "--reason", "by hand", "--yes"]).expect(0);
    assert_eq!(names(&world), [".new-rb_half"]);
    world.build(Service::default());
    world.deployed("v3");
    assert_eq!(names(&world), [""; 0]);
    assert!(shown(&world, "#2").is_null());
}
