//! Which crate may use which: the arrows of ARCHITECTURE.md, checked with `cargo metadata`.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::Violation;

/// A crate and the crates of this workspace that its own code may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("backout-judge", &[]),
    ("backout-core", &["backout-judge"]),
    ("backout-engine", &["backout-core", "backout-judge"]),
    ("backout-ledger", &["backout-core"]),
    ("backout-adapters", &["backout-core"]),
    ("backout-aws", &["backout-core"]),
    ("backout-proxy", &["backout-core", "backout-judge"]),
    ("backout-server", &["backout-core", "backout-judge", "backout-engine"]),
    ("backout-guard", &[]),
    ("backout-testkit", &["backout-core", "backout-judge"]),
    (
        "backout",
        &[
            "backout-judge",
            "backout-core",
            "backout-engine",
            "backout-ledger",
            "backout-adapters",
            "backout-aws",
            "backout-proxy",
            "backout-server",
            "backout-guard",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that stay pure, and what none of their dependencies may be, at any depth.
const PURE: &[&str] = &["backout-core", "backout-judge"];
const WORLDLY: &[&str] = &[
    "async-std",
    "fs-err",
    "getrandom",
    "hyper",
    "mio",
    "notify",
    "rand",
    "reqwest",
    "rustix",
    "rusqlite",
    "socket2",
    "sqlx",
    "tempfile",
    "tokio",
    "ureq",
];

pub(super) fn check(metadata: &Value, root: &str) -> Vec<Violation> {
    let members = ids(&metadata["workspace_members"]);
    let packages: Vec<&Value> = elements(&metadata["packages"])
        .filter(|package| members.contains(text(&package["id"])))
        .collect();
    let names: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut found = Vec::new();
    for package in packages {
        let mut judge = Judge { package, root, found: &mut found };
        judge.arrows(&names);
        if PURE.contains(&text(&package["name"])) {
            judge.purity(metadata);
        }
    }
    found
}

struct Judge<'a> {
    package: &'a Value,
    root: &'a str,
    found: &'a mut Vec<Violation>,
}

impl Judge<'_> {
    fn arrows(&mut self, names: &BTreeSet<&str>) {
        let own = text(&self.package["name"]);
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == own) else {
            self.add(
                own,
                format!("`{own}` has no place in the direction of crates"),
                "add it to MAY_USE in xtask/src/tidy/direction.rs and to ARCHITECTURE.md",
            );
            return;
        };
        for dependency in elements(&self.package["dependencies"]) {
            let name = text(&dependency["name"]);
            let in_tests_only = dependency["kind"] == "dev";
            // Tests may look at everything except the binary, which stands above them all.
            let allowed = may_use.contains(&name) || (in_tests_only && name != "backout");
            if names.contains(name) && !allowed {
                let remedy = if name == "backout-testkit" {
                    "move it to [dev-dependencies]: the testkit is never shipped"
                } else {
                    "turn the arrow round: put a port into backout-core and pass the thing in"
                };
                self.add(name, format!("`{own}` may not use `{name}`"), remedy);
            }
        }
    }

    fn purity(&mut self, metadata: &Value) {
        let own = text(&self.package["name"]);
        for name in reachable(metadata, text(&self.package["id"])) {
            if WORLDLY.contains(&name) {
                self.add(
                    name,
                    format!(
                        "`{own}` is pure, yet depends on `{name}` (`cargo tree -p {own} -i {name}`)"
                    ),
                    "take the value in from outside, or switch the feature off that brings it",
                );
            }
        }
    }

    fn add(&mut self, name: &str, what: String, remedy: &'static str) {
        let manifest = text(&self.package["manifest_path"]);
        let path = manifest.strip_prefix(self.root).unwrap_or(manifest).trim_start_matches('/');
        let line = std::fs::read_to_string(manifest).ok().and_then(|text| line_naming(&text, name));
        self.found.push(Violation { path: path.to_owned(), line: line.unwrap_or(1), what, remedy });
    }
}

/// The line of a manifest that names a dependency; none for one that comes through others.
fn line_naming(manifest: &str, name: &str) -> Option<usize> {
    manifest
        .lines()
        .position(|line| {
            line.trim_start()
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        })
        .map(|at| at + 1)
}

