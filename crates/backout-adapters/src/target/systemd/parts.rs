//! What a release is made of: artifacts by digest, and the unit files that it is meant to run under.

use std::path::{Path, PathBuf};

use backout_core::ids::{Unit, Version};
use backout_core::model::{Artifact, Service, TargetSpec};
use backout_core::ports::{AdapterError, ArtifactStore as _, PartsOf};
use serde::{Deserialize, Serialize};

use super::{Side, SystemdTarget, definition, link};
use crate::artifact::FileArtifacts;
use crate::host::{create_private_dirs, read_bounded, write_atomic};

const FORMAT: u32 = 1;

/// What the link led to as the unit was adopted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Adopted {
    format: u32,
    pub target: PathBuf,
    pub digest: String,
}

pub(super) async fn parts(
    target: &SystemdTarget,
    unit: &Unit,
    service: &mut Service,
    version: &Version,
    of: PartsOf<'_>,
) -> Result<Vec<Artifact>, AdapterError> {
    let TargetSpec::Systemd(spec) = &mut service.target else {
        return Err(AdapterError::permanent(format!(
            "failed to use {unit}: its service is not of target `systemd`"
        )));
    };
    let mut files = Vec::new();
    for slot in definition::slots(spec, target.options.beside) {
        let side = target.side_of(&Unit { slot, ..unit.clone() }, spec);
        let state = side.usable_state().await?;
        files.extend(side.files_of(&state)?);
    }
    files.sort();
    files.dedup();
    spec.files = files;
    let artifact = |path: String, digest: String| Artifact {
        service: unit.service.clone(),
        path,
        digest,
        kept: true,
    };
    if matches!(of, PartsOf::Running) {
        let (path, digest) = target.side_of(unit, spec).adopt().await?;
        spec.artifact = vec![path.clone()];
        return Ok(vec![artifact(path, digest)]);
    }
    let mut artifacts = Vec::new();
    for template in &spec.artifact {
        let path = template.replace("{version}", version.as_str());
        let digest = target.options.artifacts.digest(&path).await?;
        artifacts.push(artifact(path, digest));
    }
    Ok(artifacts)
}

impl Side {
    /// Keeps what the link leads to now, and remembers that it was this.
    async fn adopt(&self) -> Result<(String, String), AdapterError> {
        let link = self.place.link.display();
        let refused =
            |why: &str| AdapterError::permanent(format!("failed to adopt `{link}`: {why}"));
        let to = link::target(&self.place.link).map_err(|e| {
            refused(&e.to_string()).with_hint(
                "move the folder away and put a link in its place, such as `mv current first && ln -s first current`",
            )
        })?;
        let to = to.ok_or_else(|| {
            refused("it is not there").with_hint(
                "nothing of this unit can be adopted; the first deploy makes the link and starts it",
            )
        })?;
        if !to.is_dir() {
            return Err(refused("it does not lead to a folder"));
        }
        let real = to.canonicalize().map_err(|e| refused(&e.to_string()))?;
        let path = real.to_str().ok_or_else(|| refused("its path is no UTF-8"))?;
        // From anywhere: it was made by somebody else.
        let from_root = FileArtifacts::new("/", &self.options.state_dir);
        let below_root = path.trim_start_matches('/');
        let digest = from_root.digest(below_root).await?;
        from_root.pin(below_root, &digest).await?;
        let adopted = Adopted { format: FORMAT, target: to, digest: digest.clone() };
        let noted = self.adopted_path();
        let write = || {
            create_private_dirs(noted.parent().unwrap_or(Path::new("/")))?;
            write_atomic(&noted, &serde_json::to_vec(&adopted)?, 0o600)
        };
        write().map_err(|e| AdapterError::transient(format!("failed to record what runs: {e}")))?;
        Ok((path.to_owned(), digest))
    }

    fn adopted_path(&self) -> PathBuf {
        let key = &self.unit.key;
        let folder = self.options.state_dir.join("systemd").join(key.app.as_str());
        folder.join(key.environment.as_str()).join(format!("{}.adopted", self.unit.service))
    }

    /// What was adopted, if the link still leads there.
    pub(super) fn adopted(&self) -> Option<Adopted> {
        let bytes = read_bounded(&self.adopted_path(), 64 << 10).ok().flatten()?;
        let adopted: Adopted = serde_json::from_slice(&bytes).ok()?;
        let now = link::target(&self.place.link).ok().flatten();
        (adopted.format == FORMAT && now.as_ref() == Some(&adopted.target)).then_some(adopted)
    }
}
