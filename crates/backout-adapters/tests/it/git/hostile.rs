//! Names, hooks and remotes that want more than to be read.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use backout_core::model::GitSpec;

use super::world::Repository;

#[tokio::test(flavor = "multi_thread")]
async fn options_are_no_revisions() {
    let repository = Repository::new();
    for revision in ["--all", "--output=pwned", "-h", "v1 --", "v1\nv2", ":/v2 --exec=x", "@{-1}x"]
    {
        let spec = GitSpec { revision: revision.to_owned(), ..repository.spec() };
        let error = repository.try_release("v1", spec).await.unwrap_err();
        assert!(error.message.contains("failed to find"), "{revision}: {error}");
        assert!(!repository.has("pwned"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remotes_are_reached_only_as_allowed() {
    let repository = Repository::new();
    let pwned = repository.beside("pwned");
    for url in
        [format!("ext::sh -c touch% {}", pwned.display()), repository.tree().display().to_string()]
    {
        repository.git(&["config", "remote.evil.url", &url]);
        let spec = GitSpec { remote: Some("evil".to_owned()), ..repository.spec() };
        let error = repository.try_release("v1", spec).await.unwrap_err();
        assert!(error.message.contains("not allowed"), "{error}");
        assert!(!pwned.exists());
    }
    // A remote whose name is an option, should a configuration ever let it through.
    let spec =
        GitSpec { remote: Some("--upload-pack=touch pwned".to_owned()), ..repository.spec() };
    assert!(repository.try_release("v1", spec).await.is_err());
    assert!(!repository.has("pwned"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_monitors_of_a_repository_do_not_run() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    let pwned = repository.beside("pwned");
    let script = format!("#!/bin/sh\ntouch {}\n", pwned.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "monitor"] {
        let path = repository.tree().join(".git/hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let monitor = repository.tree().join(".git/hooks/monitor");
    repository.git(&["config", "core.fsmonitor", monitor.to_str().unwrap()]);
    let _ = std::fs::remove_file(&pwned);
    repository.start(&v2, 1).await;
    repository.observe(&v2).await;
    assert!(!pwned.exists());
}
