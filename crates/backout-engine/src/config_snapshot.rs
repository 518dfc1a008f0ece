//! Config files into the ledger and back, with secret values masked on the way in.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::hex;
use backout_core::model::{ConfigFile, FileKind, mask_secrets, secret_values, unmask_secrets};
use backout_core::ports::{AdapterError, DiskFile, LedgerError};
use sha2::{Digest, Sha256};

use crate::context::Context;

/// Whether blobs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Store the bytes.
    Yes,
    /// Only compute digests (dry run, drift).
    No,
}

fn ledger_error(error: &LedgerError) -> AdapterError {
    AdapterError::transient(error.to_string())
}

/// Reads the files of `globs` as they are now.
pub(crate) async fn take(
    cx: &Context,
    globs: &[String],
    keep: Keep,
) -> Result<Vec<ConfigFile>, AdapterError> {
    if globs.is_empty() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for file in cx.config_files.read(globs).await? {
        files.push(masked(cx, file, keep).await?);
    }
    Ok(files)
}

async fn masked(cx: &Context, file: DiskFile, keep: Keep) -> Result<ConfigFile, AdapterError> {
    let mut meta = file.meta;
    if let FileKind::File { blob, size } = &mut meta.kind {
        let key = cx.ledger.hash_key().await.map_err(|e| ledger_error(&e))?;
        let masked = mask_secrets(&file.bytes, &cx.policy.secrets, |value| keyed_hash(&key, value));
        *size = masked.bytes.len() as u64;
        *blob = match keep {
            Keep::Yes => cx.ledger.put_blob(&masked.bytes).await.map_err(|e| ledger_error(&e))?,
            Keep::No => format!("sha256:{}", hex(&Sha256::digest(&masked.bytes))),
        };
        meta.secrets = masked.keys;
    }
    Ok(meta)
}

/// First 16 hex digits of HMAC-SHA-256 (RFC 2104) of a value.
pub(crate) fn keyed_hash(key: &[u8], value: &str) -> String {
    let mut block = [0_u8; 64];
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    let inner: Vec<u8> = block.iter().map(|b| b ^ 0x36).collect();
    let outer: Vec<u8> = block.iter().map(|b| b ^ 0x5c).collect();
    let digest = Sha256::new().chain_update(&inner).chain_update(value.as_bytes()).finalize();
    let digest = Sha256::new().chain_update(&outer).chain_update(digest).finalize();
    hex(&digest)[..16].to_owned()
}

/// Paths whose content, mode, owner or link differs from what `wanted` says; secret values do not count.
pub(crate) async fn drift(
    cx: &Context,
    wanted: &[ConfigFile],
) -> Result<Vec<String>, AdapterError> {
    let mut differing = Vec::new();
    for file in wanted {
        let same = match cx.config_files.read_one(&file.path).await? {
            Some(disk) => same_but_secrets(&masked(cx, disk, Keep::No).await?, file, cx).await?,
            None => false,
        };
        if !same {
            differing.push(file.path.clone());
        }
    }
    Ok(differing)
}

/// Equal, but for the keyed hashes of secret values.
async fn same_but_secrets(
    now: &ConfigFile,
    then: &ConfigFile,
    cx: &Context,
) -> Result<bool, AdapterError> {
    let meta = |file: &ConfigFile| (file.mode, file.uid, file.gid, file.selinux.clone());
    if meta(now) != meta(then) {
        return Ok(false);
    }
    match (&now.kind, &then.kind) {
        (a, b) if a == b => Ok(true),
        (FileKind::File { .. }, FileKind::File { blob, .. })
            if now.secrets == then.secrets && !now.secrets.is_empty() =>
        {
            let disk = cx.config_files.read_one(&now.path).await?;
            let Some(disk) = disk else { return Ok(false) };
            let today = secret_values(&disk.bytes, &cx.policy.secrets);
            let bytes =
                cx.ledger.blob(blob).await.map_err(|e| ledger_error(&e))?.unwrap_or_default();
            Ok(unmask_secrets(&bytes, &today).is_ok_and(|filled| filled == disk.bytes))
        }
        _ => Ok(false),
    }
}

/// The bytes of a recorded file with today's secret values: from the file on disk, else from the caller.
async fn filled(cx: &Context, file: &ConfigFile) -> Result<DiskFile, AdapterError> {
    let FileKind::File { blob, .. } = &file.kind else {
        return Ok(DiskFile { meta: file.clone(), bytes: Vec::new() });
    };
    let bytes = cx.ledger.blob(blob).await.map_err(|e| ledger_error(&e))?.ok_or_else(|| {
        AdapterError::permanent(format!(
            "failed to restore {}: its content {blob} is not in the ledger",
            file.path
        ))
    })?;
    let mut today: BTreeMap<String, String> =
        cx.secrets.iter().map(|(key, value)| (key.clone(), value.expose().to_owned())).collect();
    if let Some(disk) = cx.config_files.read_one(&file.path).await? {
        today.extend(secret_values(&disk.bytes, &cx.policy.secrets));
    }
    let bytes = unmask_secrets(&bytes, &today).map_err(|key| {
        AdapterError::permanent(format!(
            "failed to restore {}: no value for the secret {key} today",
            file.path
        ))
        .with_hint(format!("set {key} in the environment and run it again"))
    })?;
    Ok(DiskFile { meta: file.clone(), bytes })
}

/// Puts the files of a release back and removes those that only the left release had. All are read
/// before the first is written, so that a missing blob or secret changes nothing.
pub(crate) async fn restore(
    cx: &Context,
    wanted: &[ConfigFile],
    left: &[ConfigFile],
) -> Result<Vec<String>, AdapterError> {
    let mut files = Vec::new();
    for file in wanted {
        files.push(filled(cx, file).await?);
    }
    let mut changed = Vec::new();
    let differing: BTreeSet<String> = drift(cx, wanted).await?.into_iter().collect();
    for file in files.iter().filter(|file| differing.contains(&file.meta.path)) {
        cx.config_files.write(file).await?;
        changed.push(file.meta.path.clone());
    }
    let kept: BTreeSet<&str> = wanted.iter().map(|file| file.path.as_str()).collect();
    for file in left.iter().filter(|file| !kept.contains(file.path.as_str())) {
        cx.config_files.remove(&file.path).await?;
        changed.push(file.path.clone());
    }
    Ok(changed)
}
