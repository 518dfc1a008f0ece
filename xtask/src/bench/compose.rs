//! Going back with the compose target, against `docker compose up -d` with the old image.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::folder::Folder;
use super::restore::Times;
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "Restoring the old release of a compose service on a real engine, against `docker compose up -d` with the old \
     digest on the same engine, taking turns; and what the proof of rollback readiness costs.";

const ROUNDS: usize = 9;

const COMPOSE: &str = "\
services:
  web:
    image: bench/web:${BACKOUT_VERSION}
    init: true
    ports: [\"127.0.0.1::8080\"]
";
const CONFIG: &str = "\
app: bench
target: compose
services: { web: {} }
bake_time: 1s
health: { consecutive_passes: 2, during_rollout: { interval: 100ms } }
";

/// An engine of the benchmark's own. Dropped, it ends.
struct Engine {
    child: Child,
    env: Vec<(String, String)>,
}

impl Engine {
    fn start() -> Outcome<Self> {
        let build = ["build", "--quiet", "--locked", "--package", "backout-testkit"];
        run::run(run::cargo(&[&build[..], &["--example", "docker_engine"]].concat())?)?;
        let mut command = Command::new(paths::target_dir()?.join("debug/examples/docker_engine"));
        command.args(["bench/web:v1=v1", "bench/web:v2=v2"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("failed to start an engine: {e}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut engine = Self { child, env: Vec::new() };
        for line in lines.map_while(Result::ok) {
            match line.split_once('=') {
                Some((name, value)) => engine.env.push((name.to_owned(), value.to_owned())),
                None => return Ok(engine),
            }
        }
        Err("failed to start an engine: `cargo xtask test` says what is missing".to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("compose")?;
    folder.write("backout.yaml", CONFIG)?;
    folder.write("compose.yaml", COMPOSE)?;
    let engine = Engine::start()?;
    let envs = || engine.env.iter().map(|(name, value)| (name, value));
    let ours = |args: &[&str]| {
        let mut command = Command::new(&bench.backout);
        command.args(["--state-dir", "state"]).args(args).envs(envs()).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let peer = |version: &str| {
        let mut command = Command::new("docker");
        command.args(["compose", "-p", "peer", "up", "-d"]).envs(envs());
        command.env("BACKOUT_VERSION", version).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
        command
    };
    let deploy = |version| ours(&["deploy", "--version", version, "--yes", "--format", "json"]);
    json(deploy("v1"))?;
    timed(peer("v1"))?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        timed(peer("v2"))?;
        let began = Instant::now();
        json(deploy("v2"))?;
        times.deploys.push(began.elapsed().as_secs_f64() * 1000.0);
        times.proofs.push(timed(ours(&["status", "--check", "--format", "json"]))?);
        let answer = json(ours(&["rollback", "--yes", "--force", "--format", "json"]))?;
        times.restores.push(step_ms(&answer, "start")?);
        times.peers.push(timed(peer("v1"))?);
    }
    Ok(times
        .rows("docker compose up -d", "step `start` of a rollback, files and image checked in it"))
}

pub(super) fn timed(mut command: Command) -> Outcome<f64> {
    let words = run::words(&command);
    let began = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("failed to start `{words}`: {e}"))?;
    if !status.success() {
        return Err(format!("`{words}` ended with {status}"));
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

pub(super) fn json(mut command: Command) -> Outcome<Value> {
    let words = run::words(&command);
    let output = command.output().map_err(|e| format!("failed to start `{words}`: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "`{words}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("failed to read `{words}`: {e}"))
}

pub(super) fn step_ms(answer: &Value, name: &str) -> Outcome<f64> {
    let steps = answer["steps"].as_array().into_iter().flatten();
    let step = steps.into_iter().find(|step| step["name"] == name);
    step.and_then(|step| step["duration_ms"].as_f64())
        .ok_or(format!("no step `{name}` in {answer}"))
}
