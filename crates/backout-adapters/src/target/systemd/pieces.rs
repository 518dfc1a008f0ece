//! What stands where in a release's folder.

use std::path::{Component, Path, PathBuf};

use backout_core::ids::hex;
use backout_core::model::Release;
use backout_core::ports::{AdapterError, ArtifactStore as _};
use sha2::{Digest, Sha256};

use super::Side;
use super::files::{Layout, Turn};

/// Digits of a folder's name.
const NAME_DIGITS: usize = 20;

/// A kept artifact and its place in the folder; an empty one: it is the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub at: PathBuf,
    pub digest: String,
}

impl Side {
    /// The release as its folder is to hold it.
    pub(super) fn layout(&self, release: &Release) -> Result<Layout, AdapterError> {
        let pieces = self.pieces(release)?;
        let mut kept = Vec::new();
        for piece in &pieces {
            kept.push((self.options.artifacts.path_of(&piece.digest)?, piece.at.clone()));
        }
        let folder = self.place.releases.join(name_of(&pieces));
        Ok(Layout { pieces, kept, folder })
    }

    /// The folder of a release, with exactly the kept bytes in it.
    pub(super) async fn lay_out(
        &self,
        release: &Release,
        turn: &Turn,
    ) -> Result<PathBuf, AdapterError> {
        let layout = self.layout(release)?;
        // What is there needs no writing, also where nothing can be written any more.
        if !self.files.is_whole(&layout).await? {
            self.make(&layout, turn).await?;
        }
        Ok(layout.folder)
    }

    /// Makes a folder that is not whole.
    pub(super) async fn make(&self, layout: &Layout, turn: &Turn) -> Result<(), AdapterError> {
        // What is about to be copied must be what was kept.
        for piece in &layout.pieces {
            self.options.artifacts.verify(&piece.digest).await?;
        }
        self.files.lay_out(layout, turn).await
    }

    /// What the release's folder holds. The same things make the same folder.
    fn pieces(&self, release: &Release) -> Result<Vec<Piece>, AdapterError> {
        let failed =
            |why: &str| AdapterError::permanent(format!("failed to lay out {}: {why}", self.unit));
        let kept: Vec<_> = release
            .content
            .artifacts
            .iter()
            .filter(|artifact| artifact.service == self.unit.service && artifact.kept)
            .collect();
        let templates = &self.spec.artifact;
        if kept.is_empty() || kept.len() != templates.len() {
            return Err(failed("its release has no artifact of its own"));
        }
        if let ([artifact], [template]) = (kept.as_slice(), templates.as_slice()) {
            let path = self.options.artifacts.path_of(&artifact.digest)?;
            let is_folder = path.is_dir() && !path.is_symlink();
            let name = match stable(template).file_name() {
                Some(name) => PathBuf::from(name),
                None => PathBuf::from(self.unit.service.as_str()),
            };
            let at = if is_folder { PathBuf::new() } else { name };
            return Ok(vec![Piece { at, digest: artifact.digest.clone() }]);
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for (artifact, template) in kept.iter().zip(templates) {
            let at = stable(template);
            if at.as_os_str().is_empty() || pieces.iter().any(|piece| piece.at == at) {
                return Err(failed(&format!(
                    "`{template}` has no name of its own beside the other artifacts"
                )));
            }
            pieces.push(Piece { at, digest: artifact.digest.clone() });
        }
        // A folder before what lies inside of it.
        pieces.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(pieces)
    }
}

/// Name of the folder that holds these.
fn name_of(pieces: &[Piece]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"backout-release-folder 1\n");
    for piece in pieces {
        use std::os::unix::ffi::OsStrExt as _;
        for field in [piece.at.as_os_str().as_bytes(), piece.digest.as_bytes()] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }
    let mut name = hex(&hash.finalize());
    name.truncate(NAME_DIGITS);
    name
}

/// The path under which the unit finds an artifact whatever its version: `dist/shop-{version}.jar` is `dist/shop.jar`.
fn stable(template: &str) -> PathBuf {
    let part = |text: &str| {
        let mut text = text.to_owned();
        for joined in ["-{version}", "_{version}", ".{version}", "{version}-", "{version}_"] {
            text = text.replace(joined, "");
        }
        text.replace("{version}", "")
    };
    Path::new(template)
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(part(&name.to_string_lossy())),
            _ => None,
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_change_with_the_version() {
        for (template, wanted) in [
            ("bin/shop", "bin/shop"),
            ("./bin/shop-{version}", "bin/shop"),
            ("dist/shop_{version}.jar", "dist/shop.jar"),
            ("{version}-shop", "shop"),
            ("builds/{version}/shop", "builds/shop"),
            ("builds/{version}", "builds"),
            ("{version}", ""),
        ] {
            assert_eq!(stable(template), Path::new(wanted), "{template}");
        }
    }

    #[test]
    fn a_folder_is_named_by_what_it_holds_and_where() {
        let piece = |at: &str, digest: &str| Piece { at: at.into(), digest: digest.into() };
        let one = name_of(&[piece("shop", "sha256:1")]);
        assert_eq!(one.len(), NAME_DIGITS);
        assert_eq!(one, name_of(&[piece("shop", "sha256:1")]));
        assert_ne!(one, name_of(&[piece("shop", "sha256:2")]));
        assert_ne!(one, name_of(&[piece("", "shopsha256:1")]));
    }
}
