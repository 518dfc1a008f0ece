//! What every adapter for config files must do.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::model::FileKind;
use backout_core::ports::{ConfigFiles, DiskFile, ErrorClass};

/// Config files and the disk they lie on, empty at first.
#[async_trait]
pub trait ConfigFilesBench: Send + Sync {
    /// The adapter.
    fn files(&self) -> Arc<dyn ConfigFiles>;
    /// Puts a file on the disk, with its folders.
    async fn put(&self, path: &str, bytes: &[u8], mode: u32);
    /// Puts a link on the disk.
    async fn link(&self, path: &str, target: &str);
}

/// Runs the whole suite.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_config_files(bench: &dyn ConfigFilesBench) {
    let files = bench.files();
    bench.put(".env", b"A=1\n", 0o600).await;
    bench.put("config/a.yaml", b"a: 1\n", 0o644).await;
    bench.put("config/b.yaml", b"\xff\x00binary", 0o640).await;
    bench.put("config/.hidden.yaml", b"h", 0o644).await;
    bench.put("config/deep/c.yaml", b"c", 0o644).await;
    bench.link("config/current.yaml", "a.yaml").await;

    globs_name_what_shells_name(files.as_ref()).await;
    a_snapshot_is_restored_byte_exact(bench, files.as_ref()).await;
    what_is_new_is_removed(bench, files.as_ref()).await;
    bad_paths_are_permanent(files.as_ref()).await;
}

async fn read(files: &dyn ConfigFiles, globs: &[&str]) -> Vec<DiskFile> {
    let globs: Vec<String> = globs.iter().map(|g| (*g).to_owned()).collect();
    files.read(&globs).await.expect("files that can be read")
}

fn paths(files: &[DiskFile]) -> Vec<&str> {
    files.iter().map(|f| f.meta.path.as_str()).collect()
}

async fn globs_name_what_shells_name(files: &dyn ConfigFiles) {
    let found = read(files, &["config/*.yaml", ".env", "config/a.yaml"]).await;
    assert_eq!(paths(&found), [".env", "config/a.yaml", "config/b.yaml", "config/current.yaml"]);
    assert_eq!(found[0].bytes, b"A=1\n");
    assert_eq!(found[0].meta.mode, 0o600);
    assert_eq!(found[2].bytes, b"\xff\x00binary", "bytes that are no text stay as they are");
    assert_eq!(found[3].meta.kind, FileKind::Link { target: "a.yaml".to_owned() });
    assert!(found[3].bytes.is_empty(), "a link is not followed");
    assert_eq!(
        paths(&read(files, &["config/**/*.yaml"]).await),
        ["config/a.yaml", "config/b.yaml", "config/current.yaml", "config/deep/c.yaml"]
    );
    assert!(read(files, &["none/*.yaml"]).await.is_empty(), "a glob without a match is fine");
    let missing = files
        .read(&["config/none.yaml".to_owned()])
        .await
        .expect_err("a literal path must be there");
    assert_eq!(missing.class, ErrorClass::Permanent);
    assert!(missing.to_string().contains("config/none.yaml"), "{missing}");
}

async fn a_snapshot_is_restored_byte_exact(bench: &dyn ConfigFilesBench, files: &dyn ConfigFiles) {
    let globs = [".env", "config/*.yaml"];
    let before = read(files, &globs).await;
    bench.put(".env", b"A=2\n", 0o644).await;
    bench.put("config/b.yaml", b"other", 0o600).await;
    files.remove("config/a.yaml").await.expect("removed");
    files.remove("config/current.yaml").await.expect("a link is removed, not what it leads to");
    assert_eq!(files.read_one("config/a.yaml").await.expect("read"), None);
    for file in &before {
        files.write(file).await.expect("written");
        files.write(file).await.expect("written again");
    }
    assert_eq!(read(files, &globs).await, before);
}

async fn what_is_new_is_removed(bench: &dyn ConfigFilesBench, files: &dyn ConfigFiles) {
    bench.put("config/new.yaml", b"n", 0o644).await;
    files.remove("config/new.yaml").await.expect("removed");
    files.remove("config/new.yaml").await.expect("missing is fine");
    files.remove("nowhere/new.yaml").await.expect("a missing folder is fine");
    assert_eq!(files.read_one("config/new.yaml").await.expect("read"), None);
}

async fn bad_paths_are_permanent(files: &dyn ConfigFiles) {
    let template = files.read_one(".env").await.expect("read").expect("is there");
    for path in ["../outside", "/etc/passwd", "config/../../outside", ""] {
        let mut file = template.clone();
        path.clone_into(&mut file.meta.path);
        for error in [
            files.write(&file).await.expect_err(path),
            files.remove(path).await.expect_err(path),
            files.read_one(path).await.expect_err(path),
            files.read(&[path.to_owned()]).await.expect_err(path),
        ] {
            assert_eq!(error.class, ErrorClass::Permanent, "{path}: {error}");
        }
    }
}
