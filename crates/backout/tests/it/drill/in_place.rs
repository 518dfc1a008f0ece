//! What can be rehearsed of a target that replaces what runs.

use super::{drill, startable};
use crate::support::{World, Yaml};

#[test]
fn a_program_with_a_fixed_port_is_looked_at_and_not_started() {
    let mut yaml = Yaml::recreate().bake("0s");
    yaml.router = String::new();
    yaml.process = "artifact: app, port: LISTEN".to_owned();
    let world = World::new(&yaml);
    world.deployed("v1");
    world.deployed("v2");
    let shown = drill(&world, &[]).expect(0).json();
    assert_eq!(
        (&shown["started_beside"], &shown["restore_ms"]),
        (&false.into(), &serde_json::Value::Null)
    );
    assert!(shown["not_started"].as_str().unwrap().contains("must not run at once"), "{shown:#}");
    assert!(shown["rehearsed"].to_string().contains("each whole"), "{shown:#}");
    assert!(shown["left_out"].to_string().contains("v1 was not started"), "{shown:#}");
    world.expect_serving("v2");
    let (check, _) = startable(&world);
    assert_eq!(check["status"], "pass");
    assert!(check["message"].as_str().unwrap().contains("without a start"), "{check}");
}

#[test]
fn a_script_is_not_called() {
    let world = World::bare();
    world.write(
        "backout.yaml",
        "app: shop\ntarget: { script: { program: run.sh } }\nhealth: { exec: { command: [\"true\"] } }\nbake_time: 0s\n",
    );
    world.script(
        "run.sh",
        "#!/bin/sh\necho \"$1 $BACKOUT_VERSION\" >> calls\ncase $1 in deploy|rollback) echo \"$BACKOUT_VERSION\" > now;; status) cat now 2>/dev/null;; esac\n",
    );
    world.deployed("v1");
    world.deployed("v2");
    let changing =
        || world.read("calls").lines().filter(|line| !line.starts_with("status")).count();
    let before = changing();
    let shown = drill(&world, &[]).expect(0).json();
    assert_eq!(changing(), before);
    assert!(shown["left_out"].to_string().contains("rollback` was not called"), "{shown:#}");
    std::fs::remove_file(world.folder().join("run.sh")).unwrap();
    let shown = drill(&world, &[]).expect(1).json();
    assert!(shown["error_message"].as_str().unwrap().contains("run.sh"), "{shown:#}");
    world.script("run.sh", "#!/bin/sh\ncat now\n");
}
