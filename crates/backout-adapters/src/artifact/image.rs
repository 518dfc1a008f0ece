//! Images kept by references of our own, so that no clean-up on the host takes the way back away.
//!
//! Each kept image has a tag `backout/APP_ENVIRONMENT/LEDGER:DIGEST` and a container that was created and is
//! never started: `docker image prune` spares what has a tag, `docker image prune --all` what has a container.
//! `docker system prune --all` takes both; with [`Keep::Copy`] the image's bytes lie in the state folder too.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, LedgerId, hex};
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};
use fs_err as fs;
use sha2::{Digest, Sha256};

use super::image_copy;
use crate::docker::{Call, Docker, Image, is_no_engine, said};
use crate::host::{Ended, create_private_dirs, sync_dir};

/// What digests of images begin with.
pub const IMAGE_SCHEME: &str = "image:";
/// Pulling, saving and loading move whole images.
const TRANSFER: Duration = Duration::from_secs(20 * 60);
const PIN_LABEL: &str = "backout.pin";

/// How images are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// By references in the engine.
    Pin,
    /// By a copy in the state folder too.
    Copy,
}

/// When a reference is looked up in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Always, unless it was built here and no registry knows it.
    Always,
    /// Only if it is not here.
    Missing,
    /// Never.
    Never,
}

/// Keeps the images of one environment.
#[derive(Debug, Clone)]
pub struct ImageArtifacts {
    docker: Docker,
    repository: String,
    owner: String,
    copies: PathBuf,
    keep: Keep,
}

/// What a reference stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// [`IMAGE_SCHEME`] and the image's id.
    pub digest: ArtifactDigest,
    /// The reference, with the registry's digest behind it where there is one.
    pub path: String,
}

impl ImageArtifacts {
    /// The images of one environment, for one ledger.
    #[must_use]
    pub fn new(
        docker: Docker,
        key: &EnvironmentKey,
        ledger: &LedgerId,
        state_dir: &std::path::Path,
        keep: Keep,
    ) -> Self {
        let ledger: String = ledger.as_str().to_lowercase().chars().take(20).collect();
        let ledger = ledger.trim_end_matches(['_', '-']).to_owned();
        // Neither may end in a separator, and an app's name holds no `_`.
        let environment = key.environment.as_str().to_lowercase();
        let (app, environment) = (trimmed(key.app.as_str()), trimmed(&environment));
        Self {
            docker,
            repository: format!("backout/{app}_{environment}/{}", trimmed(&ledger)),
            owner: format!("{key}/{ledger}"),
            copies: state_dir.join("images"),
            keep,
        }
    }

    /// Our own reference to a kept image.
    pub(crate) fn reference(&self, digest: &str) -> Result<String, AdapterError> {
        Ok(format!("{}:{}", self.repository, hex_of(digest)?))
    }

    /// Name of the container that holds a kept image.
    fn holder(&self, digest: &str) -> Result<String, AdapterError> {
        let owner = hex(&Sha256::digest(self.owner.as_bytes()));
        Ok(format!("backout-pin-{}-{}", &owner[..12], &hex_of(digest)?[..24]))
    }

    fn copy_path(&self, digest: &str) -> Result<PathBuf, AdapterError> {
        Ok(self.copies.join(format!("{}.tar", hex_of(digest)?)))
    }

    /// What a reference stands for now; pulled if its registry has another.
    pub(crate) async fn resolve(
        &self,
        reference: &str,
        pull: Pull,
    ) -> Result<Resolved, AdapterError> {
        let here = self.docker.image(reference).await?;
        let wanted = Self::is_pulled(here.as_ref(), pull);
        let image = if wanted { self.pull(reference).await? } else { here };
        let image = image.ok_or_else(|| {
            AdapterError::permanent(format!(
                "failed to find image {reference}: it is not on {}",
                self.docker.machine()
            ))
            .with_hint("build or load it, or let pull_policy allow to pull it")
        })?;
        Ok(resolved(reference, &image))
    }

