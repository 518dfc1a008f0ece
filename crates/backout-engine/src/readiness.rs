//! Rollback readiness: everything that going back would need, each item proven or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{EnvironmentKey, HostName, ReleaseId, ServiceName, Slot, Unit};
use backout_core::model::{
    ConfigFile, Deployment, DeploymentFilter, DeploymentStatus, EnvValue, EnvironmentRecord,
    FileKind, ReadinessCheck, ReadinessReport, Release, Severity, TargetSpec, secret_values,
};
use backout_core::ports::{AdapterError, ArtifactDigest, ErrorClass, LedgerError, Running};
use futures_util::stream::{self, StreamExt as _};

use crate::context::Context;
use crate::situation;

/// Name of the check that says whether the release can be started again.
pub(crate) const STARTABLE: &str = "old_release_startable";

/// How far back history is searched.
const HISTORY_LIMIT: u32 = 500;

pub(crate) fn check(name: &str, status: Severity, message: impl Into<String>) -> ReadinessCheck {
    ReadinessCheck { name: name.to_owned(), status, message: message.into() }
}

/// Newest first.
pub(crate) async fn history(cx: &Context) -> Result<Vec<Deployment>, LedgerError> {
    let filter = DeploymentFilter { limit: Some(HISTORY_LIMIT), ..DeploymentFilter::default() };
    let begins_at = cx.ledger.environment(&cx.key).await?.map_or(0, |known| known.begins_at);
    let mut rows = cx.ledger.deployments(&cx.key, &filter).await?;
    rows.retain(|row| row.number >= begins_at);
    Ok(rows)
}

/// Releases whose newest deployment is rejected.
pub(crate) fn rejected_releases(history: &[Deployment]) -> BTreeSet<ReleaseId> {
    let mut newest: BTreeMap<&ReleaseId, bool> = BTreeMap::new();
    for row in history {
        newest.entry(&row.release).or_insert(row.rejected);
    }
    newest.into_iter().filter(|(_, rejected)| *rejected).map(|(id, _)| id.clone()).collect()
}

/// The newest stable release other than the live one and `besides`, and never a rejected one. A superseded
/// one only where there is no stable one.
///
/// # Errors
/// When the ledger can't be read.
pub async fn last_known_good(
    cx: &Context,
    besides: &[ReleaseId],
) -> Result<Option<Deployment>, LedgerError> {
    let environment = crate::journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let history = history(cx).await?;
    let live = environment.live.and_then(|number| history.iter().find(|row| row.number == number));
    let rejected = rejected_releases(&history);
    let candidate = |status: DeploymentStatus| {
        history.iter().find(|row| {
            row.status == status
                && live.is_none_or(|live| live.release != row.release)
                && !rejected.contains(&row.release)
                && !besides.contains(&row.release)
        })
    };
    Ok(candidate(DeploymentStatus::Stable)
        .or_else(|| candidate(DeploymentStatus::Superseded))
        .cloned())
}

/// Proves what going back to a release needs.
pub(crate) async fn way_back_checks(
    cx: &Context,
    environment: &EnvironmentRecord,
    release: &Arc<Release>,
) -> Result<Vec<ReadinessCheck>, LedgerError> {
    let (config, files) = config_check(cx, release).await?;
    let mut checks = vec![artifact_check(cx, release).await, config];
    checks.push(all_secrets_check(cx, release, &files).await);
    let warm = environment
        .slots
        .iter()
        .find(|(_, record)| record.release == release.id)
        .map(|(slot, _)| *slot);
    checks.push(startable(cx, environment, release, warm).await);
    checks.extend(target_checks(cx, release, warm.unwrap_or(Slot::A)).await);
    if let Some(router) = &cx.router {
        checks.push(match router.read().await {
            Ok(_) => check("router_movable", Severity::Pass, "the router answers"),
            Err(error) if environment.routed => {
                check("router_movable", Severity::Error, error.to_string())
            }
            Err(_) => check(
                "router_movable",
                Severity::Pass,
                "the router starts with the first deployment",
            ),
        });
    }
    Ok(checks)
}

/// What the target itself has to say of each service, on all hosts.
async fn target_checks(cx: &Context, release: &Release, slot: Slot) -> Vec<ReadinessCheck> {
    let mut checks: Vec<ReadinessCheck> = Vec::new();
    for service in release.content.services.keys() {
        let ask = |unit: Unit| async move {
            let found = cx.target.restorable(&unit, release).await;
            (unit.host, found)
        };
        let units = stream::iter(situation::units(cx, service, slot));
        let asked = units.map(ask).buffered(cx.policy.hosts.at_once.max(1)).collect().await;
        checks.extend(of_all_hosts(asked));
    }
    checks
}

