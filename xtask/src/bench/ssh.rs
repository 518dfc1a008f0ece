//! Fifty hosts at once over ssh, against `xargs -P 50 ssh` with the same commands.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::figures::{median, quantile};
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "Changing commands on 50 hosts at once (sshd on 50 ports of this machine), against \
     `xargs -P 50 ssh` running the same commands on the same hosts, taking turns. Ours are journal-ready: one at a time for \
     a service, fenced by the epoch, found again after a broken link.";

const HOSTS: usize = 50;
const ROUNDS: usize = 3;
const GOAL_RATIO: f64 = 1.2;

/// The servers, and what works on them. Dropped, all of it ends.
struct Fleet {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    config: PathBuf,
}

impl Fleet {
    fn start() -> Outcome<Self> {
        let build = ["build", "--quiet", "--locked", "--package", "backout-adapters"];
        run::run(run::cargo(&[&build[..], &["--example", "ssh_fleet"]].concat())?)?;
        let mut command = Command::new(paths::target_dir()?.join("debug/examples/ssh_fleet"));
        command.arg(HOSTS.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("failed to start servers: {e}"))?;
        let orders = child.stdin.take();
        let out = child.stdout.take().ok_or("no output")?;
        let mut fleet =
            Self { child, orders, answers: BufReader::new(out), config: PathBuf::new() };
        loop {
            let line = fleet.line()?;
            match line.trim().strip_prefix("config=") {
                Some(path) => fleet.config = path.into(),
                None if line.trim() == "ready" => return Ok(fleet),
                None => return Err(format!("failed to start servers: {line}")),
            }
        }
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(1..) => Ok(line),
            _ => Err("the servers ended: `cargo xtask test` says what is missing".to_owned()),
        }
    }

    /// Ours, with so many commands a host; milliseconds.
    fn ours(&mut self, commands: usize) -> Outcome<f64> {
        let orders = self.orders.as_mut().ok_or("no input")?;
        writeln!(orders, "run {commands}").map_err(|e| e.to_string())?;
        let line = self.line()?;
        let (took, failures) = line.trim().split_once(' ').ok_or("no answer")?;
        match failures {
            "0" => took.parse().map_err(|e| format!("{line}: {e}")),
            failures => Err(format!("{failures} hosts failed")),
        }
    }

    /// The peer: one `xargs` for each command; milliseconds.
    fn peer(&self, commands: usize) -> Outcome<f64> {
        let began = Instant::now();
        for _ in 0..commands {
            let mut child = self.xargs()?;
            let status = child.wait().map_err(|e| e.to_string())?;
            if !status.success() {
                return Err(format!("xargs ended with {status}"));
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    fn xargs(&self) -> Outcome<Child> {
        let at_once = HOSTS.to_string();
        let mut command = Command::new("xargs");
        command.args(["-P", &at_once, "-I", "{}", "ssh", "-F"]).arg(&self.config);
        command.args(["-o", "BatchMode=yes", "{}", "cd && ./deploy.sh deploy"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("failed to start xargs: {e}"))?;
        let names: String = (0..HOSTS).map(|index| format!("host{index}\n")).collect();
        let mut stdin = child.stdin.take().ok_or("no input")?;
        stdin.write_all(names.as_bytes()).map_err(|e| e.to_string())?;
        Ok(child)
    }

    /// What one run of each needs at most: memory and connections.
    fn needs(&mut self) -> Outcome<(Needs, Needs)> {
        let mut peer = Needs::default();
        let mut child = self.xargs()?;
        while child.try_wait().map_err(|e| e.to_string())?.is_none() {
            peer.look(child.id());
        }
        let orders = self.orders.as_mut().ok_or("no input")?;
        writeln!(orders, "run 3").map_err(|e| e.to_string())?;
        let root = self.child.id();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let ours = std::thread::spawn(move || {
            let mut needs = Needs::default();
            while wait.recv_timeout(Duration::from_millis(20))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                needs.look(root);
            }
            needs
        });
        self.line()?;
        drop(done);
        let ours = ours.join().map_err(|_| "failed to look at memory")?;
        Ok((ours, peer))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.child.wait());
    }
}

/// Peaks of a process and of the `ssh` below it.
#[derive(Default, Clone, Copy)]
struct Needs {
    kib: u64,
    connections: usize,
}

impl Needs {
    fn look(&mut self, root: u32) {
        let mut kib = 0;
        let mut connections = 0;
        let mut open = vec![root];
        let all = processes();
        while let Some(pid) = open.pop() {
            for (child, parent, name) in &all {
                // The servers are nobody's need.
                if *parent == pid && name != "sshd" {
                    connections += usize::from(name == "ssh");
                    open.push(*child);
                }
            }
            kib += pss_kib(pid);
        }
        self.kib = self.kib.max(kib);
        self.connections = self.connections.max(connections);
    }

    fn words(&self) -> String {
        format!("{:.0} MB, {} connections", self.kib as f64 * 1024.0 / 1e6, self.connections)
    }
}

/// Id, parent and name of all processes.
fn processes() -> Vec<(u32, u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let read = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let parent = stat[close + 1..].split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent, stat[open + 1..close].to_owned()))
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

/// Memory of a process, with its part of what it shares.
fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub(super) fn measure(_: &Bench) -> Outcome<Vec<Row>> {
    let mut fleet = Fleet::start()?;
    // The first brings the helper over, and warms up.
    fleet.ours(1)?;
    fleet.peer(1)?;
    let mut rows = Vec::new();
    for commands in [1, 3] {
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(fleet.ours(commands)?);
            peers.push(fleet.peer(commands)?);
        }
        let ratio = median(&ours) / median(&peers);
        let plural = if commands == 1 { "" } else { "s" };
        rows.push(Row {
            name: format!("{HOSTS} hosts, {commands} command{plural} each"),
            ours: format!("{:.2} s", median(&ours) / 1000.0),
            peer: format!("xargs -P {HOSTS} ssh {:.2} s", median(&peers) / 1000.0),
            ratio: Some(ratio),
            goal: format!("ratio ≤ {GOAL_RATIO}"),
            met: Some(ratio <= GOAL_RATIO),
            how: format!(
                "from nothing open to nothing open, {HOSTS} at once; {ROUNDS} rounds; fastest {:.2} s against {:.2} s",
                quantile(&ours, 0.0) / 1000.0,
                quantile(&peers, 0.0) / 1000.0
            ),
            ..Row::default()
        });
    }
    let (ours, peer) = fleet.needs()?;
    rows.push(Row {
        name: "memory and open connections".to_owned(),
        ours: ours.words(),
        peer: format!("xargs {}", peer.words()),
        ratio: Some(ours.kib as f64 / peer.kib.max(1) as f64),
        how: "peaks; memory by share (PSS) of the caller and all its ssh processes, not of the servers".to_owned(),
        ..Row::default()
    });
    Ok(rows)
}
