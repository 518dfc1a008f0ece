//! The watch: samplers feed the judge, the loop turns verdicts and requests into outcomes.

mod account;
mod feed;
mod figures;
mod hours;
mod increase;
mod metric_samplers;
mod past;
mod processes;
mod requests;
mod router_care;
mod run;
mod sampler;

pub use account::{
    JUDGE_ACCOUNT_FORMAT, JudgeAccount, PartAccount, SideAccount, judge_account_name,
};
pub(crate) use run::{WatchEnd, WatchScope, run_watch};
pub(crate) use sampler::Watcher;
