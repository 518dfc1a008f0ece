//! `judge replay` and `judge explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::values;
use crate::config;

/// `judge`.
#[derive(Debug, Args)]
pub struct Judge {
    /// What is asked.
    #[command(subcommand)]
    pub command: JudgeCommand,
}

/// What the judge is asked.
#[derive(Debug, Subcommand)]
pub enum JudgeCommand {
    /// Run the sequential tests over recorded requests: what would another setting have done?
    #[command(after_help = "Examples:
  backout judge replay requests.ndjson
  backout judge replay requests.ndjson --false-rollback-probability 0.001 --metrics errors

One JSON object a line, ordered by t (seconds); the first gives the weight:
  {\"t\":0,\"weight\":0.1}
  {\"t\":12.031,\"arm\":\"canary\",\"ok\":false,\"latency_ms\":84.2}
  {\"t\":3600,\"end\":true}

Exits 0 if the verdict never failed, 1 if it did, 2 for a line that can't be used.")]
    Replay(JudgeReplay),
    /// Say why: the verdict of the running deployment, or of a past one, with its evidence over time
    #[command(after_help = "Examples:
  backout judge explain
  backout judge explain 42 --svg evidence.svg
  backout judge explain --format json

Only reads. Of each environment the accounts of some 200 deployments are kept.")]
    Explain(JudgeExplain),
}

/// `judge explain`.
#[derive(Debug, Args)]
pub struct JudgeExplain {
    /// The deployment's number; without it the newest that was judged
    #[arg(value_name = "N", value_parser = values::revision)]
    pub number: Option<u64>,
    /// Also draw the chart into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `judge replay`.
#[derive(Debug, Args)]
pub struct JudgeReplay {
    /// The recorded requests; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Highest probability of taking a harmless release back
    #[arg(long, value_name = "A", default_value_t = 0.01, allow_hyphen_values = true)]
    pub false_rollback_probability: f64,
    /// Comparisons are muted for this long after the canary's first request
    #[arg(long, value_name = "D", default_value = "0s", value_parser = config::parse_duration_ms)]
    pub warm_up: u64,
    /// Comparisons of latency are muted for this long
    #[arg(long, value_name = "D", default_value = "0s", value_parser = config::parse_duration_ms)]
    pub latency_warm_up: u64,
    /// Relative increase in errors or latency that is harmless
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_hyphen_values = true)]
    pub tolerance: f64,
    /// Error rate (fraction) up to which errors are harmless
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_hyphen_values = true)]
    pub harmless_error_rate: f64,
    /// Relative slowdown that is harmless
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_hyphen_values = true)]
    pub harmless_latency_increase: f64,
    /// What is compared
    #[arg(long, value_name = "errors,latency", value_delimiter = ',', default_value = "errors,latency", value_parser = ["errors", "latency"])]
    pub metrics: Vec<String>,
}
