//! `check`: health of what is live, probed now.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::{EnvironmentRecord, Health, LiveHealth, Service};
use backout_core::ports::{LedgerError, Observed, ProbeError, ProbeSubject, Sample, SampleOutcome};
use backout_judge::Thresholds;
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::context::Context;
use crate::journal;
use crate::situation;

/// Clocks may differ by this, milliseconds.
const SKEW_MS: u64 = 30_000;

/// One look at everything that is live.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Overall.
    pub health: Health,
    /// By service.
    pub services: BTreeMap<String, Health>,
    /// By `service@host`, where it runs on other hosts.
    pub hosts: BTreeMap<String, Health>,
    /// What did not pass, for people.
    pub findings: Vec<String>,
    /// When.
    pub checked_at: Timestamp,
    /// Two intervals of the slowest check, milliseconds.
    pub fresh_for_ms: u64,
}

impl CheckReport {
    /// Everything passes, maybe with a warning.
    #[must_use]
    pub fn healthy(&self) -> bool {
        matches!(self.health, Health::Healthy | Health::Warning)
    }

    /// As the ledger keeps it.
    #[must_use]
    pub fn live_health(&self) -> LiveHealth {
        LiveHealth {
            overall: self.health,
            services: self.services.clone(),
            hosts: self.hosts.clone(),
            checked_at: self.checked_at,
            fresh_for_ms: self.fresh_for_ms,
        }
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
        // A reading command may stand on a read-only ledger: then the result is only shown.
        let _ = cx.ledger.put_health(&cx.key, &report.live_health()).await;
    }
    Ok(report)
}

/// Says so if it is not the expected version that answers.
pub(crate) fn wrong_version(sample: &Sample, expected: &str) -> Option<String> {
    let running = sample.version.as_deref().filter(|running| *running != expected)?;
    Some(format!("version {running} answers where {expected} was deployed"))
}

/// What one check says of health: a bad answer, another version than expected, a broken threshold, or figures
/// that are too old to mean anything. The words say why it is not healthy.
#[must_use]
pub fn judge_check(
    result: Result<Sample, ProbeError>,
    expected: Option<&str>,
    thresholds: &Thresholds,
    interval_ms: u64,
) -> (Health, String) {
    let sample = match result {
        Ok(sample) => sample,
        Err(error) => return (Health::Unknown, error.to_string()),
    };
    if let Some(wrong) = expected.and_then(|expected| wrong_version(&sample, expected)) {
        return (Health::Failing, wrong);
    }
    let (health, why) = match &sample.outcome {
        SampleOutcome::Fail(why) | SampleOutcome::NotReady(why) => {
            return (Health::Failing, why.clone());
        }
        SampleOutcome::Warn(why) => (Health::Warning, Some(why.clone())),
        SampleOutcome::Pass => (Health::Healthy, None),
    };
    let stale_ms = i64::try_from(interval_ms.saturating_mul(2).saturating_add(SKEW_MS));
    let age_ms =
        sample.timestamp.map(|at| sample.started_at.as_millisecond() - at.as_millisecond());
    if age_ms.is_some_and(|age| age > stale_ms.unwrap_or(i64::MAX)) {
        return (Health::Unknown, "its `timestamp` is older than two intervals".to_owned());
    }
    let (limits, broken) = limits(&sample, thresholds);
    let words: Vec<String> = why.into_iter().chain(broken).collect();
    (health.max(limits), words.join(", "))
}

/// The fixed thresholds on what one check reports, bounds inclusive.
fn limits(sample: &Sample, thresholds: &Thresholds) -> (Health, Vec<String>) {
    let mut worst = Health::Healthy;
    let mut words = Vec::new();
    let mut judge = |fails: bool, warns: bool, text: String| {
        if fails || warns {
            worst = worst.max(if fails { Health::Failing } else { Health::Warning });
            words.push(text);
        }
    };
    if let Some(rate) = sample.error_rate {
        let limit = thresholds.error_rate_percent;
        judge(rate >= limit.fail, rate >= limit.warn, format!("error rate {rate:.1} %"));
    }
    if let Some(percent) = sample.availability {
        let limit = thresholds.availability_percent;
        let text = format!("availability {percent:.1} %");
        judge(percent <= limit.fail, percent <= limit.warn, text);
    }
    let response_ms = sample.response_time_ms.unwrap_or(sample.latency_ms);
    let limit = thresholds.response_time_ms;
    let text = format!("response time {response_ms:.0} ms");
    judge(response_ms >= limit.fail, response_ms >= limit.warn, text);
    (worst, words)
}

pub(crate) async fn probe_live(
    cx: &Context,
    environment: &EnvironmentRecord,
) -> Result<Option<CheckReport>, LedgerError> {
    let Some(live) = situation::live(cx, environment).await? else { return Ok(None) };
    let release = situation::release(cx, &live.release).await?;
    let mut report = CheckReport {
        health: Health::Healthy,
        services: BTreeMap::new(),
        hosts: BTreeMap::new(),
        findings: Vec::new(),
        checked_at: cx.now(),
        fresh_for_ms: u64::try_from(cx.fresh_for(false).as_millis()).unwrap_or(60_000),
    };
    for service in release.content.services.values() {
        let mut worst = Health::Healthy;
        for (unit, health, found) in probe_units(cx, &live, &release, service).await {
            if !unit.host.is_local() {
                report.hosts.insert(situation::who(&unit), health);
            }
            worst = worst.worse(health);
            report.findings.extend(found);
        }
        report.services.insert(service.name.to_string(), worst);
        report.health = report.health.worse(worst);
    }
    Ok(Some(report))
}

