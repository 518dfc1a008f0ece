//! A branch of a remote that follows what is deployed.

use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::GitPush;
use backout_core::ports::AdapterError;

use super::step::reference;
use crate::git::{Git, Turn};

/// Moves the branch to `commit`, if nobody else has moved it since we did (`--force-with-lease`).
///
/// What we pushed last is remembered by a reference of ours; before the first push the branch may stand anywhere that
/// `commit` comes after, which a plain push checks.
pub(super) async fn push(
    git: &Git,
    wanted: &GitPush,
    unit: &Unit,
    commit: &str,
    timeout: Duration,
    turn: &Turn,
) -> Result<(), AdapterError> {
    let memory =
        format!("refs/backout/{}/pushed/{}/{}", reference(unit), wanted.remote, wanted.branch);
    let last = git.commit(&memory).await?;
    let to = format!("{commit}:refs/heads/{}", wanted.branch);
    let lease = last.map(|last| format!("--force-with-lease=refs/heads/{}:{last}", wanted.branch));
    let mut args = vec!["push", "--quiet"];
    args.extend(lease.as_deref());
    args.extend(["--", wanted.remote.as_str(), to.as_str()]);
    git.change(&args, timeout, Some(turn)).await.map_err(|error| {
        let moved = ["stale info", "non-fast-forward", "fetch first", "[rejected]"];
        if !moved.iter().any(|words| error.message.contains(words)) {
            return error;
        }
        AdapterError::permanent(format!(
            "failed to push to `{}` of {}: somebody else has moved it since",
            wanted.branch, wanted.remote
        ))
        .with_hint("look at what is there (`git fetch`), and deploy a commit that comes after it")
    })?;
    git.change(&["update-ref", &memory, commit], timeout, None).await
}
