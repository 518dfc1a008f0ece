//! Services of a compose file.

use std::collections::BTreeMap;

use backout_core::ids::{AppName, EnvironmentName};
use backout_core::model::ComposeSpec;

use super::Findings;
use super::target::{Around, braced_words, environment, refuse_keys_of_others};
use crate::config::raw::{At, Entries, OneOrMany, Raw, RawCompose, RawPort, RawService, RawTarget};

const DEFAULT_FILE: &str = "compose.yaml";
/// The key beside the images that says how they are kept.
const KEEP: &str = "keep";

/// The project's name where none is written: no other app's or environment's.
pub(super) fn default_project(
    app: Option<&AppName>,
    environment: Option<&EnvironmentName>,
) -> String {
    let app = app.map(AppName::as_str).unwrap_or_default();
    let environment = environment.map(EnvironmentName::as_str).unwrap_or_default();
    format!("{app}_{}", environment.to_lowercase())
}

pub(super) fn compose(
    base: &RawCompose,
    own: Option<&RawService>,
    images: Option<&Entries<At<String>>>,
    default_project: &str,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<ComposeSpec> {
    refuse_keys_of_others(own, "compose", found);
    let mut files = paths(base.file.as_ref(), "compose file", found);
    if files.is_empty() {
        files.push(DEFAULT_FILE.to_owned());
    }
    let own_env = own.and_then(|own| own.env.as_ref()).map(|env| &env.value);
    let timeout = own.and_then(|own| own.timeout.as_ref()).or(base.timeout.as_ref());
    Some(ComposeSpec {
        files,
        env_files: paths(base.env_file.as_ref(), "file of variables", found),
        profiles: base.profiles.iter().flatten().map(|profile| profile.value.clone()).collect(),
        env: environment(base.env.as_ref(), own_env, around, found),
        project: project(base.project.as_ref(), default_project, found),
        images: self::images(images, found),
        port: port(own.and_then(|own| own.port.as_ref()).or(base.port.as_ref()), found),
        timeout_ms: found.positive("timeout", timeout, 300_000),
        services: Vec::new(),
        stop_grace_ms: 0,
        replicas: None,
    })
}

fn paths(written: Option<&At<OneOrMany>>, what: &str, found: &mut Findings) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    let Some(written) = written else { return paths };
    for path in &written.value.0 {
        let path = path.trim_start_matches("./");
        if found.relative_path(written.at, what, path) && !paths.iter().any(|other| other == path) {
            paths.push(path.to_owned());
        }
    }
    paths
}

fn project(written: Option<&At<String>>, default: &str, found: &mut Findings) -> String {
    let Some(written) = written else { return default.to_owned() };
    let name = &written.value;
    let valid = (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
        && !name.starts_with(['_', '-']);
    if !valid {
        found.refuse_at(
            written.at,
            format!("`{name}` is not the name of a compose project"),
            "use a-z, 0-9, - and _, beginning with a letter or digit; `docker compose ls` shows those that run",
        );
    }
    name.clone()
}

/// The port inside of the container; on the host each release gets one of its own behind the router.
fn port(written: Option<&At<RawPort>>, found: &mut Findings) -> Option<u16> {
    match written {
        None => None,
        Some(At { value: RawPort::Fixed(port), .. }) => Some(*port),
        Some(At { at, value: RawPort::Auto }) => {
            found.refuse_at(
                *at,
                "`port` is the port inside of the container here",
                "write its number; on this machine each release gets a free one by itself",
            );
            None
        }
    }
}

fn images(written: Option<&Entries<At<String>>>, found: &mut Findings) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    let entries = written.into_iter().flat_map(|entries| &entries.0);
    for (key, image) in entries.filter(|(key, _)| key.value != KEEP) {
        let Some(image) = image.as_ref().filter(|image| !image.value.trim().is_empty()) else {
            let hint = "write it such as `web: \"registry.example.com/web:{version}\"`";
            found.refuse_at(key.at, format!("`{}` has no image", key.value), hint);
            continue;
        };
        if let Some(word) = braced_words(&image.value).find(|word| *word != "version") {
            let message = format!("`{{{word}}}` is not filled in in `artifacts`");
            let hint = "only `{version}` is known before a release exists";
            found.refuse_at(image.at, message, hint);
        }
        images.insert(key.value.clone(), image.value.clone());
    }
    images
}

/// `artifacts.keep`, and whether `artifacts` has a meaning here at all.
pub(super) fn copies_images(raw: &Raw, found: &mut Findings) -> bool {
    let entries = raw.artifacts.iter().flat_map(|entries| &entries.0);
    let is_compose = matches!(&raw.target, Some(At { value: RawTarget::Compose(_), .. }));
    let mut copies = false;
    for (key, value) in entries {
        if !is_compose {
            found.refuse_at(
                key.at,
                "`artifacts` names images, and the target here is not `compose`",
                "remove `artifacts`; a process names its files with `artifact`",
            );
            return false;
        }
        match (key.value.as_str(), value.as_ref().map(|value| value.value.as_str())) {
            (KEEP, Some("copy")) => copies = true,
            (KEEP, Some("pin") | None) => copies = false,
            (KEEP, Some(other)) => found.refuse_at(
                value.as_ref().map_or(key.at, |value| value.at),
                format!("images can't be kept by `{other}`"),
                "write `keep: pin` for references in Docker, or `keep: copy` for copies in the state folder too",
            ),
            _ => {}
        }
    }
    copies
}
