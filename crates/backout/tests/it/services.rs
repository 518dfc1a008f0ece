//! Several services in one app: their order, some of them alone, and all or nothing.

mod alone;
mod compose;
mod dependencies;
mod jobs;
mod order;

use std::fs;

use crate::support::World;

/// Notes every call; keeps per service what runs. A file `fail-SERVICE-VERSION` makes its `deploy` fail.
const SCRIPT: &str = r#"#!/bin/sh
s="$BACKOUT_SERVICE"
[ "$1" = status ] || echo "$1 $s $BACKOUT_VERSION" >> calls
case "$1" in
  deploy)
    [ -e "fail-$s-$BACKOUT_VERSION" ] && exit 1
    echo "$BACKOUT_VERSION" > "runs-$s" ;;
  rollback) echo "$BACKOUT_VERSION" > "runs-$s" ;;
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
    world.write(
        "backout.yaml",
        r#"app: shop
target: { script: { program: ./deploy.sh, timeout: 20s } }
services:
  web: { depends_on: [api] }
  api: { depends_on: [db] }
  db: {}
health:
  exec: { command: [./check.sh], timeout: 8s }
  during_rollout: { interval: 100ms }
  consecutive_passes: 2
  startup_timeout: 40s
bake_time: 300ms
"#,
    );
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
    let place = world.root().join("notes");
    fs::create_dir_all(&place).unwrap();
    world.write(
        "backout.yaml",
        &format!(
            r#"app: shop
target: {{ process: {{ artifact: program, restart: {{ max: 1, within: 60s }} }} }}
services:
  web: {{ depends_on: [api], command: ["{{artifact}}", web, "{{version}}", "{place}"] }}
  api: {{ depends_on: [db], command: ["{{artifact}}", api, "{{version}}", "{place}"] }}
  db: {{ command: ["{{artifact}}", db, "{{version}}", "{place}"] }}
health:
  during_rollout: {{ interval: 100ms }}
  consecutive_passes: 2
  startup_timeout: 40s
shutdown: {{ drain: 1s, grace: 2s }}
bake_time: 300ms
"#,
            place = place.display()
        ),
    );
    world
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
