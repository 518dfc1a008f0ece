//! The watch: samplers feed the judge, the loop turns verdicts and requests into outcomes.

mod feed;
mod figures;
mod increase;
mod metric_samplers;
mod processes;
mod router_care;
mod run;
mod sampler;

pub(crate) use run::{WatchEnd, WatchScope, run_watch};
pub(crate) use sampler::Watcher;
