//! One point: kills in a row, then the command that continues, then what must hold.

use std::time::{Duration, Instant};

use super::check;
use super::scene::{self, Scene};
use crate::support::{Ran, World};

/// An operation that was cut off has come to its end within that: ten seconds and what the adapters take, on a
/// machine that does other things, too.
const CONVERGED: Duration = Duration::from_secs(60);

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survived {
    /// Kills that really happened.
    pub kills: usize,
    /// From the last kill to the end of what continued.
    pub took: Duration,
}

/// Kills the command at the boundaries `kills`: the first in the command itself, the others in what continues it.
pub fn point(scene: &Scene, world: &World, kills: &[usize]) -> Survived {
    let load = scene.serves_throughout().then(|| world.load());
    let beside = scene.beside(world);
    let mut killed = 0;
    for (at, nth) in kills.iter().enumerate() {
        let command = if at == 0 { scene.command } else { scene.then };
        let ran = world.run_with(command, &[("BACKOUT_KILL_AT", &format!("any:{nth}"))]);
        if ran.signal != Some(9) {
            continues(&ran);
            break;
        }
        killed += 1;
        // Nobody needs to do anything to look, and nothing half-written is read.
        let status = world.status();
        if beside.is_none() {
            assert_eq!(status["watched_by"], serde_json::Value::Null, "{status:#}");
        }
        world.history();
    }
    let began = Instant::now();
    continues(&world.run(scene.then));
    let took = began.elapsed();
    assert!(took < CONVERGED, "it took {took:?} to come to an end");
    scene::kill(beside);
    check::check(scene, world, killed);
    settled(scene, world, killed);
    if let Some(load) = load {
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "users were served all the time: {tally:?}");
    }
    Survived { kills: killed, took }
}

/// Exit codes of an operation that came to an end: done, nothing changed, or gone back.
fn continues(ran: &Ran) {
    assert!(
        matches!(ran.code, Some(0 | 1 | 10)),
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
    let down = world.status()["version"].is_null();
    let before = (world.story(), world.read("calls"));
    if down {
        // What `down` stopped would be started again: that is asked for, and not to be tried here.
        return;
    }
    let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(0);
    assert_eq!(ran.json()["open"], false);
    assert_eq!((world.story(), world.read("calls")), before);
    check::check(scene, world, kills);
}
