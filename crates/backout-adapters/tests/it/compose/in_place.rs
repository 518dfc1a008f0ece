//! Without a router: one project, each start replaces what runs.

use backout_core::ids::Slot;
use backout_core::model::{EnvValue, TargetSpec};
use backout_core::ports::{ErrorClass, OwnHealth, PartsOf, Running, Target};

use super::bench::{Bench, WEB, name};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_restored_whole_with_files_environment_and_data() {
    let bench = Bench::with_images(false);
    let file = format!(
        "{WEB}    env_file: web.env\n    volumes: [\"data:/data\", \"./page.html:/www/page:ro\"]\nvolumes: {{ data: {{}} }}\n"
    );
    bench.write("compose.yaml", &file);
    bench.write("web.env", "LIMIT=1\nPRICE=5$$\n");
    bench.write("page.html", "old page");
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &v1).await, "v1");
    let project = bench.project();
    let container = format!("{project}-web-1");
    bench.engine.expect(&["exec", &container, "/bin/sh", "-c", "echo precious > /data/file"]);
    let env = |bench: &Bench| bench.engine.expect(&["exec", &container, "/bin/busybox", "env"]);
    assert!(env(&bench).contains("LIMIT=1") && env(&bench).contains("PRICE=5$"), "{}", env(&bench));

    // The next release changes all of it, and the old files are gone from the disk.
    bench.write("web.env", "LIMIT=2\n");
    bench.write(
        "compose.yaml",
        &file.replace("stop_grace_period: 2s", "stop_grace_period: 1s\n    labels: [\"new=yes\"]"),
    );
    let v2 = bench.release("v2").await;
    bench.start(Slot::A, &v2, 2).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &v2).await, "v2");
    assert!(env(&bench).contains("LIMIT=2"));
    assert_eq!(bench.containers(&project), *std::slice::from_ref(&container));
    let seen = bench.observe(Slot::A, &v1).await;
    assert_ne!(seen.release.as_ref(), Some(&v1.id), "half of nothing is v1 now");

    bench.start(Slot::A, &v1, 3).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &v1).await, "v1");
    assert!(env(&bench).contains("LIMIT=1") && env(&bench).contains("PRICE=5$"), "{}", env(&bench));
    let labels =
        bench.engine.expect(&["inspect", &container, "--format", "{{json .Config.Labels}}"]);
    assert!(!labels.contains("\"new\""), "{labels}");
    let data = ["exec", &container, "/bin/busybox", "cat", "/data/file"];
    assert_eq!(bench.engine.expect(&data), "precious");
    assert_eq!(
        bench.engine.expect(&["exec", &container, "/bin/busybox", "cat", "/www/page"]),
        "old page"
    );

    bench.stop(Slot::A, &v1).await;
    assert_eq!(bench.containers(&project), [""; 0]);
    bench.engine.expect(&["volume", "inspect", &format!("{project}_data")]);
    let networks = bench.engine.expect(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains(&project), "{networks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_container_and_no_file_of_ours() {
    let mut bench = Bench::with_images(false);
    bench.secrets.insert("API_KEY".to_owned(), "swordfish-$1-x".to_owned());
    bench.services.insert(name("web"), bench.service("web", true));
    bench
        .write("compose.yaml", &format!("{WEB}    environment: {{ API_KEY: \"${{API_KEY}}\" }}\n"));
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let container = format!("{}-web-1", bench.project());
    let env = bench.engine.expect(&["inspect", &container, "--format", "{{json .Config.Env}}"]);
    assert!(env.contains("API_KEY=swordfish-$1-x"), "{env}");
    assert!(!format!("{v1:?}").contains("swordfish"));
    let left = std::process::Command::new("grep")
        .args(["-rl", "swordfish"])
        .arg(bench.state_dir())
        .output();
    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "");
    bench.secrets.clear();
    let error = bench.start(Slot::A, &v1, 2).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("set API_KEY"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_restarts_and_ends_are_seen() {
    let bench = Bench::new(false);
    let image = |version: &str, script: &str| {
        bench.engine.image(&bench.image(version), &[], &["/bin/sh", "-c", script]);
    };
    image(
        "v1",
        "while [ ! -e /tmp/well ]; do sleep 0.1; done; while [ -e /tmp/well ]; do sleep 0.1; done; sleep 1000",
    );
    image("v2", "echo about to die; sleep 0.2; exit 7");
    let check = "    healthcheck: { test: [\"CMD\", \"/bin/busybox\", \"test\", \"-e\", \"/tmp/well\"], interval: 1s, retries: 2, start_period: 1s }\n";
    bench.write("compose.yaml", &format!("{WEB}{check}"));
    let v1 = bench.release("v1").await;
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let container = format!("{}-web-1", bench.project());
    bench
        .until(Slot::A, &v1, |seen| {
            seen.running == Running::Yes && seen.health == OwnHealth::Starting
        })
        .await;
    bench.engine.expect(&["exec", &container, "/bin/busybox", "touch", "/tmp/well"]);
    bench.until(Slot::A, &v1, |seen| seen.health == OwnHealth::Passing).await;
    bench.engine.expect(&["exec", &container, "/bin/busybox", "rm", "/tmp/well"]);
    let ill = bench.until(Slot::A, &v1, |seen| seen.health == OwnHealth::Failing).await;
    assert!(ill.tail.unwrap().contains(&container));

    bench.write("compose.yaml", &format!("{WEB}    restart: always\n"));
    let v2 = bench.release("v2").await;
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let looping =
        bench.until(Slot::A, &v2, |seen| seen.restarts >= 2 && seen.running == Running::No).await;
    assert!(
        !looping.gave_up && looping.last_exit.is_some_and(|exit| exit.code == Some(7)),
        "{looping:?}"
    );
    assert!(looping.tail.as_ref().is_some_and(|t| t.contains("about to die")), "{looping:?}");

    bench.write("compose.yaml", &format!("{WEB}    restart: \"on-failure:1\"\n"));
    let v3 = bench.release("v2").await;
    assert_ne!(v3.id, v2.id, "another restart policy is another release");
    bench.start(Slot::A, &v3, 3).await.unwrap();
    let over = bench.until(Slot::A, &v3, |seen| seen.gave_up).await;
    assert_eq!((over.running, over.restarts), (Running::No, 1), "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_started_is_adopted_as_it_is() {
    let bench = Bench::with_images(false);
    let project = bench.project();
    let folder = bench.folder().display().to_string();
    let mut up = std::process::Command::new("docker");
    up.args(["compose", "-p", &project, "--project-directory", &folder, "up", "-d"]);
    up.envs(bench.engine.env())
        .envs([("IMAGE", format!("{}/web", bench.app)), ("TAG", "v1".to_owned())]);
    assert!(up.current_dir(&folder).output().unwrap().status.success());
    // The tag moves: what runs is still the old one.
    let old = bench.engine.expect(&["image", "inspect", "--format", "{{.Id}}", &bench.image("v1")]);
    bench.engine.web(&bench.image("v1"), "moved");
    let obstacles = bench
        .target()
        .obstacles(&bench.unit("web", Slot::A), &*bench.release("v2").await)
        .await
        .unwrap();
    assert!(obstacles.len() == 1 && obstacles[0].contains("backout adopt"), "{obstacles:?}");

    let adopted = bench.make("v1", PartsOf::Running).await.unwrap();
    assert_eq!(adopted.content.artifacts[0].digest, format!("image:{old}"));
    let seen = bench.observe(Slot::A, &adopted).await;
    assert_eq!(
        (seen.running, seen.release.as_ref()),
        (Running::Yes, Some(&adopted.id)),
        "{seen:?}"
    );
    assert_eq!(seen.marker, None);

    let v2 = bench.release("v2").await;
    assert_ne!(bench.observe(Slot::A, &v2).await.release.as_ref(), Some(&v2.id));
    bench.start(Slot::A, &v2, 1).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &v2).await, "v2");
    bench.start(Slot::A, &adopted, 2).await.unwrap();
    assert_eq!(bench.answer(Slot::A, &adopted).await, "v1", "not what the tag names today");
    assert_eq!(bench.containers(&project), [format!("{project}-web-1")]);

    let nothing = Bench::new(false).make("v1", PartsOf::Running).await.unwrap_err();
    assert!(nothing.to_string().contains("nothing runs for service web"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_stands_for_the_whole_file_in_its_order() {
    let mut bench = Bench::with_images(false);
    bench.services.clear();
    bench.services.insert(name("all"), bench.service("all", true));
    let web = WEB.replace("services:\n", "");
    bench.write("compose.yaml", &format!(
        "services:\n{web}    depends_on: {{ init: {{ condition: service_completed_successfully }}, cache: {{ condition: service_started }} }}\n  \
         init: {{ image: \"${{IMAGE}}:v1\", command: [\"/bin/busybox\", \"true\"] }}\n  cache: {{ image: \"${{IMAGE}}:v1\", init: true }}\n"
    ));
    let v1 = bench.release("v1").await;
    let TargetSpec::Compose(spec) = &v1.content.services[&name("all")].target else { panic!() };
    assert_eq!(spec.services, ["cache", "init", "web"]);
    assert_eq!(spec.env["TAG"], EnvValue::Plain("v1".to_owned()));
    assert_eq!((spec.stop_grace_ms, v1.content.artifacts.len()), (2_000, 3));
    bench.start_of("all", Slot::A, &v1, 1).await.unwrap();
    let target = bench.target();
    let unit = bench.unit("all", Slot::A);
    let seen = target.observe(&unit, Some(&v1)).await.unwrap();
    assert_eq!(seen.running, Running::Yes, "a job that has ended well is no trouble: {seen:?}");
    assert!(seen.address.is_some());

    // One of them ends: the whole does not run.
    bench.engine.expect(&["kill", &format!("{}-cache-1", bench.project())]);
    let seen = target.observe(&unit, Some(&v1)).await.unwrap();
    assert_eq!((seen.running, seen.gave_up), (Running::No, true));
    // And one that is gone is missed.
    bench.engine.expect(&["rm", "-f", &format!("{}-cache-1", bench.project())]);
    assert_eq!(target.observe(&unit, Some(&v1)).await.unwrap().running, Running::No);
    bench.start_of("all", Slot::A, &v1, 1).await.unwrap();
    assert_eq!(target.observe(&unit, Some(&v1)).await.unwrap().running, Running::Yes);

    // A release without one of them takes it away.
    bench.write("compose.yaml", WEB);
    let v2 = bench.release("v2").await;
    bench.start_of("all", Slot::A, &v2, 2).await.unwrap();
    assert_eq!(bench.containers(&bench.project()), [format!("{}-web-1", bench.project())]);
    bench.stop_of("all", Slot::A, &v2).await;
}
