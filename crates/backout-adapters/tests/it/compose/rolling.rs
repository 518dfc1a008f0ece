//! Containers of a service are replaced some at a time, by counting what is there.

use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::{Release, ReplicaBatch, TargetSpec};
use backout_core::ports::{
    AdapterError, ErrorClass, PartsOf, Receipt, Running, Target, TargetAction,
};

use super::bench::{Bench, WEB, name};
use crate::world::PATIENCE;

const CHECK: &str = "    deploy: { replicas: 3 }
    healthcheck: { test: [\"CMD\", \"/bin/busybox\", \"test\", \"-e\", \"/www/health\"], interval: 1s, retries: 2 }
";

fn batch(upto: u32, keep: u32) -> Option<ReplicaBatch> {
    Some(ReplicaBatch { upto, keep, most: 4, ready_ms: 60_000 })
}

async fn start(
    bench: &Bench,
    release: &Arc<Release>,
    (deployment, restore): (u64, bool),
    batch: Option<ReplicaBatch>,
) -> Result<Receipt, AdapterError> {
    let service = bench.services.keys().next().unwrap().to_string();
    let (unit, release) = (bench.unit(&service, Slot::A), Arc::clone(release));
    let action = TargetAction::Start { unit, release, deployment, restore, revert: None, batch };
    let cx = bench.cx(&format!("start-{deployment}-{batch:?}"));
    bench.target().apply(&action, &cx).await
}

/// The web containers: id, version and number.
fn web(bench: &Bench) -> Vec<(String, String, String)> {
    let filter = format!("label=com.docker.compose.project={}", bench.project());
    let format = "{{.ID}} {{.Label \"backout.version\"}}- {{.Label \"com.docker.compose.container-number\"}}";
    let service = "label=com.docker.compose.service=web";
    let args = ["ps", "-a", "--filter", &filter, "--filter", service, "--format", format];
    let listed = bench.engine.expect(&args);
    let mut all: Vec<_> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].to_owned(), words[1].trim_end_matches('-').to_owned(), words[2].to_owned())
        })
        .collect();
    all.sort();
    all
}

fn count(bench: &Bench, version: &str) -> usize {
    web(bench).iter().filter(|(_, of, _)| of == version).count()
}

fn three() -> Bench {
    let mut bench = Bench::with_images(false);
    bench.rolls = true;
    let file = WEB.replace("    ports: [\"127.0.0.1:${PORT:-}:8080\"]\n", CHECK);
    bench.write("compose.yaml", &file);
    bench
}