pub(crate) async fn probe_service(
    cx: &Context,
    live: &backout_core::plan::Live,
    release: &backout_core::model::Release,
    service: &Service,
    findings: &mut Vec<String>,
) -> Health {
    let mut worst = Health::Healthy;
    for (_, health, found) in probe_units(cx, live, release, service).await {
        worst = worst.worse(health);
        findings.extend(found);
    }
    worst
}

/// Probes a service on each of its hosts.
async fn probe_units(
    cx: &Context,
    live: &backout_core::plan::Live,
    release: &backout_core::model::Release,
    service: &Service,
) -> Vec<(Unit, Health, Vec<String>)> {
    let units = situation::units(cx, &service.name, live.slot);
    if crate::jobs::is_job(service) {
        // It has ended well, or this release would not be live.
        return units.into_iter().map(|unit| (unit, Health::Healthy, Vec::new())).collect();
    }
    let probe = |unit| probe_unit(cx, release, service, unit);
    stream::iter(units).map(probe).buffered(cx.policy.hosts.at_once.max(1)).collect().await
}

async fn probe_unit(
    cx: &Context,
    release: &backout_core::model::Release,
    service: &Service,
    unit: Unit,
) -> (Unit, Health, Vec<String>) {
    let version = release.content.version_of(&service.name);
    let mut findings = Vec::new();
    let mut worst = Health::Healthy;
    let observed = match cx.target.observe(&unit, Some(release)).await {
        Ok(observed) => observed,
        Err(error) => {
            // Checks from here may pass all the same: of a host that can't be reached nothing is known.
            if !unit.host.is_local() {
                worst = Health::Unknown;
                findings.push(format!("{}: {error}", situation::who(&unit)));
            }
            Observed::unknown()
        }
    };
    for plan in cx.probes.for_unit(&unit, service) {
        let subject = ProbeSubject {
            unit: unit.clone(),
            address: observed.address,
            version: version.clone(),
            release: release.runs_as(&service.name).clone(),
            timeout: Duration::from_millis(plan.schedule.timeout_ms),
            retries: plan.schedule.retries,
        };
        let (health, finding) = judge_check(
            plan.probe.check(&subject).await,
            Some(version.as_str()),
            &cx.policy.judge.thresholds,
            plan.schedule.interval_ms,
        );
        if health != Health::Healthy {
            let who = situation::who(&unit);
            findings.push(format!("{who} {}: {finding}", plan.probe.name()));
        }
        worst = worst.worse(health);
    }
    (unit, worst, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(outcome: SampleOutcome) -> Sample {
        Sample {
            started_at: Timestamp::from_second(1_000_000).unwrap(),
            outcome,
            latency_ms: 3.0,
            error_rate: None,
            availability: None,
            response_time_ms: None,
            version: None,
            timestamp: None,
        }
    }

    fn judged(sample: Sample) -> (Health, String) {
        judge_check(Ok(sample), Some("2"), &Thresholds::default(), 30_000)
    }

    #[test]
    fn thresholds_are_inclusive_and_the_worst_counts() {
        let with = |error_rate, availability, response_time_ms| {
            let found = Sample {
                error_rate,
                availability,
                response_time_ms,
                ..sample(SampleOutcome::Pass)
            };
            judged(found).0
        };
        assert_eq!(with(Some(2.9), Some(99.6), Some(1499.0)), Health::Healthy);
        assert_eq!(with(Some(3.0), None, None), Health::Warning);
        assert_eq!(with(Some(5.0), None, None), Health::Failing);
        assert_eq!(with(None, Some(99.5), None), Health::Warning);
        assert_eq!(with(None, Some(99.0), Some(1.0)), Health::Failing);
        assert_eq!(with(Some(3.0), None, Some(2000.0)), Health::Failing);
        let slow = Sample { latency_ms: 1500.0, ..sample(SampleOutcome::Pass) };
        assert_eq!(judged(slow), (Health::Warning, "response time 1500 ms".to_owned()));
    }

    #[test]
    fn another_version_fails_and_old_figures_are_unknown() {
        let other = Sample { version: Some("1".to_owned()), ..sample(SampleOutcome::Pass) };
        assert_eq!(judged(other).0, Health::Failing);
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let old = Sample { timestamp: at(1_000_000 - 91), ..sample(SampleOutcome::Pass) };
        assert_eq!(judged(old).0, Health::Unknown);
        let fresh =
            Sample { timestamp: at(1_000_000 - 90), ..sample(SampleOutcome::Warn("w".to_owned())) };
        assert_eq!(judged(fresh), (Health::Warning, "w".to_owned()));
        let nothing =
            judge_check(Err(ProbeError("why".to_owned())), None, &Thresholds::default(), 1);
        assert_eq!(nothing, (Health::Unknown, "why".to_owned()));
        assert_eq!(Health::Unknown.worse(Health::Failing), Health::Failing);
        assert_eq!(Health::Unknown.worse(Health::Healthy), Health::Unknown);
    }
}
