//! What gitrepository-layout(5) says about files, so that a question need not cost a process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::host::{read_bounded, remove_file_if_there, write_synced};

const LINE_BYTES: u64 = 8 << 10;

/// The folder in which git keeps what belongs to the working tree at `tree`; `None`: ask git.
pub(super) fn git_dir(tree: &Path) -> Option<PathBuf> {
    let dot = tree.join(".git");
    let Ok(kind) = fs::symlink_metadata(&dot).map(|dot| dot.file_type()) else {
        // A bare one has no tree, and is its own.
        return checked(tree);
    };
    let dir = if kind.is_dir() {
        dot
    } else if kind.is_file() {
        let text = line(&dot)?;
        tree.join(text.strip_prefix("gitdir: ")?)
    } else {
        return None;
    };
    checked(&dir)
}

/// As git itself tells a repository from a folder of that name.
fn checked(dir: &Path) -> Option<PathBuf> {
    let dir = dir.canonicalize().ok()?;
    let whole = dir.join("objects").is_dir() && dir.join("refs").is_dir();
    let linked = dir.join("commondir").is_file();
    (dir.join("HEAD").is_file() && (whole || linked)).then_some(dir)
}

/// The commit that is checked out where no branch is.
pub(super) fn detached_head(git_dir: &Path) -> Option<String> {
    line(&git_dir.join("HEAD")).filter(|text| super::is_commit_id(text))
}

/// Whether a reference stands in a file of its own. A packed one, or one in another storage, is not seen.
pub(super) fn has_loose(git_dir: &Path, reference: &str) -> bool {
    loose(git_dir, reference).is_some()
}

fn loose(git_dir: &Path, reference: &str) -> Option<(PathBuf, String)> {
    let common = match line(&git_dir.join("commondir")) {
        Some(text) => git_dir.join(text),
        None => git_dir.to_owned(),
    };
    // Any other storage than files is named there, and who else may write to it.
    let config = line(&common.join("config"))?.to_ascii_lowercase();
    if ["refstorage", "sharedrepository", "include"].iter().any(|key| config.contains(key)) {
        return None;
    }
    let path = common.join(reference);
    let text = line(&path).filter(|text| super::is_commit_id(text))?;
    Some((path, text))
}

/// Makes a reference that stands in a file of its own name another commit, by the rules of git: whoever makes the file
/// `NAME.lock` may replace `NAME` by it. `false`: it stands elsewhere, or somebody else is at it.
pub(super) fn move_loose(git_dir: &Path, reference: &str, commit: &str) -> io::Result<bool> {
    let Some((path, now)) = loose(git_dir, reference) else { return Ok(false) };
    if now == commit {
        return Ok(true);
    }
    let name = path.file_name().unwrap_or_default();
    let beside = |text: &str| {
        let mut name = name.to_owned();
        name.push(text);
        name
    };
    let lock = path.with_file_name(beside(".lock"));
    // Where git looks for no reference. It is on disk before it is the lock, which so stands for a moment only.
    let own = git_dir.join(beside(".backout-new"));
    if is_same_file(&own, &lock) {
        // Whoever made both was killed before the one took its place.
        fs::remove_file(&lock)?;
    }
    // It may be the reference by now, under another name: never written over.
    remove_file_if_there(&own)?;
    let moved = write_synced(&own, format!("{commit}\n").as_bytes(), 0o666).and_then(|()| {
        // Somebody else's lock, or a file system of its own.
        let Ok(()) = fs::hard_link(&own, &lock) else { return Ok(false) };
        if let Err(error) = fs::rename(&lock, &path) {
            fs::remove_file(&lock)?;
            return Err(error);
        }
        Ok(true)
    });
    let _ = fs::remove_file(&own);
    moved
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(one).is_some_and(|one| id(other) == Some(one))
}

fn line(path: &Path) -> Option<String> {
    let bytes = read_bounded(path, LINE_BYTES).ok().flatten()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_git_takes_for_a_repository_is_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let tree = root.join("tree");
        fs::create_dir_all(tree.join(".git/objects")).unwrap();
        assert_eq!(git_dir(&tree), None, "git looks further up");
        fs::create_dir(tree.join(".git/refs")).unwrap();
        fs::write(tree.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(git_dir(&tree), Some(tree.join(".git")));

        let admin = tree.join(".git/worktrees/two");
        fs::create_dir_all(&admin).unwrap();
        fs::write(admin.join("HEAD"), "ref: refs/heads/two\n").unwrap();
        fs::write(admin.join("commondir"), "../..\n").unwrap();
        let two = root.join("two");
        fs::create_dir(&two).unwrap();
        fs::write(two.join(".git"), "gitdir: ../tree/.git/worktrees/two\n").unwrap();
        assert_eq!(git_dir(&two), Some(admin.clone()));
        fs::write(two.join(".git"), "somewhere else").unwrap();
        assert_eq!(git_dir(&two), None);

        let name = "refs/tags/v1";
        fs::write(tree.join(".git/config"), "[core]\n").unwrap();
        assert!(!has_loose(&admin, name));
        fs::create_dir(tree.join(".git/refs/tags")).unwrap();
        fs::write(tree.join(".git").join(name), "0".repeat(40) + "\n").unwrap();
        assert!(has_loose(&admin, name) && has_loose(&tree.join(".git"), name));

        let (one, other) = ("1".repeat(40), "2".repeat(40));
        let file = tree.join(".git").join(name);
        assert!(move_loose(&admin, name, &one).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{one}\n"));
        let lock = file.with_file_name("v1.lock");
        fs::write(&lock, "").unwrap();
        assert!(!move_loose(&admin, name, &other).unwrap(), "somebody else is at it");
        assert!(lock.exists() && fs::read_to_string(&file).unwrap().starts_with(&one));
        fs::remove_file(&lock).unwrap();
        // Killed with the lock made, and with the reference moved.
        let own = admin.join("v1.backout-new");
        for left in [&lock, &file] {
            fs::write(&own, format!("{one}\n")).unwrap();
            fs::remove_file(left).ok();
            fs::hard_link(&own, left).unwrap();
            assert!(move_loose(&admin, name, &other).unwrap());
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{other}\n"));
            assert!(!own.exists() && !lock.exists());
        }
        fs::write(&file, format!("{one}\n")).unwrap();
        assert!(!move_loose(&admin, "refs/tags/v2", &one).unwrap(), "git has to make it");
        fs::write(tree.join(".git/config"), "[extensions]\n\trefStorage = reftable\n").unwrap();
        assert!(!move_loose(&admin, name, &other).unwrap());
    }
}
