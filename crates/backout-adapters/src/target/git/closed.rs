//! Folders that a move would have to write and can't. Git itself only warns of a file that it can't remove, and stops in
//! the middle where it can't replace one.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ports::AdapterError;

use crate::git::{Git, LOOK};
use crate::host::Ended;

/// So many folders are looked at.
const MOST: usize = 500;
/// TOP FOLDERS…: those that can't be written, or where they would have to be made.
const CLOSED: &str = r#"
cd -- "$1" || exit 1
shift
for folder; do
    while [ ! -d "$folder" ]; do
        case $folder in */*) folder=${folder%/*} ;; *) folder=. ;; esac
    done
    [ -w "$folder" ] || printf '%s\0' "$folder"
done"#;

/// What can't be written of where the working tree and the commit differ. What can't be told is left out: the move tells.
pub(super) async fn folders(git: &Git, commit: &str) -> Result<Vec<String>, AdapterError> {
    let Some(head) = git.head().await? else { return Ok(Vec::new()) };
    let args = ["diff", "--name-only", "-z", "--no-renames", "--no-relative", "--no-ext-diff"];
    let args = [&args[..], &[head.as_str(), commit, "--"]].concat();
    let Ok(differing) = git.look(&args).await else { return Ok(Vec::new()) };
    let top = git.look(&["rev-parse", "--show-toplevel"]).await?;
    let folders: BTreeSet<String> = differing
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(|path| {
            path.rsplit_once('/').map_or_else(|| ".".to_owned(), |(at, _)| format!("./{at}"))
        })
        .take(MOST)
        .collect();
    if folders.is_empty() {
        return Ok(Vec::new());
    }
    let words = ["sh", "-c", CLOSED, "sh", &top];
    let argv: Vec<&str> = words.into_iter().chain(folders.iter().map(String::as_str)).collect();
    let said = git.program(&argv, BTreeMap::new(), LOOK, None).await?;
    if said.ended != Ended::Exited(0) {
        return Ok(Vec::new());
    }
    let bytes = said.stdout.bytes();
    let text = String::from_utf8_lossy(&bytes);
    let closed: BTreeSet<String> =
        text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    let named = |path: String| match path.strip_prefix("./") {
        Some(below) => below.to_owned(),
        None => "the top one".to_owned(),
    };
    Ok(closed.into_iter().map(named).collect())
}
