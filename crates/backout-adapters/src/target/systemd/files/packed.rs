//! A release as a stream that `tar` unpacks.

use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use fs_err as fs;

use super::manifest::{Entry, Kind};

const BLOCK: usize = 512;
const NAME: usize = 100;

/// Writes all entries, of nobody in particular and as old as the epoch: the same release is the same stream.
///
/// # Errors
/// When a kept copy can't be read or is not as long as it was, or nobody takes the stream any more.
pub(super) fn pack(entries: &[Entry], to: &mut impl Write) -> io::Result<()> {
    for entry in entries {
        let name = entry.path.as_os_str().as_bytes();
        match &entry.kind {
            Kind::Folder => header(to, name, b"", b'5', 0o755, 0)?,
            Kind::Link(text) => header(to, name, text.as_os_str().as_bytes(), b'2', 0o777, 0)?,
            Kind::File { mode, bytes, .. } => {
                header(to, name, b"", b'0', *mode, *bytes)?;
                let mut file = fs::File::open(&entry.from)?.take(*bytes);
                if io::copy(&mut file, to)? != *bytes {
                    let path = entry.from.display();
                    return Err(io::Error::other(format!("`{path}` is shorter than it was")));
                }
                pad(to, *bytes)?;
            }
        }
    }
    to.write_all(&[0; 2 * BLOCK])
}

fn pad(to: &mut impl Write, bytes: u64) -> io::Result<()> {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or_default();
    if over == 0 { Ok(()) } else { to.write_all(&vec![0; BLOCK - over]) }
}

/// A header; before it, what does not fit into it.
fn header(
    to: &mut impl Write,
    name: &[u8],
    link: &[u8],
    kind: u8,
    mode: u32,
    bytes: u64,
) -> io::Result<()> {
    for (text, of) in [(name, b'L'), (link, b'K')] {
        if text.len() >= NAME {
            block(to, b"././@LongLink", b"", of, 0o644, text.len() as u64 + 1)?;
            to.write_all(text)?;
            to.write_all(&[0])?;
            pad(to, text.len() as u64 + 1)?;
        }
    }
    block(to, name, link, kind, mode, bytes)
}

fn block(
    to: &mut impl Write,
    name: &[u8],
    link: &[u8],
    kind: u8,
    mode: u32,
    bytes: u64,
) -> io::Result<()> {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name[..name.len().min(NAME - 1)]);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\x000000000\x00");
    if bytes < 1 << 33 {
        put(124, format!("{bytes:011o}\0").as_bytes());
    } else {
        // More than eleven digits tell: as a binary number.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &bytes.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(NAME - 1)]);
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    to.write_all(&block)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::super::manifest::entries;
    use super::*;

    #[test]
    fn tar_unpacks_what_was_packed() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let deep = from.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(deep.join("f".repeat(120)), vec![7_u8; 1500]).unwrap();
        fs::write(from.join("-x"), "").unwrap();
        fs::write(from.join("serve"), "#!/bin/sh\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        fs::set_permissions(from.join("serve"), mode).unwrap();
        fs::os::unix::fs::symlink("g".repeat(150), from.join("link")).unwrap();
        let found = entries(&[(from.clone(), PathBuf::new())]).unwrap();
        let mut stream = Vec::new();
        pack(&found, &mut stream).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-xpf", "-", "--no-same-owner", "-C"]).arg(&to).stdin(Stdio::piped());
        let mut child = tar.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&stream).unwrap();
        assert!(child.wait().unwrap().success());
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("serve"), mode("-x")), (0o555, 0o444));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), PathBuf::from("g".repeat(150)));
        let back = entries(&[(to, PathBuf::new())]).unwrap();
        let of = |all: &[Entry]| -> Vec<_> {
            all.iter().map(|entry| (entry.path.clone(), entry.kind.clone())).collect()
        };
        assert_eq!(of(&back), of(&found));
    }

    #[test]
    fn a_large_file_has_a_binary_length() {
        let mut small = Vec::new();
        block(&mut small, b"x", b"", b'0', 0o444, (1 << 33) - 1).unwrap();
        assert_eq!(&small[124..136], b"77777777777\0");
        let mut large = Vec::new();
        block(&mut large, b"x", b"", b'0', 0o444, 1 << 33).unwrap();
        assert_eq!(&large[124..136], &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }
}
