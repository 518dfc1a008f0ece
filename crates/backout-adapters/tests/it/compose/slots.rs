//! Behind a router: two projects side by side.

use std::sync::Arc;

use backout_core::ids::Slot;
use backout_core::ports::{ErrorClass, Running, Target};

use super::bench::{Bench, WEB, name};

const WITH_DATABASE: &str = "    depends_on: [db]
    volumes: [\"uploads:/uploads\"]
  db:
    image: ${IMAGE}:v1
    init: true
    volumes: [\"rows:/rows\"]
volumes: { uploads: {}, rows: {} }
";

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_share_volumes_and_what_belongs_to_neither() {
    let bench = Bench::with_images(true);
    bench.write("compose.yaml", &format!("{WEB}{WITH_DATABASE}"));
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let (first, beside) = (bench.project(), format!("{}-b", bench.project()));
    let database = bench.engine.expect(&["ps", "-q", "--filter", &format!("name={first}-db-1")]);
    bench.engine.expect(&[
        "exec",
        &format!("{first}-web-1"),
        "/bin/sh",
        "-c",
        "echo cat > /uploads/cat",
    ]);

    bench.start(Slot::B, &v2, 2).await.unwrap();
    assert_eq!(
        (bench.answer(Slot::A, &v1).await, bench.answer(Slot::B, &v2).await),
        ("v1".to_owned(), "v2".to_owned())
    );
    assert_eq!(bench.containers(&beside), [format!("{beside}-web-1")], "the database runs once");
    let web = format!("{beside}-web-1");
    assert_eq!(bench.engine.expect(&["exec", &web, "/bin/busybox", "cat", "/uploads/cat"]), "cat");
    // Each side finds the database by its name, and itself by its own.
    let asked = |from: &str, host: &str| {
        let url = format!("http://{host}:8080/health");
        bench.engine.expect(&["exec", from, "/bin/busybox", "wget", "-qO-", &url])
    };
    assert_eq!((asked(&web, "db"), asked(&web, "web")), ("v1".to_owned(), "v2".to_owned()));
    assert_eq!(asked(&format!("{first}-web-1"), "web"), "v1");

    let occupied = bench.start(Slot::A, &v2, 3).await.unwrap_err();
    assert!(
        occupied.class == ErrorClass::Permanent && occupied.to_string().contains("another release"),
        "{occupied}"
    );
    bench.stop(Slot::B, &v2).await;
    assert_eq!(bench.answer(Slot::A, &v1).await, "v1");
    assert_eq!(
        bench.engine.expect(&["ps", "-q", "--filter", &format!("name={first}-db-1")]),
        database,
        "it was never restarted"
    );
    let networks = bench.engine.expect(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains(&beside) && networks.contains(&first), "{networks}");
    bench.stop(Slot::A, &v1).await;
    assert_eq!(bench.containers(&first), [format!("{first}-db-1")]);
    let volumes = bench.engine.expect(&["volume", "ls", "-q"]);
    assert!(
        volumes.contains(&format!("{first}_uploads")) && volumes.contains(&format!("{first}_rows")),
        "{volumes}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_starts_first_in_the_second_slot_makes_the_volumes_of_both() {
    let bench = Bench::with_images(true);
    bench.write("compose.yaml", &format!("{WEB}{WITH_DATABASE}"));
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::B, &v1, 1).await.unwrap();
    bench.engine.expect(&[
        "exec",
        &format!("{}-b-web-1", bench.project()),
        "/bin/sh",
        "-c",
        "echo cat > /uploads/cat",
    ]);
    bench.start(Slot::A, &v2, 2).await.unwrap();
    let read =
        ["exec", &format!("{}-web-1", bench.project()), "/bin/busybox", "cat", "/uploads/cat"];
    assert_eq!(bench.engine.expect(&read), "cat");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_run_twice_is_refused_before_anything_changes() {
    let mut bench = Bench::with_images(true);
    for (addition, words) in [
        ("    network_mode: host\n", "the host's network"),
        ("    scale: 2\n", "2 containers of web"),
    ] {
        bench.write("compose.yaml", &format!("{WEB}{addition}"));
        let error = bench.try_release("v1").await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (ports, words) in
        [("[\"8080\", \"9000:9000\"]", "both would publish port 9000"), ("[]", "publishes none")]
    {
        bench.write("compose.yaml", &WEB.replace("[\"127.0.0.1:${PORT:-}:8080\"]", ports));
        let error = bench.try_release("v1").await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    bench.services.clear();
    bench.services.insert(name("all"), bench.service("all", true));
    bench.write("compose.yaml", &format!("{WEB}{WITH_DATABASE}"));
    let error = bench.try_release("v1").await.unwrap_err().to_string();
    assert!(
        error.contains("there are db, web") && error.contains("services: { web: {} }"),
        "{error}"
    );
    bench.services.insert(name("wbe"), bench.service("wbe", false));
    let error = bench.try_release("v1").await.unwrap_err().to_string();
    assert!(
        error.contains("`all` in compose.yaml") && error.contains("it has: db, web"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_of_one_app_never_touch_each_other() {
    let production = Bench::with_images(true);
    let mut staging = Bench::on(Arc::clone(&production.engine), true);
    staging.app.clone_from(&production.app);
    staging.environment = "staging".to_owned();
    staging.services.insert(name("web"), staging.service("web", true));
    let (good, bad) = (production.release("v1").await, staging.release("v2").await);
    production.start(Slot::A, &good, 1).await.unwrap();
    staging.start(Slot::A, &bad, 1).await.unwrap();
    staging.stop(Slot::A, &bad).await;
    assert_eq!(production.answer(Slot::A, &good).await, "v1");
    assert_eq!(staging.observe(Slot::A, &bad).await.running, Running::No);

    // Given the same project by mistake, it is told before anything happens.
    let mut spec = production.spec();
    spec.project = production.project();
    staging.services.get_mut(&name("web")).unwrap().target =
        backout_core::model::TargetSpec::Compose(spec);
    let bad = staging.release("v2").await;
    let error = staging.start(Slot::A, &bad, 2).await.unwrap_err();
    let words = format!("belongs to {}/production", production.app);
    assert!(error.class == ErrorClass::Permanent && error.to_string().contains(&words), "{error}");
    let obstacles = staging.target().obstacles(&staging.unit("web", Slot::A), &bad).await.unwrap();
    assert!(obstacles.iter().any(|o| o.contains(&words)), "{obstacles:?}");
    staging.stop(Slot::A, &bad).await;
    assert_eq!(production.answer(Slot::A, &good).await, "v1");
}
