//! Mistakes seeded into our own code: each must be caught by the same points that the sweep tries, else the sweep
//! proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::run::{self, Kill};
use super::{kept, scene_of};

/// What the mistake is, and where it shows.
struct Mutant {
    name: &'static str,
    scene: &'static str,
    /// The boundary at which the command is killed.
    at: &'static str,
}

const MUTANTS: &[Mutant] = &[
    Mutant { name: "outcome_before_effect", scene: "script rollback", at: "before_effect/start" },
    Mutant { name: "no_observe", scene: "script rollback", at: "after_intent/start" },
    Mutant { name: "skip_half_done", scene: "script stages deploy", at: "after_effect/start" },
    Mutant { name: "outbox_apart", scene: "script deploy", at: "before_outbox/outbox" },
];

/// Whether the point fails; with the reason.
fn caught(mutant: &Mutant, made: bool) -> Result<(), String> {
    let scene = scene_of(mutant.scene);
    let world = scene.prepared();
    if made {
        world.set("BACKOUT_MUTANT", mutant.name);
    }
    let kill = Kill::Named(mutant.at);
    let result = catch_unwind(AssertUnwindSafe(|| run::point(&scene, &world, &[kill])));
    kept(&world);
    match result {
        // Where only the mistake passes the boundary, nothing was killed without it.
        Ok(survived) if made && survived.kills == 0 => panic!("{} was not reached", mutant.at),
        Ok(_) => Err(format!("{} survives {} at {}", mutant.name, mutant.scene, mutant.at)),
        Err(_) => Ok(()),
    }
}

#[test]
fn a_seeded_mistake_does_not_survive() {
    let survivors: Vec<String> =
        MUTANTS.iter().filter_map(|mutant| caught(mutant, true).err()).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
    // And it is the mistake that is caught, not the point.
    for mutant in MUTANTS {
        assert!(caught(mutant, false).is_err(), "{} fails without its mistake", mutant.at);
    }
}
