//! Metrics that each side gives itself, and a monitoring system that goes away.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{taken_back, until_judged};
use crate::support::{Service, World, Yaml, wait_until};

/// What `/metrics` of a version shows: a file that is written anew all the time.
struct Figures {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Figures {
    /// `text` of version and milliseconds since the beginning.
    fn of(world: &World, text: impl Fn(&str, u64) -> String + Send + 'static) -> Self {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), world.folder());
        let stopped = stop.clone();
        let write = move |since: Instant| {
            for version in ["v1", "v2"] {
                let ms = u64::try_from(since.elapsed().as_millis()).unwrap();
                let fresh = folder.join(format!("{version}.new"));
                std::fs::write(&fresh, text(version, ms)).unwrap();
                std::fs::rename(fresh, folder.join(format!("metrics-{version}"))).unwrap();
            }
        };
        let began = Instant::now();
        write(began);
        let writer = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                write(began);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, writer: Some(writer) }
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

const OWN: Service<'static> = Service { flags: "--metrics metrics-$1", claims: None, before: "" };

fn by_metrics(series: &str) -> String {
    format!(
        "  metrics:\n    url: \"http://127.0.0.1:{{port}}/metrics\"\n    interval: 100ms\n    series: {{ {series} }}\n"
    )
}

#[test]
fn a_leak_is_seen_in_what_the_program_says_of_itself() {
    let world =
        World::new(&until_judged(&by_metrics("memory: { value: process_resident_memory_bytes }")));
    let _figures = Figures::of(&world, |version, ms| {
        let leaked = if version == "v2" { ms * 10_000 } else { 0 };
        format!(
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n",
            50_000_000 + leaked
        )
    });
    world.build(OWN);
    world.deployed("v1");
    world.build(Service { before: ": leaks", ..OWN });
    world.deploy("v2").expect(10);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("canary's memory lay above the baseline's"), "{reason}");
    assert_eq!(world.row(3)["trigger"], "analysis");
}

#[test]
fn a_limit_that_the_program_says_it_breaks_fails_it_alone() {
    let world = World::new(&until_judged(&by_metrics(
        "queue: { value: queue_length, tolerance: 100%, fail: 500 }",
    )));
    let _figures = Figures::of(&world, |version, _| {
        format!("queue_length {}\n", if version == "v2" { 640 } else { 400 })
    });
    world.build(OWN);
    world.deployed("v1");
    world.build(Service { before: ": slow worker", ..OWN });
    world.deploy("v2").expect(10);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("canary's queue is 640, at or over 500, baseline 400"), "{reason}");
    assert_eq!(world.row(3)["trigger"], "threshold");
}

#[test]
fn a_counter_that_begins_anew_is_no_reason() {
    let errors = "errors: { ratio: { bad: \"requests_total{code=~\\\"5..\\\"}\", total: requests_total }, fail: 20% }";
    let world = World::new(&Yaml {
        strategy: "{ canary: { stages: [50], hold: 3s, hold_max: 2m } }".to_owned(),
        ..until_judged(&by_metrics(errors))
    });
    let began = Arc::new(AtomicBool::new(false));
    let reset = began.clone();
    let _figures = Figures::of(&world, move |version, ms| {
        // 1 % of errors on both; the new one's process begins to count anew again and again.
        let more =
            if version == "v2" && reset.load(Ordering::SeqCst) { ms % 700 } else { 70_000 + ms };
        format!(
            "requests_total{{code=\"200\"}} {}\nrequests_total{{code=\"503\"}} {}\n",
            more * 99,
            more
        )
    });
    world.build(OWN);
    world.deployed("v1");
    began.store(true, Ordering::SeqCst);
    world.build(Service { before: ": begins anew", ..OWN });
    world.deployed("v2");
}

/// A real one, ended when dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start(world: &World, port: u16) -> Self {
        let config = world.root().join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", world.root().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        wait_until("Prometheus", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self(child)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_source_that_dies_in_a_stage_is_told_once_and_takes_nothing_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let health = format!(
        "  prometheus:\n    url: http://127.0.0.1:{port}\n    interval: 100ms\n    timeout: 8s\n    series: {{ load: {{ value: \"vector(7 + 0 * {{deployment}})\" }} }}\n"
    );
    // Even a policy that goes back without data does not go back for a monitoring system that is down.
    let world = World::new(&Yaml {
        strategy: "{ canary: { stages: [30], hold: 1500ms, hold_max: 3s, on_no_data: rollback } }"
            .to_owned(),
        ..until_judged(&health)
    });
    let prometheus = Prometheus::start(&world, port);
    world.deployed("v1");
    world.build(Service { before: ": two", ..Service::default() });
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_30");
    drop(prometheus);
    wait_until("that it waits", || deploy.stderr().contains("the rollout waits"));
    let said = deploy.stderr();
    assert_eq!(said.matches("could not check: failed to ask Prometheus").count(), 2, "{said}");
    assert!(said.contains("the rollout is not failed for it"), "{said}");
    assert_eq!(world.row(2)["status"], "in_progress");
    world.run(&["promote", "--yes"]).expect(0);
    deploy.wait().expect(0);
    world.expect_serving("v2");
    let notes = world.run(&["inspect", "2"]).expect(0).stdout;
    assert!(notes.contains("could not check"), "{notes}");
}
