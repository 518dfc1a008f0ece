//! Going back with the systemd target, against `systemctl restart` of the same unit.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::compose::{json, step_ms, timed};
use super::folder::Folder;
use super::restore::Times;
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "Restoring the old release of a unit on a real systemd (link, start, until the program says that it is ready), against \
     `systemctl restart` of the same unit, taking turns; and what the proof of rollback readiness costs.";

const ROUNDS: usize = 15;
const UNIT: &str = "backout-bench.service";

/// A systemd of the benchmark's own. Dropped, it ends.
struct Machine {
    child: Child,
    known: BTreeMap<String, String>,
}

impl Machine {
    fn start(folder: &Folder, unit: &Path) -> Outcome<Self> {
        let build = ["build", "--quiet", "--locked", "--package", "backout-testkit"];
        run::run(run::cargo(&[&build[..], &["--example", "systemd_machine"]].concat())?)?;
        let mut command = Command::new(paths::target_dir()?.join("debug/examples/systemd_machine"));
        command
            .arg(folder.path())
            .arg(unit)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("failed to start a systemd: {e}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut machine = Self { child, known: BTreeMap::new() };
        for line in lines.map_while(Result::ok) {
            match line.split_once('=') {
                Some((name, value)) => {
                    machine.known.insert(name.to_owned(), value.to_owned());
                }
                None => return Ok(machine),
            }
        }
        Err("failed to start a systemd: `cargo xtask test` says what is missing".to_owned())
    }

    fn known(&self, name: &str) -> &str {
        self.known.get(name).map_or("", String::as_str)
    }

    fn systemctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", self.known("LEADER"), "--mount", "--ipc", "--pid", "--root"]);
        command.args(["--wd=/", "--", "systemctl"]).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("systemd")?;
    let link = folder.path().join("current");
    let unit = format!(
        "[Service]\nType=notify\nNotifyAccess=all\nExecStart={}/serve\nRestart=always\n",
        link.display()
    );
    folder.write(UNIT, &unit)?;
    let machine = Machine::start(&folder, &folder.path().join(UNIT))?;
    let config = format!(
        "app: bench\ntarget: {{ systemd: {{ unit: {UNIT}, artifact: \"build/{{version}}\", root: {} }} }}\n\
         bake_time: 1s\nhealth: {{ consecutive_passes: 2, during_rollout: {{ interval: 100ms }} }}\n",
        machine.known("ROOT")
    );
    folder.write("backout.yaml", &config)?;
    // The unit's file lies in the folder only to be handed over: here it is watched as any other.
    std::fs::remove_file(folder.path().join(UNIT)).map_err(|e| e.to_string())?;
    for version in ["v1", "v2"] {
        let path = folder.path().join("build").join(version);
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        let text = format!("#!/bin/sh\n# {version}\nsystemd-notify --ready\nexec sleep 3000\n");
        folder.write(&format!("build/{version}/serve"), &text)?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path.join("serve"), mode).map_err(|e| e.to_string())?;
    }
    let ours = |args: &[&str]| {
        let mut command = Command::new(&bench.backout);
        command.args(["--state-dir", "state"]).args(args).current_dir(folder.path());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", machine.known("ADDRESS"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let deploy = |version| ours(&["deploy", "--version", version, "--yes", "--format", "json"]);
    json(deploy("v1"))?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        json(deploy("v2"))?;
        times.deploys.push(began.elapsed().as_secs_f64() * 1000.0);
        times.proofs.push(timed(ours(&["status", "--check", "--format", "json"]))?);
        let answer = json(ours(&["rollback", "--yes", "--force", "--format", "json"]))?;
        times.restores.push(step_ms(&answer, "start")?);
        times.peers.push(timed(machine.systemctl(&["restart", UNIT]))?);
    }
    json(ours(&["down", "--yes", "--format", "json"]))?;
    Ok(times.rows(
        "systemctl restart",
        "step `start` of a rollback, the release's files compared in it; both until the program says that it is \
         ready",
    ))
}
