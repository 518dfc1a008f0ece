//! Which files make a definition: the compose files, and what they read beside themselves.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// Files are followed so far and no further: compose itself refuses circles.
const MAX_FILES: usize = 64;
const MAX_BYTES: u64 = 4 << 20;

/// The files below `folder` that a definition is made of, as globs: compose files, those that they include or
/// extend, and files of variables. A path that is filled in with variables is left to `config:` in `backout.yaml`.
#[must_use]
pub fn definition_files(folder: &Path, files: &[String], env_files: &[String]) -> Vec<String> {
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let mut plain: Vec<PathBuf> = env_files.iter().map(PathBuf::from).collect();
    if env_files.is_empty() && folder.join(".env").is_file() {
        plain.push(PathBuf::from(".env"));
    }
    while let Some(path) = open.pop() {
        let Some(path) = inside(&path) else { continue };
        if found.len() >= MAX_FILES || !found.insert(path.clone()) {
            continue;
        }
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        if let Some(value) = read(&folder.join(&path)) {
            let mut named = Named { base: &base, compose: Vec::new(), plain: Vec::new() };
            named.of_file(&value);
            open.extend(named.compose);
            plain.extend(named.plain);
        }
    }
    let plain = plain.iter().filter_map(|path| inside(path));
    found.extend(plain.filter(|path| folder.join(path).is_file()).take(MAX_FILES));
    let texts = found.iter().filter_map(|path| path.to_str());
    texts.map(glob::Pattern::escape).collect()
}

fn read(path: &Path) -> Option<Value> {
    if std::fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    serde_saphyr::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// The path without `.` and `..`, if it stays below the folder.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    (!out.as_os_str().is_empty()).then_some(out)
}

/// What one compose file names.
struct Named<'a> {
    base: &'a Path,
    compose: Vec<PathBuf>,
    plain: Vec<PathBuf>,
}

impl Named<'_> {
    fn of_file(&mut self, file: &Value) {
        let of = |key: &str| file.get(key).and_then(Value::as_object).into_iter().flatten();
        for (_, service) in of("services") {
            self.plain(service.get("env_file"));
            self.compose(service.get("extends").and_then(|e| e.get("file")));
        }
        for (_, config) in of("configs") {
            self.plain(config.get("file"));
        }
        for include in file.get("include").and_then(Value::as_array).into_iter().flatten() {
            match include {
                Value::Object(long) => {
                    self.compose(long.get("path"));
                    self.plain(long.get("env_file"));
                }
                short => self.compose(Some(short)),
            }
        }
    }

    fn compose(&mut self, written: Option<&Value>) {
        let paths = self.paths(written);
        self.compose.extend(paths);
    }

    fn plain(&mut self, written: Option<&Value>) {
        let paths = self.paths(written);
        self.plain.extend(paths);
    }

    /// One path, a list of them, or a list of `{path: …}`.
    fn paths(&self, written: Option<&Value>) -> Vec<PathBuf> {
        let texts: Vec<&str> = match written {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(several)) => several
                .iter()
                .filter_map(|one| one.as_str().or_else(|| one.get("path")?.as_str()))
                .collect(),
            _ => Vec::new(),
        };
        texts.iter().filter(|text| !text.contains('$')).map(|text| self.base.join(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn found(folder: &tempfile::TempDir, files: &[&str], env_files: &[&str]) -> Vec<String> {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        definition_files(folder.path(), &texts(files), &texts(env_files))
    }

    #[test]
    fn all_that_a_definition_reads_is_found() {
        let folder = folder(&[
            (
                "compose.yaml",
                "x: &e\n  env_file: [./web.env, {path: more.env, required: false}, gone.env, \"${X}.env\"]\n\
                 include: [sub/extra.yaml, {path: [third.yaml], env_file: third.env}]\n\
                 services: {web: *e, db: {image: db, extends: {file: base.yaml, service: x}}}\n\
                 configs: {c: {file: ./c.conf}}\nsecrets: {s: {file: s.txt}}\n",
            ),
            (
                "sub/extra.yaml",
                "services: {x: {env_file: x.env}, y: {env_file: ../up.env, extends: {file: ../compose.yaml}}}",
            ),
            ("sub/x.env", ""),
            ("up.env", ""),
            ("third.yaml", "{}"),
            ("third.env", ""),
            ("base.yaml", "services: {x: {}}"),
            ("web.env", ""),
            ("more.env", ""),
            ("c.conf", ""),
            ("s.txt", ""),
            (".env", ""),
        ]);
        let all = [
            ".env",
            "base.yaml",
            "c.conf",
            "compose.yaml",
            "more.env",
            "sub/extra.yaml",
            "sub/x.env",
            "third.env",
            "third.yaml",
            "up.env",
            "web.env",
        ];
        assert_eq!(found(&folder, &["compose.yaml"], &[]), all);
        assert!(!found(&folder, &["compose.yaml"], &["more.env"]).contains(&".env".to_owned()));
    }

    #[test]
    fn what_can_not_be_read_is_left_to_compose_to_say() {
        let folder = folder(&[("compose.yaml", ": - {"), ("odd[1].yaml", "services: {}")]);
        assert_eq!(
            found(&folder, &["compose.yaml", "../outside.yaml", "/etc/passwd"], &[]),
            ["compose.yaml"]
        );
        assert_eq!(found(&folder, &["odd[1].yaml"], &[]), ["odd[[]1[]].yaml"]);
    }
}