/// A check that passes is told once, what is wrong for each host that it is wrong on. A host that does not answer says
/// nothing against a way back, since its own step will tell; but for all of them nothing is proven then.
fn of_all_hosts(
    asked: Vec<(HostName, Result<Vec<ReadinessCheck>, AdapterError>)>,
) -> Vec<ReadinessCheck> {
    let answers = asked.iter().any(|(_, found)| found.is_ok());
    let several = asked.len() > 1;
    let (mut passing, mut others): (Vec<ReadinessCheck>, _) = (Vec::new(), Vec::new());
    for (host, found) in asked {
        let found = found.unwrap_or_else(|error| {
            let is_away = answers && !host.is_local() && error.class == ErrorClass::Transient;
            let status = if is_away { Severity::Warning } else { Severity::Error };
            vec![check("target_ready", status, error.to_string())]
        });
        for mut check in found {
            if check.status != Severity::Pass {
                if several && !check.message.contains(host.as_str()) {
                    check.message = format!("{host}: {}", check.message);
                }
                others.push(check);
            } else if !passing.iter().any(|told| told.name == check.name) {
                passing.push(check);
            }
        }
    }
    passing.retain(|passed| !others.iter().any(|other| other.name == passed.name));
    passing.append(&mut others);
    passing
}

async fn artifact_check(cx: &Context, release: &Release) -> ReadinessCheck {
    let name = "artifact_available";
    let mut not_kept = Vec::new();
    for artifact in &release.content.artifacts {
        if artifact.kept {
            if let Err(error) = cx.artifacts.verify(&artifact.digest).await {
                return check(name, Severity::Error, format!("{}: {error}", artifact.path));
            }
            continue;
        }
        match cx.artifacts.digest(&artifact.path).await {
            Ok(digest) if digest == artifact.digest => not_kept.push(artifact.path.clone()),
            Ok(_) => {
                let message = format!(
                    "{} was changed since it was deployed: going back would start the new bytes; set `artifact:` so that each release keeps its own",
                    artifact.path
                );
                return check(name, Severity::Error, message);
            }
            Err(error) => return check(name, Severity::Error, error.to_string()),
        }
    }
    let is_process = release
        .content
        .services
        .values()
        .any(|s| matches!(s.target, backout_core::model::TargetSpec::Process(_)));
    if !not_kept.is_empty() || (is_process && release.content.artifacts.is_empty()) {
        return check(name, Severity::Warning, "no artifact, other files on disk are not kept");
    }
    let count = release.content.artifacts.len();
    let words = if count == 0 {
        "the script brings its own".to_owned()
    } else {
        format!("{count} copies, each whole")
    };
    check(name, Severity::Pass, words)
}

/// Everything that a way back reads of config files: those that it puts back on disk, and those that services from
/// other releases are started with. All that were found, too.
async fn config_check(
    cx: &Context,
    release: &Release,
) -> Result<(ReadinessCheck, Vec<ConfigFile>), LedgerError> {
    let name = "config_compatibility";
    let mut whole = Vec::new();
    let mut why = config_of(cx, release, None, &mut whole).await?;
    for (service, origin) in &release.content.origins {
        let target = release.content.services.get(service).map(|service| &service.target);
        if why.is_some() || !target.is_some_and(starts_with_copies) {
            continue;
        }
        why = match cx.ledger.release_by_id(&origin.release).await? {
            Some(from) => config_of(cx, &from, Some(service), &mut whole).await?,
            None => Some(format!(
                "release {}, which {service} {} comes from, is not in the ledger any more",
                origin.release, origin.version
            )),
        };
    }
    let found = match (why, whole.len()) {
        (Some(why), _) => check(name, Severity::Error, why),
        (None, 0) => check(name, Severity::Pass, "no config files are versioned"),
        (None, count) => {
            let words = format!("{count} config files in the ledger, each whole");
            check(name, Severity::Pass, words)
        }
    };
    Ok((found, whole))
}

/// Whether a start is given the config files of the service's release, as copies.
fn starts_with_copies(target: &TargetSpec) -> bool {
    match target {
        TargetSpec::Compose(_) => true,
        TargetSpec::Process(process) => {
            let plain = process.env.values().filter_map(|value| match value {
                EnvValue::Plain(text) => Some(text),
                EnvValue::Secret => None,
            });
            process.command.iter().chain(plain).any(|text| text.contains("{config}"))
        }
        TargetSpec::Script(_) | TargetSpec::Git(_) | TargetSpec::Systemd(_) => false,
    }
}

