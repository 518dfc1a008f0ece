//! The kill sweep: SIGKILL of the real binary at every boundary of every operation and before every system call
//! that changes something, in rows of up to three; then whatever continues, then the invariants.
//! Here a sample runs; `cargo xtask sweep` runs all of it.

mod check;
mod intent;
mod mutants;
mod options;
mod outbox;
mod own_time;
mod pool;
mod power;
mod record;
mod refused;
mod run;
mod scene;
mod takeover;
mod tracer;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::World;
use options::Draw;
pub use options::Options;
use pool::{Job, Pool, Summary};
use run::Kill;
use scene::{Before, SCENES};
pub use scene::{Scene, scene_of};
pub use tracer::{Call, Fate, trace};

/// Scenes of a sample: to know the points of one takes a run of it.
const SAMPLED_SCENES: usize = 9;

/// Boundaries that a command passes, in order.
fn boundaries(scene: &Scene) -> Vec<String> {
    let world = scene.prepared();
    let beside = scene.beside(&world);
    let file = world.root().join("boundaries");
    let ran = world.run_with(scene.command, &[("BACKOUT_BOUNDARIES", &file.display().to_string())]);
    assert!(matches!(ran.code, Some(0 | 1 | 10)), "{}: {ran:?}", scene.name);
    scene::kill(beside);
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// System calls of a command that change something, in order.
fn calls(scene: &Scene) -> Vec<String> {
    let world = scene.prepared();
    let beside = scene.beside(&world);
    let seen = Mutex::new(Vec::new());
    let ended = tracer::trace(&world.command(scene.command), &mut |call: &Call| {
        let subject = call.subject.replace(&world.root().display().to_string(), "");
        seen.lock().unwrap().push(format!("{} {subject}", call.name));
        Fate::Go
    });
    assert!(matches!(ended.code, Some(0 | 1 | 10)), "{}: {ended:?}", scene.name);
    scene::kill(beside);
    seen.into_inner().unwrap()
}

/// Points of a scene: each place alone, and drawn rows of two and three.
fn points(scene: &Scene, options: &Options, most: usize) -> Vec<Vec<usize>> {
    let mut draw = Draw::of(options.seed, scene.name);
    let single = match options.sample {
        Some(count) => draw.some_of(most, count),
        None => (1..=most).collect(),
    };
    let mut points: Vec<Vec<usize>> = single.into_iter().map(|nth| vec![nth]).collect();
    let rows = options.sample.map_or(most / 2, |count| count.div_ceil(4));
    for depth in 2..=options.depth {
        for _ in 0..rows / (depth - 1) {
            let mut row = vec![draw.up_to(most)];
            // What continues passes few places at times: the early ones are hit more often.
            row.extend((1..depth).map(|_| draw.up_to((most / 4).max(8))));
            points.push(row);
        }
    }
    points
}

/// A world of files only: nothing runs that would have to be stopped when it goes.
pub fn kept(world: &World) {
    fs::remove_file(world.folder().join("backout.yaml")).unwrap();
}

/// One world a point; those of scripts are copied, since only files are in them.
fn sweep(options: &Options, places: fn(&Scene) -> Vec<String>, kill: fn(usize) -> Kill) -> Summary {
    let mut jobs = Vec::new();
    let mut scenes: Vec<&Scene> = SCENES.iter().filter(|scene| options.wants(scene.name)).collect();
    assert!(!scenes.is_empty(), "no scene is called {:?}", options.kind);
    if options.sample.is_some() {
        let drawn = Draw::of(options.seed, "scenes").some_of(scenes.len(), SAMPLED_SCENES);
        scenes = drawn.into_iter().map(|nth| scenes[nth - 1]).collect();
    }
    for scene in scenes {
        let names = places(scene);
        let can_copy = scene.is_script() && scene.before != Before::Holding;
        let template: Option<Arc<World>> = can_copy.then(|| Arc::new(scene.prepared()));
        for row in points(scene, options, names.len()) {
            let kills: Vec<Kill> = row.iter().map(|nth| kill(*nth)).collect();
            let words: Vec<String> = kills.iter().map(Kill::to_string).collect();
            let name = format!("{} at {} ({})", scene.name, words.join(", "), names[row[0] - 1]);
            let template = template.clone();
            let run = Box::new(move || {
                let world = match &template {
                    Some(template) => scene.copied(template),
                    None => scene.prepared(),
                };
                let survived = run::point(scene, &world, &kills);
                if scene.is_script() {
                    kept(&world);
                }
                survived
            });
            jobs.push(Job { name, run });
        }
    }
    Pool { options: options.clone() }.run(jobs)
}

#[test]
fn killed_at_any_boundary_every_operation_comes_to_an_end() {
    let options = Options::from_env(4, Duration::from_secs(60));
    let summary = sweep(&options, boundaries, Kill::Boundary);
    summary.tell("boundaries", "killed");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
    assert_eq!(
        summary.depths[0], 0,
        "each was killed: boundaries come in the same order each time"
    );
}

#[test]
fn killed_before_any_system_call_every_operation_comes_to_an_end() {
    let options = Options::from_env(5, Duration::from_secs(60));
    let summary = sweep(&options, calls, Kill::Call);
    summary.tell("system calls", "killed");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
    // The last few come in other numbers now and then: renewals of the lease, by the clock.
    assert!(summary.depths[0] * 10 <= summary.points, "{} were not killed", summary.depths[0]);
}
