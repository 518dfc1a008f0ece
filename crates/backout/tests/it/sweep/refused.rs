//! The system refuses a call that changes something: no space, a device that fails, no descriptors. Nothing begins
//! without its intent, people are told, and once the cause is gone it comes to an end.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;

use super::options::{Draw, Options};
use super::own_time::OwnTime;
use super::pool::{Job, Pool};
use super::run::{self, Survived};
use super::scene::{Scene, scene_of};
use super::tracer::{self, Call, Fate};
use super::{calls, check, intent, kept};
use crate::support::World;

/// Scripts: all that their world is are files.
const SCENES: [&str; 4] =
    ["script first", "script deploy", "script stages deploy", "script stages rollback"];

/// How a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No space, once.
    NoSpace,
    /// No space from then on.
    Full,
    /// The device fails, once.
    Fault,
    /// From then on.
    Broken,
    /// No descriptors, or no processes, from then on.
    Exhausted,
}

const REFUSALS: [Refusal; 5] =
    [Refusal::NoSpace, Refusal::Full, Refusal::Fault, Refusal::Broken, Refusal::Exhausted];

impl Refusal {
    /// The error of a call at or after the chosen one; none where it is made.
    fn of(self, call: &Call, chosen: usize) -> Option<i32> {
        let once = matches!(self, Refusal::NoSpace | Refusal::Fault);
        if call.nth < chosen || (once && call.nth > chosen) {
            return None;
        }
        let is_file = call.subject.starts_with('/');
        let writes = matches!(call.name, "write" | "pwrite" | "truncate" | "allocate" | "writev");
        let makes = matches!(call.name, "open" | "mkdir" | "rename" | "link" | "symlink");
        match self {
            Refusal::NoSpace | Refusal::Full if is_file && (writes || makes) => Some(libc::ENOSPC),
            Refusal::Fault | Refusal::Broken if is_file && (writes || call.name == "fsync") => {
                Some(libc::EIO)
            }
            Refusal::Exhausted if call.name == "open" => Some(libc::EMFILE),
            Refusal::Exhausted if call.name == "start" => Some(libc::EAGAIN),
            _ => None,
        }
    }
}

/// What must hold when the call is refused, and after the cause is gone.
fn point(scene: &Scene, world: &World, chosen: usize, refusal: Refusal) -> Survived {
    // Who can't renew gives up after a term: a short one is enough here.
    world.set("BACKOUT_LEASE_TERM_MS", "2000");
    let mut refused = 0;
    let mut fate = |call: &Call| match refusal.of(call, chosen) {
        Some(errno) => {
            refused += 1;
            Fate::Fail(errno)
        }
        None => Fate::Go,
    };
    let ended = tracer::trace(&world.command(scene.command), &mut fate);
    let said = fs::read_to_string(world.root().join("out/traced.stderr")).unwrap_or_default();
    assert!(matches!(ended.code, Some(0..=13)), "{ended:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    if ended.code != Some(0) {
        assert!(said.contains("error:") || said.contains("hint:"), "says why: {said}");
    }
    if world.state_dir().join("ledger.db").exists() {
        intent::check(world);
        world.run(&["status"]).expect(0);
    }
    let (began, own) = (Instant::now(), OwnTime::begins());
    let ran = world.run(scene.then);
    run::continues(scene, &ran);
    let (took, own) = (began.elapsed(), own.ends(world));
    // A refused call is tried again as often as a step may be.
    check::check(scene, world, 3);
    Survived { kills: usize::from(refused > 0), took, own }
}

#[test]
fn a_refused_call_leaves_nothing_without_its_intent() {
    let options = Options::from_env(5, Duration::from_secs(60));
    let mut jobs = Vec::new();
    for name in SCENES.into_iter().filter(|name| options.wants(name)) {
        let scene = scene_of(name);
        let template = Arc::new(scene.prepared());
        let names = calls(&scene);
        for refusal in REFUSALS {
            let mut draw = Draw::of(options.seed, &format!("{name} {refusal:?}"));
            // Where nothing would be refused, nothing is tried.
            let fitting: Vec<usize> = (1..=names.len())
                .filter(|nth| {
                    let (kind, subject) = names[nth - 1].split_once(' ').unwrap();
                    let call = Call::named(*nth, kind, subject);
                    refusal.of(&call, *nth).is_some()
                })
                .collect();
            let chosen = match options.sample {
                Some(count) => draw.some_of(fitting.len(), count.div_ceil(2)),
                None => (1..=fitting.len()).collect(),
            };
            for at in chosen {
                let nth = fitting[at - 1];
                let template = template.clone();
                let run = Box::new(move || {
                    let world = scene.copied(&template);
                    let survived = point(&scene, &world, nth, refusal);
                    kept(&world);
                    survived
                });
                let name = format!("{name}: {refusal:?} at call {nth} ({})", names[nth - 1]);
                jobs.push(Job { name, run });
            }
        }
    }
    let summary = Pool { options }.run(jobs);
    summary.tell("refused calls", "refused");
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
}