    /// Whether the registry has the word.
    pub(super) fn is_pulled(here: Option<&Image>, pull: Pull) -> bool {
        match pull {
            Pull::Never => false,
            Pull::Missing => here.is_none(),
            Pull::Always => !here.is_some_and(|image| image.repo_digests().is_empty()),
        }
    }

    /// Whether the engine's host can be reached.
    pub(super) async fn reach(&self) -> Result<(), AdapterError> {
        self.docker.reach().await
    }

    /// Brings an image that the engine does not have: from its registry, by the digest that it had there, else from its
    /// copy. Only where there are other hosts: a release of this machine alone does not depend on a registry.
    pub(super) async fn obtain(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let id = id_of(digest)?;
        if self.docker.image_id(id).await?.is_some() {
            return Ok(());
        }
        let reference = path.split_once('=').map_or(path, |(_, image)| image);
        let copy = self.copy_path(digest)?;
        let pulled = match reference.contains('@') {
            true => self.pull(reference).await.map(drop),
            false => Err(self.gone(path)),
        };
        match pulled {
            Err(_) if copy.is_file() => self.load_copy(&copy, path).await?,
            other => other?,
        }
        if self.docker.image_id(id).await?.is_some() {
            return Ok(());
        }
        Err(AdapterError::permanent(format!(
            "failed to use image {reference} on {}: it is another one there than on the first host",
            self.docker.machine()
        ))
        .with_hint(
            "all hosts need the same platform, and engines that store images alike (`docker info`: Storage Driver)",
        ))
    }

