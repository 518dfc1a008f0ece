//! Services that run to their end in each deploy.

use std::fs;

use super::{calls, let_fail, versions};
use crate::support::{Services, World, wait_until};

/// `migrate` under `web`: it notes its begin and its end, waits while there is a file `hold`, and fails as told.
const PROGRAM: &str = r#"#!/bin/sh
cd "$3" || exit 1
echo "$1 $2" >> calls
if [ "$1" = web ]; then
  [ -e "fail-$1-$2" ] && exit 1
  trap 'exit 0' TERM
  while :; do sleep 0.05; done
fi
while [ -e hold ]; do sleep 0.05; done
[ -e "fail-$1-$2" ] && { echo "no such table"; exit 3; }
echo "$1 $2 done" >> calls
if [ -e "killed-$1-$2" ]; then kill -KILL $$; fi
"#;

fn world(job: &str) -> World {
    let world = World::bare();
    world.script("program", PROGRAM);
    let notes = super::notes(&world);
    let yaml = Services::supervised("program")
        .program("web", "depends_on: [migrate]", &notes)
        .program("migrate", job, &notes);
    world.write("backout.yaml", &yaml.text());
    world
}

#[test]
fn a_job_runs_once_in_each_deploy_before_what_needs_it() {
    let world = world("job: true");
    let document = world.deploy("1").expect(0).json();
    assert_eq!(calls(&world), ["migrate 1", "migrate 1 done", "web 1"]);
    assert_eq!(document["deployment"]["status"], "stable");
    let health = world.status()["services"].clone();
    assert_eq!((&health[0]["name"], &health[0]["health"]), (&"migrate".into(), &"healthy".into()));
    // It has ended, and nothing is missing.
    world.run(&["recover", "--yes"]).expect(0);
    world.run(&["check"]).expect(0);
    let doctor = world.run(&["doctor"]);
    let said = doctor.stdout + &doctor.stderr;
    assert!(said.contains("web 1 runs") && !said.contains("migrate 1"), "{said}");
    assert_eq!(calls(&world), [""; 0]);
    world.deployed("2");
    assert_eq!(calls(&world), ["migrate 2", "migrate 2 done", "web 2"]);
    world.rollback(&["--force"]).expect(0);
    assert_eq!(calls(&world), ["web 1"], "on the way back it is not run again");
    // Nor where only what needs it is deployed.
    super::deploy_alone(&world, "3", &["web"]).expect(0);
    assert_eq!(calls(&world), ["web 3"]);
    assert_eq!(versions(&world), "migrate 1, web 3");
    super::deploy_alone(&world, "4", &["migrate"]).expect(0);
    assert_eq!(calls(&world), ["migrate 4", "migrate 4 done"]);
    world.end_all();
    world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(calls(&world), ["web 3"], "nor when what was down is started again");
}

#[test]
fn a_job_that_fails_takes_the_deploy_back() {
    let world = world("job: true");
    world.deployed("1");
    let_fail(&world, "migrate", "2");
    calls(&world);
    let ran = world.deploy("2").expect(10);
    assert_eq!(calls(&world), ["migrate 2", "web 1"]);
    let error = ran.json()["deployment"]["error_message"].as_str().unwrap().to_owned();
    assert!(error.contains("migrate ended with exit code 3"), "{error}");
    assert!(error.contains("no such table"), "{error}");
    assert_eq!(world.status()["health"], "healthy");
}

#[test]
fn a_job_that_takes_too_long_is_ended_and_taken_back() {
    let world = world("job: true, timeout: 1s, on_rollback: run");
    world.deployed("1");
    fs::write(world.root().join("notes/hold"), "").unwrap();
    calls(&world);
    let deploy = world.deploying("2");
    wait_until("the end of the job", || {
        fs::read_to_string(world.root().join("notes/calls"))
            .unwrap_or_default()
            .contains("migrate 1")
    });
    // The old one runs again on the way back, for that is asked for.
    fs::remove_file(world.root().join("notes/hold")).unwrap();
    let error = deploy.wait().expect(10).json()["deployment"]["error_message"].to_string();
    assert!(error.contains("did not end within 1 s"), "{error}");
    assert_eq!(calls(&world), ["migrate 2", "migrate 1", "migrate 1 done", "web 1"]);
}

