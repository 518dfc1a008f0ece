//! Files that are there whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::entropy::random;
use fs_err::os::unix::fs::OpenOptionsExt;

/// Ends names of files that are being written.
const BUILD_SUFFIX: &str = ".new";

/// A file of mode 0600 that is being written under another name. Dropped, nothing is left of it, and what was there
/// stays.
pub(super) struct WholeFile {
    out: Option<BufWriter<fs_err::File>>,
    build: PathBuf,
    path: PathBuf,
}

impl WholeFile {
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut build_name = name.to_owned();
        // In a folder that others write into too, nobody can lay out a name that was not known.
        let random = backout_core::ids::hex(&random::<8>()?);
        build_name.push(format!(".{random}{BUILD_SUFFIX}"));
        let build = path.with_file_name(build_name);
        let file =
            fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&build)?;
        let out = Some(BufWriter::with_capacity(1 << 16, file));
        Ok(Self { out, build, path: path.to_owned() })
    }

    /// Makes it durable and puts it in its place.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            let result = out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs_err::rename(&self.build, &self.path));
            if result.is_err() {
                let _ = fs_err::remove_file(&self.build);
            }
            result?;
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs_err::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // Half a file would only take room away from others.
        if let Some(out) = self.out.take() {
            // What waits in the buffer is not worth a try on a full disk.
            let _ = out.into_parts();
            let _ = fs_err::remove_file(&self.build);
        }
    }
}

/// Writes a small file.
pub(super) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = WholeFile::begin(path)?;
    file.write_all(text.as_bytes())?;
    file.finish()
}

/// Reads a small text; none if there is no such file.
pub(super) fn read_small(path: &Path, max_bytes: u64) -> io::Result<Option<String>> {
    use io::Read as _;
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(max_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("{} is too long", path.display())));
    }
    Ok(Some(text))
}
