//! Releases judged by their requests, their metrics and their past, with the real binary.

mod explained;
mod past;
mod requests;
mod sources;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{World, Yaml};

/// Users who ask for these paths in turn, and leave when they wait too long. Ends when dropped.
struct Users {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    fn of(world: &World, paths: Vec<String>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let paths = Arc::new(paths);
        let threads = (0..4)
            .map(|_| {
                let (stop, next, paths) = (stop.clone(), next.clone(), paths.clone());
                let port = world.listen;
                std::thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        let path = &paths[next.fetch_add(1, Ordering::SeqCst) % paths.len()];
                        ask(port, path);
                        std::thread::sleep(pause);
                    }
                })
            })
            .collect();
        Self { stop, threads }
    }

    fn everywhere(world: &World) -> Self {
        Self::of(world, vec!["/".to_owned()], Duration::from_millis(2))
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ask(port: u16, path: &str) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A stage that only a verdict, or a person, ends; a false alarm would come once in a million runs.
fn until_judged(health: &str) -> Yaml {
    Yaml {
        strategy: "{ canary: { stages: [30], hold: 10m, hold_max: 20m } }".to_owned(),
        health: format!(
            "  judge: {{ latency_warm_up: 0s, false_rollback_probability: 0.000001 }}\n{health}"
        ),
        ..Yaml::default()
    }
}

/// The deployment was taken back for what the judge found; the evidence.
#[track_caller]
fn taken_back(world: &World, number: u64) -> String {
    let row = world.row(number);
    assert_eq!(row["status"], "rolled_back", "{row:#}");
    assert_eq!(row["rejected"], true, "{row:#}");
    let back = world.row(number + 1);
    assert_eq!(back["rollback_type"], "automatic", "{back:#}");
    back["reason"].as_str().unwrap_or_default().to_owned()
}
