//! Paths that must stay inside a folder.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a path was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Written so that it leaves the folder.
    #[error("`{0}` leads out of the folder of backout.yaml")]
    Written(String),
    /// A link leads out of the folder.
    #[error("`{0}` leads out of the folder of backout.yaml through a symbolic link")]
    Linked(String),
    /// The parents can't be read.
    #[error("failed to resolve `{0}`: {1}")]
    Io(String, io::Error),
}

/// The absolute path of `relative` below `root`, all parents resolved. The last part itself is not followed
/// and need not exist; missing parents are kept as they are written.
///
/// # Errors
/// [`ConfineError`] if any part leads outside.
pub fn resolve_inside(root: &Path, relative: &str) -> Result<PathBuf, ConfineError> {
    let written = Path::new(relative);
    let plain =
        written.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if relative.is_empty() || relative.contains('\0') || !plain {
        return Err(ConfineError::Written(relative.to_owned()));
    }
    let failed = |e| ConfineError::Io(relative.to_owned(), e);
    let root = root.canonicalize().map_err(failed)?;
    let names: Vec<_> =
        written.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let Some((last, parents)) = names.split_last() else {
        return Ok(root);
    };
    let mut at = root.clone();
    for name in parents {
        at.push(name);
        match at.canonicalize() {
            Ok(resolved) if resolved.starts_with(&root) => at = resolved,
            Ok(_) => return Err(ConfineError::Linked(relative.to_owned())),
            // A dangling link could be made to lead anywhere once something is written through it.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !at.is_symlink() => {}
            Err(e) => return Err(failed(e)),
        }
    }
    at.push(last);
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_inside_or_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("in")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
        std::os::unix::fs::symlink("in", root.path().join("alias")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", root.path().join("dangling")).unwrap();
        let real = root.path().canonicalize().unwrap();
        assert_eq!(resolve_inside(root.path(), "./in/x").unwrap(), real.join("in/x"));
        assert_eq!(resolve_inside(root.path(), "alias/x").unwrap(), real.join("in/x"));
        assert_eq!(resolve_inside(root.path(), "new/deep/x").unwrap(), real.join("new/deep/x"));
        assert_eq!(resolve_inside(root.path(), "out").unwrap(), real.join("out"));
        for bad in ["../x", "in/../../x", "/etc/passwd", "", "out/x", "dangling/x"] {
            assert!(resolve_inside(root.path(), bad).is_err(), "{bad}");
        }
    }
}
