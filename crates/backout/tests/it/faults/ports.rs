//! Ports that somebody else has.

use std::net::TcpListener;

use super::{nothing_runs, still_on_v1};
use crate::support::{Service, World, Yaml};

#[test]
fn a_taken_listen_port_is_said_before_anything_starts() {
    let world = World::new(&Yaml::default());
    let taken = TcpListener::bind(("127.0.0.1", world.listen)).unwrap();
    let deploy = ["deploy", "--version", "v1", "--yes"];
    world.run(&deploy).expect(4).says(&world.listen.to_string()).says("router.builtin.listen");
    assert!(world.history().is_empty(), "nothing was changed");
    nothing_runs(&world);
    drop(taken);
    world.deployed("v1");
    still_on_v1(&world);
}

#[test]
fn another_listen_port_that_is_taken_leaves_the_old_one_served() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    world.configure(&Yaml {
        router: format!(r#"{{ builtin: {{ listen: "127.0.0.1:{port}" }} }}"#),
        ..Yaml::blue_green()
    });
    world.run(&["deploy", "--version", "v2", "--yes"]).expect(4).says(&port.to_string());
    still_on_v1(&world);
    assert_eq!(world.history().len(), 1);
}

#[test]
fn a_foreign_program_on_the_fixed_port_is_named() {
    let world = World::bare();
    let port = world.listen;
    world.configure(&Yaml {
        process: format!("artifact: app, port: {port}"),
        router: String::new(),
        strategy: "recreate".to_owned(),
        ..Yaml::default()
    });
    world.build(Service::default());
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let ran = world
        .run(&["deploy", "--version", "v1", "--yes"])
        .expect(4)
        .says(&port.to_string())
        .says(&std::process::id().to_string());
    // The name of this very test program, as the kernel keeps it.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    ran.says(name.trim());
    nothing_runs(&world);
    drop(taken);
    world.deployed("v1");
    world.expect_serving("v1");
}
