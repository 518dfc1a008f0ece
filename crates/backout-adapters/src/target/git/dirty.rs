//! What of a working tree no commit holds.

use std::collections::BTreeSet;

use backout_core::model::GitMove;
use backout_core::ports::AdapterError;

use crate::git::Git;

/// So many are named.
const NAMED: usize = 5;

/// A working tree as `git status` sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// What is checked out; `None` in a repository without a commit.
    pub head: Option<String>,
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// Paths of tracked files that differ from that.
    pub changed: Vec<String>,
}

impl Seen {
    /// What to come back to: the branch that is checked out, where it does not move, else the commit.
    pub(super) fn checked_out(&self, by: GitMove) -> Option<String> {
        let head = self.head.clone()?;
        let branch = self.branch.as_ref().filter(|_| by == GitMove::Checkout);
        Some(branch.map_or(head, |branch| format!("refs/heads/{branch}")))
    }
}

pub(super) async fn look(git: &Git) -> Result<Seen, AdapterError> {
    let text = git
        .look(&[
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
        ])
        .await?;
    Ok(read(&text))
}

/// Paths of tracked files that differ from what is checked out.
pub(super) async fn changed(git: &Git) -> Result<Vec<String>, AdapterError> {
    Ok(look(git).await?.changed)
}

/// Those of `changed` that are not as `commit` has them either.
pub(super) async fn neither(
    git: &Git,
    changed: Vec<String>,
    commit: &str,
) -> Result<Vec<String>, AdapterError> {
    if changed.is_empty() || git.commit(commit).await?.is_none() {
        return Ok(changed);
    }
    // Not `diff-index`: it goes by times and sizes where the index is of another commit.
    let args = ["diff", "--name-only", "-z", "--no-renames", "--no-relative", "--no-ext-diff"];
    let args = [&args[..], &["--ignore-submodules=dirty", commit, "--"]].concat();
    let differing = git.look(&args).await?;
    let differing: BTreeSet<&str> = differing.split('\0').collect();
    Ok(changed.into_iter().filter(|path| differing.contains(&**path)).collect())
}

/// Reads the records of `git status --porcelain=v2 -z`: fields between spaces and then a path; a renamed one is
/// followed by its old path (git-status(1), "Porcelain Format Version 2").
fn read(text: &str) -> Seen {
    let mut seen = Seen::default();
    let mut records = text.split('\0').filter(|record| !record.is_empty());
    while let Some(record) = records.next() {
        let fields = match record.split_once(' ') {
            Some(("#", rest)) => {
                match rest.split_once(' ') {
                    Some(("branch.oid", id)) if id != "(initial)" => {
                        seen.head = Some(id.to_owned())
                    }
                    Some(("branch.head", name)) if name != "(detached)" => {
                        seen.branch = Some(name.to_owned());
                    }
                    _ => {}
                }
                continue;
            }
            Some(("1", _)) => 9,
            Some(("2", _)) => {
                records.next();
                10
            }
            Some(("u", _)) => 11,
            _ => continue,
        };
        seen.changed.extend(record.splitn(fields, ' ').nth(fields - 1).map(str::to_owned));
    }
    seen
}

/// Files that no commit knows and that a checkout would write over, or remove because a folder is to be where they are,
/// or the other way round.
pub(super) async fn in_the_way(
    git: &Git,
    head: Option<&str>,
    commit: &str,
) -> Result<Vec<String>, AdapterError> {
    let added = match head {
        Some(head) => {
            let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A"];
            git.look(&[&args[..], &[head, commit]].concat()).await?
        }
        None => git.look(&["ls-tree", "-r", "-z", "--name-only", "--full-tree", commit]).await?,
    };
    if added.is_empty() {
        return Ok(Vec::new());
    }
    let added: BTreeSet<&str> = added.split('\0').filter(|path| !path.is_empty()).collect();
    let others = git.look(&["ls-files", "--others", "--full-name", "-z", "--", ":/"]).await?;
    let mut found: Vec<String> = others
        .split('\0')
        .filter(|path| !path.is_empty() && collides(path, &added))
        .map(|path| path.trim_end_matches('/').to_owned())
        .collect();
    // A file is in the way of all that is wanted below it.
    found.sort();
    found.dedup();
    Ok(found)
}

fn collides(other: &str, added: &BTreeSet<&str>) -> bool {
    let mut above = other.match_indices('/').map(|(at, _)| &other[..at]);
    let below = format!("{}/", other.trim_end_matches('/'));
    added.contains(other)
        || above.any(|folder| folder.len() + 1 < other.len() && added.contains(folder))
        || added.range(&*below..).next().is_some_and(|path| path.starts_with(&below))
}

/// `a, b and 3 more`.
pub(super) fn sentence(paths: &[String]) -> String {
    let named: Vec<String> =
        paths.iter().take(NAMED).map(|path| crate::host::printable(path.as_bytes())).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_and_odd_names_are_read() {
        let id = "0".repeat(40);
        let text = format!(
            "# branch.oid {id}\0# branch.head a b\01 .M N... 100644 100644 100644 {id} {id} a name.txt\0\
             2 R. N... 100644 100644 100644 {id} {id} R100 new\01 old name\0u UU N... 1 1 1 1 {id} {id} {id} both\0? no\0! no\0"
        );
        let seen = read(&text);
        assert_eq!(seen.changed, ["a name.txt", "new", "both"]);
        assert_eq!((seen.head.as_deref(), seen.branch.as_deref()), (Some(&*id), Some("a b")));
        assert_eq!(seen.checked_out(GitMove::Checkout).as_deref(), Some("refs/heads/a b"));
        assert_eq!(seen.checked_out(GitMove::Reset), Some(id));
        assert_eq!(read("# branch.oid (initial)\0# branch.head (detached)\0x"), Seen::default());
    }

    #[test]
    fn files_collide_with_folders_too() {
        let added = BTreeSet::from(["a/b", "c", "lib"]);
        for (other, wanted) in [
            ("a/b", true),
            ("a", true),
            ("a/b/c", true),
            ("c/d/e", true),
            ("c", true),
            ("a/", true),
            // A submodule's folder is where it belongs.
            ("lib/", false),
            ("a-b", false),
            ("a/c", false),
            ("cc", false),
        ] {
            assert_eq!(collides(other, &added), wanted, "{other}");
        }
    }
}
