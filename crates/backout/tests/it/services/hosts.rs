//! Several services on several hosts: releases of services from others, there and back.

use serde_json::Value;

use crate::support::Fleet;

const TWO: &[(&str, &str)] = &[("web", "depends_on: [api]"), ("api", "")];

fn all(version: &str, count: usize) -> Vec<String> {
    vec![version.to_owned(); count]
}

/// `api@host0 v2` and so on, of those that are not healthy or not of these versions.
fn odd(fleet: &Fleet, api: &str, web: &str) -> Vec<String> {
    let status = fleet.world.status();
    let rows = status["services"].as_array().unwrap().clone();
    assert_eq!(rows.len(), fleet.count * 2, "{rows:?}");
    let is_odd = |row: &&Value| {
        let wanted = if row["name"] == "api" { api } else { web };
        row["version"] != wanted || row["health"] != "healthy"
    };
    rows.iter().filter(is_odd).map(ToString::to_string).collect()
}

/// `rollback --service SERVICE`, whatever stands on it.
fn back(service: &str) -> Vec<&str> {
    let words = ["rollback", "--service", service, "--force", "--yes"];
    [&words[..], &["--override", "service_dependencies"]].concat()
}

fn one_service_there_and_back(more: &str) {
    let fleet = Fleet::of(3, TWO, more, "");
    fleet.deploy("v1").expect(0);
    fleet.deploy_alone("v2", "api").expect(0);
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v2", 3), all("v1", 3)));
    assert_eq!(odd(&fleet, "v2", "v1"), [""; 0]);
    fleet.deploy_alone("v3", "web").expect(0);

    // What is bad goes back to the release that has services from two others.
    fleet.deploy_alone("v4-bad", "web").expect(10);
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v2", 3), all("v3", 3)));
    assert_eq!(odd(&fleet, "v2", "v3"), [""; 0]);
    let back = fleet.run(&back("api")).expect(0);
    assert!(back.stdout.contains("only api"), "{}", back.stdout);
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v1", 3), all("v3", 3)));
    assert_eq!(odd(&fleet, "v1", "v3"), [""; 0]);
    for index in 0..3 {
        let changes = fleet.changes(index);
        let of = |service: &str| -> Vec<&String> {
            changes.iter().filter(|call| call.contains(&format!(" {service} "))).collect()
        };
        assert_eq!(of("api"), ["deploy api v1", "deploy api v2", "rollback api v1"], "host{index}");
        let web = of("web");
        assert_eq!(web[..2], ["deploy web v1", "deploy web v3"], "host{index}");
        // A batch that was not begun has nothing to go back from.
        assert!(
            web.len() == 2 || web[2..] == ["deploy web v4-bad", "rollback web v3"],
            "host{index}: {web:?}"
        );
    }
}

#[test]
fn one_service_goes_there_and_back_on_every_host() {
    one_service_there_and_back("");
}

#[test]
fn one_service_goes_there_and_back_in_batches() {
    one_service_there_and_back("strategy: { rolling: { batch: 2 } }\n");
}

#[test]
fn a_host_that_refuses_one_service_takes_only_that_back() {
    let fleet = Fleet::of(3, TWO, "", "");
    fleet.deploy("v1").expect(0);
    fleet.put(1, "fail-deploy-api", "3");
    let ran = fleet.deploy_alone("v2", "api").expect(10);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("mixed, done on 2 of 3") && told.contains("api@host1"), "{told}");
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v1", 3), all("v1", 3)));
    for index in 0..3 {
        let web = fleet.changes(index);
        let web: Vec<_> = web.iter().filter(|call| call.contains(" web ")).collect();
        assert_eq!(web, ["deploy web v1"], "host{index}");
    }
}

/// A host is away while one service goes back: it is stuck by its name, and no other part begins meanwhile.
#[test]
fn a_part_that_misses_a_host_is_stuck_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::of(3, TWO, "", "");
    fleet.deploy("v1").expect(0);
    fleet.deploy_alone("v2", "api").expect(0);
    fleet.deploy_alone("v3", "web").expect(0);
    fleet.servers.stop(2);
    let ran = fleet.run(&back("api")).expect(12);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("api@host2") && told.contains("done on 2 of 3"), "{told}");
    assert_eq!(fleet.runs_of("api"), ["v1", "v1", "v2"]);
    let ran = fleet.run(&back("web")).expect(4);
    let ran = ran.says("is stuck");
    assert!(ran.stderr.contains("backout recover"), "{}", ran.stderr);
    fleet.servers.start_again(2);
    fleet.run(&["recover", "--yes"]).expect(0);
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v1", 3), all("v3", 3)));
    fleet.run(&back("web")).expect(0);
    assert_eq!((fleet.runs_of("api"), fleet.runs_of("web")), (all("v1", 3), all("v1", 3)));
}
