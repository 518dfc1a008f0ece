//! Folders of releases: laid out whole beside their place and renamed into it, and mended where a file was changed.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ports::AdapterError;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::blocking;
use super::files::Layout;
use super::pieces::Piece;
use super::place::writing;
use crate::host::{FileLock, read_bounded, sync_dir, write_atomic};

const FORMAT: u32 = 1;
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
const LABEL_BYTES: u64 = 1 << 20;

/// What is known of a folder beside its content.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Label {
    format: u32,
    digests: Vec<String>,
}

impl Label {
    pub(super) fn of(pieces: &[Piece]) -> Self {
        let digests = pieces.iter().map(|piece| piece.digest.clone()).collect();
        Self { format: FORMAT, digests }
    }
}

/// Whether a folder with this label stays: all of it is to be kept, or it is nothing that we know.
pub(super) fn is_needed<E>(label: Result<Label, E>, keep: &[String]) -> bool {
    label.map_or(true, |label| {
        label.format != FORMAT || label.digests.iter().all(|digest| keep.contains(digest))
    })
}

/// Held by whoever makes or removes folders of releases.
async fn locked(releases: &Path) -> Result<FileLock, AdapterError> {
    let lock = FileLock::take(&releases.join(".lock"), LOCK_PATIENCE).await;
    lock.map_err(|e| writing(&e))?.ok_or_else(|| {
        AdapterError::transient("failed to change release folders: another process is at it")
    })
}

pub(super) fn label_of(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.json"))
}

/// Makes the folder of a release hold exactly the kept bytes. What a program has written beside them stays.
pub(super) async fn lay_out(layout: &Layout) -> Result<(), AdapterError> {
    let releases = layout.folder.parent().unwrap_or(Path::new("/"));
    // Everybody may read it: the unit's program may be anybody's.
    fs::create_dir_all(releases).map_err(|e| writing(&e))?;
    let lock = locked(releases).await?;
    let Layout { pieces, kept, folder } = layout.clone();
    blocking(move || {
        let _lock = lock;
        make(&kept, &pieces, &folder).map_err(|e| writing(&e))
    })
    .await
}

pub(super) fn is_whole(kept: &[(PathBuf, PathBuf)], folder: &Path) -> bool {
    folder.is_dir()
        && kept.iter().all(|(from, at)| put(from, &within(folder, at), Mode::Look).unwrap_or(false))
}

fn make(kept: &[(PathBuf, PathBuf)], pieces: &[Piece], folder: &Path) -> io::Result<()> {
    let releases = folder.parent().unwrap_or(Path::new("/"));
    let label = serde_json::to_vec(&Label::of(pieces))?;
    write_atomic(&label_of(folder), &label, 0o644)?;
    if folder.is_dir() {
        for (from, at) in kept {
            put(from, &parents(folder, at)?, Mode::Write)?;
        }
        return sync_dir(folder);
    }
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(releases)?;
    for (from, at) in kept {
        put(from, &parents(new.path(), at)?, Mode::Write)?;
    }
    fs::set_permissions(new.path(), std::fs::Permissions::from_mode(0o755))?;
    sync_dir(new.path())?;
    fs::rename(new.path(), folder)?;
    let _ = new.keep();
    sync_dir(releases)
}

fn within(folder: &Path, at: &Path) -> PathBuf {
    // Joined with nothing, a path would end in a slash.
    if at.as_os_str().is_empty() { folder.to_owned() } else { folder.join(at) }
}

/// The place, with the folders above it.
fn parents(folder: &Path, at: &Path) -> io::Result<PathBuf> {
    let place = within(folder, at);
    if let Some(parent) = place.parent().filter(|parent| parent.starts_with(folder)) {
        fs::create_dir_all(parent)?;
    }
    Ok(place)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Look,
    Write,
}

/// Makes `to` hold what `from` holds, each file in one step; whether it does. Other files in a folder stay.
fn put(from: &Path, to: &Path, mode: Mode) -> io::Result<bool> {
    let kind = fs::symlink_metadata(from)?.file_type();
    let there = fs::symlink_metadata(to).ok().map(|metadata| metadata.file_type());
    if kind.is_dir() {
        return put_folder(from, to, there.is_some_and(|there| there.is_dir()), mode);
    }
    let same = if kind.is_symlink() {
        fs::read_link(to).is_ok_and(|text| fs::read_link(from).is_ok_and(|wanted| wanted == text))
    } else {
        there.is_some_and(|there| there.is_file()) && same_file(from, to)?
    };
    if same || mode == Mode::Look {
        return Ok(same);
    }
    if there.is_some_and(|there| there.is_dir()) {
        crate::artifact::remove_tree(to)?;
    }
    if kind.is_symlink() {
        super::link::put(to, &fs::read_link(from)?)?;
    } else {
        copy(from, to)?;
    }
    Ok(true)
}

fn put_folder(from: &Path, to: &Path, there: bool, mode: Mode) -> io::Result<bool> {
    if !there {
        if mode == Mode::Look {
            return Ok(false);
        }
        crate::artifact::remove_tree(to)?;
        fs::create_dir(to)?;
        fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if !put(&from.join(&name), &to.join(&name), mode)? {
            return Ok(false);
        }
    }
    if mode == Mode::Write {
        sync_dir(to)?;
    }
    Ok(true)
}

