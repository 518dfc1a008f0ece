//! A person's rollback takes over a deploy that lives, at each boundary of that deploy.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::options::Options;
use super::own_time::OwnTime;
use super::pool::{Job, Pool};
use super::run::Survived;
use super::scene::{ROLLBACK, Scene, scene_of};
use super::{boundaries, check, kept, options::Draw};
use crate::support::{World, wait_until};

/// The deploy dwells at a boundary while a rollback comes.
fn take_over(scene: &Scene, world: &World, nth: usize) -> Survived {
    let file = world.root().join("passed");
    let mut deploy = world.command(scene.command);
    deploy.env("BACKOUT_DWELL_AT", format!("any:{nth}")).env("BACKOUT_BOUNDARIES", &file);
    let deploy = world.spawn_command(deploy);
    wait_until("the boundary", || {
        fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= nth)
    });
    let (began, own) = (std::time::Instant::now(), OwnTime::begins());
    let ran = world.run(ROLLBACK).expect(0);
    let (took, own) = (began.elapsed(), own.ends(world));
    let held = deploy.wait();
    // It was taken over, it had come to its end before, or it had not begun.
    assert!(matches!(held.code, Some(0 | 1 | 3 | 5 | 10)), "{held:?}\nafter {ran:?}");
    check::check(scene, world, 1);
    Survived { kills: 1, took, own }
}

#[test]
fn a_rollback_takes_a_living_deploy_over_at_each_of_its_boundaries() {
    let options = Options::from_env(12, Duration::from_secs(60));
    let mut jobs = Vec::new();
    for name in ["script deploy then rollback", "script stages deploy then rollback"] {
        let scene = scene_of(name);
        let template = Arc::new(scene.prepared());
        let names = boundaries(&scene);
        let points = match options.sample {
            Some(count) => Draw::of(options.seed, name).some_of(names.len(), count),
            None => (1..=names.len()).collect(),
        };
        for nth in points {
            let template = template.clone();
            let run = Box::new(move || {
                let world = scene.copied(&template);
                let survived = take_over(&scene, &world, nth);
                kept(&world);
                survived
            });
            jobs.push(Job {
                name: format!("{name}: taken over at {nth} ({})", names[nth - 1]),
                run,
            });
        }
    }
    let summary = Pool { options }.run(jobs);
    summary.tell("take-overs", "taken over");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
}
