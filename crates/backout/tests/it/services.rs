//! Several services in one app: their order, some of them alone, and all or nothing.

mod alone;
mod beside;
mod compose;
mod dependencies;
mod detached;
mod hosts;
mod jobs;
mod order;
mod restored;
mod stuck;
mod systemd;

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::{Process, Services, World};

/// Notes every call; keeps per service what runs. A file `fail-SERVICE-VERSION` makes its `deploy` fail,
/// `fail-rollback-SERVICE` its `rollback`.
const SCRIPT: &str = r#"#!/bin/sh
s="$BACKOUT_SERVICE"
[ "$1" = status ] || echo "$1 $s $BACKOUT_VERSION" >> calls
case "$1" in
  deploy)
    [ -e "fail-$s-$BACKOUT_VERSION" ] && exit 1
    echo "$BACKOUT_VERSION" > "runs-$s" ;;
  rollback)
    [ -e "fail-rollback-$s" ] && exit 1
    echo "$BACKOUT_VERSION" > "runs-$s" ;;
  status) cat "runs-$s" 2>/dev/null; exit 0 ;;
  stop) rm -f "runs-$s" ;;
  *) exit 64 ;;
esac
"#;

/// `db` under `api` under `web`, run by a script.
fn scripted() -> World {
    let world = World::bare();
    world.script("deploy.sh", SCRIPT);
    world.script(
        "check.sh",
        "#!/bin/sh\n[ -s \"runs-$BACKOUT_SERVICE\" ] && ! grep -q bad \"runs-$BACKOUT_SERVICE\"\n",
    );
    let yaml = Services::on("{ script: { program: ./deploy.sh, timeout: 20s } }")
        .and("web", "depends_on: [api]")
        .and("api", "depends_on: [db]")
        .and("db", "")
        .health("exec: { command: [./check.sh], timeout: 8s }");
    world.write("backout.yaml", &yaml.text());
    world
}

/// A program that notes when it begins, and ends at SIGTERM. A file `fail-SERVICE-VERSION` ends it at once.
const PROGRAM: &str = r#"#!/bin/sh
cd "$3" || exit 1
echo "start $1 $2" >> calls
[ -e "fail-$1-$2" ] && exit 1
trap 'echo "stop $1 $2" >> calls; exit 0' TERM
while :; do sleep 0.05; done
"#;

/// `db` under `api` under `web`, programs that Backout supervises, one stopped before the next starts.
fn supervised() -> World {
    let world = World::bare();
    world.script("program", PROGRAM);
    let notes = notes(&world);
    let yaml = Services::supervised("program")
        .program("web", "depends_on: [api]", &notes)
        .program("api", "depends_on: [db]", &notes)
        .program("db", "", &notes);
    world.write("backout.yaml", &yaml.text());
    world
}

/// The folder in which programs note what they do.
fn notes(world: &World) -> PathBuf {
    let place = world.root().join("notes");
    fs::create_dir_all(&place).unwrap();
    place
}

/// What was noted since the last time.
fn calls(world: &World) -> Vec<String> {
    let places = [world.folder().join("calls"), world.root().join("notes/calls")];
    for path in places {
        if let Ok(text) = fs::read_to_string(&path) {
            fs::remove_file(&path).unwrap();
            return text.lines().map(str::to_owned).collect();
        }
    }
    Vec::new()
}

/// The file that lets a service's version fail.
fn let_fail(world: &World, service: &str, version: &str) {
    let notes = world.root().join("notes");
    let place = if notes.exists() { notes } else { world.folder() };
    fs::write(place.join(format!("fail-{service}-{version}")), "").unwrap();
}

/// `deploy --service …`.
#[track_caller]
fn deploy_alone(world: &World, version: &str, services: &[&str]) -> crate::support::Ran {
    let mut args = vec!["deploy", "--version", version, "--yes", "--format", "json"];
    for service in services {
        args.extend(["--service", service]);
    }
    world.run(&args)
}

/// `web 2, api 1` and so on, of what is live.
#[track_caller]
fn versions(world: &World) -> String {
    let status = world.status();
    let one = |row: &serde_json::Value| {
        format!("{} {}", row["name"].as_str().unwrap(), row["version"].as_str().unwrap())
    };
    status["services"].as_array().unwrap().iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `stop web`, `start api` and so on, in the order in which they were done.
fn done(operation: &serde_json::Value) -> Vec<String> {
    let steps = operation["steps"].as_array().unwrap();
    let of = |step: &serde_json::Value| {
        let name = step["name"].as_str().unwrap();
        let id = step["id"].as_str().unwrap();
        let service = id.rsplit_once('/').unwrap().1.split('@').next().unwrap();
        (matches!(name, "start" | "stop") && step["status"] == "done")
            .then(|| format!("{name} {service}"))
    };
    steps.iter().filter_map(of).collect()
}

/// Ends a supervisor and what it runs, as a person with `kill -9` does.
fn end_supervisor_of(world: &World, service: &str) {
    let folder = format!("/{service}/");
    let is_of = |process: &Process| {
        process.has(service)
            || process.has("supervise") && process.argv.iter().any(|arg| arg.contains(&folder))
    };
    crate::support::wait_for("the end of a supervisor", || {
        let mut left: Vec<_> =
            world.processes().into_iter().filter(|process| is_of(process)).collect();
        left.sort_by_key(|process| !process.has("supervise"));
        left.iter().for_each(|process| process.signal(Signal::KILL));
        left.is_empty().then_some(())
    });
}
