//! The demo itself: three deploys by the same path as `backout deploy`, under load.

use std::time::Duration;

use backout_core::ids::Version;
use backout_core::model::{Deployment, DeploymentFilter};
use backout_core::ports::LedgerError;
use backout_engine::{self as engine, CheckReport, DeployWish, Outcome};
use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;

use super::folder::DemoFolder;
use super::load::{Load, Record};
use super::narrator::{FoundBad, Moment, Narrator};
use crate::cli::report::outcome;
use crate::cli::session::{self, Opening, Session};
use crate::error::CommandError;
use crate::exit_code;

/// Users are watched for so long after the end, to see that it stays well.
const AFTERWARDS: Duration = Duration::from_millis(1_500);

/// A version that is shipped.
#[derive(Debug)]
pub struct Shipped {
    /// Its label.
    pub version: &'static str,
    /// Its config file.
    pub config: &'static str,
    /// What readers are told first.
    pub words: &'static str,
    /// How its deploy must end.
    pub expected: u8,
}

/// What the demo ships, in this order.
pub const RELEASES: [Shipped; 3] = [
    Shipped {
        version: "v1",
        config: "{ \"fail_percent\": 0, \"latency_ms\": 2 }\n",
        words: "the first deployment",
        expected: exit_code::OK,
    },
    Shipped {
        version: "v2",
        config: "{ \"fail_percent\": 0, \"latency_ms\": 1 }\n",
        words: "a good release goes out in stages",
        expected: exit_code::OK,
    },
    Shipped {
        version: "v3",
        config: "{ \"fail_percent\": 25, \"latency_ms\": 1 }\n",
        words: "a bad release: /health is green, but a quarter of its requests fail",
        expected: exit_code::ROLLED_BACK,
    },
];

/// The one that must be live at the end.
pub const GOOD: &Shipped = &RELEASES[1];
/// The one that must be taken back.
pub const BAD: &Shipped = &RELEASES[2];

/// What happened.
#[derive(Debug)]
pub struct Told {
    /// When it began, microseconds since the Unix epoch.
    pub began_us: i64,
    /// When the load ended.
    pub ended_us: i64,
    /// What was told meanwhile.
    pub moments: Vec<Moment>,
    /// The verdict.
    pub found_bad: Option<FoundBad>,
    /// When all traffic was on the good release again, microseconds since the Unix epoch.
    pub safe_us: Option<i64>,
    /// Exit codes of the deploys that were run.
    pub codes: Vec<u8>,
    /// Why one of them could not go on.
    pub stuck: Option<String>,
    /// All deployments, oldest first.
    pub deployments: Vec<Deployment>,
    /// The record of the rollback.
    pub rollback: Option<serde_json::Value>,
    /// Every request.
    pub records: Vec<Record>,
    /// What is live, probed at the end.
    pub health: Option<CheckReport>,
    /// The service's config file at the end.
    pub config: String,
}

/// Runs it all, and stops what it started.
///
/// # Errors
/// When a deploy could not begin, or the ledger can't be read.
pub async fn tell(folder: &DemoFolder) -> Result<Told, CommandError> {
    let load = Load::start(folder.listen);
    let mut narrator = Narrator::new(load.reader());
    let began_us = narrator.began_us();
    let (mut codes, mut stuck, mut rollback) = (Vec::new(), None, None);
    for shipped in &RELEASES {
        let cyan = AnsiColor::Cyan.on_default().bold();
        narrator.headline(&format!("\n{cyan}{}{cyan:#}  {}", shipped.version, shipped.words));
        let (back, outcome) = deploy(folder, shipped, narrator).await?;
        narrator = back;
        codes.push(outcome::code(&outcome));
        if let Outcome::Ended { then: Some(then), .. } = &outcome {
            rollback = crate::cli::report::json::rollback_of(then.last().operation());
        }
        if let Outcome::Stuck { reason, .. } | Outcome::Lost { reason, .. } = outcome.last() {
            stuck = Some(reason.clone());
        }
        if codes.last() != Some(&shipped.expected) {
            break;
        }
    }
    tokio::time::sleep(AFTERWARDS).await;
    let session = open(folder, "demo").await?;
    let health = engine::check_now(&session.cx).await.map_err(|e| session::ledger_error(&e))?;
    let records = load.stop().await;
    let ended_us = Timestamp::now().as_microsecond();
    let deployments = deployments(&session).await.map_err(|e| session::ledger_error(&e))?;
    let config = folder.service_config();
    narrator.tell(Style::new(), "the users leave; what runs is stopped, the folder is removed");
    // What it can't stop is ended with the folder.
    let _ = engine::down(&session.cx, Some("the demo is over".to_owned())).await;
    Ok(Told {
        began_us,
        ended_us,
        moments: narrator.moments,
        found_bad: narrator.found_bad,
        safe_us: narrator.safe_us,
        codes,
        stuck,
        deployments,
        rollback,
        records,
        health,
        config,
    })
}

async fn open(folder: &DemoFolder, activity: &str) -> Result<Session, CommandError> {
    let opening = Opening { activity, changes: true, ..Opening::default() };
    session::open(&folder.global(), opening).await
}

async fn deploy(
    folder: &DemoFolder,
    shipped: &Shipped,
    narrator: Narrator,
) -> Result<(Narrator, Outcome), CommandError> {
    folder.write_service_config(shipped.config)?;
    let session = open(folder, "deploy").await?;
    let version = Version::new(shipped.version)
        .map_err(|error| CommandError::failed(format!("failed to begin: {error}")))?;
    let wish = DeployWish {
        version,
        reason: None,
        config: None,
        overrides: Vec::new(),
        services: Vec::new(),
    };
    let following = narrator.follow(&session.cx.events);
    let result = engine::deploy(&session.cx, &wish).await;
    let narrator = following.end().await;
    let outcome = result.map_err(|error| session::engine_error(&error))?;
    let narrator = narrator.ok_or_else(|| CommandError::failed("failed to tell what happens"))?;
    Ok((narrator, outcome))
}

async fn deployments(session: &Session) -> Result<Vec<Deployment>, LedgerError> {
    let filter = DeploymentFilter::default();
    let mut rows = session.cx.ledger.deployments(&session.cx.key, &filter).await?;
    rows.sort_by_key(|row| row.number);
    Ok(rows)
}
