//! Copies of artifacts on the real disk.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{ArtifactStore, ErrorClass};
use backout_testkit::artifacts_suite::{ArtifactBench, check_artifact_store};
use backout_testkit::fixtures::step_cx;

use crate::world::World;

struct Disk(World);

#[async_trait]
impl ArtifactBench for Disk {
    fn store(&self) -> Arc<dyn ArtifactStore> {
        Arc::new(self.0.artifacts())
    }
    async fn put(&self, path: &str, bytes: &[u8], executable: bool) {
        let path = self.0.write(path, "");
        std::fs::write(&path, bytes).unwrap();
        let mode = if executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    async fn take(&self, path: &str) {
        let path = self.0.folder().join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    async fn damage(&self, digest: &str) {
        let kept = self.0.artifacts().path_of(digest).unwrap();
        std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = std::fs::read(&kept).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&kept, bytes).unwrap();
    }
}

#[tokio::test]
async fn the_file_store_obeys_the_suite() {
    check_artifact_store(&Disk(World::new())).await;
}

#[tokio::test]
async fn trees_keep_links_modes_and_empty_folders() {
    let world = World::new();
    world.script("app/bin/run", "true");
    world.write("app/data.txt", "data");
    std::fs::create_dir(world.folder().join("app/empty")).unwrap();
    symlink("data.txt", world.folder().join("app/link")).unwrap();
    symlink("/etc/hostname", world.folder().join("app/outward")).unwrap();
    let store = world.artifacts();
    let digest = store.digest("app").await.unwrap();
    store.pin("app", &digest).await.unwrap();
    let kept = store.path_of(&digest).unwrap();
    assert_eq!(kept.file_name().unwrap(), "app");
    assert!(kept.join("empty").is_dir());
    assert_eq!(std::fs::read_link(kept.join("link")).unwrap().to_str(), Some("data.txt"));
    assert_eq!(
        std::fs::read_link(kept.join("outward")).unwrap().to_str(),
        Some("/etc/hostname"),
        "kept, not followed"
    );
    assert_eq!(
        std::fs::metadata(kept.join("bin/run")).unwrap().permissions().mode() & 0o777,
        0o500
    );
    assert_eq!(
        std::fs::metadata(kept.join("data.txt")).unwrap().permissions().mode() & 0o777,
        0o400
    );
    std::fs::remove_file(world.folder().join("app/link")).unwrap();
    symlink("bin/run", world.folder().join("app/link")).unwrap();
    assert_ne!(store.digest("app").await.unwrap(), digest, "link texts count");
    std::fs::remove_dir(kept.join("empty")).unwrap();
    store.verify(&digest).await.expect_err("a missing folder is seen");
}

#[tokio::test]
async fn a_link_as_artifact_is_what_it_leads_to_inside_the_folder() {
    let world = World::new();
    world.write("builds/app-1", "one");
    symlink("builds/app-1", world.folder().join("current")).unwrap();
    symlink("/etc/passwd", world.folder().join("outward")).unwrap();
    symlink("/etc", world.folder().join("parent")).unwrap();
    let store = world.artifacts();
    let digest = store.digest("current").await.unwrap();
    store.pin("current", &digest).await.unwrap();
    assert_eq!(std::fs::read_to_string(store.path_of(&digest).unwrap()).unwrap(), "one");
    for path in ["outward", "parent/passwd"] {
        let error = store.digest(path).await.unwrap_err();
        assert!(
            error.class == ErrorClass::Permanent && error.to_string().contains("out of the folder"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn special_files_are_refused() {
    let world = World::new();
    world.write("app/data", "data");
    let socket = std::os::unix::net::UnixListener::bind(world.folder().join("app/socket")).unwrap();
    let error = world.artifacts().digest("app").await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("socket"),
        "{error}"
    );
    drop(socket);
}

#[tokio::test]
async fn what_a_killed_process_left_behind_is_swept() {
    let world = World::new();
    world.write("app", "bytes");
    let store = world.artifacts();
    let digest = store.digest("app").await.unwrap();
    store.pin("app", &digest).await.unwrap();
    let folder = world.state().join("artifacts");
    std::fs::create_dir_all(folder.join(".new-half/content")).unwrap();
    std::fs::create_dir_all(folder.join(".old-half")).unwrap();
    std::fs::create_dir_all(folder.join("notes-of-a-person")).unwrap();
    assert!(
        store.prune(std::slice::from_ref(&digest), &step_cx("prune")).await.unwrap().is_empty()
    );
    assert!(!folder.join(".new-half").exists() && !folder.join(".old-half").exists());
    assert!(folder.join("notes-of-a-person").exists(), "only what is ours is removed");
    store.verify(&digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pins_at_a_time_make_one_copy() {
    let world = World::new();
    world.write("app", &"bytes".repeat(100_000));
    let digest = world.artifacts().digest("app").await.unwrap();
    let pins: Vec<_> = (0..8)
        .map(|_| {
            let (store, digest) = (world.artifacts(), digest.clone());
            tokio::spawn(async move { store.pin("app", &digest).await })
        })
        .collect();
    for pin in pins {
        pin.await.unwrap().unwrap();
    }
    world.artifacts().verify(&digest).await.unwrap();
}
