//! What a release's folder holds, entry by entry, to be compared where the kept copies are not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backout_core::ids::hex;
use fs_err as fs;
use sha2::{Digest, Sha256};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { mode: u32, bytes: u64, digest: String },
    Link(PathBuf),
}

/// One thing in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path in the folder.
    pub path: PathBuf,
    pub kind: Kind,
    /// The kept copy.
    pub from: PathBuf,
}

/// All of it, a folder before what lies in it.
pub(super) fn entries(kept: &[(PathBuf, PathBuf)]) -> io::Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    let mut above = BTreeSet::new();
    for (from, at) in kept {
        for parent in at.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            above.insert(parent.to_owned());
        }
        walk(from, at, &mut found)?;
    }
    for path in above {
        let folder = Entry { path: path.clone(), kind: Kind::Folder, from: PathBuf::new() };
        found.entry(path).or_insert(folder);
    }
    Ok(found.into_values().collect())
}

fn walk(from: &Path, at: &Path, found: &mut BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = if metadata.is_dir() {
        Kind::Folder
    } else if metadata.is_symlink() {
        Kind::Link(fs::read_link(from)?)
    } else {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Kind::File {
            // Everybody may read and nobody write: the unit's program may be anybody's.
            mode: if executable { 0o555 } else { 0o444 },
            bytes: metadata.len(),
            digest: digest(from)?,
        }
    };
    let is_folder = kind == Kind::Folder;
    if !at.as_os_str().is_empty() {
        let entry = Entry { path: at.to_owned(), kind, from: from.to_owned() };
        found.insert(at.to_owned(), entry);
    }
    if is_folder {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            walk(&entry.path(), &at.join(entry.file_name()), found)?;
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// What the files' bytes must be.
pub(super) struct Sums {
    /// So many lines come first: their names are written as `printf %b` reads them. Not every `sha256sum` can be told
    /// such a name.
    pub odd: usize,
    /// So many come behind them, as `sha256sum -c` reads them.
    pub plain: usize,
    pub lines: Vec<u8>,
}

pub(super) fn sums(entries: &[Entry]) -> Sums {
    let (mut odd, mut plain, mut lines, mut behind) = (0, 0, Vec::new(), Vec::new());
    for entry in entries {
        let Kind::File { digest, .. } = &entry.kind else { continue };
        let path = entry.path.as_os_str().as_bytes();
        if path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
            odd += 1;
            lines.extend_from_slice(digest.as_bytes());
            lines.push(b' ');
            for byte in path {
                match byte {
                    b'\\' => lines.extend_from_slice(b"\\\\"),
                    b'\n' => lines.extend_from_slice(b"\\n"),
                    other => lines.push(*other),
                }
            }
            lines.push(b'\n');
        } else {
            plain += 1;
            behind.extend_from_slice(digest.as_bytes());
            // So that no name is taken for a word of the program.
            behind.extend_from_slice(b"  ./");
            behind.extend_from_slice(path);
            behind.push(b'\n');
        }
    }
    lines.append(&mut behind);
    Sums { odd, plain, lines }
}

/// Whether a listing (`find -printf '%y %m %P\0%l\0'`) has all of it, each thing of its kind and mode.
pub(super) fn is_listed(entries: &[Entry], listing: &[u8]) -> bool {
    let mut there: BTreeMap<PathBuf, (&[u8], &[u8])> = BTreeMap::new();
    let fields: Vec<&[u8]> = listing.split(|byte| *byte == 0).collect();
    for pair in fields.chunks_exact(2) {
        let mut words = pair[0].splitn(3, |byte| *byte == b' ');
        let (Some(kind), Some(mode), Some(path)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        there.insert(path, (kind, if kind == b"l" { pair[1] } else { mode }));
    }
    entries.iter().all(|entry| match (&entry.kind, there.get(&entry.path)) {
        (Kind::Folder, Some((kind, _))) => *kind == b"d",
        (Kind::File { mode, .. }, Some((kind, detail))) => {
            *kind == b"f" && *detail == format!("{mode:o}").as_bytes()
        }
        (Kind::Link(text), Some((kind, detail))) => {
            *kind == b"l" && *detail == text.as_os_str().as_bytes()
        }
        (_, None) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Vec<Entry>) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("lib")).unwrap();
        fs::write(root.path().join("lib/a b\n\\c"), "data").unwrap();
        fs::write(root.path().join("serve"), "#!/bin/sh\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        fs::set_permissions(root.path().join("serve"), mode).unwrap();
        fs::os::unix::fs::symlink("lib", root.path().join("link")).unwrap();
        let found = entries(&[(root.path().to_owned(), PathBuf::new())]).unwrap();
        (root, found)
    }

    #[test]
    fn folders_stand_before_what_they_hold_and_a_deep_place_has_its_folders() {
        let (root, found) = folder();
        let paths: Vec<_> = found.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["lib", "lib/a b\n\\c", "link", "serve"]);
        let deep = entries(&[(root.path().join("serve"), "opt/bin/serve".into())]).unwrap();
        let paths: Vec<_> = deep.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["opt", "opt/bin", "opt/bin/serve"]);
    }

    #[test]
    fn a_listing_must_have_each_thing_as_it_is() {
        let (_root, found) = folder();
        let good =
            "d 755 lib\0\0f 444 lib/a b\n\\c\0\0l 777 link\0lib\0f 555 serve\0\0f 600 log\0\0";
        assert!(is_listed(&found, good.as_bytes()), "what a program wrote does not count");
        for (was, is) in [
            ("f 555 serve", "f 755 serve"),
            ("link\0lib", "link\0etc"),
            ("f 444 lib/", "f 444 lob/"),
        ] {
            assert!(!is_listed(&found, good.replace(was, is).as_bytes()), "{is}");
        }
        assert!(!is_listed(&found, b""));
    }

    #[test]
    fn sums_of_odd_names_come_first() {
        let (_root, found) = folder();
        let sums = sums(&found);
        assert_eq!((sums.odd, sums.plain), (1, 1));
        let lines = sums.lines.split(|byte| *byte == b'\n');
        let names: Vec<_> = lines.filter_map(|line| line.get(64..)).collect();
        assert_eq!(names, [&b" lib/a b\\n\\\\c"[..], b"  ./serve"]);
    }
}