/// The names of everything that a package is built with, itself and its tests left out.
fn reachable<'a>(metadata: &'a Value, from: &'a str) -> BTreeSet<&'a str> {
    let names: HashMap<&str, &str> = elements(&metadata["packages"])
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: HashMap<&str, &Value> =
        elements(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(id) = open.pop() {
        for dependency in nodes.get(id).into_iter().flat_map(|node| elements(&node["deps"])) {
            let normal = elements(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if normal && seen.insert(id) {
                open.push(id);
            }
        }
    }
    seen.iter().filter_map(|id| names.get(id).copied()).collect()
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn ids(value: &Value) -> BTreeSet<&str> {
    elements(value).map(text).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A crate and its dependencies with their kind, as in the metadata.
    type Crate<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);

    fn workspace(crates: &[Crate<'_>]) -> Value {
        let package = |(name, deps): &Crate<'_>| {
            let deps: Vec<_> =
                deps.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
            let path = format!("/r/crates/{name}/Cargo.toml");
            json!({"id": name, "name": name, "manifest_path": path, "dependencies": deps})
        };
        let node = |(name, deps): &Crate<'_>| {
            let deps: Vec<_> = deps
                .iter()
                .map(|(name, kind)| json!({"pkg": name, "dep_kinds": [{"kind": kind}]}))
                .collect();
            json!({"id": name, "deps": deps})
        };
        let ours = |name: &str| name.starts_with("backout") || name == "xtask";
        json!({
            "packages": crates.iter().map(package).collect::<Vec<_>>(),
            "workspace_members": crates.iter().map(|c| c.0).filter(|n| ours(n)).collect::<Vec<_>>(),
            "resolve": {"nodes": crates.iter().map(node).collect::<Vec<_>>()},
        })
    }

    fn whats(crates: &[Crate<'_>]) -> Vec<String> {
        check(&workspace(crates), "/r")
            .into_iter()
            .map(|v| format!("{}: {}", v.path, v.what))
            .collect()
    }

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        let found = whats(&[
            ("backout-core", &[("backout-engine", None)]),
            ("backout-engine", &[("backout-core", None)]),
        ]);
        assert_eq!(
            found,
            ["crates/backout-core/Cargo.toml: `backout-core` may not use `backout-engine`"]
        );
        assert_eq!(
            whats(&[("backout-judge", &[("backout-core", None)]), ("backout-core", &[])]).len(),
            1
        );
        assert_eq!(
            whats(&[("backout-adapters", &[("backout-ledger", None)]), ("backout-ledger", &[])])
                .len(),
            1
        );
        assert_eq!(
            whats(&[("xtask", &[("backout-core", Some("build"))]), ("backout-core", &[])]).len(),
            1
        );
    }

    #[test]
    fn the_testkit_and_the_binary_are_not_built_upon() {
        let kit = ("backout-testkit", &[] as &[_]);
        assert_eq!(whats(&[("backout", &[("backout-testkit", None)]), kit]).len(), 1);
        assert_eq!(whats(&[("backout", &[("backout-testkit", Some("dev"))]), kit]), [""; 0]);
        let binary = ("backout", &[] as &[_]);
        assert_eq!(whats(&[("backout-engine", &[("backout", Some("dev"))]), binary]).len(), 1);
    }

    #[test]
    fn tests_may_use_what_code_may_not() {
        let ledger = ("backout-ledger", &[] as &[_]);
        assert_eq!(
            whats(&[("backout-engine", &[("backout-ledger", Some("dev"))]), ledger]),
            [""; 0]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let found = whats(&[("backout-new", &[])]);
        assert_eq!(
            found,
            [
                "crates/backout-new/Cargo.toml: `backout-new` has no place in the direction of crates"
            ]
        );
    }

    #[test]
    fn a_pure_crate_is_pure_at_any_depth() {
        let deep: &[Crate<'_>] =
            &[("backout-core", &[("serde", None)]), ("serde", &[("tokio", None)]), ("tokio", &[])];
        let found = whats(deep);
        assert!(found[0].contains("`backout-core` is pure, yet depends on `tokio`"), "{found:?}");
        let in_tests: &[Crate<'_>] = &[("backout-core", &[("tokio", Some("dev"))]), ("tokio", &[])];
        assert_eq!(whats(in_tests), [""; 0]);
    }

    #[test]
    fn the_line_of_a_dependency_is_found() {
        let manifest = "[dependencies]\ntokio-util = \"1\"\ntokio.workspace = true\n";
        assert_eq!(line_naming(manifest, "tokio"), Some(3));
        assert_eq!(line_naming(manifest, "mio"), None);
    }
}
