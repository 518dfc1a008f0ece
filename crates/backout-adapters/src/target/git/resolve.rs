//! The commit that a version stands for.

use backout_core::ids::Unit;
use backout_core::model::GitSpec;
use backout_core::ports::AdapterError;

use super::GitTarget;
use crate::git::is_commit_id;

impl GitTarget {
    /// With a remote, as it is there now.
    pub(super) async fn resolve(
        &self,
        unit: &Unit,
        spec: &GitSpec,
    ) -> Result<String, AdapterError> {
        let git = self.git(unit, spec)?;
        git.git_dir().await?;
        let mut names = vec![spec.revision.clone()];
        if let Some(remote) = &spec.remote {
            let limit = std::time::Duration::from_millis(spec.timeout_ms);
            git.change(&["fetch", "--quiet", "--tags", "--", remote], limit, None).await?;
            // What the remote says is newer than a branch of the same name that lies here.
            names.insert(0, format!("refs/remotes/{remote}/{}", spec.revision));
            names.insert(0, format!("refs/tags/{}", spec.revision));
        }
        for name in names {
            if let Some(commit) = git.commit(&name).await? {
                return Ok(commit);
            }
        }
        Err(unknown(spec))
    }

    /// The same for a plan that nobody has agreed to: the remote is asked, and nothing is fetched. Only the id of a
    /// commit that is not here can't be asked for.
    pub(super) async fn resolve_ahead(
        &self,
        unit: &Unit,
        spec: &GitSpec,
    ) -> Result<String, AdapterError> {
        let Some(remote) = &spec.remote else { return self.resolve(unit, spec).await };
        let git = self.git(unit, spec)?;
        git.git_dir().await?;
        let revision = &spec.revision;
        let tag = format!("refs/tags/{revision}");
        if let Some(commit) = git.commit(&tag).await? {
            return Ok(commit);
        }
        let (peeled, branch) = (format!("{tag}^{{}}"), format!("refs/heads/{revision}"));
        let args = ["ls-remote", "--quiet", "--", remote, &tag, &peeled, &branch];
        let text = git.look(&args).await?;
        let named = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('\t'));
            lines.filter(|(id, name)| *name == wanted && is_commit_id(id)).map(|(id, _)| id).next()
        };
        if let Some(id) = named(&peeled).or_else(|| named(&tag)).or_else(|| named(&branch)) {
            return Ok(id.to_owned());
        }
        for name in [format!("refs/remotes/{remote}/{revision}"), revision.clone()] {
            if let Some(commit) = git.commit(&name).await? {
                return Ok(commit);
            }
        }
        let may_be_id = (4..=64).contains(&revision.len())
            && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if may_be_id { self.resolve(unit, spec).await } else { Err(unknown(spec)) }
    }
}

fn unknown(spec: &GitSpec) -> AdapterError {
    let nearest = match &spec.remote {
        Some(remote) => format!("push it to {remote}, or correct the version"),
        None => "fetch it, or name the `remote` to fetch from in backout.yaml".to_owned(),
    };
    AdapterError::permanent(format!(
        "failed to find `{}` in `{}`: no branch, tag or commit has that name",
        spec.revision, spec.repository
    ))
    .with_hint(nearest)
}
