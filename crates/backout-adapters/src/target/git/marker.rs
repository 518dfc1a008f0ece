//! The tag that names the last commit that passed its bake.

use backout_core::ids::EnvironmentKey;
use backout_core::model::GitSpec;
use backout_core::ports::AdapterError;

use crate::git::{Git, LOOK};

/// Working trees of one repository share its tags: the first environment that marks a commit has the tag of the
/// settings, and another one of its own.
pub(super) struct LastStable {
    /// Name of the tag.
    pub tag: String,
    /// What says that the tag of the settings is ours; `None`: it is another's.
    claim: Option<String>,
    claimed: bool,
}

impl LastStable {
    pub(super) async fn of(
        git: &Git,
        spec: &GitSpec,
        key: &EnvironmentKey,
    ) -> Result<Self, AdapterError> {
        let claim =
            format!("refs/backout/{}/{}/marker/{}", key.app, key.environment, spec.last_stable);
        if git.has_loose(&claim) {
            return Ok(Self { tag: spec.last_stable.clone(), claim: Some(claim), claimed: true });
        }
        let all = format!("refs/backout/*/*/marker/{}", spec.last_stable);
        let claims = git.look(&["for-each-ref", "--format=%(refname)", &all]).await?;
        let claimed = claims.lines().any(|name| name == claim);
        if claimed || claims.is_empty() {
            return Ok(Self { tag: spec.last_stable.clone(), claim: Some(claim), claimed });
        }
        let tag = format!("{}-{}-{}", spec.last_stable, key.app, key.environment);
        Ok(Self { tag, claim: None, claimed })
    }

    pub(super) fn reference(&self) -> String {
        format!("refs/tags/{}", self.tag)
    }

    pub(super) async fn set(&self, git: &Git, commit: &str) -> Result<(), AdapterError> {
        if let Some(claim) = self.claim.as_ref().filter(|_| !self.claimed) {
            git.change(&["update-ref", claim, commit], LOOK, None).await?;
        }
        if git.move_loose(&self.reference(), commit) {
            return Ok(());
        }
        git.change(&["update-ref", &self.reference(), commit], LOOK, None).await
    }

    /// Takes the tag and our claim on it away.
    pub(super) async fn remove(&self, git: &Git) -> Result<(), AdapterError> {
        git.change(&["update-ref", "-d", &self.reference()], LOOK, None).await?;
        match self.claim.as_ref().filter(|_| self.claimed) {
            Some(claim) => git.change(&["update-ref", "-d", claim], LOOK, None).await,
            None => Ok(()),
        }
    }
}