/// What is missing of a release's config files; those that are whole are added.
async fn config_of(
    cx: &Context,
    release: &Release,
    service: Option<&ServiceName>,
    whole: &mut Vec<ConfigFile>,
) -> Result<Option<String>, LedgerError> {
    for file in &release.content.config {
        if whole.contains(file) {
            continue;
        }
        if let FileKind::File { blob, .. } = &file.kind {
            let what = match service {
                Some(service) => format!(
                    "{}, which {service} {} is started with,",
                    file.path,
                    release.content.version_of(service)
                ),
                None => file.path.clone(),
            };
            match cx.ledger.blob(blob).await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Some(format!("{what} is not in the ledger any more"))),
                Err(error) => return Ok(Some(format!("{what}: {error}"))),
            }
        }
        whole.push(file.clone());
    }
    Ok(None)
}

/// What a start needs of the caller, and what the config files need that are put back.
async fn all_secrets_check(
    cx: &Context,
    release: &Release,
    files: &[ConfigFile],
) -> ReadinessCheck {
    let found = secrets_check(cx, release);
    if found.status == Severity::Error {
        return found;
    }
    for file in files {
        let missing = without_value(cx, file).await;
        if !missing.is_empty() {
            let words = format!(
                "{} has no value: neither {} on disk nor the environment has one",
                missing.join(", "),
                file.path
            );
            return check(&found.name, Severity::Error, words);
        }
    }
    found
}

/// Keys whose values are in no record, and not to be had today either.
async fn without_value(cx: &Context, file: &ConfigFile) -> Vec<String> {
    let mut missing = file.secrets.clone();
    missing.retain(|key| !cx.secrets.contains_key(key));
    if missing.is_empty() {
        return missing;
    }
    if let Ok(Some(disk)) = cx.config_files.read_one(&file.path).await {
        let today = secret_values(&disk.bytes, &missing);
        missing.retain(|key| !today.contains_key(key));
    }
    missing.sort();
    missing.dedup();
    missing
}

pub(crate) fn secrets_check(cx: &Context, release: &Release) -> ReadinessCheck {
    let name = "secrets_available";
    let needed = release.content.secret_env_keys();
    let missing: Vec<&str> =
        needed.iter().filter(|key| !cx.secrets.contains_key(*key)).map(String::as_str).collect();
    if missing.is_empty() {
        check(name, Severity::Pass, format!("{} secrets needed, all set", needed.len()))
    } else {
        check(name, Severity::Error, format!("not set in the environment: {}", missing.join(", ")))
    }
}

/// Kept warm, or shown by a drill; what was never shown is a warning.
async fn startable(
    cx: &Context,
    environment: &EnvironmentRecord,
    release: &Release,
    slot: Option<Slot>,
) -> ReadinessCheck {
    let name = STARTABLE;
    let mut idle = None;
    // A job has ended, and is not run again on the way back.
    let services = release.content.services.values().filter(|service| service.job.is_none());
    for service in services.filter(|_| slot.is_some()).map(|service| &service.name) {
        let units = situation::units(cx, service, slot.unwrap_or(Slot::A));
        let seen = situation::observe_each(cx, units, Some(release)).await;
        if seen.iter().any(|(_, observed)| observed.running == Running::No) {
            idle = Some(service);
            break;
        }
    }
    let what = match (slot, idle) {
        (Some(slot), None) => {
            return check(name, Severity::Pass, format!("runs warm in slot {slot}"));
        }
        (_, Some(service)) => format!("{service} is not running"),
        (None, None) => "not running".to_owned(),
    };
    let Some(drill) = environment.drills.get(&release.id) else {
        let words = format!("{what}, and never rehearsed: `backout drill` shows whether it starts");
        return check(name, Severity::Warning, words);
    };
    let at = drill.at.strftime("%Y-%m-%d %H:%M:%S UTC");
    match (&drill.error, drill.restore_ms) {
        (Some(why), _) => {
            check(name, Severity::Error, format!("{what}; the drill of {at} failed: {why}"))
        }
        (None, Some(ms)) => {
            let words = format!("{what}; the drill of {at} started it in {ms} ms");
            check(name, Severity::Pass, words)
        }
        (None, None) => {
            let words = format!("{what}; the drill of {at} found what it needs, without a start");
            check(name, Severity::Pass, words)
        }
    }
}

/// Readiness of what a bare rollback would do now; `None` where there is nothing to go back to.
///
/// # Errors
/// When the ledger can't be read.
pub async fn readiness(cx: &Context) -> Result<Option<ReadinessReport>, LedgerError> {
    let environment = crate::journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let open = cx.ledger.open_operation(&cx.key).await?;
    let target = match open.as_ref().filter(|plan| plan.can_be_taken_back()) {
        Some(plan) => {
            super::commands::take_back::way_back_of(cx, plan).await?.map(|(live, _)| live.number)
        }
        None => last_known_good(cx, &[]).await?.map(|row| row.number),
    };
    let Some(number) = target else {
        return match open {
            None => Ok(super::commands::earlier::readiness(cx, &environment).await),
            Some(_) => Ok(None),
        };
    };
    let Some(row) = cx.ledger.deployment(&cx.key, number).await? else { return Ok(None) };
    let release = situation::release(cx, &row.release).await?;
    let checks = way_back_checks(cx, &environment, &release).await?;
    let expected_ms = expected_ms(cx, &environment, &release.id).await?;
    Ok(Some(ReadinessReport {
        deployment: number,
        version: row.version,
        ready: checks.iter().all(|check| check.status != Severity::Error),
        checked_at: cx.now(),
        checks,
        expected_ms,
        found: None,
    }))
}

