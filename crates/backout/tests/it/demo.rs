//! `backout demo`: what it claims, and that nothing is left of it, however it ends.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const BACKOUT: &str = env!("CARGO_BIN_EXE_backout");
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place of its own for a demo: folder for temporary files, home, everything.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["tmp", "home"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    fn demo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BACKOUT);
        let home = self.root.path().join("home");
        command
            .arg("demo")
            .args(args)
            .env("TMPDIR", self.tmp())
            .env("HOME", &home)
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .current_dir(&home)
            .stdin(Stdio::null());
        command
    }

    /// Starts a demo and waits until it has told a line that holds `words`.
    fn demo_until(&self, words: &str) -> Child {
        let mut child =
            self.demo(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        loop {
            let before = told.len();
            assert!(lines.read_line(&mut told).unwrap() > 0, "the demo ended early:\n{told}");
            if told[before..].contains(words) {
                break;
            }
        }
        // It goes on telling: somebody has to listen.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        child
    }

    /// Files of any kind below home and the folder for temporary files.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in ["tmp", "home"] {
            for entry in std::fs::read_dir(self.root.path().join(name)).unwrap() {
                found.push(entry.unwrap().path());
            }
        }
        found
    }

    /// Processes that know this place: by their program, arguments, environment or working folder.
    fn processes(&self) -> Vec<u32> {
        let wanted = self.root.path().as_os_str().as_bytes();
        let holds = |bytes: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let link = |name: &str| std::fs::read_link(entry.path().join(name)).unwrap_or_default();
            if holds(&read("cmdline"))
                || holds(&read("environ"))
                || link("exe").starts_with(self.root.path())
                || link("cwd").starts_with(self.root.path())
            {
                found.push(pid);
            }
        }
        found
    }

    fn is_clean(&self) -> bool {
        self.processes().is_empty() && self.files().is_empty()
    }

    fn assert_clean(&self, after: &str) {
        let (processes, files) = (self.processes(), self.files());
        assert!(processes.is_empty() && files.is_empty(), "{after}: {processes:?} {files:?}");
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn fields<'a>(rows: &'a Value, names: &[&str]) -> Vec<Vec<&'a Value>> {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| names.iter().map(|name| &row[*name]).collect()).collect()
}

#[test]
fn a_bad_release_is_caught_and_taken_back() {
    let place = Place::new();
    let output = place.demo(&["--format", "json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    place.assert_clean("after a demo that ended by itself");
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("one document expected: {error}\n{told}"));
    assert_eq!(output.status.code(), Some(0), "{document:#}\n{told}");
    assert_eq!(document["healthy"], true, "{document:#}");
    let deployments = fields(&document["deployments"], &["number", "version", "status"]);
    let expected = serde_json::json!([
        [1, "v1", "stable"],
        [2, "v2", "stable"],
        [3, "v3", "rolled_back"],
        [4, "v2", "stable"]
    ]);
    assert_eq!(serde_json::json!(deployments), expected);
    let rollback = &document["rollback"];
    // Which rule speaks first is a matter of chance, that one does is not.
    assert!(matches!(rollback["trigger"].as_str(), Some("analysis" | "threshold")), "{rollback}");
    assert!(rollback["time_to_detect_ms"].is_u64() && rollback["time_to_restore_ms"].is_u64());
    assert!(rollback["evidence"][0].as_str().unwrap().contains("errors"), "{rollback}");
    assert_eq!(rollback["record"]["status"], "completed");
    // Going back is verified by what users got, not by probes alone.
    let verified = document["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|row| row["event"].as_str().filter(|event| event.contains("verified")));
    assert!(verified.unwrap().contains("requests"), "{verified:?}");
    let requests = &document["requests"];
    assert_eq!(requests["failed_after_restore"], 0, "{requests}");
    let by_version = fields(&requests["by_version"], &["version", "requests", "failed"]);
    assert_eq!(by_version.iter().map(|row| row[0]).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    let (total, failed) =
        (requests["total"].as_u64().unwrap(), requests["failed"].as_u64().unwrap());
    let sum = |index: usize| by_version.iter().map(|row| row[index].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum(1), sum(2)), (total, failed));
    // Only the bad release failed requests, and far from all of them: its canary was small.
    assert_eq!(by_version[2][2].as_u64(), Some(failed), "{requests}");
    assert!(failed > 0 && failed * 20 < total, "{requests}");
}

#[test]
fn a_killed_demo_is_cleaned_up_by_its_janitor() {
    let place = Place::new();
    let mut demo = place.demo_until("v2 gets 10 %");
    // Demo, janitor, proxy, and a supervisor with its service for each side.
    assert!(place.processes().len() >= 7, "{:?}", place.processes());
    send(&demo, Signal::KILL);
    wait(&mut demo);
    let began = Instant::now();
    while !place.is_clean() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    place.assert_clean("after kill -9");
}

#[test]
fn signals_end_a_demo_and_everything_it_started() {
    let moments = [
        (Signal::INT, "Backout demo"),
        (Signal::TERM, "v1 is ready"),
        (Signal::HUP, "v2 gets 25 %"),
        (Signal::INT, "FAILING"),
    ];
    for (signal, words) in moments {
        let place = Place::new();
        let mut demo = place.demo_until(words);
        send(&demo, signal);
        let status = wait(&mut demo);
        assert_eq!(status.code(), Some(1), "{signal:?} at `{words}`");
        place.assert_clean(&format!("{signal:?} at `{words}`"));
    }
}

#[test]
fn a_janitor_touches_no_folder_but_a_demos() {
    let place = Place::new();
    let precious = place.tmp().join("precious");
    std::fs::create_dir(&precious).unwrap();
    let output = Command::new(BACKOUT)
        .args(["demo-janitor", "--dir"])
        .arg(&precious)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(precious.is_dir());
}

/// The demo's service with some behaviour.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let child = Command::new(BACKOUT)
            .args(["demo-service", "--version", "v7"])
            .args(args)
            .env("PORT", port.to_string())
            .current_dir(dir)
            .spawn()
            .unwrap();
        let service = Self { child, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_service_behaves_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("service.json"), "{\"fail_percent\": 100}").unwrap();
    std::fs::write(dir.path().join("body"), "not json").unwrap();

    let mut good = Service::start(dir.path(), &[]);
    let answer = good.get("/");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-version: v7"), "{answer}");
    let health = good.get("/health");
    assert!(health.ends_with(r#"{"status":"healthy","version":"v7"}"#), "{health}");
    send(&good.child, Signal::TERM);
    assert_eq!(wait(&mut good.child).code(), Some(0));

    let bad = Service::start(dir.path(), &["--config", "service.json", "--never-ready"]);
    assert!(bad.get("/").starts_with("HTTP/1.1 500"));
    assert!(bad.get("/health").starts_with("HTTP/1.1 503"));
    let odd = Service::start(dir.path(), &["--health-body", "body"]);
    assert!(odd.get("/health").ends_with("\r\n\r\nnot json"));
    let ill = Service::start(dir.path(), &["--health-unhealthy"]);
    assert!(ill.get("/health").contains("unhealthy"));

    let mut deaf = Service::start(dir.path(), &["--ignore-sigterm", "--exit-after-ms", "3000"]);
    send(&deaf.child, Signal::TERM);
    // Not by the signal, but by itself.
    assert_eq!(wait(&mut deaf.child).code(), Some(3));
}
