//! Bad input and faults. After each: users are on a good release or nothing was changed, the ledger is true, the
//! message says what to do, and the exit code fits.

pub(crate) mod disk;
mod health;
mod input;
mod ports;
mod programs;
mod router;
mod scripts;
mod state;
mod together;

use serde_json::json;

use crate::support::World;

/// What must hold after whatever happened to v2: users are on v1, no operation is open, and v2 is not live.
#[track_caller]
fn still_on_v1(world: &World) {
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    let status = world.status();
    assert_eq!((&status["version"], &status["operation"]), (&json!("v1"), &json!(null)));
    assert_eq!(status["status"], "stable");
}

/// What must hold where nothing ever became live.
#[track_caller]
fn nothing_runs(world: &World) {
    assert_eq!(world.running(), Vec::<String>::new());
    let status = world.status();
    assert_eq!((&status["deployment"], &status["operation"]), (&json!(null), &json!(null)));
}
