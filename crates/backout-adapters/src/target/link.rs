//! A link that leads to what is live.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::host::sync_dir;

/// Where the link leads to, as a whole path; `None`: there is no link.
///
/// # Errors
/// When something else stands there.
pub(crate) fn target(link: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(link) {
        Ok(to) => Ok(Some(whole(link, &to))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("failed to use `{}`: it is no link", link.display()),
        )),
        Err(e) => Err(e),
    }
}

/// The whole path that a link's text means.
pub(crate) fn whole(link: &Path, text: &Path) -> PathBuf {
    parent(link).join(text).components().collect()
}

/// The text by which a link leads somewhere: as it is written it can be moved together with its folder.
pub(crate) fn text_for(link: &Path, to: &Path) -> PathBuf {
    to.strip_prefix(parent(link)).unwrap_or(to).to_owned()
}

/// What stands beside a link while it is replaced.
pub(crate) fn temporary(link: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(link.file_name().unwrap_or_default());
    name.push(".backout-new");
    parent(link).join(name)
}

fn parent(link: &Path) -> &Path {
    link.parent().unwrap_or(Path::new("/"))
}

/// Makes the link lead to a folder, in one step that is there whole after a power cut, or not at all.
///
/// # Errors
/// Names what could not be written. The link leads where it led.
pub(crate) fn switch(link: &Path, to: &Path) -> io::Result<()> {
    lead(link, to)?;
    sync_dir(parent(link))
}

/// The same, durable once its folder is synced.
pub(crate) fn lead(link: &Path, to: &Path) -> io::Result<()> {
    put(link, &text_for(link, to))
}

/// Makes a link with this text in one step, in place of a link or file.
///
/// # Errors
/// Names what could not be written.
pub(crate) fn put(link: &Path, text: &Path) -> io::Result<()> {
    let temporary = temporary(link);
    remove_link(&temporary)?;
    fs::os::unix::fs::symlink(text, &temporary)?;
    fs::rename(&temporary, link)
}

/// Removes a link; a missing one is fine, and a folder is left.
pub(crate) fn remove_link(link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_and_replaced_and_never_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root: PathBuf = folder.path().canonicalize().unwrap();
        let link = root.join("current");
        assert_eq!(target(&link).unwrap(), None);
        switch(&link, &root.join("releases/one")).unwrap();
        // Relative, so that the whole can be moved.
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("releases/one"));
        assert_eq!(target(&link).unwrap(), Some(root.join("releases/one")));
        switch(&link, Path::new("/elsewhere/two")).unwrap();
        assert_eq!(target(&link).unwrap(), Some(PathBuf::from("/elsewhere/two")));
        remove_link(&link).unwrap();
        remove_link(&link).unwrap();
        std::fs::create_dir(&link).unwrap();
        assert!(target(&link).unwrap_err().to_string().contains("is no link"));
        assert!(switch(&link, Path::new("/x")).is_err() && link.is_dir());
    }
}
