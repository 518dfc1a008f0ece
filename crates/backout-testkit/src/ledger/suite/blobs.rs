//! Bytes by content, and who the ledger is.

use backout_core::ports::LedgerError;

use super::LedgerHarness;
use crate::ledger::{Harm, Stored};

/// Any bytes, none too; twice is once.
pub async fn blobs_come_back(harness: &dyn LedgerHarness) {
    let ledger = harness.ledger();
    let empty = ledger.put_blob(b"").await.unwrap();
    assert_eq!(empty, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(ledger.blob(&empty).await.unwrap(), Some(vec![]));
    let bytes = b"\0\xff config\r\n";
    let digest = ledger.put_blob(bytes).await.unwrap();
    assert_eq!(ledger.put_blob(bytes).await.unwrap(), digest);
    assert_eq!(
        harness.reopen().await.blob(&digest).await.unwrap().as_deref(),
        Some(bytes.as_slice())
    );
}

/// 10 MiB are fine, a byte more is not.
pub async fn large_blobs_are_refused(harness: &dyn LedgerHarness) {
    let ledger = harness.ledger();
    let mut bytes = vec![7; 10 * 1024 * 1024];
    let digest = ledger.put_blob(&bytes).await.unwrap();
    assert_eq!(ledger.blob(&digest).await.unwrap().map(|stored| stored.len()), Some(bytes.len()));
    bytes.push(7);
    assert!(matches!(ledger.put_blob(&bytes).await, Err(LedgerError::Unavailable(_))));
}

/// Wrong bytes are never given out; storing them again repairs.
pub async fn a_damaged_blob_is_named_and_repaired(harness: &dyn LedgerHarness) {
    let ledger = harness.ledger();
    let digest = ledger.put_blob(b"config").await.unwrap();
    harness.damage(&Stored::Blob(digest.clone()), Harm::Garbage).await;
    match ledger.blob(&digest).await {
        Err(LedgerError::CorruptRecord { what, .. }) => assert!(what.contains(&digest), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ledger.put_blob(b"config").await.unwrap(), digest);
    assert_eq!(ledger.blob(&digest).await.unwrap().as_deref(), Some(b"config".as_slice()));
}

/// Id and key are made once.
pub async fn identity_stays(harness: &dyn LedgerHarness) {
    let (first, second) = (harness.ledger(), harness.reopen().await);
    let id = first.id().await.unwrap();
    assert!(id.as_str().starts_with("led_"), "{id}");
    assert_eq!(second.id().await.unwrap(), id);
    let key = first.hash_key().await.unwrap();
    assert_eq!(key.len(), 32);
    assert_eq!(second.hash_key().await.unwrap(), key);
}