fn by_hand(bench: &Bench, version: &str, args: &[&str]) -> std::process::Output {
    let folder = bench.folder().display().to_string();
    let mut command = std::process::Command::new("docker");
    command.args(["compose", "-p", &bench.project(), "--project-directory", &folder]).args(args);
    command.envs(bench.engine.env());
    command.envs([("IMAGE", format!("{}/web", bench.app)), ("TAG", version.to_owned())]);
    command.current_dir(&folder).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_made_again_does_what_is_missing_and_nothing_twice() {
    let bench = three();
    let v1 = bench.release("v1").await;
    let TargetSpec::Compose(spec) = &v1.content.services[&name("web")].target else { panic!() };
    assert_eq!(spec.replicas.map(|replicas| replicas.count), Some(3));
    start(&bench, &v1, (1, false), None).await.unwrap();
    assert_eq!(count(&bench, "v1"), 3);
    let v2 = bench.release("v2").await;
    start(&bench, &v2, (2, false), batch(1, 2)).await.unwrap();
    let after_one = web(&bench);
    assert_eq!((count(&bench, "v1"), count(&bench, "v2")), (2, 1), "{after_one:?}");
    let mixed = bench.observe(Slot::A, &v2).await;
    assert_ne!(mixed.release.as_ref(), Some(&v2.id), "a third of it is not that release");
    start(&bench, &v2, (2, false), batch(1, 2)).await.unwrap();
    assert_eq!(web(&bench), after_one);

    // Cut off as soon as something of the second batch is there.
    let cut = async {
        while count(&bench, "v2") < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = start(&bench, &v2, (2, false), batch(2, 1)) => {}
        () = cut => {}
    }
    assert!(web(&bench).len() <= 4, "{:?}", web(&bench));
    start(&bench, &v2, (2, false), batch(2, 1)).await.unwrap();
    assert_eq!((count(&bench, "v1"), count(&bench, "v2")), (1, 2), "{:?}", web(&bench));
    start(&bench, &v2, (2, false), batch(3, 0)).await.unwrap();
    assert_eq!((count(&bench, "v1"), count(&bench, "v2")), (0, 3), "{:?}", web(&bench));
    let seen = bench.observe(Slot::A, &v2).await;
    assert_eq!((seen.running, seen.release.as_ref()), (Running::Yes, Some(&v2.id)), "{seen:?}");

    // Back, where one has ended meanwhile: never more than four, and that one goes first.
    let (dead, ..) = web(&bench)[0].clone();
    bench.engine.expect(&["kill", &dead]);
    start(&bench, &v1, (3, true), batch(1, 2)).await.unwrap();
    let back = web(&bench);
    assert!(back.len() == 3 && !back.iter().any(|(id, ..)| *id == dead), "{back:?}");

    // Compose takes them for its own: it lists them, and makes of them what a person's own file says.
    let listed = String::from_utf8(by_hand(&bench, "v1", &["ps", "--quiet"]).stdout).unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let up = by_hand(&bench, "v1", &["up", "--detach"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    assert_eq!(web(&bench).len(), 3, "{:?}", web(&bench));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_become_ready_ends_nothing() {
    let bench = three();
    let v1 = bench.release("v1").await;
    start(&bench, &v1, (1, false), None).await.unwrap();
    let before = web(&bench);
    bench.engine.image(&bench.image("v3"), &[], &["/bin/busybox", "sleep", "1000"]);
    bench.engine.image(&bench.image("v4"), &[], &["/bin/busybox", "false"]);
    for (version, why) in [("v3", "it is unhealthy"), ("v4", "exited with code 1")] {
        let bad = bench.release(version).await;
        let error = start(&bench, &bad, (2, false), batch(1, 2)).await.unwrap_err();
        assert!(error.class == ErrorClass::Permanent && error.message.contains(why), "{error}");
        assert_eq!(count(&bench, "v1"), 3, "{:?}", web(&bench));
        start(&bench, &v1, (3, true), batch(3, 0)).await.unwrap();
        assert_eq!(web(&bench), before, "the way back starts nothing");
        if version == "v4" {
            continue;
        }
        // An old one that is ill already does not keep the bad one there.
        let ill = before[0].0.as_str();
        bench.engine.expect(&["exec", ill, "/bin/busybox", "rm", "/www/health"]);
        let health = ["inspect", "--format", "{{.State.Health.Status}}", ill];
        let end = std::time::Instant::now() + PATIENCE;
        while bench.engine.expect(&health) != "unhealthy" {
            assert!(std::time::Instant::now() < end, "it stays well");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_started_counts_as_what_it_is() {
    let bench = three();
    assert!(by_hand(&bench, "v1", &["up", "--detach"]).status.success());
    let adopted = bench.make("v1", PartsOf::Running).await.unwrap();
    let v2 = bench.release("v2").await;
    start(&bench, &v2, (1, false), batch(1, 2)).await.unwrap();
    let foreign: Vec<_> = web(&bench).into_iter().filter(|(_, of, _)| of != "v2").collect();
    assert_eq!(foreign.len(), 2, "{:?}", web(&bench));
    start(&bench, &adopted, (2, true), batch(3, 0)).await.unwrap();
    let back = web(&bench);
    assert!(back.len() == 3 && foreign.iter().all(|old| back.contains(old)), "{back:?}");
    assert_eq!(count(&bench, "v2"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_down_is_started_again() {
    let mut bench = Bench::with_images(false);
    bench.services.clear();
    bench.services.insert(name("all"), bench.service("all", true));
    let file = WEB.replace("    ports: [\"127.0.0.1:${PORT:-}:8080\"]\n", "    scale: 2\n");
    let file = format!("{file}  cache: {{ image: \"${{IMAGE}}:v1\", init: true }}\n");
    bench.write("compose.yaml", &file);
    let v1 = bench.release("v1").await;
    start(&bench, &v1, (1, false), None).await.unwrap();
    let (before, cache) = (web(&bench), format!("{}-cache-1", bench.project()));
    let running = |container: &str| {
        bench.engine.expect(&[
            "inspect",
            "--format",
            "{{.State.Running}} {{.State.StartedAt}}",
            container,
        ])
    };
    let since: Vec<String> = before.iter().map(|(id, ..)| running(id)).collect();
    bench.engine.expect(&["kill", &cache]);
    start(&bench, &v1, (2, true), None).await.unwrap();
    assert!(running(&cache).starts_with("true"));
    assert_eq!(web(&bench).iter().map(|(id, ..)| running(id)).collect::<Vec<_>>(), since);

    // One of two: the other one goes on.
    bench.engine.expect(&["kill", &before[0].0]);
    let cache_since = running(&cache);
    start(&bench, &v1, (3, true), None).await.unwrap();
    assert!(running(&before[0].0).starts_with("true"));
    assert_eq!((running(&before[1].0), running(&cache)), (since[1].clone(), cache_since));
    assert_eq!(web(&bench), before);
}
