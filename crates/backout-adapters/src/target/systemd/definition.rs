//! Unit files: looked at, never written.

use std::path::Path;

use backout_core::ids::{Slot, hex};
use backout_core::model::{SystemdSpec, UnitFile};
use backout_core::ports::AdapterError;
use sha2::{Digest, Sha256};

use super::Side;
use crate::systemd::UnitState;

/// Where unit files lie in the folder of an app, if they lie there.
const PLACES: [&str; 2] = ["", "systemd"];

/// The unit's own files below the folder of `backout.yaml`, relative to it: they are versioned with every release and
/// come back with it.
#[must_use]
pub fn own_files(folder: &Path, unit: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for slot in Slot::BOTH {
        let name = unit.replace("{slot}", slot.as_str());
        names.extend(template_of(&name));
        names.push(name);
    }
    names.dedup();
    let mut found: Vec<String> = Vec::new();
    for (place, name) in PLACES.iter().flat_map(|place| names.iter().map(move |name| (place, name)))
    {
        let base = folder.join(place);
        let mut files = vec![base.join(name)];
        let drop_ins = std::fs::read_dir(base.join(format!("{name}.d"))).into_iter().flatten();
        files.extend(
            drop_ins
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "conf")),
        );
        for file in files.iter().filter(|file| file.is_file()) {
            let relative = file.strip_prefix(folder).ok().and_then(Path::to_str);
            found.extend(relative.map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `shop@.service` of `shop@a.service`.
fn template_of(name: &str) -> Option<String> {
    let (before, after) = name.split_once('@')?;
    Some(format!("{before}@{}", after.rfind('.').map_or("", |dot| &after[dot..])))
}

/// A changed definition in words; empty: it is as it was.
pub(super) fn difference(recorded: &[&UnitFile], now: &[UnitFile]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for file in recorded {
        match now.iter().find(|other| other.path == file.path) {
            Some(other) if other.digest == file.digest => {}
            Some(_) => words.push(format!("{} was changed", file.path)),
            None => words.push(format!("{} is gone", file.path)),
        }
    }
    let new = now.iter().filter(|file| recorded.iter().all(|other| other.path != file.path));
    words.extend(new.map(|file| format!("{} is new", file.path)));
    words
}

impl Side {
    /// How a unit file of this side is called in a release: those of other hosts carry their names.
    fn recorded(&self, path: &str) -> String {
        match &self.host {
            Some(host) => format!("{}:{path}", host.name()),
            None => path.to_owned(),
        }
    }

    /// The unit files of a release that are of this side's machine.
    pub(super) fn recorded_here(&self) -> Vec<&UnitFile> {
        let prefix = self.recorded("/");
        self.spec.files.iter().filter(|file| file.path.starts_with(&prefix)).collect()
    }

    /// The files of a unit that do not come back with a release: all but those of the app's own folder.
    pub(super) async fn files_of(&self, state: &UnitState) -> Result<Vec<UnitFile>, AdapterError> {
        let found = self.files.definitions(&state.files).await?;
        let mut files = Vec::new();
        for (path, found) in state.files.iter().zip(found) {
            let found = found.ok_or_else(|| {
                let name = &self.place.name;
                AdapterError::permanent(format!("failed to read `{path}` of {name}: it is gone"))
            })?;
            if found.own {
                continue;
            }
            let digest = format!("sha256:{}", hex(&Sha256::digest(&found.bytes)));
            files.push(UnitFile { path: self.recorded(path), digest });
        }
        files.sort();
        Ok(files)
    }

    /// Whether the unit runs what is behind the link.
    pub(super) async fn names_link(&self, state: &UnitState) -> Result<bool, AdapterError> {
        let link = self.place.link.display().to_string();
        let instance = state.name.split_once('@').and_then(|(_, after)| after.rsplit_once('.'));
        let instance = instance.map_or("", |(instance, _)| instance);
        if state.uses.iter().any(|text| names_path(text, &link)) {
            return Ok(true);
        }
        let found = self.files.definitions(&state.files).await?;
        let texts = found.iter().flatten().map(|found| String::from_utf8_lossy(&found.bytes));
        Ok(texts
            .map(|text| text.replace("%i", instance).replace("%I", instance))
            .any(|text| names_path(&text, &link)))
    }
}

/// Whether a text holds the path itself, not only the beginning of another one.
fn names_path(text: &str, path: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '%');
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        !after.is_some_and(goes_on) && !before.is_some_and(|c| goes_on(c) || c == '/')
    })
}

/// The slots that a definition has units for.
pub(super) fn slots(spec: &SystemdSpec, beside: bool) -> Vec<Slot> {
    if beside && spec.has_slots() { Slot::BOTH.to_vec() } else { vec![Slot::A] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_backout_yaml_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for name in [
            "shop@.service",
            "systemd/shop@a.service.d/limits.conf",
            "shop@.service.d/notes.txt",
            "other.service",
        ] {
            write(name);
        }
        assert_eq!(
            own_files(folder.path(), "shop@{slot}.service"),
            ["shop@.service", "systemd/shop@a.service.d/limits.conf"]
        );
        assert_eq!(own_files(folder.path(), "other.service"), ["other.service"]);
    }

    #[test]
    fn a_path_is_named_whole_or_not_at_all() {
        let path = "/srv/shop/current";
        for text in ["ExecStart=/srv/shop/current/shop -p", "X=\"/srv/shop/current\"", path] {
            assert!(names_path(text, path), "{text}");
        }
        for text in ["/srv/shop/current-a/shop", "/data/srv/shop/current/x", "/srv/shop/curren"] {
            assert!(!names_path(text, path), "{text}");
        }
    }

    #[test]
    fn what_changed_is_named() {
        let file = |path: &str, digest: &str| UnitFile { path: path.into(), digest: digest.into() };
        let was = [file("a", "1"), file("b", "2"), file("c", "3")];
        let now = [file("a", "1"), file("b", "9"), file("d", "4")];
        let recorded: Vec<_> = was.iter().collect();
        assert_eq!(difference(&recorded, &now), ["b was changed", "c is gone", "d is new"]);
        assert!(difference(&recorded, &was).is_empty());
    }
}
