//! The kill sweep: SIGKILL of the real binary at every boundary of every operation, in rows of up to three, then
//! whatever continues, then the invariants. Here a sample runs; `cargo xtask sweep` runs all of it.

mod check;
mod options;
mod pool;
mod run;
mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::support::World;
use options::{Draw, Options};
use pool::{Job, Pool};
use scene::{Before, SCENES, Scene};

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

/// The points of a scene: each boundary alone, and drawn rows of two and three.
fn points(scene: &Scene, options: &Options, passed: usize) -> Vec<Vec<usize>> {
    let mut draw = Draw::of(options.seed, scene.name);
    let mut points: Vec<Vec<usize>> = match options.sample {
        Some(count) => draw.some_of(passed, count),
        None => (1..=passed).collect(),
    }
    .into_iter()
    .map(|nth| vec![nth])
    .collect();
    let rows = options.sample.map_or(passed / 2, |count| count.div_ceil(4));
    for depth in 2..=options.depth {
        for _ in 0..rows / (depth - 1) {
            let mut row = vec![draw.up_to(passed)];
            // What continues passes few boundaries at times: the early ones are hit more often.
            row.extend((1..depth).map(|_| draw.up_to(8)));
            points.push(row);
        }
    }
    points
}

/// One world a point; those of scripts are copied, since only files are in them.
fn sweep(options: &Options) -> pool::Summary {
    let mut jobs = Vec::new();
    let scenes: Vec<&Scene> = SCENES.iter().filter(|scene| options.wants(scene.name)).collect();
    assert!(!scenes.is_empty(), "no scene is called {:?}", options.kind);
    let mut passed = BTreeMap::new();
    for scene in &scenes {
        passed.insert(scene.name, boundaries(scene));
    }
    for scene in scenes {
        let names = &passed[scene.name];
        let can_copy = scene.is_script() && scene.before != Before::Holding;
        let template: Option<std::sync::Arc<World>> =
            can_copy.then(|| std::sync::Arc::new(scene.prepared()));
        for kills in points(scene, options, names.len()) {
            let name = format!("{} at {kills:?} ({})", scene.name, names[kills[0] - 1]);
            let template = template.clone();
            let run = Box::new(move || {
                let world = match &template {
                    Some(template) => scene.copied(template),
                    None => scene.prepared(),
                };
                let survived = run::point(scene, &world, &kills);
                assert!(survived.kills >= 1, "it was never killed");
                if scene.is_script() {
                    // Nothing runs that would have to be stopped.
                    fs::remove_file(world.folder().join("backout.yaml")).unwrap();
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
    let options = Options::from_env(2, Duration::from_secs(90));
    let summary = sweep(&options);
    summary.tell("boundaries");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
}
