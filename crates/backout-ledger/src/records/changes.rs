//! What commits together with entries.

use backout_core::ids::{EnvironmentKey, OperationId, RequestId};
use backout_core::model::{Deployment, EnvironmentRecord, Release, RequestAnswer, RollbackRecord};
use backout_core::plan::Plan;
use backout_core::ports::audit::{AUDIT_PLAIN_FORMAT, AuditKind, audit_subject};
use backout_core::ports::{AppendError, Change, Lease, LedgerError, OutboxMessage};

use super::codec::{RECORD_FORMAT, column, encode, signed};
use super::commit::refuse;
use super::logged::Logged;
use super::query::sequence_of;
use super::store::Statement;

pub(super) async fn apply(
    write: &mut Logged<'_>,
    lease: &Lease,
    operation: &OperationId,
    change: &Change,
) -> Result<(), AppendError> {
    let key = &lease.key;
    match change {
        Change::Open(plan) => return open(write, key, plan).await,
        Change::Close => close(write, key, operation).await,
        Change::Deployment(record) => deployment(write, key, record).await,
        Change::Environment(record) => environment(write, key, record).await,
        Change::Release(record) => release(write, record).await,
        Change::Rollback(record) => rollback(write, key, record).await,
        Change::Answer(id, record) => answer(write, key, id, record).await,
        Change::Outbox(message) => outbox(write, message).await,
    }?;
    Ok(())
}

