//! Images are kept, and what is kept is told truly.

use std::slice::from_ref;

use backout_adapters::artifact::{ImageArtifacts, Keep};
use backout_core::ids::{LedgerId, Slot};
use backout_core::ports::{ArtifactStore, ErrorClass};
use backout_testkit::docker::Registry;
use backout_testkit::fixtures::step_cx;

use super::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn no_clean_up_of_images_takes_what_is_pinned() {
    let bench = Bench::on(std::sync::Arc::new(backout_testkit::docker::Engine::own()), false);
    bench.engine.web(&bench.image("v1"), "v1");
    let release = bench.release("v1").await;
    let artifact = &release.content.artifacts[0];
    bench.engine.expect(&["image", "rm", &bench.image("v1")]);
    bench.engine.expect(&["image", "prune", "--force"]);
    bench.engine.expect(&["image", "prune", "--all", "--force"]);
    let images = bench.images();
    images.verify(&artifact.digest).await.unwrap();
    bench.start(Slot::A, &release, 1).await.unwrap();
    bench.stop(Slot::A, &release).await;

    // By force: it is seen, and says what to do.
    bench.engine.expect(&["system", "prune", "--all", "--force"]);
    let error = images.verify(&artifact.digest).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("keep: copy"),
        "{error}"
    );
    let error = bench.start(Slot::A, &release, 2).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("was removed"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_survives_everything_and_is_loaded_when_it_is_needed() {
    let mut bench = Bench::on(std::sync::Arc::new(backout_testkit::docker::Engine::own()), false);
    bench.keep = Keep::Copy;
    bench.engine.web(&bench.image("v1"), "v1");
    let release = bench.release("v1").await;
    let artifact = &release.content.artifacts[0];
    bench.engine.expect(&["system", "prune", "--all", "--force"]);
    assert_eq!(bench.engine.expect(&["image", "ls", "-q"]), "");
    bench.images().verify(&artifact.digest).await.unwrap();
    bench.start(Slot::A, &release, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &release).await, "v1");
    bench.stop(Slot::A, &release).await;
    assert_eq!(
        bench.images().prune(&[], &step_cx("prune")).await.unwrap(),
        *from_ref(&artifact.digest)
    );
    let left = std::fs::read_dir(bench.state_dir().join("images")).unwrap().count();
    assert_eq!(left, 0, "the copy goes with the last that needs it");
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_only_our_own_and_only_what_nobody_needs() {
    let bench = Bench::with_images(false);
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    let (old, new) = (&v1.content.artifacts[0], &v2.content.artifacts[0]);
    // Another ledger keeps the same image under a name of its own.
    let other = LedgerId::new("led_other").unwrap();
    let others =
        ImageArtifacts::new(bench.docker(), &bench.key(), &other, &bench.state_dir(), Keep::Pin);
    others.pin(&old.path, &old.digest).await.unwrap();
    let images = bench.images();
    // Twice is once.
    images.pin(&old.path, &old.digest).await.unwrap();
    assert_eq!(
        images.prune(&[old.digest.clone(), new.digest.clone()], &step_cx("prune")).await.unwrap(),
        [""; 0]
    );
    assert_eq!(
        images.prune(from_ref(&new.digest), &step_cx("prune")).await.unwrap(),
        *from_ref(&old.digest)
    );
    assert!(images.verify(&old.digest).await.is_err());
    images.verify(&new.digest).await.unwrap();
    others.verify(&old.digest).await.unwrap();
    bench.engine.expect(&["image", "inspect", &bench.image("v1")]);
    assert_eq!(images.prune(from_ref(&new.digest), &step_cx("prune")).await.unwrap(), [""; 0]);
    others.prune(&[], &step_cx("prune")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_resolved_when_it_is_deployed_and_never_again() {
    let bench = Bench::new(false);
    let mut registry = Registry::start();
    let reference = registry.reference(&bench.image("v1"));
    let file = super::bench::WEB.replace("${IMAGE}:${TAG}", &reference.replace(":v1", ":${TAG}"));
    bench.write("compose.yaml", &file);
    let push = |version: &str| {
        bench.engine.web(&reference, version);
        bench.engine.expect(&["push", "--quiet", &reference]);
    };
    push("first");
    let first = bench.release("v1").await;
    let artifact = &first.content.artifacts[0];
    assert!(artifact.path.contains(&format!("web={reference}@sha256:")), "{}", artifact.path);
    push("second");
    let second = bench.release("v1").await;
    assert_ne!(first.id, second.id, "the tag has moved");
    bench.start(Slot::A, &second, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &second).await, "second");

    // The way back needs no registry.
    registry.stop();
    bench.start(Slot::A, &first, 2).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &first).await, "first");

    // The way forward does, and says so; nothing is deployed by an old meaning of a tag.
    let error = bench.try_release("v1").await.unwrap_err();
    assert!(
        error.class == ErrorClass::Transient && error.to_string().contains("must be reachable"),
        "{error}"
    );
    bench.write("compose.yaml", &format!("{file}    pull_policy: missing\n"));
    bench.release("v1").await;
    registry.resume();
    bench.write("compose.yaml", &file);
    bench.release("v1").await;
    let error = bench.try_release("v7").await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("check the tag"),
        "{error}"
    );
}
