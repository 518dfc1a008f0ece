//! SELinux labels, where the file system has them.

use std::io;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;

const NAME: &str = "security.selinux";

/// The label of a file or link; `None` where there is none.
pub(crate) fn read(path: &Path) -> Option<String> {
    let mut buffer = [0_u8; 1024];
    let length = lgetxattr(path, NAME, &mut buffer[..]).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// Puts a label there. A file system without labels has nothing to restore.
pub(crate) fn write(path: &Path, label: &str) -> io::Result<()> {
    match lsetxattr(path, NAME, format!("{label}\0").as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
