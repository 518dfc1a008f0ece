//! `deploy` and its choices.

use backout_core::ids::{ServiceName, Version};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use crate::cli::values;

/// `deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    /// Version to ship
    #[arg(long, value_name = "V", value_parser = values::version)]
    pub version: Version,
    /// Another strategy than the configuration's
    #[arg(
        long,
        value_enum,
        value_name = "recreate|rolling|blue_green|canary",
        hide_possible_values = true
    )]
    pub strategy: Option<StrategyName>,
    /// Ship only this service, the others stay what they are; may be repeated
    #[arg(long = "service", value_name = "S", value_parser = values::service)]
    pub services: Vec<ServiceName>,
    /// Config files: keep what is on disk, or take those of deployment N
    #[arg(long, value_name = "keep|N", value_parser = values::config_choice)]
    pub config: Option<ConfigChoice>,
    /// Lift one failing check by its name; may be repeated
    #[arg(long = "override", value_name = "CHECK", value_parser = PossibleValuesParser::new(values::DEPLOY_CHECKS), hide_possible_values = true)]
    pub overrides: Vec<String>,
    /// Leave it to the controller, and return once it has begun
    #[arg(long)]
    pub detach: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `--strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum StrategyName {
    /// Old stops, new starts.
    Recreate,
    /// Host after host.
    Rolling,
    /// All traffic at once.
    #[value(alias = "blue-green")]
    BlueGreen,
    /// In stages.
    Canary,
}

impl StrategyName {
    /// The word in `backout.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StrategyName::Recreate => "recreate",
            StrategyName::Rolling => "rolling",
            StrategyName::BlueGreen => "blue_green",
            StrategyName::Canary => "canary",
        }
    }
}

/// `--config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChoice {
    /// What is on disk.
    Keep,
    /// The files of this deployment.
    Deployment(u64),
}
