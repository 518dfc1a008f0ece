//! Mistakes seeded into our own code: each must be caught by what the proofs look at, else they prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::run::{self, Kill};
use super::{power, scene_of};
use crate::kills::loops;
use crate::races::{clock, stages, stopped};
use crate::support::World;

/// Switches the mistake on in a world, or leaves it off.
type Make<'a> = &'a dyn Fn(&World);

/// A mistake, and the part of the proofs that must fail with it.
struct Mutant {
    name: &'static str,
    /// Prepares a world; then, with the mistake in its commands, tries what must hold.
    proof: fn(Make<'_>),
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "outcome_before_effect",
        proof: |make| killed_at(make, "script rollback", "before_effect/start"),
    },
    Mutant {
        name: "no_observe",
        proof: |make| killed_at(make, "script rollback", "after_intent/start"),
    },
    Mutant {
        name: "skip_half_done",
        proof: |make| killed_at(make, "script stages deploy", "after_effect/start"),
    },
    // Only with the mistake there is such a boundary.
    Mutant {
        name: "outbox_apart",
        proof: |make| killed_at(make, "script deploy", "before_outbox/outbox"),
    },
    Mutant { name: "retry_without_limit", proof: |make| crashes(make) },
    Mutant { name: "no_epoch_check", proof: |make| is_woken(make) },
    Mutant { name: "lease_by_wall_clock", proof: |make| has_another_time(make) },
    Mutant {
        name: "ledger_not_synced",
        proof: |make| in_a(make, "script deploy", power::loses_what_was_not_synced),
    },
    Mutant { name: "file_not_synced", proof: |make| in_a(make, power::CAREFUL, power::is_careful) },
    Mutant {
        name: "folder_not_synced",
        proof: |make| in_a(make, power::CAREFUL, power::is_careful),
    },
];

fn killed_at(make: Make<'_>, scene: &str, boundary: &'static str) {
    let scene = scene_of(scene);
    let world = scene.prepared();
    make(&world);
    run::point(&scene, &world, &[Kill::Named(boundary)]);
}

fn in_a(make: Make<'_>, scene: &str, proof: fn(&World)) {
    let world = scene_of(scene).prepared();
    make(&world);
    proof(&world);
}

fn crashes(make: Make<'_>) {
    let scene = scene_of("script rollback");
    let world = scene.prepared();
    make(&world);
    loops::crash_in(&scene, &world, "start");
}

fn is_woken(make: Make<'_>) {
    let scene = scene_of("script stages deploy then rollback");
    let (_, (), woken) = stopped::woken(&scene, "after_effect/start:1", make);
    assert_eq!(woken.late, 0);
}

fn has_another_time(make: Make<'_>) {
    let world = stages("20m");
    make(&world);
    clock::is_not_stolen(&world, &["+1h"]);
}

/// Whether the proof fails.
fn fails(mutant: &Mutant, made: bool) -> bool {
    let make = |world: &World| {
        if made {
            world.set("BACKOUT_MUTANT", mutant.name);
        }
    };
    catch_unwind(AssertUnwindSafe(|| (mutant.proof)(&make))).is_err()
}

/// All of them side by side: most of the time is waited.
fn those_that(wanted: bool, made: bool) -> Vec<&'static str> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = MUTANTS
            .iter()
            .map(|mutant| (mutant.name, scope.spawn(move || fails(mutant, made))))
            .collect();
        let ended = threads.into_iter().map(|(name, thread)| (name, thread.join().unwrap()));
        ended.filter(|(_, failed)| *failed == wanted).map(|(name, _)| name).collect()
    })
}

#[test]
fn a_seeded_mistake_does_not_survive() {
    assert_eq!(those_that(false, true), [""; 0], "these mistakes are not caught");
}

#[test]
fn it_is_the_mistake_that_is_caught() {
    assert_eq!(those_that(true, false), [""; 0], "these proofs fail without a mistake, too");
}
