//! Runs plans one durable step at a time: intent durable, effect, observation, outcome durable.
//!
//! Recovery and normal running share one path: [`executor`] folds the journal, decides, acts, and appends.

mod acted;
mod commands;
mod config_snapshot;
mod context;
mod controller;
mod dependencies;
mod drill;
mod effects;
mod events;
mod executor;
mod faults;
mod gate;
pub mod incident;
mod jobs;
mod journal;
mod keeper;
mod live_at;
mod mixed;
mod partial;
mod pins;
mod readiness;
mod release;
mod safety;
mod sides;
mod situation;
mod view;
mod watch;

pub use commands::adopt::{AdoptWish, adopt};
pub use commands::control::{ControlAnswer, ask, resolve};
pub use commands::deploy::{ConfigChoice, DeployWish, Prepared, deploy, prepare_deploy};
pub use commands::doctor::{managed_by_us, observe_live, obstacles};
pub use commands::down::{down, prepare_down};
pub use commands::drill::{DrillWish, PreparedDrill, drill, prepare_drill, shown};
pub use commands::eject::{PreparedEject, eject, prepare_eject};
pub use commands::health::{CheckReport, check_now, judge_check};
pub use commands::recover::{Recovered, recover};
pub use commands::rollback::{
    PreparedRollback, RollbackTarget, RollbackWishes, prepare_rollback, rollback,
};
pub use commands::{EngineError, Refused};
pub use context::{Context, Interrupt, MetricPlan, ProbePlan, Probes, SyntheticPlan};
pub use controller::{
    Fleet, Leave, Ordered, controller_of, order_deploy, policy_digest, require_controller,
    run_controller,
};
pub use events::{Event, EventSink, SideReading, StepMark, WatchReading};
pub use executor::{Finished, Outcome};
pub use mixed::MixedTarget;
pub use readiness::{last_known_good, readiness};
pub use view::{Operation, Standing, TrafficView, View, look};
pub use watch::{JUDGE_ACCOUNT_FORMAT, JudgeAccount, PartAccount, SideAccount, judge_account_name};
