//! What every artifact store must do.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{ArtifactStore, ErrorClass};

use crate::fixtures::step_cx;

/// A store and the disk it reads from, empty at first.
#[async_trait]
pub trait ArtifactBench: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn ArtifactStore>;
    /// Puts a file on the user's disk, over what is there.
    async fn put(&self, path: &str, bytes: &[u8], executable: bool);
    /// Takes a file or folder from the user's disk.
    async fn take(&self, path: &str);
    /// Changes a byte of a kept copy behind the store's back.
    async fn damage(&self, digest: &str);
}

/// Runs the whole suite.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_artifact_store(bench: &dyn ArtifactBench) {
    digests_tell_content_apart(bench).await;
    copies_outlive_their_source(bench).await;
    a_changed_source_is_not_kept(bench).await;
    damage_is_seen_and_mended(bench).await;
    prune_keeps_what_it_must(bench).await;
    bad_paths_are_permanent(bench).await;
}

async fn digests_tell_content_apart(bench: &dyn ArtifactBench) {
    let store = bench.store();
    bench.put("app", b"one", true).await;
    let one = store.digest("app").await.expect("a digest of a file");
    assert!(one.starts_with("sha256:") && one.len() == 71, "{one}");
    assert_eq!(
        store.digest("app").await.expect("again"),
        one,
        "the same bytes have the same digest"
    );
    bench.put("app", b"two", true).await;
    assert_ne!(
        store.digest("app").await.expect("other bytes"),
        one,
        "other bytes have another digest"
    );
    bench.put("app", b"one", false).await;
    assert_ne!(store.digest("app").await.expect("another mode"), one, "the executable bit counts");
    bench.put("tree/a", b"1", false).await;
    bench.put("tree/sub/b", b"2", true).await;
    let tree = store.digest("tree").await.expect("a digest of a folder");
    bench.take("tree/sub/b").await;
    bench.put("tree/sub/c", b"2", true).await;
    assert_ne!(store.digest("tree").await.expect("another name"), tree, "names count");
}

async fn copies_outlive_their_source(bench: &dyn ArtifactBench) {
    let store = bench.store();
    bench.put("keep/me", b"bytes", true).await;
    let digest = store.digest("keep").await.expect("a digest");
    store.pin("keep", &digest).await.expect("pinned");
    store.pin("keep", &digest).await.expect("pinned again");
    bench.take("keep").await;
    store.verify(&digest).await.expect("whole without its source");
    store.pin("keep", &digest).await.expect("pinning what is kept needs no source");
}

async fn a_changed_source_is_not_kept(bench: &dyn ArtifactBench) {
    let store = bench.store();
    bench.put("moving", b"old", true).await;
    let digest = store.digest("moving").await.expect("a digest");
    bench.put("moving", b"new", true).await;
    let refused = store
        .pin("moving", &digest)
        .await
        .expect_err("other bytes must not be kept under this digest");
    assert_eq!(refused.class, ErrorClass::Permanent, "{refused}");
    let missing = store.verify(&digest).await.expect_err("nothing is kept under it");
    assert_eq!(missing.class, ErrorClass::Permanent, "{missing}");
}

async fn damage_is_seen_and_mended(bench: &dyn ArtifactBench) {
    let store = bench.store();
    bench.put("fragile", b"glass", true).await;
    let digest = store.digest("fragile").await.expect("a digest");
    store.pin("fragile", &digest).await.expect("pinned");
    bench.damage(&digest).await;
    let seen = store.verify(&digest).await.expect_err("damage is seen");
    assert_eq!(seen.class, ErrorClass::Permanent, "{seen}");
    store.pin("fragile", &digest).await.expect("the same bytes mend it");
    store.verify(&digest).await.expect("whole again");
}

async fn prune_keeps_what_it_must(bench: &dyn ArtifactBench) {
    let store = bench.store();
    store.prune(&[], &step_cx("prune")).await.expect("begin empty");
    let mut digests = Vec::new();
    for (path, bytes) in [("p1", b"1"), ("p2", b"2"), ("p3", b"3")] {
        bench.put(path, bytes, false).await;
        let digest = store.digest(path).await.expect("a digest");
        store.pin(path, &digest).await.expect("pinned");
        digests.push(digest);
    }
    let mut gone = vec![digests[0].clone(), digests[2].clone()];
    gone.sort();
    let mut removed = store.prune(&digests[1..2], &step_cx("prune")).await.expect("pruned");
    removed.sort();
    assert_eq!(removed, gone);
    store.verify(&digests[1]).await.expect("kept");
    store.verify(&digests[0]).await.expect_err("gone");
    assert!(
        store.prune(&digests, &step_cx("prune")).await.expect("again").is_empty(),
        "nothing is left to remove"
    );
}

async fn bad_paths_are_permanent(bench: &dyn ArtifactBench) {
    let store = bench.store();
    for path in ["missing", "../outside", "/etc/passwd", "sub/../../outside"] {
        let error = store.digest(path).await.expect_err(path);
        assert_eq!(error.class, ErrorClass::Permanent, "{path}: {error}");
    }
    for digest in ["", "sha256:", "sha256:../../x", "md5:00"] {
        let error = store.verify(digest).await.expect_err(digest);
        assert_eq!(error.class, ErrorClass::Permanent, "{digest}: {error}");
    }
}
