//! Bundles on disk: whole or not there, private, and bounded in size, number and age.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use backout_core::ids::EnvironmentKey;
use backout_core::model::Trigger;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Newest format of a bundle that this version reads and writes.
pub const BUNDLE_FORMAT: u32 = 1;
/// One file of a bundle.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;
/// All files of a bundle.
pub(super) const BUNDLE_BYTES_MAX: usize = 10 << 20;
/// Bundles of an environment, the newest always among them.
const KEPT_MAX: usize = 20;
/// Older ones go, but for the newest of an environment.
const KEPT_DAYS: i64 = 30;
/// So much must be left beside a bundle: what is kept must not take the journal's space.
const SPARE_BYTES: u64 = 16 << 20;
/// What is made, and what is removed: nobody reads it.
const MAKING: &str = ".new-";
const REMOVING: &str = ".old-";
/// Another process may take a folder that nobody has locked yet for a left-over.
const MAKING_TRIES: u32 = 5;
const MANIFEST: &str = "bundle.json";

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// There was more of it than fits: the end was kept.
    #[serde(default)]
    pub cut: bool,
}

/// What a bundle is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Id of the rollback; of the operation where a first deployment was removed again.
    pub id: String,
    /// App and environment.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// The operation that left it.
    pub operation: String,
    /// The deployment that was left.
    pub deployment: u64,
    /// Its version.
    pub version: String,
    /// The version that was gone back to, if any.
    pub target_version: Option<String>,
    /// What caused it.
    pub trigger: Option<Trigger>,
    /// The sentences behind it.
    pub evidence: Vec<String>,
    /// When it was collected.
    pub collected_at: Timestamp,
    /// The files.
    pub files: Vec<BundleFile>,
    /// What could not be kept, and why.
    pub problems: Vec<String>,
}

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its folder.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

impl Bundle {
    /// The last `max` bytes of one of its files.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn tail(&self, name: &str, max: u64) -> io::Result<String> {
        let mut file = fs::File::open(self.path.join(name))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = length <= max;
        Ok(if whole {
            text
        } else {
            text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.to_owned())
        })
    }
}

/// The bundle with an id; `None` if none was kept, or it is gone by age.
///
/// # Errors
/// When it is there and can't be read.
pub fn read(folder: &Path, id: &str) -> Result<Option<Bundle>, String> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(None);
    }
    let path = folder.join(id);
    let failed = |e: &dyn std::fmt::Display| {
        format!("failed to read the incident bundle {}: {e}", path.display())
    };
    let mut bytes = Vec::new();
    match fs::File::open(path.join(MANIFEST)) {
        Ok(file) => file.take(1 << 20).read_to_end(&mut bytes).map_err(|e| failed(&e))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    if manifest.format > BUNDLE_FORMAT {
        return Err(failed(&format!(
            "it has format {}, this version knows up to {BUNDLE_FORMAT}",
            manifest.format
        )));
    }
    Ok(Some(Bundle { path, manifest }))
}

/// The bundles of an environment, newest first; one that can't be read is left out.
#[must_use]
pub fn list(folder: &Path, key: &EnvironmentKey) -> Vec<Bundle> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut bundles: Vec<Bundle> =
        names.filter_map(|name| read(folder, &name).ok().flatten()).collect();
    bundles.retain(|bundle| bundle.manifest.key == *key);
    bundles.sort_by_key(|bundle| std::cmp::Reverse(bundle.manifest.collected_at));
    bundles
}

/// Writes a bundle: made beside its place and renamed into it.
pub(super) fn write(
    folder: &Path,
    manifest: &Manifest,
    files: &[(String, String)],
) -> io::Result<PathBuf> {
    make_folder(folder)?;
    let (place, temporary) =
        (folder.join(&manifest.id), folder.join(format!("{MAKING}{}", manifest.id)));
    if place.exists() {
        return Ok(place);
    }
    let size: usize = files.iter().map(|(_, text)| text.len()).sum();
    let room = rustix::fs::statvfs(folder).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))?;
    if room < SPARE_BYTES + size as u64 {
        let words = format!("{} MiB are free on its device", room >> 20);
        return Err(io::Error::new(io::ErrorKind::StorageFull, words));
    }
    let _lock = begin(folder, &temporary)?;
    let written = (|| {
        for (name, text) in files {
            write_file(&temporary.join(name), text.as_bytes())?;
        }
        write_file(&temporary.join(MANIFEST), &serde_json::to_vec_pretty(manifest)?)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &place)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = remove(&temporary);
    }
    written.map(|()| place)
}

