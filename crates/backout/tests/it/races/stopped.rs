//! A holder that was stopped for three terms of its lease, at the worst of moments, and goes on then.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::calls;
use crate::support::{Background, Ran, World, wait_until};
use crate::sweep::{Scene, kept, scene_of};

/// Term of a lease in these tests.
const TERM: Duration = Duration::from_secs(3);

const BACK: &[&str] = &["rollback", "--force", "--yes", "--reason", "it does not answer"];

/// A deploy that stops itself at this instant.
fn stopped_at(world: &World, instant: &str) -> Background {
    let mut command = world.command(&["deploy", "--version", "v2", "--yes"]);
    command.env("BACKOUT_STOP_AT", instant);
    let deploy = world.spawn_command(command);
    let stat = format!("/proc/{}/stat", deploy.pid());
    wait_until("the stop", || {
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
    deploy
}

/// What became of a holder that went on after somebody else had gone back.
pub struct Woken {
    /// Changing calls that it still made.
    pub late: usize,
    ran: Ran,
}

/// Somebody goes back meanwhile; then the holder goes on. `with` begins what goes on in the world all the while.
///
/// A stop may come while another thread of the holder has the ledger's lock, as for a renewal. Then nobody can go back
/// before that process goes on or ends, and is told so: such a stop is none of those that this is about.
pub fn woken<T>(scene: &Scene, instant: &str, with: impl Fn(&World) -> T) -> (World, T, Woken) {
    (0..6)
        .find_map(|_| {
            let world = scene.prepared();
            let with = with(&world);
            wakes(scene, &world, instant).map(|woken| (world, with, woken))
        })
        .expect("a stop without the ledger's lock")
}

fn wakes(scene: &Scene, world: &World, instant: &str) -> Option<Woken> {
    world.set("BACKOUT_LEASE_TERM_MS", &TERM.as_millis().to_string());
    let deploy = stopped_at(world, instant);
    // Its term has not ended: nobody else may work.
    let asked = Instant::now();
    let busy = world.run(&["deploy", "--version", "v3", "--yes"]);
    if asked.elapsed() < TERM / 2 {
        busy.expect(5).says(&format!(":{} is busy with `deploy`", deploy.pid()));
    }
    std::thread::sleep(3 * TERM);
    let back = world.run(BACK);
    if back.stderr.contains("stays locked by") {
        back.expect(1).says(&deploy.pid().to_string());
        deploy.signal(Signal::CONT);
        deploy.wait();
        return None;
    }
    back.expect(0);
    let (story, live) = (world.story(), world.status()["version"].clone());
    let before = calls(world);
    deploy.signal(Signal::CONT);
    let ran = deploy.wait();
    assert!(matches!(ran.code, Some(3 | 10)), "{}: {ran:?}", scene.name);
    // It wrote nothing, and the lease is nobody's.
    assert_eq!((world.story(), world.status()["version"].clone()), (story, live));
    let status = world.status();
    assert_eq!((&status["operation"], &status["watched_by"]), (&Value::Null, &Value::Null));
    Some(Woken { late: calls(world) - before, ran })
}

#[test]
fn a_script_is_not_called_by_who_lost_the_lease() {
    let scene = scene_of("script stages deploy then rollback");
    std::thread::scope(|scope| {
        for instant in [
            "before_intent/start:1",
            "after_intent/start:1",
            "before_effect/start:1",
            "after_effect/start:1",
            "before_effect/shift_traffic:1",
            "before_outcome/shift_traffic:1",
            "after_intent/hold_50:1",
            "before_end:1",
        ] {
            scope.spawn(move || {
                let (world, (), woken) = woken(&scene, instant, |_| ());
                assert_eq!(woken.late, 0, "{instant}: called after the lease was lost");
                let live = world.status()["version"].as_str().unwrap().to_owned();
                assert!(["v0", "v1"].contains(&live.as_str()), "{instant}: {live}");
                kept(&world);
            });
        }
    });
}

#[test]
fn a_proxy_does_not_obey_who_lost_the_lease() {
    let scene = scene_of("process deploy then rollback");
    let (world, load, _) = woken(&scene, "before_effect/shift_traffic:1", World::load);
    let weights = world.status()["weights"].clone();
    assert_eq!(weights[0]["percent"], 100, "{weights}");
    world.expect_serving("v1");
    let tally = load.stop();
    assert_eq!((tally.failures(), tally.served.get("v2")), (0, None), "{tally:?}");
}

/// What nothing in the engine can hold back any more: the proxy does.
#[test]
fn a_proxy_refuses_who_was_stopped_after_the_last_look_at_the_lease() {
    let scene = scene_of("process deploy then rollback");
    let (world, load, woken) = woken(&scene, "checked/router:1", World::load);
    assert!(woken.ran.stderr.contains("epoch"), "the proxy refuses: {}", woken.ran.stderr);
    let weights = world.status()["weights"].clone();
    assert_eq!((&weights[0]["percent"], &weights[1]), (&100.into(), &Value::Null), "{weights}");
    world.expect_serving("v1");
    let tally = load.stop();
    assert_eq!((tally.failures(), tally.served.get("v2")), (0, None), "{tally:?}");
}

/// A script is called that one time at most, and what it did then is seen and put right by whatever comes next.
#[test]
fn a_script_is_called_once_at_most_after_the_last_look_at_the_lease() {
    let scene = scene_of("script stages deploy then rollback");
    std::thread::scope(|scope| {
        for instant in ["checked/target:1", "checked/router:1"] {
            scope.spawn(move || {
                let (world, (), woken) = woken(&scene, instant, |_| ());
                assert!(
                    woken.late <= 1,
                    "{instant}: {} calls after the lease was lost",
                    woken.late
                );
                world.run(&["deploy", "--version", "v3", "--yes"]).expect(0);
                let runs = ["runs-a", "runs-b"].map(|slot| world.read(slot).trim().to_owned());
                let run: Vec<_> = runs.iter().filter(|version| !version.is_empty()).collect();
                assert_eq!(run, ["v3"], "{instant}");
                kept(&world);
            });
        }
    });
}
