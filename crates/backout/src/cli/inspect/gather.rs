//! Finds what was named, and everything that belongs to it.

use backout_core::ids::{EnvironmentKey, OperationId, ReleaseId};
use backout_core::model::{Deployment, DeploymentFilter, RollbackRecord};
use backout_core::ports::{Ledger, LedgerError};
use backout_core::saga::fold;

use crate::cli::report::inspect::{Inspected, Part};

/// How far back versions and releases are looked for.
const SEARCH_MAX: u32 = 100_000;

/// Most versions that are asked for are recent.
const RECENT: u32 = 200;

/// Other deployments of a release, and rollbacks, that are listed.
const LISTED_MAX: u32 = 100;

type Answer<T> = Result<T, LedgerError>;

/// A record that is there and can't be read is found all the same.
fn part<T>(result: Answer<Option<T>>) -> Answer<Part<T>> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(error @ LedgerError::CorruptRecord { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The deployments of this number.
pub async fn by_number(
    ledger: &dyn Ledger,
    keys: &[EnvironmentKey],
    number: u64,
) -> Answer<Vec<Inspected>> {
    let mut found = Vec::new();
    for key in keys {
        let deployment = part(ledger.deployment(key, number).await)?;
        let inspected = Inspected {
            key: Some(key.clone()),
            deployment,
            ..Inspected::new("deployment", format!("#{number}"))
        };
        found.extend(Some(inspected).filter(Inspected::is_found));
    }
    Ok(found)
}

/// What has this id, else the newest deployment of this version.
pub async fn by_word(
    ledger: &dyn Ledger,
    keys: &[EnvironmentKey],
    word: &str,
) -> Answer<Vec<Inspected>> {
    let mut found = match word.split_once('_').map(|(kind, _)| kind) {
        Some("dep") => Inspected {
            deployment: part(ledger.deployment_by_id(word).await)?,
            ..Inspected::new("deployment", word)
        },
        Some("rb") => Inspected {
            rollback: part(ledger.rollback_by_id(word).await)?,
            ..Inspected::new("rollback", word)
        },
        Some("op") => match OperationId::new(word) {
            Ok(id) => Inspected {
                operation: part(ledger.operation(&id).await)?,
                ..Inspected::new("operation", word)
            },
            Err(_) => Inspected::new("operation", word),
        },
        Some("rel") => match ReleaseId::new(word) {
            Ok(id) => Inspected {
                release: part(ledger.release_by_id(&id).await)?,
                ..Inspected::new("release", word)
            },
            Err(_) => Inspected::new("release", word),
        },
        _ => Inspected::new("deployment", word),
    };
    if !found.is_found() {
        found = Inspected {
            deployment: Ok(by_version(ledger, keys, word).await?),
            ..Inspected::new("deployment", word)
        };
    }
    Ok(Some(found).filter(Inspected::is_found).into_iter().collect())
}

async fn by_version(
    ledger: &dyn Ledger,
    keys: &[EnvironmentKey],
    version: &str,
) -> Answer<Option<Deployment>> {
    let mut newest: Option<Deployment> = None;
    for key in keys {
        for limit in [RECENT, SEARCH_MAX] {
            let rows = deployments(ledger, key, limit).await?;
            let all = rows.len() < limit as usize;
            let found = rows.into_iter().find(|row| row.version.as_str() == version);
            let done = found.is_some() || all;
            let newer =
                |row: &Deployment| newest.as_ref().is_none_or(|n| row.started_at > n.started_at);
            if let Some(row) = found.filter(newer) {
                newest = Some(row);
            }
            if done {
                break;
            }
        }
    }
    Ok(newest)
}

/// Newest first.
pub async fn deployments(
    ledger: &dyn Ledger,
    key: &EnvironmentKey,
    limit: u32,
) -> Answer<Vec<Deployment>> {
    let filter = DeploymentFilter { limit: Some(limit), ..DeploymentFilter::default() };
    ledger.deployments(key, &filter).await
}

/// Records of rollbacks, newest first; one that can't be read is left out.
pub async fn rollbacks(
    ledger: &dyn Ledger,
    key: &EnvironmentKey,
    limit: u32,
) -> Answer<Vec<RollbackRecord>> {
    let filter = DeploymentFilter {
        rollbacks_only: true,
        limit: Some(limit),
        ..DeploymentFilter::default()
    };
    let mut records = Vec::new();
    for row in ledger.deployments(key, &filter).await? {
        if let Ok(Some(record)) = part(ledger.rollback_of(key, row.number).await)? {
            records.push(record);
        }
    }
    Ok(records)
}

/// Everything that belongs to what was found.
pub async fn all(ledger: &dyn Ledger, found: &mut Inspected, with_history: bool) -> Answer<()> {
    found.with_history = with_history;
    follow(ledger, found).await?;
    if let Ok(Some(plan)) = &found.operation {
        match ledger.entries(&plan.operation).await {
            Ok(entries) => {
                found.state = fold(plan, &entries).map(Some).map_err(|error| error.to_string());
                found.journal = Ok(Some(entries));
            }
            Err(error @ LedgerError::CorruptRecord { .. }) => {
                found.state = Err(error.to_string());
                found.journal = Err(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if with_history || found.what == "release" {
        found.same_release = same_release(ledger, found).await?;
    }
    let Some(key) = found.key.clone() else { return Ok(()) };
    let row = found.deployment.as_ref().ok().and_then(Option::as_ref);
    if let Some((number, release)) = row.map(|row| (row.number, row.release.clone())) {
        let environment = part(ledger.environment(&key).await)?;
        if let Ok(Some(environment)) = &environment {
            found.drill = environment.drills.get(&release).cloned();
        }
        found.live =
            matches!(environment, Ok(Some(environment)) if environment.live == Some(number));
    }
    if with_history {
        found.rollbacks = rollbacks(ledger, &key, LISTED_MAX).await?;
    }
    Ok(())
}

/// From the part that was found to the others.
async fn follow(ledger: &dyn Ledger, found: &mut Inspected) -> Answer<()> {
    if let Ok(Some(record)) = &found.rollback {
        let (key, number) = (record.key.clone(), record.deployment_to);
        found.deployment = part(ledger.deployment(&key, number).await)?;
        found.key = Some(key);
    }
    if let Ok(Some(plan)) = &found.operation {
        let (key, number) = (plan.key.clone(), plan.deployment);
        if let Some(number) = number {
            found.deployment = part(ledger.deployment(&key, number).await)?;
        }
        found.key = Some(key);
    }
    if let Ok(Some(row)) = &found.deployment {
        let row = row.clone();
        if found.what != "rollback" {
            found.rollback = part(ledger.rollback_of(&row.key, row.number).await)?;
        }
        if found.what != "operation" {
            found.operation = part(ledger.operation(&row.operation).await)?;
        }
        found.release = part(ledger.release_by_id(&row.release).await)?;
        found.key = Some(row.key);
    }
    Ok(())
}

async fn same_release(ledger: &dyn Ledger, found: &Inspected) -> Answer<Vec<Deployment>> {
    let Ok(Some(release)) = &found.release else { return Ok(Vec::new()) };
    let this = found.deployment.as_ref().ok().and_then(Option::as_ref).map(|row| row.id.clone());
    let mut rows = Vec::new();
    for environment in ledger.environments(Some(&release.content.app)).await? {
        rows.extend(
            deployments(ledger, &environment.key, SEARCH_MAX)
                .await?
                .into_iter()
                .filter(|row| row.release == release.id && Some(&row.id) != this.as_ref()),
        );
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.started_at));
    rows.truncate(LISTED_MAX as usize);
    Ok(rows)
}
