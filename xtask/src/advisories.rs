//! `cargo deny`, judged against a snapshot of the advisory database or a fresh one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, needs, paths, run};

/// The variable that names a tar.gz of the RustSec database.
pub const SNAPSHOT_VARIABLE: &str = "BACKOUT_ADVISORY_DB";
/// The name that cargo-deny derives from the address of the RustSec database.
const DATABASE_DIR: &str = "advisory-db-3157b0e258782691";
const SECTION: &str = "[advisories]";

/// Runs `cargo deny check` on the checkout.
pub fn check() -> Outcome<()> {
    let deny = needs::cargo_deny()?.ok_or("failed to find cargo-deny: run without --no-install")?;
    let root = paths::workspace_root()?;
    // Offline it reads the sources of every crate in the lock file, on other systems too.
    run::run(run::cargo(&["fetch", "--locked", "--quiet"])?)?;
    let Some(archive) = std::env::var_os(SNAPSHOT_VARIABLE) else {
        println!("{SNAPSHOT_VARIABLE} is not set: fetching the advisory database");
        return run::run(deny_command(&deny, &root, &["--locked"])?);
    };
    let archive = root.join(archive);
    println!("advisories: {}", archive.display());
    let snapshot = Snapshot::unpack(&archive, &paths::cache_dir()?)?;
    let config = snapshot.write_config(&root.join("deny.toml"))?;
    let config = config.to_str().ok_or("failed to use a cache folder whose name is not UTF-8")?;
    run::run(deny_command(&deny, &root, &["--offline", "--locked", "--config", config])?)
}

fn deny_command(deny: &Path, root: &Path, options: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(deny);
    command.current_dir(root).args(options);
    command.args(["--workspace", "check", "--hide-inclusion-graph"]);
    command.env("CARGO_TARGET_DIR", paths::target_dir()?);
    Ok(command)
}

/// A database in the only form that cargo-deny reads: a git repository with a commit. Kept for one
/// run, so that two runs at a time do not disturb each other.
struct Snapshot {
    dir: PathBuf,
}

impl Snapshot {
    fn unpack(archive: &Path, cache: &Path) -> Outcome<Self> {
        let dir = cache.join(format!("advisories-{}", std::process::id()));
        let database = dir.join(DATABASE_DIR);
        fs::create_dir_all(&database)
            .map_err(|e| format!("failed to create {}: {e}", database.display()))?;
        // From here on the folder goes away whatever happens.
        let snapshot = Self { dir };
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive).arg("-C").arg(&database).args(["--no-same-owner"]);
        run::output(tar)?;
        if !database.join("crates").is_dir() {
            let name = archive.display();
            return Err(format!("failed to find crates/ in {name}: is it the RustSec database?"));
        }
        for args in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "-qm", "Snapshot"]] {
            run::output(run::git(&database, args))?;
        }
        Ok(snapshot)
    }

    fn write_config(&self, deny_toml: &Path) -> Outcome<PathBuf> {
        let text = fs::read_to_string(deny_toml)
            .map_err(|e| format!("failed to read {}: {e}", deny_toml.display()))?;
        let path = self.dir.join("deny.toml");
        fs::write(&path, with_database(&text, &self.dir)?)
            .map_err(|e| format!("failed to write {}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("failed to remove {}: {error}", self.dir.display());
        }
    }
}

/// The configuration with the place of the database, and no limit on its age: it is a snapshot.
fn with_database(deny_toml: &str, dir: &Path) -> Outcome<String> {
    let (before, after) = deny_toml
        .split_once(&format!("{SECTION}\n"))
        .ok_or(format!("failed to find {SECTION} in deny.toml"))?;
    let dir = dir.to_str().ok_or("failed to use a cache folder whose name is not UTF-8")?;
    // A JSON string is a TOML string too.
    let dir = serde_json::Value::from(dir);
    Ok(format!("{before}{SECTION}\ndb-path = {dir}\nmaximum-db-staleness = \"P36500D\"\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_database_joins_the_rules() {
        let text = "[graph]\n[advisories]\nyanked = \"deny\"\n[bans]\n";
        assert_eq!(
            with_database(text, Path::new("/tmp/a \"b\"")).unwrap(),
            "[graph]\n[advisories]\ndb-path = \"/tmp/a \\\"b\\\"\"\n\
             maximum-db-staleness = \"P36500D\"\nyanked = \"deny\"\n[bans]\n"
        );
        assert!(with_database("[bans]\n", Path::new("/tmp")).is_err());
    }

    #[test]
    fn an_archive_that_is_no_database_is_refused_and_nothing_stays() {
        let dir = std::env::temp_dir().join(format!("backout-xtask-{}", std::process::id()));
        fs::create_dir_all(dir.join("in/other")).unwrap();
        let archive = dir.join("db.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(dir.join("in")).arg("other");
        run::output(tar).unwrap();
        let cache = dir.join("cache");
        let error = Snapshot::unpack(&archive, &cache).err().unwrap();
        assert!(error.contains("is it the RustSec database?"), "{error}");
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