    async fn load_copy(&self, copy: &std::path::Path, path: &str) -> Result<(), AdapterError> {
        whole(copy.to_owned()).await.map_err(|why| {
            AdapterError::permanent(format!("failed to find image {path}: {why}"))
        })?;
        self.load(copy, path).await
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    async fn pull(&self, reference: &str) -> Result<Option<Image>, AdapterError> {
        let call = Call { timeout: TRANSFER, ..Call::look(["pull", "--quiet", reference]) };
        let finished = self.docker.run(call).await?;
        if finished.ended == Ended::Exited(0) {
            return self.docker.image(reference).await;
        }
        Err(no_answer("pull", reference, &said(&finished)))
    }

    /// Our reference to a kept image, where that is in the engine. Nothing is changed.
    pub(crate) async fn kept(&self, digest: &str) -> Result<Option<String>, AdapterError> {
        let reference = self.reference(digest)?;
        let found = self.docker.image_id(&reference).await?;
        Ok((found.as_deref() == Some(id_of(digest)?)).then_some(reference))
    }

    /// Makes sure that a kept image is in the engine, from its copy if it has to be.
    pub(crate) async fn present(&self, path: &str, digest: &str) -> Result<String, AdapterError> {
        if let Some(reference) = self.kept(digest).await? {
            return Ok(reference);
        }
        let (reference, id) = (self.reference(digest)?, id_of(digest)?);
        if self.docker.host().is_none() && self.docker.image_id(id).await?.is_none() {
            let copy = self.copy_path(digest)?;
            if !copy.is_file() {
                return Err(self.gone(path));
            }
            self.load_copy(&copy, path).await?;
        }
        self.pin(path, digest).await?;
        Ok(reference)
    }

    async fn load(&self, copy: &std::path::Path, path: &str) -> Result<(), AdapterError> {
        let copy_name = copy.as_os_str();
        let args = ["load".as_ref(), "--quiet".as_ref(), "--input".as_ref(), copy_name];
        let call = Call { timeout: TRANSFER, ..Call::look(args) };
        let finished = self.docker.run(call).await?;
        match finished.ended {
            Ended::Exited(0) => Ok(()),
            _ => Err(AdapterError::transient(format!(
                "failed to load the copy of image {path}: {}",
                said(&finished)
            ))),
        }
    }

    /// Writes the image's bytes into the state folder; a copy that is there was whole when it got its name.
    async fn save(&self, digest: &str) -> Result<(), AdapterError> {
        let place = self.copy_path(digest)?;
        if place.is_file() && whole(place.clone()).await.is_ok() {
            return Ok(());
        }
        let failed = |e: std::io::Error| {
            AdapterError::transient(format!("failed to copy an image into the state folder: {e}"))
        };
        create_private_dirs(&self.copies).map_err(failed)?;
        let temporary = tempfile::Builder::new()
            .prefix(".backout-")
            .tempfile_in(&self.copies)
            .map_err(failed)?;
        let reference = self.reference(digest)?;
        let args = ["save".into(), "--output".into(), temporary.path().into(), reference.into()];
        let args: [std::ffi::OsString; 4] = args;
        let finished = self.docker.run(Call { timeout: TRANSFER, ..Call::look(args) }).await?;
        if finished.ended != Ended::Exited(0) {
            return Err(AdapterError::transient(format!(
                "failed to copy an image into the state folder: {}",
                said(&finished)
            )));
        }
        // The command may have put a file of its own in the place of ours.
        fs::File::open(temporary.path()).and_then(|file| file.sync_all()).map_err(failed)?;
        image_copy::forget(&place).map_err(failed)?;
        fs::rename(temporary.path(), &place).map_err(failed)?;
        let written = tokio::task::spawn_blocking(move || image_copy::remember(&place)).await;
        written.map_err(|e| failed(e.into()))?.map_err(failed)?;
        sync_dir(&self.copies).map_err(failed)
    }

    /// Creates the container that holds an image. It is never started; folders that the image declares as
    /// volumes are given memory, so that no volume is made for it.
    async fn hold(&self, digest: &str) -> Result<(), AdapterError> {
        let name = self.holder(digest)?;
        let reference = self.reference(digest)?;
        let image = self.docker.image(&reference).await?.ok_or_else(|| self.gone(&reference))?;
        let mut args: Vec<String> =
            ["create", "--network", "none", "--name", &name].map(str::to_owned).to_vec();
        args.extend(["--label".to_owned(), format!("{PIN_LABEL}={}", self.owner)]);
        args.extend(["--label".to_owned(), format!("{PIN_LABEL}.digest={digest}")]);
        for volume in
            image.config.iter().flat_map(|c| c.volumes.iter().flatten()).map(|(path, _)| path)
        {
            args.extend(["--tmpfs".to_owned(), volume.clone()]);
        }
        args.extend(["--entrypoint".to_owned(), "/backout-pin".to_owned(), reference]);
        let finished = self.docker.run(Call::look(args)).await?;
        let said = said(&finished);
        match finished.ended {
            Ended::Exited(0) => Ok(()),
            // One with this name holds an image with this digest.
            _ if said.contains("is already in use") => Ok(()),
            _ => Err(AdapterError::transient(format!("failed to hold image {digest}: {said}"))),
        }
    }

    fn gone(&self, path: &str) -> AdapterError {
        // Which service of the compose file it is for stands before it.
        let path = path.split_once('=').map_or(path, |(_, image)| image);
        if let Some(host) = self.docker.host() {
            let name = host.name();
            let hint = match path.contains('@') {
                true => format!("docker pull {path} on {name}, or keep copies with `artifacts: {{ keep: copy }}`"),
                false => "push it to a registry that all hosts reach, or keep copies with `artifacts: { keep: copy }`"
                    .to_owned(),
            };
            let message = format!("failed to find image {path}: it is not on {name}");
            return AdapterError::permanent(message).with_hint(hint);
        }
        let pull = if path.contains('@') {
            format!("docker pull {path}")
        } else {
            format!("bring {path} back")
        };
        AdapterError::permanent(format!(
            "failed to find image {path}: it was removed from this machine although it was pinned"
        ))
        .with_hint(format!("{pull}, or keep copies with `artifacts: {{ keep: copy }}`"))
    }

    /// What of ours is in the engine, for people.
    pub(crate) fn describe(&self) -> String {
        format!("the names {}:* of images, and the containers that hold them", self.repository)
    }

    /// Takes our names off images that run; whoever runs them needs no name.
    pub(crate) async fn unname(&self, digests: &[ArtifactDigest]) -> Result<(), AdapterError> {
        for digest in digests {
            self.remove(&["rm", &self.holder(digest)?]).await?;
            self.remove(&["image", "rm", "--force", &self.reference(digest)?]).await?;
        }
        Ok(())
    }

    async fn remove(&self, args: &[&str]) -> Result<(), AdapterError> {
        let finished = self.docker.run(Call::look(args.iter().copied())).await?;
        let said = said(&finished);
        let gone = said.contains("No such") || said.contains("no such");
        if finished.ended == Ended::Exited(0) || gone {
            return Ok(());
        }
        Err(AdapterError::transient(format!("failed to forget an image: {said}")))
    }
}

/// Proves a copy, away from the tasks that must not wait.
async fn whole(copy: PathBuf) -> Result<(), String> {
    let proven = tokio::task::spawn_blocking(move || image_copy::verify(&copy)).await;
    proven.unwrap_or_else(|error| Err(error.to_string()))
}

impl Image {
    fn repo_digests(&self) -> &[String] {
        self.repo_digests.as_deref().unwrap_or_default()
    }
}

fn trimmed(name: &str) -> String {
    // Separators stand alone in a repository's name.
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let separator = matches!(c, '-' | '_');
        if separator && (out.is_empty() || out.ends_with(['-', '_'])) {
            out.push('0');
        }
        out.push(c);
    }
    if out.ends_with(['-', '_']) {
        out.push('0');
    }
    out
}