/// Makes an empty folder whose lock ends with this process: so a left-over is told from what somebody makes just now.
fn begin(folder: &Path, temporary: &Path) -> io::Result<fs::File> {
    for _ in 0..MAKING_TRIES {
        remove_leftovers(folder);
        make_folder(temporary)?;
        let lock = match locked(temporary) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(io::Error::other("another process is at work on it")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Whoever held it just now may have taken it for a left-over.
        if is_same(&lock, temporary) && fs::read_dir(temporary)?.next().is_none() {
            return Ok(lock);
        }
    }
    Err(io::Error::other("other processes remove it again and again"))
}

/// The lock of a folder; `None` if somebody has it.
fn locked(path: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_same(file: &fs::File, path: &Path) -> bool {
    let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(of).ok() == fs::metadata(path).map(of).ok()
}

/// Removes what killed processes have left half-made, or half-removed.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with(MAKING) || name.starts_with(REMOVING);
        if is_ours && let Ok(Some(_lock)) = locked(&entry.path()) {
            let _ = remove(&entry.path());
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Forgets the oldest bundles of an environment beyond number and age, never its newest; and what killed
/// processes have left half-made.
pub(super) fn prune(folder: &Path, key: &EnvironmentKey, now: Timestamp) {
    remove_leftovers(folder);
    for (place, bundle) in list(folder, key).iter().enumerate().skip(1) {
        let age_s = now.as_second() - bundle.manifest.collected_at.as_second();
        if place >= KEPT_MAX || age_s > KEPT_DAYS * 86_400 {
            // Renamed first: nobody finds half a bundle.
            let gone = folder.join(format!("{REMOVING}{}", bundle.manifest.id));
            if fs::rename(&bundle.path, &gone).is_ok() {
                let _ = remove(&gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use backout_core::ids::{AppName, EnvironmentName};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("backout.incidents.{name}.{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut all: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            all.sort();
            all
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn manifest(id: &str, environment: &str, day: i64) -> Manifest {
        Manifest {
            format: BUNDLE_FORMAT,
            id: id.to_owned(),
            key: EnvironmentKey {
                app: AppName::new("shop").unwrap(),
                environment: EnvironmentName::new(environment).unwrap(),
            },
            operation: "op_1".to_owned(),
            deployment: 2,
            version: "v2".to_owned(),
            target_version: Some("v1".to_owned()),
            trigger: Some(Trigger::Analysis),
            evidence: vec!["why".to_owned()],
            collected_at: Timestamp::from_second(day * 86_400).unwrap(),
            files: vec![BundleFile { name: "web.log".to_owned(), bytes: 4, cut: false }],
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_bundle_is_private_and_reads_back() {
        let folder = Folder::new("whole");
        let one = manifest("rb_1", "production", 1);
        let files = [("web.log".to_owned(), "one\ntwo\n".to_owned())];
        let path = write(&folder.0, &one, &files).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("web.log"))), (0o700, 0o600));
        let read_back = read(&folder.0, "rb_1").unwrap().unwrap();
        assert_eq!(read_back.manifest, one);
        assert_eq!(read_back.tail("web.log", 100).unwrap(), "one\ntwo\n");
        assert_eq!(read_back.tail("web.log", 6).unwrap(), "two\n");
        assert_eq!(read(&folder.0, "rb_2").unwrap(), None);
        assert_eq!(read(&folder.0, "../rb_1").unwrap(), None);
        // What a killed one left of the same bundle is no hindrance, and nothing of it is taken over.
        fs::create_dir(folder.0.join(".new-rb_2")).unwrap();
        fs::write(folder.0.join(".new-rb_2/half"), "x").unwrap();
        write(&folder.0, &manifest("rb_2", "production", 2), &files).unwrap();
        assert_eq!(folder.names(), ["rb_1", "rb_2"]);
        assert!(!folder.0.join("rb_2/half").exists());
        fs::write(folder.0.join("rb_2").join(MANIFEST), "{").unwrap();
        assert!(read(&folder.0, "rb_2").unwrap_err().contains("rb_2"));
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let folder = Folder::new("fails");
        let files = [("a/b".to_owned(), "x".to_owned())];
        write(&folder.0, &manifest("rb_1", "production", 1), &files).unwrap_err();
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn the_oldest_go_and_never_the_newest_of_an_environment() {
        let folder = Folder::new("prune");
        for day in 0..25_i64 {
            let id = format!("rb_{day:02}");
            write(&folder.0, &manifest(&id, "production", 100 + day), &[]).unwrap();
        }
        write(&folder.0, &manifest("rb_other", "staging", 1), &[]).unwrap();
        let key = manifest("x", "production", 1).key;
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        prune(&folder.0, &key, at(125));
        assert_eq!(folder.names().len(), 21, "{:?}", folder.names());
        assert!(folder.names().contains(&"rb_05".to_owned()));
        assert!(!folder.names().contains(&"rb_04".to_owned()));
        prune(&folder.0, &key, at(153));
        assert_eq!(folder.names(), ["rb_23", "rb_24", "rb_other"]);
        prune(&folder.0, &key, at(1_000));
        prune(&folder.0, &manifest("x", "staging", 1).key, at(1_000));
        assert_eq!(folder.names(), ["rb_24", "rb_other"]);
    }

    #[test]
    fn what_a_killed_process_left_goes_at_once_and_what_is_being_made_stays() {
        let folder = Folder::new("leftovers");
        for name in [".new-rb_1", ".old-rb_0", ".new-rb_2", ".mine"] {
            fs::create_dir_all(folder.0.join(name)).unwrap();
            fs::write(folder.0.join(name).join("half"), "x").unwrap();
        }
        // Another process is at work on this one.
        let lock = locked(&folder.0.join(".new-rb_2")).unwrap().unwrap();
        let key = manifest("x", "production", 1).key;
        prune(&folder.0, &key, Timestamp::from_second(0).unwrap());
        assert_eq!(folder.names(), [".mine", ".new-rb_2"]);
        let error = write(&folder.0, &manifest("rb_2", "production", 1), &[]).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(folder.0.join(".new-rb_2/half").exists());
        drop(lock);
        write(&folder.0, &manifest("rb_2", "production", 1), &[]).unwrap();
        assert_eq!(folder.names(), [".mine", "rb_2"]);
        assert!(!folder.0.join("rb_2/half").exists());
        let newer = manifest("rb_3", "production", 2);
        write(&folder.0, &newer, &[]).unwrap();
        write(&folder.0, &manifest("rb_4", "staging", 3), &[]).unwrap();
        let ids: Vec<String> = list(&folder.0, &key).into_iter().map(|b| b.manifest.id).collect();
        assert_eq!(ids, ["rb_3", "rb_2"]);
    }
}
