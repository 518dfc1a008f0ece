//! What a release is made of: artifacts by digest, and the unit files that it is meant to run under.

use std::path::{Path, PathBuf};

use backout_core::ids::{HostName, Unit, Version};
use backout_core::model::{Artifact, Service, SystemdSpec, TargetSpec, UnitFile};
use backout_core::ports::{AdapterError, ArtifactStore as _, PartsOf};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::note::Found;
use super::{Side, SystemdTarget, definition, link};
use crate::artifact::FileArtifacts;
use crate::host::{create_private_dirs, read_bounded, write_atomic};

const FORMAT: u32 = 1;
/// Hosts that are asked at the same time.
const AT_ONCE: usize = 10;

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
    for hosts in target.machines().chunks(AT_ONCE) {
        let all = hosts.iter().map(|host| files_on(target, unit, spec, host));
        for (host, found) in hosts.iter().zip(join_all(all).await) {
            files.extend(found.map_err(|error| at(host, error))?);
        }
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
        let (path, digest) = target.side_of(unit, spec).await?.adopt().await?;
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

/// The files by which the units of a service are defined on a host.
async fn files_on(
    target: &SystemdTarget,
    unit: &Unit,
    spec: &SystemdSpec,
    host: &HostName,
) -> Result<Vec<UnitFile>, AdapterError> {
    let mut files = Vec::new();
    for slot in definition::slots(spec, target.options.beside) {
        let unit = Unit { slot, host: host.clone(), ..unit.clone() };
        let side = target.side_of(&unit, spec).await?;
        files.extend(side.files_of(&side.usable_state().await?).await?);
    }
    Ok(files)
}

/// On which host it is so.
fn at(host: &HostName, error: AdapterError) -> AdapterError {
    if host.is_local() {
        return error;
    }
    AdapterError { message: format!("{}, on {host}", error.message), ..error }
}

impl Side {
    /// Keeps what the link leads to now, and remembers that it was this.
    async fn adopt(&self) -> Result<(String, String), AdapterError> {
        if let Some(host) = &self.host {
            return Err(AdapterError::permanent(format!(
                "failed to adopt what runs on {}: its release would have to be brought here first",
                host.name()
            ))
            .with_hint(
                "copy it to this machine as the `artifact` of its version and deploy that: it is the way back from then on",
            ));
        }
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
    pub(super) fn adopted(&self, found: &Found) -> Option<Adopted> {
        if self.host.is_some() {
            return None;
        }
        let bytes = read_bounded(&self.adopted_path(), 64 << 10).ok().flatten()?;
        let adopted: Adopted = serde_json::from_slice(&bytes).ok()?;
        let now = found.link.as_ref().ok().and_then(Option::as_ref);
        (adopted.format == FORMAT && now == Some(&adopted.target)).then_some(adopted)
    }
}
