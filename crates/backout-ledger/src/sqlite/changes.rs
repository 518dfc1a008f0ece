//! What commits together with entries.

use backout_core::ids::{EnvironmentKey, OperationId, RequestId};
use backout_core::model::{Deployment, EnvironmentRecord, Release, RequestAnswer, RollbackRecord};
use backout_core::plan::Plan;
use backout_core::ports::{AppendError, Change, Lease, LedgerError, OutboxMessage};

use super::codec::{RECORD_FORMAT, column, encode, signed};
use super::commit::refuse;
use super::database::Write;
use super::query::sequence_of;

pub(super) async fn apply(
    write: &mut Write<'_>,
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

async fn open(write: &mut Write<'_>, key: &EnvironmentKey, plan: &Plan) -> Result<(), AppendError> {
    same(key, &plan.key, "a plan")?;
    let statement = sqlx::query(
        "SELECT id FROM operations WHERE id = ?3 OR (app = ?1 AND environment = ?2 AND open = 1) ORDER BY open DESC",
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
    let statement = sqlx::query(
        "INSERT INTO operations (id, app, environment, kind, open, format, json) VALUES (?, ?, ?, ?, 1, ?, ?)",
    )
    .bind(plan.operation.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(plan.kind.as_str())
    .bind(plan.format)
    .bind(json);
    write.execute(statement).await?;
    Ok(())
}

async fn close(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    operation: &OperationId,
) -> Result<(), LedgerError> {
    let statement = sqlx::query(
        "UPDATE operations SET open = 0 WHERE id = ? AND app = ? AND environment = ? AND open = 1",
    )
    .bind(operation.as_str())
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    one(write.execute(statement).await?, || format!("{operation} is not open in {key}"))
}

async fn deployment(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    record: &Deployment,
) -> Result<(), LedgerError> {
    same(key, &record.key, "a deployment")?;
    let what = format!("deployment {key} #{}", record.number);
    let statement =
        sqlx::query("SELECT 1 FROM releases WHERE id = ?").bind(record.release.as_str());
    if write.fetch_optional(statement).await?.is_none() {
        return Err(refuse(format!(
            "{what} names release {}, which is not recorded",
            record.release
        )));
    }
    let statement = sqlx::query("SELECT 1 FROM deployments WHERE id = ?1 AND NOT (app = ?2 AND environment = ?3 AND number = ?4)")
        .bind(record.id.as_str())
        .bind(key.app.as_str())
        .bind(key.environment.as_str())
        .bind(signed("number", record.number)?);
    if write.fetch_optional(statement).await?.is_some() {
        return Err(refuse(format!("{} is the id of another deployment than {what}", record.id)));
    }
    let started_at_ns = i64::try_from(record.started_at.as_nanosecond()).unwrap_or(i64::MAX);
    let statement = sqlx::query(
        "INSERT INTO deployments (app, environment, number, id, kind, release, version, status, rejected,
                                  started_at, started_at_ns, format, json)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
    .bind(encode(&what, record)?);
    one(write.execute(statement).await?, || format!("{what} has another id than {}", record.id))
}

async fn environment(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    record: &EnvironmentRecord,
) -> Result<(), LedgerError> {
    same(key, &record.key, "an environment")?;
    let statement = sqlx::query(
        "INSERT OR REPLACE INTO environments (app, environment, format, json) VALUES (?, ?, ?, ?)",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(RECORD_FORMAT)
    .bind(encode("the environment", record)?);
    write.execute(statement).await.map(|_| ())
}

async fn release(write: &mut Write<'_>, record: &Release) -> Result<(), LedgerError> {
    let statement = sqlx::query(
        "INSERT INTO releases (id, app, version, created_at, format, json) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(record.id.as_str())
    .bind(record.content.app.as_str())
    .bind(record.content.version.as_str())
    .bind(record.created_at.to_string())
    .bind(record.content.format)
    .bind(encode("a release", record)?);
    write.execute(statement).await.map(|_| ())
}

async fn rollback(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    record: &RollbackRecord,
) -> Result<(), LedgerError> {
    same(key, &record.key, "a rollback")?;
    let statement = sqlx::query(
        "INSERT INTO rollbacks (id, app, environment, deployment_to, status, format, json) VALUES (?, ?, ?, ?, ?, ?, ?)
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
    .bind(encode("a rollback", record)?);
    one(write.execute(statement).await?, || format!("{} belongs to another environment", record.id))
}

async fn answer(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    id: &RequestId,
    record: &RequestAnswer,
) -> Result<(), LedgerError> {
    let statement =
        sqlx::query("UPDATE requests SET answer = ? WHERE id = ? AND app = ? AND environment = ?")
            .bind(encode("an answer", record)?)
            .bind(id.as_str())
            .bind(key.app.as_str())
            .bind(key.environment.as_str());
    one(write.execute(statement).await?, || format!("there is no request {id} in {key}"))
}

async fn outbox(write: &mut Write<'_>, message: &OutboxMessage) -> Result<(), LedgerError> {
    let statement = sqlx::query("INSERT INTO outbox (topic, format, json) VALUES (?, ?, ?)")
        .bind(message.topic.as_str())
        .bind(RECORD_FORMAT)
        .bind(encode("a message", message)?);
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
