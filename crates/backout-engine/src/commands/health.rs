//! `check`: health of what is live, probed now.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::model::{EnvironmentRecord, Health, LiveHealth, Service};
use backout_core::ports::{LedgerError, ProbeSubject, SampleOutcome};

use crate::context::Context;
use crate::journal;
use crate::situation;

/// One look at everything that is live.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Overall.
    pub health: Health,
    /// By service.
    pub services: BTreeMap<String, Health>,
    /// What did not pass, for people.
    pub findings: Vec<String>,
}

impl CheckReport {
    /// Everything passes, maybe with a warning.
    #[must_use]
    pub fn healthy(&self) -> bool {
        matches!(self.health, Health::Healthy | Health::Warning)
    }
}

/// Probes what is live with its own checks; `None` if nothing is live.
///
/// # Errors
/// When the ledger can't be read.
pub async fn check_now(cx: &Context) -> Result<Option<CheckReport>, LedgerError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let report = probe_live(cx, &environment).await?;
    if let Some(report) = &report {
        let health = LiveHealth {
            overall: report.health,
            services: report.services.clone(),
            checked_at: cx.now(),
            fresh_for_ms: u64::try_from(cx.fresh_for(false).as_millis()).unwrap_or(60_000),
        };
        // A reading command may stand on a read-only ledger: then the result is only shown.
        let _ = cx.ledger.put_health(&cx.key, &health).await;
    }
    Ok(report)
}

pub(crate) async fn probe_live(
    cx: &Context,
    environment: &EnvironmentRecord,
) -> Result<Option<CheckReport>, LedgerError> {
    let Some(live) = situation::live(cx, environment).await? else { return Ok(None) };
    let release = situation::release(cx, &live.release).await?;
    let mut report =
        CheckReport { health: Health::Healthy, services: BTreeMap::new(), findings: Vec::new() };
    for service in release.content.services.values() {
        let health = probe_service(cx, &live, &release, service, &mut report.findings).await;
        report.services.insert(service.name.to_string(), health);
        report.health = report.health.max(health);
    }
    Ok(Some(report))
}

async fn probe_service(
    cx: &Context,
    live: &backout_core::plan::Live,
    release: &backout_core::model::Release,
    service: &Service,
    findings: &mut Vec<String>,
) -> Health {
    let unit = situation::unit(cx, &service.name, live.slot);
    let observed = situation::observe(cx, &unit, Some(release)).await;
    let mut worst = Health::Healthy;
    for plan in cx.probes.for_unit(&unit, service) {
        let subject = ProbeSubject {
            unit: unit.clone(),
            address: observed.address,
            version: live.version.clone(),
            release: live.release.clone(),
            timeout: Duration::from_millis(plan.schedule.timeout_ms),
            retries: plan.schedule.retries,
        };
        let (health, finding) = match plan.probe.check(&subject).await {
            Ok(sample) => match (&sample.version, sample.outcome) {
                (Some(version), _) if *version != live.version.as_str() => (
                    Health::Failing,
                    format!("version {version} answers where {} was deployed", live.version),
                ),
                (_, SampleOutcome::Pass) => (Health::Healthy, String::new()),
                (_, SampleOutcome::Warn(why)) => (Health::Warning, why),
                (_, SampleOutcome::Fail(why) | SampleOutcome::NotReady(why)) => {
                    (Health::Failing, why)
                }
            },
            Err(error) => (Health::Unknown, error.to_string()),
        };
        if health != Health::Healthy {
            findings.push(format!("{} {}: {finding}", service.name, plan.probe.name()));
        }
        worst = worst.max(health);
    }
    worst
}