fn resolved(reference: &str, image: &Image) -> Resolved {
    let name = reference.split('@').next().unwrap_or(reference);
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    let at = image.repo_digests().iter().filter_map(|known| known.split_once('@'));
    let manifest = at
        .clone()
        .find(|(of, _)| repository == *of || repository.ends_with(&format!("/{of}")))
        .map(|(_, digest)| digest);
    Resolved {
        digest: format!("{IMAGE_SCHEME}{}", image.id),
        path: manifest.map_or_else(|| reference.to_owned(), |digest| format!("{name}@{digest}")),
    }
}

/// A registry that has no such image, or that gives no answer.
pub(super) fn no_answer(verb: &str, reference: &str, said: &str) -> AdapterError {
    let error = format!("failed to {verb} image {reference}: {said}");
    let no = [
        "manifest unknown",
        "no such manifest",
        "not found",
        "access denied",
        "unauthorized",
        "invalid reference",
    ];
    if no.iter().any(|words| said.contains(words)) {
        return AdapterError::permanent(error)
            .with_hint("check the tag and the registry's login; nothing was changed");
    }
    AdapterError::transient(error).with_hint(
        "its registry must be reachable to learn what the tag stands for now; pull_policy: missing takes the image that is here",
    )
}

fn id_of(digest: &str) -> Result<&str, AdapterError> {
    digest.strip_prefix(IMAGE_SCHEME).ok_or_else(|| {
        AdapterError::permanent(format!("failed to use `{digest}`: it is no image's digest"))
    })
}

fn hex_of(digest: &str) -> Result<&str, AdapterError> {
    let hex = id_of(digest)?.strip_prefix("sha256:");
    hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(
        || AdapterError::permanent(format!("failed to use `{digest}`: it is no image's digest")),
    )
}