/// Everybody may read and nobody write: the unit's program may be anybody's.
fn mode_of(from: &Path) -> io::Result<u32> {
    let executable = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
    Ok(if executable { 0o555 } else { 0o444 })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
    io::copy(&mut fs::File::open(from)?, new.as_file_mut())?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(mode_of(from)?))?;
    new.as_file().sync_all()?;
    new.persist(to).map(drop).map_err(|e| e.error)
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (a, b) = (fs::metadata(one)?, fs::metadata(other)?);
    if a.len() != b.len() || b.permissions().mode() & 0o777 != mode_of(one)? {
        return Ok(false);
    }
    let (mut a, mut b) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let n = fill(&mut a, &mut left)?;
        if n != fill(&mut b, &mut right)? || left[..n] != right[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Removes folders that hold anything but what is in `keep`, and none to which a link of ours leads.
pub(super) async fn prune(
    releases: &Path,
    links: &[PathBuf],
    keep: &[String],
) -> Result<(), AdapterError> {
    if !releases.is_dir() {
        return Ok(());
    }
    let lock = locked(releases).await?;
    let (releases, links, keep) = (releases.to_owned(), links.to_owned(), keep.to_owned());
    blocking(move || {
        let _lock = lock;
        prune_now(&releases, &links, &keep)
            .map_err(|e| AdapterError::transient(format!("failed to prune release folders: {e}")))
    })
    .await
}

fn prune_now(releases: &Path, links: &[PathBuf], keep: &[String]) -> io::Result<()> {
    let used: Vec<PathBuf> =
        links.iter().filter_map(|link| super::link::target(link).ok().flatten()).collect();
    for entry in fs::read_dir(releases)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Begun or half removed by a process that is gone.
        if name.starts_with(".new-") || name.starts_with(".old-") {
            crate::artifact::remove_tree(&path)?;
            continue;
        }
        let label = label_of(&path);
        let needed = match read_bounded(&label, LABEL_BYTES)? {
            Some(bytes) => is_needed(serde_json::from_slice(&bytes), keep),
            // Nothing that we made.
            None => true,
        };
        if needed || used.contains(&path) {
            continue;
        }
        let going = releases.join(format!(".old-{name}"));
        crate::artifact::remove_tree(&going)?;
        fs::rename(&path, &going)?;
        fs::remove_file(&label)?;
        crate::artifact::remove_tree(&going)?;
    }
    sync_dir(releases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn kept(root: &Path) -> PathBuf {
        let kept = root.join("kept");
        fs::create_dir_all(kept.join("deep")).unwrap();
        fs::write(kept.join("deep/data"), "data").unwrap();
        fs::write(kept.join("program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(kept.join("program"), std::fs::Permissions::from_mode(0o500)).unwrap();
        fs::os::unix::fs::symlink("deep/data", kept.join("link")).unwrap();
        kept
    }

    fn one(digest: &str) -> Vec<Piece> {
        vec![Piece { at: PathBuf::new(), digest: digest.to_owned() }]
    }

    #[test]
    fn a_folder_is_made_whole_and_mended_and_leaves_what_it_does_not_know() {
        let root = folder();
        let kept = vec![(kept(root.path()), PathBuf::new())];
        let releases = root.path().join("releases");
        fs::create_dir(&releases).unwrap();
        let made = releases.join("one");
        assert!(!is_whole(&kept, &made));
        make(&kept, &one("sha256:1"), &made).unwrap();
        assert!(is_whole(&kept, &made));
        let mode = |name: &str| fs::metadata(made.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("program"), mode("deep/data"), mode("deep")), (0o555, 0o444, 0o755));
        assert_eq!(fs::read_link(made.join("link")).unwrap(), Path::new("deep/data"));

        fs::write(made.join("deep/written-later"), "stays").unwrap();
        assert!(is_whole(&kept, &made));
        fs::remove_file(made.join("deep/data")).unwrap();
        fs::write(made.join("deep/data"), "dada").unwrap();
        assert!(!is_whole(&kept, &made));
        fs::remove_file(made.join("link")).unwrap();
        fs::create_dir(made.join("link")).unwrap();
        make(&kept, &one("sha256:1"), &made).unwrap();
        assert!(is_whole(&kept, &made));
        assert_eq!(fs::read_to_string(made.join("deep/written-later")).unwrap(), "stays");
        let left = fs::read_dir(&releases).unwrap().count();
        assert_eq!(left, 2, "the folder and its label");
    }

    #[test]
    fn only_folders_of_ours_that_nobody_needs_are_removed() {
        let root = folder();
        let kept = vec![(kept(root.path()), PathBuf::from("program"))];
        let releases = root.path().join("releases");
        fs::create_dir(&releases).unwrap();
        for (name, digest) in [("old", "1"), ("needed", "2"), ("linked", "3")] {
            make(&kept, &one(digest), &releases.join(name)).unwrap();
        }
        fs::create_dir(releases.join("somebody-elses")).unwrap();
        fs::create_dir(releases.join(".new-half")).unwrap();
        let link = root.path().join("current");
        super::super::link::switch(&link, &releases.join("linked")).unwrap();
        prune_now(&releases, &[link], &["2".to_owned()]).unwrap();
        let mut left: Vec<_> = fs::read_dir(&releases)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        left.sort();
        assert_eq!(left, ["linked", "needed", "somebody-elses"]);
        assert!(!label_of(&releases.join("old")).exists());
        assert!(!releases.join(".new-half").exists());
    }
}
