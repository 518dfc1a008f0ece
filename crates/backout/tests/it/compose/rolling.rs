//! Three containers of a service are replaced some at a time, and users always find three that are well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout_testkit::docker::Engine;

use super::Shop;
use crate::support::wait_for;

const THREE: &str = "services:
  web:
    image: IMAGE:${BACKOUT_VERSION}
    init: true
    restart: always
    stop_grace_period: 1s
    deploy: { replicas: 3 }
    volumes: [\"data:/data\"]
    healthcheck: { test: [\"CMD\", \"/bin/busybox\", \"wget\", \"-qO\", \"/dev/null\", \"http://127.0.0.1:8080/health\"], interval: 1s, retries: 2 }
  cache: { image: \"IMAGE:v1\", init: true }
volumes: { data: {} }
";

fn shop() -> Shop {
    let shop = Shop::new(false);
    shop.compose(THREE);
    // It starts, and never becomes well.
    let files = [("www/index.html", "v3")];
    let command = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"];
    shop.engine.image(&shop.image("v3"), &files, &command);
    configure(&shop, "{ batch: 2, pause: 200ms }");
    shop
}

fn configure(shop: &Shop, rolling: &str) {
    let text = format!(
        "app: {}\ntarget: compose\nservices: {{ web: {{}} }}\nstrategy: {{ rolling: {rolling} }}\n\
         health: {{ during_rollout: {{ interval: 200ms }}, consecutive_passes: 2, startup_timeout: 60s }}\n\
         shutdown: {{ grace: 2s }}\nbake_time: 1s\n",
        shop.app()
    );
    shop.world.write("backout.yaml", &text);
}

/// A web container as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Web {
    id: String,
    version: String,
    healthy: bool,
}

fn list(engine: &Engine, app: &str) -> Vec<Web> {
    let project = format!("label=com.docker.compose.project={app}_production");
    let format = "{{.ID}}|{{.Label \"backout.version\"}}|{{.Status}}";
    let service = "label=com.docker.compose.service=web";
    let listed =
        engine.docker(&["ps", "--filter", &project, "--filter", service, "--format", format]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let web = |line: &str| {
        let parts: Vec<&str> = line.split('|').collect();
        let healthy = parts[2].contains("(healthy)");
        Web { id: parts[0].to_owned(), version: parts[1].to_owned(), healthy }
    };
    let mut all: Vec<Web> = text.lines().map(web).collect();
    all.sort();
    all
}

fn of_each(all: &[Web]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for web in all {
        *counts.entry(web.version.as_str()).or_default() += 1;
    }
    counts
}

/// Looks all the time how many are well, and how many there are.
struct Lookout {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, usize, usize)>,
}

impl Lookout {
    fn on(shop: &Shop) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (engine, app, until) = (shop.engine.clone(), shop.app(), over.clone());
        let thread = std::thread::spawn(move || {
            let (mut fewest, mut most, mut looks) = (usize::MAX, 0, 0);
            while !until.load(Ordering::SeqCst) {
                let all = list(&engine, &app);
                fewest = fewest.min(all.iter().filter(|web| web.healthy).count());
                (most, looks) = (most.max(all.len()), looks + 1);
                std::thread::sleep(Duration::from_millis(50));
            }
            (fewest, most, looks)
        });
        Self { over, thread }
    }

    /// There were always three that were well, and never more than five in all.
    #[track_caller]
    fn was_calm(self, what: &str) {
        self.over.store(true, Ordering::SeqCst);
        let (fewest, most, looks) = self.thread.join().unwrap();
        assert!(looks > 3, "{what}: only {looks} looks");
        assert!(fewest >= 3, "{what}: only {fewest} were well at one of {looks} looks");
        assert!(most <= 5, "{what}: {most} at once");
    }
}

#[test]
fn three_containers_are_replaced_two_at_a_time_and_come_back_so() {
    let shop = shop();
    shop.world.deployed("v1");
    let first = list(&shop.engine, &shop.app());
    assert_eq!(of_each(&first), [("v1", 3)].into(), "{first:?}");
    let cache = shop.engine.expect(&[
        "inspect",
        "--format",
        "{{.Id}}",
        &format!("{}_production-cache-1", shop.app()),
    ]);

    let lookout = Lookout::on(&shop);
    shop.world.deployed("v2");
    lookout.was_calm("a deploy");
    let second = list(&shop.engine, &shop.app());
    assert_eq!(of_each(&second), [("v2", 3)].into(), "{second:?}");

    // A bad one gets as far as its first batch; the old third was never touched.
    let lookout = Lookout::on(&shop);
    let ran = shop.world.deploy("v3").expect(10);
    lookout.was_calm("a bad release");
    assert!(ran.stderr.contains("it is unhealthy"), "{}", ran.stderr);
    assert_eq!(list(&shop.engine, &shop.app()), second, "not one of them was replaced");

    // By hand, in reversed batches.
    let lookout = Lookout::on(&shop);
    shop.world.rollback(&["--force"]).expect(0);
    lookout.was_calm("a rollback");
    let third = list(&shop.engine, &shop.app());
    assert_eq!(of_each(&third), [("v1", 3)].into(), "{third:?}");
    let after = shop.engine.expect(&[
        "inspect",
        "--format",
        "{{.Id}}",
        &format!("{}_production-cache-1", shop.app()),
    ]);
    assert_eq!(after, cache, "what both share runs on");
    shop.engine.expect(&["volume", "inspect", &format!("{}_production_data", shop.app())]);
}

#[test]
fn a_command_that_is_killed_in_the_second_batch_is_taken_back() {
    let shop = shop();
    shop.world.deployed("v1");
    let lookout = Lookout::on(&shop);
    let killed = shop.world.deploying("v2");
    // The third of the new ones belongs to the second batch.
    wait_for("the second batch", || {
        let count = list(&shop.engine, &shop.app()).iter().filter(|w| w.version == "v2").count();
        (count == 3).then_some(())
    });
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();
    let ran = shop.world.run(&["recover", "--yes", "--format", "json"]);
    assert!(matches!(ran.code, Some(0 | 10)), "{:?} {}", ran.code, ran.stderr);
    lookout.was_calm("a killed deploy");
    let live = shop.world.status()["version"].as_str().unwrap().to_owned();
    let all = list(&shop.engine, &shop.app());
    assert_eq!(of_each(&all), [(live.as_str(), 3)].into(), "{all:?}");
    assert!(all.iter().all(|web| web.healthy), "{all:?}");

    // One that is gone is started again; the others are left alone.
    shop.engine.expect(&["rm", "--force", &all[0].id]);
    shop.world.run(&["recover", "--yes"]).expect(0);
    let mended = list(&shop.engine, &shop.app());
    assert_eq!(of_each(&mended), [(live.as_str(), 3)].into(), "{mended:?}");
    assert!(all[1..].iter().all(|old| mended.iter().any(|new| new.id == old.id)), "{mended:?}");
}

#[test]
fn what_can_stand_only_once_is_refused_before_anything_changes() {
    let shop = shop();
    for (key, why) in [
        ("container_name: shop", "called shop"),
        ("ports: [\"127.0.0.1:PORT:8080\"]", "two can't both publish port"),
        ("network_mode: host", "network_mode: host"),
    ] {
        shop.compose(&THREE.replace("deploy: { replicas: 3 }", key));
        let ran = shop.world.deploy("v1").expect(1);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("recreate"), "{}", ran.stderr);
    }
    assert_eq!(shop.containers(), [""; 0]);
    assert_eq!(shop.world.story(), [""; 0]);
}
