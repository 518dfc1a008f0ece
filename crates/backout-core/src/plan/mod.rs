//! Plans: made by pure code from what was observed, immutable once made.

mod builder;
mod deploy;
mod down;
mod drill;
mod eject;
mod evidence;
mod lint;
mod partial;
mod preview;
mod rollback;
mod rolling;
mod scale;
mod situation;
mod step;

pub use deploy::plan_deploy;
pub use down::{plan_adopt, plan_down};
pub use drill::{not_beside, plan_drill};
pub use eject::plan_eject;
pub use lint::lint;
pub use partial::{Seen, shared_slot};
pub use preview::{PreviewCheck, PreviewStep, preview};
pub use rollback::{RollbackWish, plan_rollback};
pub use situation::{PlanContext, Refusal, Side, Situation};
pub use step::{
    Action, Live, Nature, PLAN_FORMAT, Phase, Plan, RevertStep, Step, TrafficStep, WatchMode,
};