/// Starts a command, and kills it once the job of `version` has begun.
fn killed_in_job(world: &World, args: &[&str], version: &str) {
    fs::write(world.root().join("notes/hold"), "").unwrap();
    calls(world);
    let began = format!("migrate {version}\n");
    let command = world.spawn(args);
    wait_until("the begin of the job", || {
        fs::read_to_string(world.root().join("notes/calls")).unwrap_or_default().contains(&began)
    });
    command.signal(rustix::process::Signal::KILL);
    command.wait();
}

#[test]
fn a_job_whose_caller_was_killed_is_awaited_and_not_run_twice() {
    let world = world("job: true, on_rollback: run");
    world.deployed("1");
    world.deployed("2");
    killed_in_job(&world, &["rollback", "--force", "--yes"], "1");
    let recover = world.spawn(&["recover", "--yes"]);
    wait_until("the holder", || world.status()["operation"]["held"] == true);
    fs::remove_file(world.root().join("notes/hold")).unwrap();
    recover.wait().expect(0);
    assert_eq!(calls(&world), ["migrate 1", "migrate 1 done", "web 1"]);
    assert_eq!(versions(&world), "migrate 1, web 1");
    assert_eq!(world.status()["health"], "healthy");
}

#[test]
fn a_job_of_a_deploy_that_goes_back_is_ended() {
    let world = world("job: true");
    world.deployed("1");
    killed_in_job(&world, &["deploy", "--version", "2", "--yes"], "2");
    world.run(&["recover", "--yes"]).expect(10);
    assert_eq!(calls(&world), ["migrate 2", "web 1"]);
    assert_eq!(world.status()["health"], "healthy");
}

#[test]
fn one_that_ended_before_its_outcome_was_recorded_is_not_run_twice() {
    for (at, times) in
        [("before_effect/start:1", 0), ("after_effect/start:1", 1), ("before_outcome/start:1", 1)]
    {
        let world = world("job: true");
        world.run_killed(&["deploy", "--version", "1", "--yes"], at);
        world.run(&["recover", "--yes"]).expect(1);
        let noted = calls(&world);
        assert_eq!(
            noted.iter().filter(|call| *call == "migrate 1").count(),
            times,
            "{at}: {noted:?}"
        );
        world.expect_nothing_running();
    }
}

#[test]
fn one_that_is_killed_at_its_very_end_has_not_ended_well() {
    let world = world("job: true");
    world.deployed("1");
    fs::write(world.root().join("notes/killed-migrate-2"), "").unwrap();
    calls(&world);
    let ran = world.deploy("2").expect(10);
    assert_eq!(calls(&world), ["migrate 2", "migrate 2 done", "web 1"], "and not once more");
    let error = ran.json()["deployment"]["error_message"].as_str().unwrap().to_owned();
    assert!(error.contains("migrate ended with signal 9"), "{error}");
    assert_eq!(versions(&world), "migrate 1, web 1");
    assert_eq!(world.status()["health"], "healthy");
}

#[test]
fn one_of_which_nobody_knows_how_it_ended_is_not_run_again() {
    let world = world("job: true");
    world.deployed("1");
    fs::write(world.root().join("notes/hold"), "").unwrap();
    calls(&world);
    let deploy = world.deploying("2");
    wait_until("the begin of the job", || {
        fs::read_to_string(world.root().join("notes/calls"))
            .unwrap_or_default()
            .contains("migrate 2")
    });
    super::end_supervisor_of(&world, "migrate");
    let ran = deploy.wait().expect(10);
    let error = ran.json()["deployment"]["error_message"].as_str().unwrap().to_owned();
    assert!(error.contains("it is not run twice"), "{error}");
    assert_eq!(calls(&world), ["migrate 2", "web 1"]);
    fs::remove_file(world.root().join("notes/hold")).unwrap();
    // Another deploy is another run.
    world.deployed("3");
    assert_eq!(calls(&world), ["migrate 3", "migrate 3 done", "web 3"]);
}
