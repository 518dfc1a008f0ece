//! Units of systemd.

use std::path::{Component, Path};

use backout_core::model::{SystemdBus, SystemdSpec};

use super::Findings;
use super::target::{Around, artifacts, braced_words, port, refuse_keys_of_others};
use crate::config::node::Position;
use crate::config::raw::{At, RawService, RawSystemd};

const SLOT: &str = "{slot}";
const UNIT_HINT: &str =
    "write it such as shop.service, or \"shop@{slot}.service\" for two side by side";
/// As systemd has it.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn systemd(
    base: &RawSystemd,
    own: Option<&RawService>,
    several: bool,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<SystemdSpec> {
    refuse_keys_of_others(own, "systemd", found);
    let name = unit(base, own, around, found)?;
    let slots = name.contains(SLOT);
    if around.builtin_router && !slots {
        found.refuse_at(
            own.and_then(|own| own.unit.as_ref()).or(base.unit.as_ref()).map_or(around.at, |u| u.at),
            format!("behind the built-in router two releases run side by side, and `{name}` is one unit"),
            "make it a template with a unit for each side: `unit: \"NAME@{slot}.service\"`, or leave `router` out",
        );
    }
    let artifact = own.and_then(|own| own.artifact.as_ref()).or(base.artifact.as_ref());
    let Some(artifact) = artifact else {
        found.refuse_at(
            around.at,
            format!("service `{}` has no `artifact`", around.name),
            "name the file or folder that makes a release, such as `artifact: target/release/shop`",
        );
        return None;
    };
    let current = current(base, own, several, slots, around, found);
    let timeout = own.and_then(|own| own.timeout.as_ref()).or(base.timeout.as_ref());
    Some(SystemdSpec {
        artifact: artifacts(artifact, found),
        releases: match &base.releases {
            Some(written) => place(written, "folder of releases", found),
            None => beside(&current, "releases"),
        },
        current,
        port: port(own.and_then(|own| own.port.as_ref()).or(base.port.as_ref()), around, found),
        bus: bus(base.bus.as_ref(), found),
        root: root(base.root.as_ref(), found),
        timeout_ms: found.positive("timeout", timeout, 120_000),
        unit: name,
        files: Vec::new(),
    })
}

fn unit(
    base: &RawSystemd,
    own: Option<&RawService>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<String> {
    let written = own.and_then(|own| own.unit.as_ref()).or(base.unit.as_ref());
    let Some(written) = written else {
        let message = format!("service `{}` has no `unit`", around.name);
        found.refuse_at(around.at, message, UNIT_HINT);
        return None;
    };
    fill(written, "unit", around, found);
    let name = written.value.replace("{service}", around.name);
    let filled = name.replace(SLOT, "a");
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let stem = filled.strip_suffix(".service").unwrap_or_default();
    if stem.is_empty()
        || stem.ends_with('@')
        || filled.len() > NAME_BYTES_MAX
        || !stem.chars().all(valid)
    {
        found.refuse_at(
            written.at,
            format!("`{name}` is not the name of a service unit"),
            UNIT_HINT,
        );
        return None;
    }
    Some(name)
}

/// Refuses words in braces that are not known here.
fn fill(written: &At<String>, key: &str, around: &Around<'_>, found: &mut Findings) {
    let unknown = braced_words(&written.value).find(|word| !["slot", "service"].contains(word));
    if let Some(word) = unknown {
        found.refuse_at(
            written.at,
            format!("`{{{word}}}` is not filled in in `{key}` of service `{}`", around.name),
            "only {service} and {slot} are; an environment has a `target` of its own under `environments`",
        );
    }
}

fn current(
    base: &RawSystemd,
    own: Option<&RawService>,
    several: bool,
    slots: bool,
    around: &Around<'_>,
    found: &mut Findings,
) -> String {
    let written = own.and_then(|own| own.current.as_ref()).or(base.current.as_ref());
    let mut path = match written {
        Some(written) => {
            fill(written, "current", around, found);
            place(written, "link", found).replace("{service}", around.name)
        }
        None if several => format!("current-{}", around.name),
        None => "current".to_owned(),
    };
    match (slots, path.contains(SLOT)) {
        (true, false) => path.push_str("-{slot}"),
        (false, true) => {
            let at = written.map_or(around.at, |written| written.at);
            let message = "`current` holds {slot}, and `unit` does not";
            found.refuse_at(at, message, "write {slot} into both, or into none");
        }
        _ => {}
    }
    path
}

/// A path that may be absolute.
pub(super) fn place(written: &At<String>, what: &str, found: &mut Findings) -> String {
    let text = written.value.trim_end_matches('/');
    let text = text.strip_prefix("./").unwrap_or(text);
    let path = Path::new(text);
    let wrong = if text.trim().is_empty() || path.file_name().is_none() {
        "names nothing"
    } else if path.components().any(|part| part == Component::ParentDir) {
        "holds `..`"
    } else if text.starts_with('~') {
        "begins with `~`"
    } else if text.contains(|c: char| c.is_control()) {
        "holds a control character"
    } else {
        return text.to_owned();
    };
    found.refuse_at(
        written.at,
        format!("the {what} `{}` {wrong}", written.value),
        "write a whole path, or one below the folder of backout.yaml",
    );
    text.to_owned()
}

pub(super) fn beside(path: &str, name: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/{name}"),
        None => name.to_owned(),
    }
}

