//! What a program is started from: copies of artifacts and of config files.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use backout_core::ids::Slot;
use backout_core::model::{
    ConfigFile, EnvValue, FileKind, ProcessSpec, Release, TargetSpec, mask_secrets,
};
use backout_core::ports::{ArtifactStore, ErrorClass};
use backout_testkit::fixtures::{process, release, release_of, step_cx, with_secrets};

use crate::world::{World, sh, start, start_with, stop};

fn with_artifacts(spec: ProcessSpec, paths: &[&str]) -> ProcessSpec {
    ProcessSpec { artifact: paths.iter().map(|p| (*p).to_owned()).collect(), ..spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwritten_program_still_starts_its_old_bytes() {
    let world = World::new();
    let program = world.script("app", "echo old > ran; exec sleep 600");
    let release = world.pinned("v1", with_artifacts(process(["{artifact}"]), &["app"])).await;
    std::fs::remove_file(&program).unwrap();
    world.script("app", "echo new > ran; exec sleep 600");
    start(&world.target(), Slot::A, &release, 1).await.unwrap();
    world.until("ran", |w| !w.read("ran").is_empty()).await;
    assert_eq!(world.read("ran"), "old\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_copied_per_slot_so_that_what_is_kept_stays_whole() {
    let world = World::new();
    world.script("app/run.sh", "cd \"$(dirname \"$0\")\"; cat lib/data > ../seen 2>/dev/null; echo junk > cache; cat lib/data > \"$OUT\"; exec sleep 600");
    world.write("app/lib/data", "data-1\n");
    let mut spec = with_artifacts(process(["{artifact}/run.sh"]), &["app"]);
    let out = world.folder().join("out");
    spec.env.insert("OUT".to_owned(), EnvValue::Plain(out.display().to_string()));
    let release = world.pinned("v1", spec).await;
    world.write("app/lib/data", "data-2\n");
    start(&world.target(), Slot::A, &release, 1).await.unwrap();
    world.until("ran", |w| !w.read("out").is_empty()).await;
    assert_eq!(world.read("out"), "data-1\n");
    world
        .artifacts()
        .verify(&release.content.artifacts[0].digest)
        .await
        .expect("writing beside it did no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_artifacts_keep_their_paths_and_short_names() {
    let world = World::new();
    world.script("bin/run.sh", "cat {artifact}/conf/one.txt > out; exec sleep 600");
    world.write("conf/one.txt", "1\n");
    let text = "cat {artifact}/conf/one.txt {artifact}/one.txt > out; test -x {artifact}/bin/run.sh && test -x {artifact}/run.sh && echo x >> out; echo . > done; exec sleep 600";
    let release =
        world.pinned("v1", with_artifacts(sh(text), &["bin/run.sh", "conf/one.txt"])).await;
    start(&world.target(), Slot::A, &release, 1).await.unwrap();
    world.until("ran", |w| !w.read("done").is_empty()).await;
    assert_eq!(world.read("out"), "1\n1\nx\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_damaged_copy_starts_nothing() {
    let world = World::new();
    world.script("app/run.sh", "exec sleep 600");
    let release =
        world.pinned("v1", with_artifacts(process(["{artifact}/run.sh"]), &["app"])).await;
    let digest = &release.content.artifacts[0].digest;
    let kept = world.artifacts().path_of(digest).unwrap().join("run.sh");
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(&kept, "#!/bin/sh\nexec sleep 599\n").unwrap();
    let error = start(&world.target(), Slot::A, &release, 1).await.unwrap_err();
    assert!(error.class == ErrorClass::Permanent && error.to_string().contains("bytes"), "{error}");
    world.artifacts().prune(&[], &step_cx("prune")).await.unwrap();
    let error = start(&world.target(), Slot::A, &release, 1).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("missing"),
        "{error}"
    );
}

fn with_config(world: &World, label: &str, spec: ProcessSpec) -> Arc<Release> {
    let masked = mask_secrets(b"user=web\nAPI_KEY=recorded\n", &["API_KEY".to_owned()], |_| {
        "hash".to_owned()
    });
    world.blobs.0.lock().unwrap().insert("blob-1".to_owned(), masked.bytes);
    let mut content = release(label, TargetSpec::Process(spec)).content.clone();
    let file = |path: &str, kind| ConfigFile {
        path: path.to_owned(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        selinux: None,
        secrets: vec!["API_KEY".to_owned()],
    };
    content.config = vec![
        file("config/app.env", FileKind::File { blob: "blob-1".to_owned(), size: 1 }),
        file("config/current", FileKind::Link { target: "app.env".to_owned() }),
    ];
    release_of(content)
}

#[tokio::test(flavor = "multi_thread")]
async fn config_copies_are_this_releases_own_with_todays_secrets() {
    let world = World::new();
    let release = with_config(
        &world,
        "v1",
        sh("cat {config}/config/current > out; echo . > done; exec sleep 600"),
    );
    world.write("config/app.env", "user=someone-else\n");
    let missing = start(&world.target(), Slot::A, &release, 1).await.unwrap_err();
    assert_eq!(missing.class, ErrorClass::Permanent, "{missing}");
    let cx = with_secrets(step_cx("start"), &[("API_KEY", "todays")]);
    start_with(&world.target(), Slot::A, &release, 1, &cx).await.unwrap();
    world.until("ran", |w| !w.read("done").is_empty()).await;
    assert_eq!(world.read("out"), "user=web\nAPI_KEY=todays\n");
    let copy = world.slot(Slot::A).join("config/config/app.env");
    assert_eq!(std::fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        world.read("config/app.env"),
        "user=someone-else\n",
        "the user's own file is left alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn config_copies_are_written_only_for_those_who_ask() {
    let world = World::new();
    let asks = with_config(&world, "v1", sh("test -d {config}; exec sleep 600"));
    let cx = with_secrets(step_cx("start"), &[("API_KEY", "todays")]);
    start_with(&world.target(), Slot::A, &asks, 1, &cx).await.unwrap();
    assert!(world.slot(Slot::A).join("config").exists());
    stop(&world.target(), Slot::A, &asks, 2000).await.unwrap();
    let does_not = with_config(&world, "v2", sh("exec sleep 600"));
    start(&world.target(), Slot::A, &does_not, 2).await.expect("needs no secret");
    assert!(!world.slot(Slot::A).join("config").exists());
}
