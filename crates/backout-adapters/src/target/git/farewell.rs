//! What becomes of a working tree when Backout goes: it stays at its commit, and our note and tag go.

use backout_core::ids::Unit;
use backout_core::model::GitSpec;
use backout_core::ports::{AdapterError, Farewell};

use super::marker::LastStable;
use super::note::Home;
use crate::git::Git;
use crate::host::remove_file_if_there;

pub(super) async fn farewell(
    git: &Git,
    home: &Home,
    unit: &Unit,
    spec: &GitSpec,
    act: bool,
) -> Result<Farewell, AdapterError> {
    let mut farewell = Farewell::default();
    let marker = LastStable::of(git, spec, &unit.key).await?;
    if git.commit(&marker.reference()).await?.is_some() {
        farewell.removed.push(format!("the tag {}", marker.tag));
        if act {
            marker.remove(git).await?;
        }
    }
    let ours = format!("refs/backout/{}/{}", unit.key.app, unit.key.environment);
    let note = home.note();
    if let Some(host) = git.host() {
        farewell.removed.push(format!("{ours}/keep"));
        let words = format!("{} on {} stays: remove it by hand", note.display(), host.name());
        farewell.stays.push(words);
    } else {
        farewell.removed.push(format!("{ours}/keep and the note {}", note.display()));
        if act {
            remove_file_if_there(note).map_err(|e| {
                AdapterError::transient(format!("failed to remove `{}`: {e}", note.display()))
            })?;
        }
    }
    let head = git.head().await?.unwrap_or_else(|| "no commit".to_owned());
    let short: String = head.chars().take(12).collect();
    farewell.stays.push(format!("`{}` stays at {short}", spec.repository));
    let listed = git.look(&["for-each-ref", "--format=%(refname)", &ours]).await?;
    let aside: Vec<&str> = listed.lines().filter(|name| name.contains("/set-aside/")).collect();
    if !aside.is_empty() {
        farewell.stays.push(format!("changes of yours that were set aside: {}", aside.join(", ")));
    }
    Ok(farewell)
}
