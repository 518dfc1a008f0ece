//! Going back to a release that is kept warm behind the built-in proxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::find_end;
use super::compose::{json, timed};
use super::figures::{median, quantile};
use super::folder::Folder;
use super::process::free_address;
use super::spent;
use super::{Bench, Row};
use crate::Outcome;

pub(super) const ABOUT: &str = "`backout rollback` to the old side of a blue-green pair that was kept warm behind the built-in proxy, while a user \
     asks without a pause.";

const ROUNDS: usize = 11;
const GOAL_MS: f64 = 2.0;
const STEP: &str = "shift_traffic";
/// After this users were not moved.
const MOVED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Times {
    moves: Vec<f64>,
    spans: Vec<f64>,
    commands: Vec<f64>,
    firsts: Vec<f64>,
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("standby")?;
    let address = free_address()?;
    configure(folder.path(), address)?;
    let world = World { folder: folder.path(), backout: &bench.backout };
    world.bake("v1")?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        world.bake("v2")?;
        world.round(address, &mut times)?;
        println!("  round {} of {ROUNDS}", times.moves.len());
    }
    Ok(rows(&times))
}

fn configure(folder: &Path, listen: SocketAddr) -> Outcome<()> {
    let program = std::env::current_exe().map_err(|e| format!("failed to find myself: {e}"))?;
    let text = format!(
        "app: standby\n\
         target: {{ process: {{ command: [{program}, bench-release, \"{{port}}\", \"{{version}}\", \"0\"], port: auto }} }}\n\
         router: {{ builtin: {{ listen: \"{listen}\" }} }}\n\
         strategy: blue_green\n\
         health:\n  http: {{ url: \"http://127.0.0.1:{{port}}/health\" }}\n  consecutive_passes: 2\n  \
         during_rollout: {{ interval: 100ms }}\n\
         shutdown: {{ drain: 1s, grace: 2s }}\n\
         bake_time: 10m\n",
        program = program.display(),
    );
    let path = folder.join("backout.yaml");
    fs::write(&path, text).map_err(|e| format!("failed to write {}: {e}", path.display()))
}

struct World<'a> {
    folder: &'a Path,
    backout: &'a Path,
}

impl World<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.backout);
        command.args(["--state-dir", "state"]).args(args).current_dir(self.folder);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Deploys until the bake begins, and nobody watches from then on: the old side stays warm.
    fn bake(&self, version: &str) -> Outcome<()> {
        let mut deploy = self.command(&["deploy", "--version", version, "--yes"]);
        let failed = |e: std::io::Error| format!("failed to deploy {version}: {e}");
        let mut deploy = deploy.stdout(Stdio::null()).spawn().map_err(failed)?;
        let began = Instant::now();
        let baking = loop {
            let status = json(self.command(&["status", "--format", "json"]));
            let of = status.as_ref().map(|status| &status["environments"][0]);
            if of.is_ok_and(|of| of["version"] == version && of["status"] == "baking") {
                break Ok(());
            }
            if began.elapsed() > MOVED_WITHIN || !matches!(deploy.try_wait(), Ok(None)) {
                break Err(format!("the bake of {version} did not begin"));
            }
            thread::sleep(Duration::from_millis(50));
        };
        let asked = match deploy.try_wait() {
            Ok(None) => timed(kill(deploy.id())).map(drop),
            _ => Ok(()),
        };
        deploy.wait().map_err(failed)?;
        baking.and(asked)
    }

    fn round(&self, address: SocketAddr, times: &mut Times) -> Outcome<()> {
        thread::scope(|scope| {
            let mut user = User::connect(address)?;
            while !user.asks("v2")? {}
            let began = Instant::now();
            let user = scope.spawn(move || -> Outcome<Instant> {
                while !user.asks("v1")? {
                    if began.elapsed() > MOVED_WITHIN {
                        return Err(format!("users were not moved within {MOVED_WITHIN:?}"));
                    }
                }
                Ok(Instant::now())
            });
            let answer = json(self.command(&["rollback", "--yes", "--force", "--format", "json"]))?;
            let ended = began.elapsed();
            let moved = user.join().map_err(|_| "the user panicked".to_owned())??;
            let spent = spent::in_step(&answer, STEP, |args| self.command(args))?;
            times.moves.push(spent.effect_ms);
            times.spans.push(spent.span_ms);
            times.firsts.push(moved.duration_since(began).as_secs_f64() * 1000.0);
            times.commands.push(ended.as_secs_f64() * 1000.0);
            Ok(())
        })
    }
}

fn kill(pid: u32) -> Command {
    let mut command = Command::new("kill");
    command.args(["-TERM", &pid.to_string()]);
    command
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if timed(self.command(&["down", "--yes"])).is_err() {
            eprintln!("failed to stop what runs in {}", self.folder.display());
        }
    }
}

/// One kept connection.
struct User {
    address: SocketAddr,
    stream: TcpStream,
}

impl User {
    fn connect(address: SocketAddr) -> Outcome<Self> {
        let failed = |e: std::io::Error| format!("failed to connect to {address}: {e}");
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(MOVED_WITHIN)).map_err(failed)?;
        Ok(Self { address, stream })
    }

    /// Whether the answer is of this version. A connection that is closed on it is made anew.
    fn asks(&mut self, version: &str) -> Outcome<bool> {
        let wanted = format!("\"version\":\"{version}\"");
        match self.answer() {
            Ok(answer) => Ok(String::from_utf8_lossy(&answer).contains(&wanted)),
            Err(_) => {
                *self = Self::connect(self.address)?;
                Ok(false)
            }
        }
    }

    fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        self.stream.write_all(b"GET /health HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        let (mut buffer, mut answer) = ([0_u8; 4096], Vec::new());
        // The body is one line of JSON.
        while find_end(&answer).is_none() || answer.last() != Some(&b'}') {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&buffer[..read]);
        }
        Ok(answer)
    }
}

fn rows(times: &Times) -> Vec<Row> {
    let moved = median(&times.moves);
    let worst = quantile(&times.moves, 1.0);
    vec![
        Row {
            name: "traffic move of a rollback, median".to_owned(),
            ours: format!("{moved:.2} ms"),
            goal: format!("≤ {GOAL_MS:.0} ms"),
            met: Some(moved <= GOAL_MS),
            how: format!(
                "step `{STEP}` from its durable intent until the proxy has answered that the move is on disk, as its receipt says; {ROUNDS} rounds, slowest {worst:.2} ms"
            ),
            ..Row::default()
        },
        Row {
            name: "the same with the commit of its intent, median".to_owned(),
            ours: format!("{:.2} ms", median(&times.spans)),
            how: format!(
                "by the times of the journal's entries; slowest {:.2} ms",
                quantile(&times.spans, 1.0)
            ),
            ..Row::default()
        },
        Row {
            name: "first reply of the old release, median".to_owned(),
            ours: format!("{:.0} ms", median(&times.firsts)),
            how: "`backout rollback` started → reply on a kept connection: the process starts, checks and plans before it moves anything".to_owned(),
            ..Row::default()
        },
        Row {
            name: "the whole command, median".to_owned(),
            ours: format!("{:.0} ms", median(&times.commands)),
            how: "with two passed checks of each service, drained and verified".to_owned(),
            ..Row::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_move_misses_the_goal() {
        let met = |ms| rows(&Times { moves: vec![ms], ..Times::default() })[0].met;
        assert_eq!((met(2.0), met(3.0)), (Some(true), Some(false)));
    }
}