fn bus(written: Option<&At<String>>, found: &mut Findings) -> SystemdBus {
    let Some(written) = written else { return SystemdBus::System };
    match written.value.as_str() {
        "system" => SystemdBus::System,
        "user" => SystemdBus::User,
        address => {
            let known = ["unix:", "tcp:", "unixexec:"];
            if !known.iter().any(|kind| address.starts_with(kind)) {
                found.refuse_at(
                    written.at,
                    format!("`{address}` is no bus"),
                    "write system, user, or an address such as unix:path=/run/dbus/system_bus_socket",
                );
            }
            SystemdBus::Address(address.to_owned())
        }
    }
}

fn root(written: Option<&At<String>>, found: &mut Findings) -> Option<String> {
    let written = written?;
    if !written.value.starts_with('/') {
        let message = format!("`root` must be a whole path, not `{}`", written.value);
        found.refuse_at(written.at, message, "leave it out unless the manager runs in a container");
    }
    Some(written.value.clone())
}

/// Two services can't have one unit or one link.
pub(super) fn refuse_shared<'a>(
    specs: impl Iterator<Item = (Position, &'a str, &'a SystemdSpec)>,
    found: &mut Findings,
) {
    let mut seen: Vec<(&str, &SystemdSpec)> = Vec::new();
    for (at, name, spec) in specs {
        let other =
            seen.iter().find(|(_, other)| other.unit == spec.unit || other.current == spec.current);
        if let Some((other, theirs)) = other {
            let what = if theirs.unit == spec.unit { &spec.unit } else { &spec.current };
            found.refuse_at(
                at,
                format!("services `{other}` and `{name}` share `{what}`"),
                "give each a `unit` and a `current` of its own; `{service}` stands for its name",
            );
        }
        seen.push((name, spec));
    }
}

#[cfg(test)]
mod tests {
    use backout_core::model::{PortSpec, TargetSpec};

    use super::*;
    use crate::config::load;

    fn specs(text: &str) -> Result<Vec<SystemdSpec>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backout.yaml");
        std::fs::write(&file, format!("app: shop\n{text}\n")).unwrap();
        let loaded = load(&file, None, &|_| None).map_err(|error| error.to_string())?;
        let spec = |target: &TargetSpec| match target {
            TargetSpec::Systemd(spec) => spec.clone(),
            other => panic!("{other:?}"),
        };
        Ok(loaded.settings.services.values().map(|service| spec(&service.target)).collect())
    }

    #[test]
    fn defaults_stand_beside_the_file() {
        let specs =
            specs("target: { systemd: { unit: shop.service, artifact: ./bin/shop } }").unwrap();
        let spec = &specs[0];
        assert_eq!((spec.current.as_str(), spec.releases.as_str()), ("current", "releases"));
        assert_eq!((&spec.artifact[..], spec.port), (&["bin/shop".to_owned()][..], None));
        assert_eq!((&spec.bus, spec.timeout_ms), (&SystemdBus::System, 120_000));
    }

    #[test]
    fn each_side_and_each_service_has_a_link_of_its_own() {
        let specs = specs(
            "target: { systemd: { unit: \"shop-{service}@{slot}.service\", artifact: bin, current: \"/srv/{service}/now\" } }\n\
             services: { web: {}, worker: { traffic: none } }\n\
             router: { builtin: { listen: \"127.0.0.1:80\" } }\n\
             health: { http: { url: \"http://127.0.0.1:{port}/\" } }",
        )
        .unwrap();
        assert_eq!(specs[0].unit, "shop-web@{slot}.service");
        assert_eq!(specs[0].current, "/srv/web/now-{slot}");
        assert_eq!((specs[0].port, specs[1].port), (Some(PortSpec::Auto), None));
        assert_eq!(specs[1].current, "/srv/worker/now-{slot}");
    }

    #[test]
    fn what_can_not_work_is_refused_with_a_way_out() {
        let target = |words: &str| format!("target: {{ systemd: {{ artifact: bin, {words} }} }}");
        for (text, words) in [
            (target("current: run"), "has no `unit`"),
            (target("unit: shop"), "not the name of a service unit"),
            (target("unit: \"shop@.service\""), "not the name of a service unit"),
            (target("unit: \"{app}.service\""), "not filled in in `unit`"),
            (target("unit: shop.service, current: ../run"), "holds `..`"),
            (target("unit: shop.service, current: \"run-{slot}\""), "and `unit` does not"),
            (target("unit: shop.service, bus: nowhere"), "is no bus"),
            (target("unit: shop.service, root: here"), "must be a whole path"),
            (
                target("unit: shop.service")
                    + "\nrouter: { builtin: { listen: \"127.0.0.1:80\" } }",
                "is one unit",
            ),
            (target("unit: shop.service") + "\nservices: { a: {}, b: {} }", "share `shop.service`"),
            (
                target("unit: shop.service") + "\nservices: { a: { command: [x] } }",
                "belongs to target `process`",
            ),
            ("target: { systemd: { unit: shop.service } }".to_owned(), "has no `artifact`"),
        ] {
            let error = specs(&text).unwrap_err();
            assert!(error.contains(words), "{text}\n{error}");
        }
    }
}
