//! Both sides stand at once behind the built-in proxy: a service with traffic, a worker, and a job.

use std::fs;

use serde_json::json;

use super::{calls, deploy_alone, notes, versions};
use crate::cases::UNHEALTHY;
use crate::support::{Service, World, Yaml, wait_until};

/// Notes its begin and its end, and whether another one is at work.
const WORKER: &str = r#"#!/bin/sh
cd "$2" || exit 1
echo "worker $1" >> calls
if [ -s worker.pid ] && kill -0 "$(cat worker.pid)" 2> /dev/null; then echo "two workers" >> calls; fi
echo $$ > worker.pid
trap 'rm -f worker.pid; echo "worker $1 ends" >> calls; exit 0' TERM
while :; do sleep 0.05; done
"#;

/// Notes that it ran, and fails as told.
const JOB: &str = r#"#!/bin/sh
cd "$2" || exit 1
echo "job $1" >> calls
[ -e "fail-job-$1" ] && { echo "no such table"; exit 3; }
exit 0
"#;

/// `shop` needs the job `migrate`; `jobs` is a worker.
fn shop(yaml: Yaml) -> World {
    let world = World::bare();
    let notes = notes(&world).display().to_string();
    let services = [
        "services:".to_owned(),
        "  shop: { depends_on: [migrate] }".to_owned(),
        format!(
            "  jobs: {{ traffic: none, artifact: worker, command: [\"{{artifact}}\", \"{{version}}\", \"{notes}\"], health: {{ exec: {{ command: [\"true\"] }} }} }}"
        ),
        format!(
            "  migrate: {{ job: true, artifact: job, command: [\"{{artifact}}\", \"{{version}}\", \"{notes}\"] }}"
        ),
    ];
    world.configure(&yaml.bake("300ms").extra(&services.join("\n")));
    world.script("worker", WORKER);
    world.script("job", JOB);
    world.build(Service::default());
    world
}

/// Fails the test unless this worker alone is at work. Between fork and exec a shell looks like two, for a moment.
#[track_caller]
fn expect_worker(world: &World, version: &str) {
    wait_until(&format!("worker {version} alone"), || workers(world) == version);
}

fn workers(world: &World) -> String {
    let found: Vec<String> = world
        .processes()
        .iter()
        .filter(|process| process.argv.iter().any(|word| word.ends_with("/worker")))
        .filter(|process| process.has("/bin/sh") && !process.has("supervise"))
        .filter_map(|process| process.argv.get(2).cloned())
        .collect();
    found.join(", ")
}

#[track_caller]
fn noted(world: &World) -> Vec<String> {
    let mut noted = calls(world);
    assert!(!noted.contains(&"two workers".to_owned()), "{noted:?}");
    noted.retain(|call| !call.ends_with(" ends"));
    noted
}

fn one_of_three_goes_out_and_back(yaml: Yaml) {
    let world = shop(yaml);
    world.deployed("v1");
    let mut first = noted(&world);
    first.sort();
    assert_eq!(first, ["job v1", "worker v1"]);

    let load = world.load();
    deploy_alone(&world, "v2", &["shop"]).expect(0);
    assert_eq!(versions(&world), "jobs v1, migrate v1, shop v2");
    world.expect_serving("v2");
    // The new side is whole: its worker is the same release's, begun once the old one has ended.
    assert_eq!(noted(&world), ["worker v1"]);
    expect_worker(&world, "v1");
    assert_eq!(world.running(), ["v2"]);

    world.build(UNHEALTHY);
    let document = deploy_alone(&world, "v3", &["shop"]).expect(10).json();
    assert_eq!(document["rollback"]["target_version"], "v2", "{document:#}");
    assert_eq!(versions(&world), "jobs v1, migrate v1, shop v2");
    world.expect_serving("v2");
    let back = noted(&world);
    assert!(back.iter().all(|call| call == "worker v1"), "{back:?}");
    expect_worker(&world, "v1");
    assert_eq!(world.running(), ["v2"]);
    let status = world.status();
    assert_eq!(status["health"], "healthy", "{status:#}");

    world.build(Service::default());
    let document = world.rollback(&["--service", "shop", "--force"]).expect(0).json();
    assert_eq!((&document["partial"], &document["services"]), (&true.into(), &json!(["shop"])));
    assert_eq!(versions(&world), "jobs v1, migrate v1, shop v1");
    assert_eq!(world.row(5)["release"], world.row(1)["release"], "the very release of #1 again");
    world.expect_serving("v1");
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users met {tally:?}");
    noted(&world);
}

#[test]
fn one_service_goes_out_and_back_in_stages() {
    let stages = "{ canary: { stages: [50], hold: 300ms, hold_max: 3s, on_no_data: promote } }";
    one_of_three_goes_out_and_back(Yaml { strategy: stages.to_owned(), ..Yaml::default() });
}

#[test]
fn one_service_goes_out_and_back_at_once() {
    one_of_three_goes_out_and_back(Yaml::blue_green());
}

#[test]
fn a_worker_and_a_job_go_out_alone_while_users_are_served() {
    let world = shop(Yaml::blue_green());
    world.deployed("v1");
    noted(&world);
    let load = world.load();
    deploy_alone(&world, "v2", &["jobs"]).expect(0);
    assert_eq!(noted(&world), ["worker v2"]);
    assert_eq!(versions(&world), "jobs v2, migrate v1, shop v1");
    expect_worker(&world, "v2");

    fs::write(world.root().join("notes/fail-job-v3"), "").unwrap();
    let document = deploy_alone(&world, "v3", &["migrate"]).expect(10).json();
    let error = document["deployment"]["error_message"].as_str().unwrap();
    assert!(error.contains("migrate ended with exit code 3"), "{error}");
    let back = noted(&world);
    assert_eq!(back.iter().filter(|call| *call == "job v3").count(), 1, "{back:?}");
    assert!(!back.contains(&"job v1".to_owned()), "on the way back it is not run: {back:?}");
    assert_eq!(versions(&world), "jobs v2, migrate v1, shop v1");
    expect_worker(&world, "v2");

    // Killed as the new side stands and the job has ended: it is not run again by whoever takes it back.
    let args = ["deploy", "--version", "v4", "--service", "migrate", "--yes"];
    world.run_killed(&args, "before_outcome/start:1");
    world.run(&["recover", "--yes"]).expect(10);
    let back = noted(&world);
    assert!(back.iter().filter(|call| *call == "job v4").count() <= 1, "{back:?}");
    assert_eq!(versions(&world), "jobs v2, migrate v1, shop v1");
    expect_worker(&world, "v2");
    assert_eq!(world.running(), ["v1"]);
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users met {tally:?}");
    world.run(&["check"]).expect(0);
}
