//! kill −9 of the one who works, at chosen instants; then a look, then `recover` or the next command.

mod children;
mod deploys;
mod holders;
pub mod loops;
mod rollbacks;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::support::{World, Yaml};

/// Worlds that live at a time: they mostly wait.
const AT_ONCE: usize = 4;

/// Tries every instant in a world of its own, some at a time, and says at which one it failed.
pub fn at_each(instants: &[&'static str], case: impl Fn(&'static str) + Sync) {
    for some in instants.chunks(AT_ONCE) {
        let ended: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|instant| {
                    let case = &case;
                    let run = move || catch_unwind(AssertUnwindSafe(|| case(instant)));
                    (*instant, scope.spawn(run))
                })
                .collect();
            threads.into_iter().map(|(instant, thread)| (instant, thread.join().unwrap())).collect()
        });
        for (instant, result) in ended {
            if let Err(panic) = result {
                eprintln!("killed at {instant}");
                resume_unwind(panic);
            }
        }
    }
}

/// Even shorter than usual.
pub fn quick(yaml: Yaml) -> Yaml {
    let strategy = yaml.strategy.replace("hold: 400ms", "hold: 200ms");
    Yaml { strategy, bake: "300ms".to_owned(), ..yaml }
}

/// What must hold right after a kill: nobody needs to do anything to look, and what is seen is whole.
#[track_caller]
fn can_be_seen(world: &World) -> serde_json::Value {
    let status = world.status();
    assert_eq!(status["watched_by"], serde_json::Value::Null, "{status:#}");
    world.run(&["history"]).expect(0);
    status
}

/// What must hold in the end: one version everywhere, one side, nothing under way, no lock.
#[track_caller]
pub fn ended_well(world: &World, versions: &[&str]) -> String {
    let serving = world.serving();
    let version = serving.iter().next().unwrap().clone();
    assert_eq!(serving, BTreeSet::from([version.clone()]));
    assert!(versions.contains(&version.as_str()), "{version} of {versions:?}");
    assert_eq!(world.running(), [version.as_str()], "one program");
    assert_eq!(world.supervisors().len(), 1, "one supervisor: {:?}", world.supervisors());
    assert_eq!(world.proxies().len(), 1, "one proxy: {:?}", world.proxies());
    let status = world.status();
    assert_eq!(status["operation"], serde_json::Value::Null);
    assert_eq!(status["version"], version);
    assert_eq!(status["status"], "stable");
    let story = world.story();
    assert!(
        story.iter().all(|row| !row.contains("in_progress") && !row.contains("pending")),
        "{story:?}"
    );
    version
}
