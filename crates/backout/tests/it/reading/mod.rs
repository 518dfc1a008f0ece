//! The verbs that only read: what they show, and that they leave everything as it is.

mod check;
mod doctor;
mod history;
mod inspect;
mod nothing;
mod status;
mod troubled;

use serde_json::Value;

use crate::support::{Ran, World, Yaml};

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The strings of a list.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// A verb's one JSON document.
#[track_caller]
fn json(world: &World, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    world.run(&args).expect(0).json()
}

/// Fails the test unless the text has this line, however many blanks stand between its words.
#[track_caller]
fn has_line(ran: &Ran, line: &str) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        ran.stdout.lines().any(|found| words(found).starts_with(line)),
        "no line begins with {line:?} in\n{}",
        ran.stdout
    );
}

/// Two stable deployments, v1 and v2.
fn two() -> World {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    world.deployed("v2");
    world
}
