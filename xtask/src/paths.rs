//! Where things are: the checkout, the cache folder, the build folder.

use std::env;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The root of the checkout: the nearest folder above with a workspace manifest.
///
/// Taken at run time, not compiled in: several checkouts may share one build folder.
pub fn workspace_root() -> Outcome<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            env::current_dir().map_err(|e| format!("failed to read the current folder: {e}"))?
        }
    };
    start.ancestors().find(|dir| is_workspace(dir)).map(Path::to_path_buf).ok_or_else(|| {
        format!(
            "failed to find the workspace above {}: run it inside the checkout",
            start.display()
        )
    })
}

fn is_workspace(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
}

/// The project's own cache folder: tools, the advisory database, builds.
pub fn cache_dir() -> Outcome<PathBuf> {
    let base = match (absolute("XDG_CACHE_HOME"), absolute("HOME")) {
        (Some(cache), _) => cache,
        (None, Some(home)) => home.join(".cache"),
        (None, None) => return Err("failed to find a cache folder: set HOME".to_owned()),
    };
    Ok(base.join("backout"))
}

/// The build folder: `CARGO_TARGET_DIR` if set, else inside the cache folder.
pub fn target_dir() -> Outcome<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => {
            let dir = PathBuf::from(dir);
            Ok(if dir.is_absolute() { dir } else { workspace_root()?.join(dir) })
        }
        _ => Ok(cache_dir()?.join("target")),
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_lock_file() {
        let root = workspace_root().unwrap();
        assert!(root.join("Cargo.lock").is_file());
        assert!(is_workspace(&root));
        assert!(!is_workspace(&root.join("xtask")));
    }
}
