//! The incident bundle: what is kept of a release before it is stopped.

mod containers;
mod hosts;
mod kept;
mod trouble;
mod units;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::World;

/// Folder of the bundles of a world.
fn folder(world: &World) -> PathBuf {
    world.state_dir().join("incidents")
}

/// Names in the folder of bundles, half-made ones too.
fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder(world))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The bundle that `inspect` shows.
#[track_caller]
fn shown(world: &World, name: &str) -> Value {
    let document = world.run(&["inspect", name, "--format", "json"]).expect(0).json();
    document["incident"].clone()
}

/// Names of a bundle's files.
fn files(bundle: &Value) -> Vec<String> {
    let files = bundle["files"].as_array().unwrap_or_else(|| panic!("{bundle:#}"));
    files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

/// Everything in all files of a folder.
fn all_text(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            all.push_str(&all_text(&entry.path()));
        } else {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
    all
}