async fn open(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    plan: &Plan,
) -> Result<(), AppendError> {
    same(key, &plan.key, "a plan")?;
    let statement = Statement::new(
        "SELECT id FROM operations WHERE id = $3 OR (app = $1 AND environment = $2 AND open = 1) ORDER BY open DESC LIMIT 1",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(plan.operation.as_str());
    if let Some(row) = write.fetch_optional(statement).await? {
        let id: String = column("an operation", &row, "id")?;
        let operation =
            OperationId::new(id).map_err(|error| super::codec::corrupt("an operation", &error))?;
        let found = sequence_of(write, &operation).await?;
        return Err(AppendError::Conflict { operation, expected: 0, found });
    }
    let json = encode(&format!("plan {}", plan.operation), plan)?;
    let statement = Statement::new(
        "INSERT INTO operations (id, app, environment, kind, open, format, json) VALUES ($1, $2, $3, $4, 1, $5, $6)",
    )
    .bind(plan.operation.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(plan.kind.as_str())
    .bind(plan.format)
    .bind(json.as_str());
    write.execute(statement).await?;
    write.log(AuditKind::Plan, plan.operation.as_str(), plan.format, &json);
    Ok(())
}

async fn close(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    operation: &OperationId,
) -> Result<(), LedgerError> {
    let statement = Statement::new(
        "UPDATE operations SET open = 0 WHERE id = $1 AND app = $2 AND environment = $3 AND open = 1",
    )
    .bind(operation.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    one(write.execute(statement).await?, || format!("{operation} is not open in {key}"))?;
    write.log(AuditKind::Close, operation.as_str(), AUDIT_PLAIN_FORMAT, "");
    Ok(())
}

async fn deployment(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    record: &Deployment,
) -> Result<(), LedgerError> {
    same(key, &record.key, "a deployment")?;
    let what = format!("deployment {key} #{}", record.number);
    let statement =
        Statement::new("SELECT 1 FROM releases WHERE id = $1").bind(record.release.as_str());
    if write.fetch_optional(statement).await?.is_none() {
        return Err(refuse(format!(
            "{what} names release {}, which is not recorded",
            record.release
        )));
    }
    let statement = Statement::new("SELECT 1 FROM deployments WHERE id = $1 AND NOT (app = $2 AND environment = $3 AND number = $4)")
        .bind(record.id.as_str())
        .bind(key.app.as_str())
        .bind(key.environment.as_str())
        .bind(signed("number", record.number)?);
    if write.fetch_optional(statement).await?.is_some() {
        return Err(refuse(format!("{} is the id of another deployment than {what}", record.id)));
    }
    let json = encode(&what, record)?;
    let started_at_ns = i64::try_from(record.started_at.as_nanosecond()).unwrap_or(i64::MAX);
    let statement = Statement::new(
        "INSERT INTO deployments (app, environment, number, id, kind, release, version, status, rejected,
                                  started_at, started_at_ns, format, json)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (app, environment, number) DO UPDATE SET
             kind = excluded.kind, release = excluded.release, version = excluded.version, status = excluded.status,
             rejected = excluded.rejected, started_at = excluded.started_at, started_at_ns = excluded.started_at_ns,
             format = excluded.format, json = excluded.json
         WHERE deployments.id = excluded.id",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", record.number)?)
    .bind(record.id.as_str())
    .bind(record.kind.as_str())
    .bind(record.release.as_str())
    .bind(record.version.as_str())
    .bind(record.status.as_str())
    .bind(record.rejected)
    .bind(record.started_at.to_string())
    .bind(started_at_ns)
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    one(write.execute(statement).await?, || format!("{what} has another id than {}", record.id))?;
    let subject = audit_subject::deployment(key, record.number);
    write.log(AuditKind::Deployment, subject, RECORD_FORMAT, &json);
    Ok(())
}

async fn environment(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    record: &EnvironmentRecord,
) -> Result<(), LedgerError> {
    same(key, &record.key, "an environment")?;
    let json = encode("the environment", record)?;
    let statement = Statement::new(
        "INSERT INTO environments (app, environment, format, json) VALUES ($1, $2, $3, $4)
         ON CONFLICT (app, environment) DO UPDATE SET format = excluded.format, json = excluded.json",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    write.execute(statement).await?;
    write.log(AuditKind::Environment, audit_subject::environment(key), RECORD_FORMAT, &json);
    Ok(())
}

async fn release(write: &mut Logged<'_>, record: &Release) -> Result<(), LedgerError> {
    let json = encode("a release", record)?;
    let statement = Statement::new(
        "INSERT INTO releases (id, app, version, created_at, format, json) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(record.id.as_str())
    .bind(record.content.app.as_str())
    .bind(record.content.version.as_str())
    .bind(record.created_at.to_string())
    .bind(record.content.format)
    .bind(json.as_str());
    if write.execute(statement).await? == 1 {
        write.log(AuditKind::Release, record.id.as_str(), record.content.format, &json);
    }
    Ok(())
}

async fn rollback(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    record: &RollbackRecord,
) -> Result<(), LedgerError> {
    same(key, &record.key, "a rollback")?;
    let json = encode("a rollback", record)?;
    let statement = Statement::new(
        "INSERT INTO rollbacks (id, app, environment, deployment_to, status, format, json) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO UPDATE SET
             deployment_to = excluded.deployment_to, status = excluded.status,
             format = excluded.format, json = excluded.json
         WHERE rollbacks.app = excluded.app AND rollbacks.environment = excluded.environment",
    )
    .bind(record.id.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", record.deployment_to)?)
    .bind(record.status.as_str())
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    let changed = write.execute(statement).await?;
    one(changed, || format!("{} belongs to another environment", record.id))?;
    write.log(AuditKind::Rollback, record.id.as_str(), RECORD_FORMAT, &json);
    Ok(())
}

async fn answer(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
    id: &RequestId,
    record: &RequestAnswer,
) -> Result<(), LedgerError> {
    let json = encode("an answer", record)?;
    let statement = Statement::new(
        "UPDATE requests SET answer = $1 WHERE id = $2 AND app = $3 AND environment = $4 AND answer IS NULL",
    )
    .bind(json.as_str())
    .bind(id.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    one(write.execute(statement).await?, || format!("no request {id} waits in {key}"))?;
    write.log(AuditKind::Answer, id.as_str(), AUDIT_PLAIN_FORMAT, &json);
    Ok(())
}

/// The newest messages that are kept, sent or not.
const MAX_MESSAGES: i64 = 10_000;

async fn outbox(write: &mut Logged<'_>, message: &OutboxMessage) -> Result<(), LedgerError> {
    let statement = Statement::new("INSERT INTO outbox (topic, format, json) VALUES ($1, $2, $3)")
        .bind(message.topic.as_str())
        .bind(RECORD_FORMAT)
        .bind(encode("a message", message)?);
    write.execute(statement).await?;
    // They wait for whoever sends them, but where nobody does, not for ever.
    let statement =
        Statement::new("DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - $1")
            .bind(MAX_MESSAGES);
    write.execute(statement).await.map(|_| ())
}

/// The lease covers one environment and nothing else.
fn same(lease: &EnvironmentKey, record: &EnvironmentKey, what: &str) -> Result<(), LedgerError> {
    if lease == record {
        Ok(())
    } else {
        Err(refuse(format!("{what} of {record} under the lease of {lease}")))
    }
}

fn one(changed: u64, why: impl FnOnce() -> String) -> Result<(), LedgerError> {
    if changed == 1 { Ok(()) } else { Err(refuse(why())) }
}
