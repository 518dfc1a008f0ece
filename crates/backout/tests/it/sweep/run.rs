//! One point: kills in a row, then the command that continues, then what must hold.

use std::fmt;
use std::time::{Duration, Instant};

use super::check;
use super::own_time::{OwnTime, TooSlow};
use super::scene::{self, Scene};
use super::tracer::{self, Call, Fate};
use crate::support::{Ran, World};

/// An operation that was cut off has come to its end within that, with what the adapters take, on a machine that does
/// other things. What the engine takes itself is bounded apart (`own_time`).
const CONVERGED: Duration = Duration::from_secs(60);

/// Where the whole process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// At the n-th boundary that the engine passes.
    Boundary(usize),
    /// At the first boundary of this name.
    Named(&'static str),
    /// Before the n-th system call that changes something.
    Call(usize),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Boundary(nth) => write!(f, "boundary {nth}"),
            Kill::Named(name) => write!(f, "{name}"),
            Kill::Call(nth) => write!(f, "call {nth}"),
        }
    }
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survived {
    /// Kills that really happened.
    pub kills: usize,
    /// From the last kill to the end of what continued.
    pub took: Duration,
    /// What the engine took of it.
    pub own: Duration,
}

/// Kills the command at the first of `kills`, and what continues it at the others.
pub fn point(scene: &Scene, world: &World, kills: &[Kill]) -> Survived {
    let load = scene.serves_throughout().then(|| world.load());
    let beside = scene.beside(world);
    let mut killed = 0;
    for (at, kill) in kills.iter().enumerate() {
        let command = if at == 0 { scene.command } else { scene.then };
        if !is_killed(scene, world, command, *kill) {
            break;
        }
        killed += 1;
        // Nobody needs to do anything to look, and nothing half-written is read.
        let ran = world.run(&["status", "--format", "json"]).expect(0);
        let status = &ran.json()["environments"][0];
        if beside.is_none() {
            assert_eq!(status["watched_by"], serde_json::Value::Null, "{status:#}");
        }
        world.history();
    }
    let (began, own) = (Instant::now(), OwnTime::begins());
    continues(scene, &world.run(scene.then));
    let (took, own) = (began.elapsed(), own.ends(world));
    if took >= CONVERGED {
        std::panic::panic_any(TooSlow(format!("it took {took:?} to come to an end")));
    }
    scene::kill(beside);
    check::check(scene, world, killed);
    settled(scene, world, killed);
    if let Some(load) = load {
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "users were served all the time: {tally:?}");
    }
    Survived { kills: killed, took, own }
}

/// Runs the command up to there. False if it came to its end before.
fn is_killed(scene: &Scene, world: &World, args: &[&str], kill: Kill) -> bool {
    match kill {
        Kill::Boundary(_) | Kill::Named(_) => {
            let at = match kill {
                Kill::Named(name) => format!("{name}:1"),
                Kill::Boundary(nth) | Kill::Call(nth) => format!("any:{nth}"),
            };
            let ran = world.run_with(args, &[("BACKOUT_KILL_AT", &at)]);
            if ran.signal != Some(9) {
                continues(scene, &ran);
            }
            ran.signal == Some(9)
        }
        Kill::Call(nth) => {
            let mut last = |call: &Call| if call.nth == nth { Fate::Kill } else { Fate::Go };
            let ended = tracer::trace(&world.command(args), &mut last);
            // Refused where the kill before left nothing that is known, as in `continues`.
            let unknown = scene.live.is_empty() && ended.code == Some(4);
            let over = unknown || matches!(ended.code, Some(0 | 1 | 10));
            assert!(over || ended.signal == Some(9), "`backout {}`: {ended:?}", args.join(" "));
            ended.signal == Some(9)
        }
    }
}

/// Exit codes of an operation that came to an end: done, nothing changed, or gone back.
pub fn continues(scene: &Scene, ran: &Ran) {
    // Killed before anything was written down, a first deployment has left nothing to be continued.
    let unknown = scene.live.is_empty() && ran.code == Some(4) && ran.stderr.contains("not known");
    assert!(
        unknown || matches!(ran.code, Some(0 | 1 | 10)),
        "`backout {}`: {:?}, signal {:?}\n{}\n{}",
        ran.args,
        ran.code,
        ran.signal,
        ran.stdout,
        ran.stderr
    );
}

/// Recovering again is not needed, and does nothing.
fn settled(scene: &Scene, world: &World, kills: usize) {
    if world.status()["version"].is_null() {
        // What `down` stopped would be started again: that is asked for, and not to be tried here.
        return;
    }
    let before = (world.story(), world.read("calls"));
    let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ran.json()["open"], false);
    assert_eq!((world.story(), world.read("calls")), before);
    check::check(scene, world, kills);
}