/// Longest of the last rollbacks; nothing measured yet: none. A warm side is a matter of milliseconds.
async fn expected_ms(
    cx: &Context,
    environment: &EnvironmentRecord,
    release: &ReleaseId,
) -> Result<Option<u64>, LedgerError> {
    if environment.slots.values().any(|record| record.release == *release) && cx.router.is_some() {
        return Ok(Some(100));
    }
    // What was measured of this very release goes before what others took.
    if let Some(ms) = environment.drills.get(release).and_then(|drill| drill.restore_ms) {
        return Ok(Some(ms));
    }
    let filter =
        DeploymentFilter { rollbacks_only: true, limit: Some(5), ..DeploymentFilter::default() };
    let past = cx.ledger.deployments(&cx.key, &filter).await?;
    let spans = past.iter().filter_map(|row| {
        let span = row.completed_at?.as_millisecond() - row.started_at.as_millisecond();
        u64::try_from(span).ok()
    });
    Ok(spans.max())
}

/// Proves readiness again and keeps the result for `status`. Failing to do so is no failure of the command.
pub(crate) async fn refresh(cx: &Context) {
    match readiness(cx).await {
        Ok(Some(report)) => {
            if let Err(error) = cx.ledger.put_readiness(&cx.key, &report).await {
                cx.events.note(format!("readiness was not kept: {error}"));
            }
        }
        Ok(None) => {
            // What was proven before is about a way back that is no more.
            if let Err(error) = cx.ledger.forget_readiness(&cx.key).await {
                cx.events.note(format!("readiness was not forgotten: {error}"));
            }
        }
        Err(error) => cx.events.note(format!("readiness was not proven: {error}")),
    }
}

/// Digests that some release may still need: of every slot, of what is live, and of the newest `keep`
/// stable releases of every environment in this ledger.
///
/// Of an environment that is let go only the one release that goes on, if there is one.
pub(crate) async fn needed_artifacts(
    cx: &Context,
    let_go: Option<(&EnvironmentKey, Option<&ReleaseId>)>,
) -> Result<Vec<ArtifactDigest>, LedgerError> {
    let mut releases = BTreeSet::new();
    for environment in cx.ledger.environments(None).await? {
        if let Some((_, runs)) = let_go.filter(|(key, _)| **key == environment.key) {
            releases.extend(runs.cloned());
            continue;
        }
        releases.extend(environment.slots.values().map(|record| record.release.clone()));
        let filter = DeploymentFilter { limit: Some(HISTORY_LIMIT), ..DeploymentFilter::default() };
        // How many another environment keeps is for its own file to say.
        let keep = if environment.key == cx.key {
            cx.policy.rollback.keep.max(1).saturating_add(1)
        } else {
            HISTORY_LIMIT
        };
        let mut stable = BTreeSet::new();
        let rows = cx.ledger.deployments(&environment.key, &filter).await?;
        for row in rows.into_iter().filter(|row| row.number >= environment.begins_at) {
            let in_use = Some(row.number) == environment.live
                || matches!(
                    row.status,
                    DeploymentStatus::InProgress
                        | DeploymentStatus::Baking
                        | DeploymentStatus::Stuck
                );
            let keepable =
                matches!(row.status, DeploymentStatus::Stable | DeploymentStatus::Superseded);
            if in_use || (keepable && (stable.len() as u32) < keep) {
                stable.insert(row.release.clone());
                releases.insert(row.release);
            }
        }
    }
    let mut digests = BTreeSet::new();
    // What was ordered is copied already, and stands in no row of a release yet.
    for order in cx.ledger.orders(None).await?.into_iter().filter_map(|request| request.order) {
        let artifacts = order.release.content.artifacts.into_iter();
        digests.extend(artifacts.filter(|artifact| artifact.kept).map(|artifact| artifact.digest));
    }
    for id in releases {
        if let Some(release) = cx.ledger.release_by_id(&id).await? {
            digests.extend(
                release.content.artifacts.iter().filter(|a| a.kept).map(|a| a.digest.clone()),
            );
        }
    }
    Ok(digests.into_iter().collect())
}
