//! A checkout of a release's commit to where nothing looks at it.

use std::path::Path;
use std::time::Duration;

use backout_core::model::GitSpec;
use backout_core::ports::{AdapterError, Rehearsal};

use super::note::Home;
use crate::git::Git;
use crate::host::create_private_dirs;

/// What begins like this in our folder beside the repository is left over from a drill that was killed.
const PREFIX: &str = "drill-";

pub(super) async fn rehearse(
    git: &Git,
    home: &Home,
    spec: &GitSpec,
) -> Result<Rehearsal, AdapterError> {
    if let Some(host) = git.host() {
        // Nothing is written where nobody would clean up after a link that broke.
        let args = ["rev-list", "--objects", "--no-walk", "--quiet", &spec.commit];
        git.look(&args).await?;
        return Ok(Rehearsal {
            rehearsed: vec![format!(
                "the files of {} are all there on {}",
                spec.commit,
                host.name()
            )],
            left_out: vec![format!("the working tree `{}` was not moved", spec.repository)],
        });
    }
    let home = home.folder();
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to make a folder for a checkout: {e}"))
    };
    create_private_dirs(home).map_err(failed)?;
    forget_leftovers(home);
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(home).map_err(failed)?;
    let index = folder.path().join("index");
    // An index of its own: neither the branch nor the working tree is touched, and no worktree is registered.
    let apart = git.with_variable("GIT_INDEX_FILE", index.as_os_str());
    let limit = Duration::from_millis(spec.timeout_ms);
    apart.change(&["read-tree", &spec.commit], limit, None).await?;
    let prefix = format!("--prefix={}/tree/", folder.path().display());
    apart.change(&["checkout-index", "--all", "--quiet", &prefix], limit, None).await?;
    let listed = apart.look(&["ls-files", "--stage"]).await?;
    let (links, files): (Vec<&str>, Vec<&str>) =
        listed.lines().partition(|line| line.starts_with("160000"));
    let short: String = spec.commit.chars().take(12).collect();
    let rehearsed = vec![format!(
        "{short} was checked out to a folder of its own: {} files, each whole",
        files.len()
    )];
    let mut left_out = vec![format!("the working tree `{}` was not moved", spec.repository)];
    if !spec.post_checkout.is_empty() {
        left_out.push(format!("`{}` was not run", spec.post_checkout.join(" ")));
    }
    if !links.is_empty() {
        left_out.push(format!("{} submodules were not checked out", links.len()));
    }
    Ok(Rehearsal { rehearsed, left_out })
}

fn forget_leftovers(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = crate::artifact::remove_tree(&entry.path());
        }
    }
}
