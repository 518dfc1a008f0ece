//! Changes in a working tree that no commit holds.

use backout_core::ports::AdapterError;

use crate::git::Git;

/// So many are named.
const NAMED: usize = 5;

/// Paths of tracked files that differ from what is checked out.
pub(super) async fn changed(git: &Git) -> Result<Vec<String>, AdapterError> {
    let text = git
        .look(&[
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
        ])
        .await?;
    Ok(paths(&text))
}

/// Reads the records of `git status --porcelain=v1 -z`: two letters, a space and a path; a renamed one is followed by
/// its old path (git-status(1), "Porcelain Format Version 1").
fn paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut records = text.split('\0').filter(|record| !record.is_empty());
    while let Some(record) = records.next() {
        let Some((state, path)) = record.split_at_checked(3) else { continue };
        if state.starts_with(['R', 'C']) {
            records.next();
        }
        paths.push(path.to_owned());
    }
    paths
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
    use super::paths;

    #[test]
    fn renamed_and_odd_names_are_read() {
        assert_eq!(paths(" M a.txt\0R  new name\0old\0MM dir/b\0"), ["a.txt", "new name", "dir/b"]);
        assert!(paths("").is_empty() && paths("x").is_empty());
    }
}
