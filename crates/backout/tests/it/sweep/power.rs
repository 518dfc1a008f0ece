//! The power goes: whatever part of what was not synced is left, what was acknowledged is there, nothing is half, and
//! everything comes to an end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::{Draw, Options};
use super::own_time::OwnTime;
use super::pool::{Job, Pool};
use super::record::{AT_WORK, Loss, Recorder};
use super::run::Survived;
use super::scene::{self, Scene, scene_of};
use super::{check, intent, kept, run, tracer};
use crate::support::{World, Yaml, wait_until};

/// Scripts: all that their world is are files.
const SCENES: [&str; 4] =
    ["script first", "script deploy", "script stages deploy", "script stages rollback"];
const LOSSES: [Loss; 4] = [Loss::All, Loss::Nothing, Loss::Bytes, Loss::Some];

/// Runs the command of a scene, and records what it does to its state folder.
pub fn recorded(scene: &Scene, world: &World, every: usize) -> Recorder {
    if !world.state_dir().exists() {
        fs::create_dir(world.state_dir()).unwrap();
        fs::set_permissions(world.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut recorder = Recorder::new(&world.state_dir(), &world.folder(), every);
    let ended = tracer::trace(&world.command(scene.command), &mut recorder);
    assert!(matches!(ended.code, Some(0 | 10)), "{ended:?}");
    recorder
}

/// The world as it is found after the cut.
fn after_the_cut(
    recorder: &Recorder,
    cut: &(usize, std::path::PathBuf),
    loss: Loss,
    seed: u64,
) -> World {
    let world = World::bare();
    scene::copy(&cut.1, &world.folder());
    let mut draw = Draw::of(seed, &format!("{} {loss:?}", cut.0));
    recorder.image(cut.0, loss, &mut draw, &world.state_dir());
    fs::set_permissions(world.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    world
}

/// No record is half: what is there can be read. What is being made has no name yet that anybody reads.
fn records_are_whole(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let unfinished = entry.file_name().to_string_lossy().starts_with(".new-");
        if path.is_dir() && unfinished {
            continue;
        }
        if path.is_dir() {
            records_are_whole(&path);
        } else if path.to_string_lossy().ends_with(AT_WORK) {
            continue;
        } else if path.extension().is_some_and(|end| end == "json") {
            let bytes = fs::read(&path).unwrap();
            let whole = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            assert!(whole, "{} is half: {} bytes", path.display(), bytes.len());
        }
    }
}

/// What must hold in a world whose power went.
pub fn comes_back(scene: &Scene, world: &World) -> Survived {
    records_are_whole(&world.state_dir());
    intent::check(world);
    world.run(&["status"]).expect(0);
    let (began, own) = (Instant::now(), OwnTime::begins());
    run::continues(scene, &world.run(scene.then));
    let (took, own) = (began.elapsed(), own.ends(world));
    check::check(scene, world, 1);
    Survived { kills: 1, took, own }
}

fn jobs(name: &'static str, every: usize, seed: u64) -> Vec<Job<'static>> {
    let scene = scene_of(name);
    let world = scene.prepared();
    let recorder = Arc::new(recorded(&scene, &world, every));
    assert!(!recorder.cuts.is_empty(), "{name}: nothing was recorded");
    let world = Arc::new(world);
    let mut jobs = Vec::new();
    for (nth, cut) in recorder.cuts.iter().enumerate() {
        for loss in LOSSES {
            let (recorder, cut, keeps) = (recorder.clone(), cut.clone(), world.clone());
            let run = Box::new(move || {
                let world = after_the_cut(&recorder, &cut, loss, seed);
                let survived = comes_back(&scene, &world);
                kept(&world);
                // The copies of the world outside lie in its folder.
                assert!(keeps.root().exists());
                survived
            });
            jobs.push(Job { name: format!("{name}: cut {nth}, loss of {loss:?}"), run });
        }
    }
    jobs
}

#[test]
fn after_a_power_cut_it_is_before_or_after() {
    let options = Options::from_env(30, Duration::from_secs(60));
    // Every n-th call is a cut; each leaves four different disks.
    let every = options.sample.unwrap_or(2);
    let jobs: Vec<Job<'_>> =
        SCENES.iter().flat_map(|name| jobs(name, every, options.seed)).collect();
    let summary = Pool { options }.run(jobs);
    summary.tell("power cuts", "cut");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
}

#[test]
fn names_are_safe_before_anything_depends_on_them() {
    for name in ["script first", "script stages deploy", "process first", "process canary"] {
        let scene = scene_of(name);
        let world = scene.prepared();
        let recorder = recorded(&scene, &world, usize::MAX);
        assert_eq!(recorder.careless(), Vec::<String>::new(), "{name}");
    }
}

/// Ends the proxy however the test ends: its tracer waits for it.
struct Ends<'a>(&'a World);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        for proxy in self.0.proxies() {
            proxy.signal(rustix::process::Signal::KILL);
        }
    }
}

/// The proxy keeps its routes by itself, in a process of its own.
#[test]
fn routes_of_the_proxy_are_synced_before_and_under_their_name() {
    let world = World::new(&Yaml::blue_green());
    let folder = world.state_dir().join("proxy");
    fs::create_dir_all(&folder).unwrap();
    for private in [&folder, &world.state_dir()] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut recorder = Recorder::new(&folder, &world.folder(), usize::MAX);
    let command = world.command(&["proxy", "--dir", folder.to_str().unwrap()]);
    std::thread::scope(|scope| {
        let traced = scope.spawn(|| tracer::trace(&command, &mut recorder));
        let _ends = Ends(&world);
        wait_until("the proxy", || {
            !world.proxies().is_empty() && folder.join("admin.sock").exists()
        });
        world.deployed("v1");
        world.deployed("v2");
        world.rollback(&["--force"]).expect(0);
        world.run(&["down", "--yes"]).expect(0);
        assert_eq!(traced.join().unwrap().code, Some(0));
    });
    assert!(recorder.named("routes.json") >= 4, "{:?}", recorder.changes);
    // It streams and answers all the while. Who it is, and how long a dead-man still runs, has to survive no power cut.
    let mut careless = recorder.careless_with(usize::MAX);
    careless.retain(|said| !said.contains("deadlines.json") && !said.contains("/proxy/pid "));
    assert_eq!(careless, Vec::<String>::new());
}

/// For the mistakes: what is not synced is gone, at each of many instants.
pub fn loses_what_was_not_synced(world: &World) {
    let scene = scene_of("script deploy");
    let recorder = recorded(&scene, world, 15);
    for cut in &recorder.cuts {
        let after = after_the_cut(&recorder, cut, Loss::All, 1);
        comes_back(&scene, &after);
        kept(&after);
    }
}

/// A scene in which commands give names to files that must be safe.
pub const CAREFUL: &str = "process canary";

/// For the mistakes: names that are not safe.
pub fn is_careful(world: &World) {
    let scene = scene_of(CAREFUL);
    assert_eq!(recorded(&scene, world, usize::MAX).careless(), Vec::<String>::new());
}