#[async_trait]
impl ArtifactStore for ImageArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        Ok(self.resolve(path, Pull::Always).await?.digest)
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let reference = self.reference(digest)?;
        let id = id_of(digest)?;
        if self.docker.host().is_some() {
            self.obtain(path, digest).await?;
        }
        let finished = self.docker.run(Call::look(["tag", id, &reference])).await?;
        let words = said(&finished);
        if finished.ended != Ended::Exited(0) {
            if words.to_lowercase().contains("no such image") {
                return Err(self.gone(path));
            }
            let error = AdapterError::transient(format!("failed to pin image {path}: {words}"));
            return Err(if is_no_engine(&words) {
                error.with_hint(self.docker.no_engine_hint())
            } else {
                error
            });
        }
        self.hold(digest).await?;
        if self.keep == Keep::Copy { self.save(digest).await } else { Ok(()) }
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        let (reference, id) = (self.reference(digest)?, id_of(digest)?);
        if self.docker.image_id(&reference).await?.as_deref() == Some(id) {
            return Ok(());
        }
        let copy = self.copy_path(digest)?;
        let copied = copy.is_file();
        if copied && let Err(why) = whole(copy).await {
            return Err(AdapterError::permanent(format!(
                "the image was removed from {}, and {why}",
                self.docker.machine()
            ))
            .with_hint("pull it again by its digest"));
        }
        if copied {
            return Ok(());
        }
        if self.docker.image_id(id).await?.is_some() {
            let on =
                self.docker.host().map_or("here".to_owned(), |host| format!("on {}", host.name()));
            return Err(AdapterError::permanent(format!(
                "the image is {on}, but our own reference to it is gone: the next clean-up may take it"
            ))
            .with_hint(format!("docker tag {id} {reference}")));
        }
        Err(AdapterError::permanent(format!(
            "the image was removed from {} although it was pinned (`docker system prune --all`?)",
            self.docker.machine()
        ))
        .with_hint("pull it again by its digest, or keep copies with `artifacts: { keep: copy }`"))
    }

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        _cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let tags = ["image", "ls", "--no-trunc", "--format", "{{.Tag}}", &self.repository];
        let listed = self.docker.look(tags).await?;
        let mut known: std::collections::BTreeSet<String> = String::from_utf8_lossy(&listed)
            .lines()
            .map(|tag| format!("{IMAGE_SCHEME}sha256:{}", tag.trim()))
            .collect();
        let label = format!("{PIN_LABEL}={}", self.owner);
        let held = self.docker.containers(&[label]).await?;
        known.extend(
            held.iter().filter_map(|c| c.label(&format!("{PIN_LABEL}.digest")).map(str::to_owned)),
        );
        let mut removed = Vec::new();
        for digest in known.into_iter().filter(|d| !keep.contains(d) && hex_of(d).is_ok()) {
            self.remove(&["rm", &self.holder(&digest)?]).await?;
            // Only our own name goes; the image itself as well, if nobody else has a name for it.
            self.remove(&["image", "rm", &self.reference(&digest)?]).await?;
            image_copy::forget(&self.copy_path(&digest)?)
                .map_err(|e| AdapterError::transient(e.to_string()))?;
            removed.push(digest);
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digests: &[&str]) -> Image {
        Image {
            id: format!("sha256:{}", "a".repeat(64)),
            repo_digests: Some(digests.iter().map(|d| (*d).to_owned()).collect()),
            config: None,
        }
    }

    #[test]
    fn a_reference_keeps_its_registrys_digest() {
        let path = |reference: &str, digests: &[&str]| resolved(reference, &image(digests)).path;
        assert_eq!(path("web:1", &[]), "web:1");
        assert_eq!(
            path("127.0.0.1:5000/web:1", &["127.0.0.1:5000/web@sha256:1"]),
            "127.0.0.1:5000/web:1@sha256:1"
        );
        assert_eq!(
            path("127.0.0.1:5000/web", &["other/web@sha256:2", "127.0.0.1:5000/web@sha256:1"]),
            "127.0.0.1:5000/web@sha256:1"
        );
        assert_eq!(
            path("docker.io/library/web:1", &["web@sha256:3"]),
            "docker.io/library/web:1@sha256:3"
        );
        assert_eq!(path("web:1", &["other@sha256:3"]), "web:1");
    }

    #[test]
    fn names_of_environments_are_valid_repositories() {
        for (name, expected) in
            [("shop", "shop"), ("a--b", "a-0-b"), ("prod_", "prod_0"), ("-x", "0-x")]
        {
            assert_eq!(trimmed(name), expected);
        }
    }
}
