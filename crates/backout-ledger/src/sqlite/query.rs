//! Reading records.

use backout_core::ids::{AppName, EnvironmentKey, OperationId, ReleaseId};
use backout_core::model::{
    Deployment, DeploymentFilter, EnvironmentRecord, RELEASE_FORMAT, Release, RollbackRecord,
};
use backout_core::plan::{PLAN_FORMAT, Plan};
use backout_core::ports::LedgerError;
use backout_core::saga::{ENTRY_FORMAT, Entry};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::codec::{RECORD_FORMAT, column, corrupt, decode, readable, signed, unsigned};
use super::database::{Database, Statement, Write};

type Answer<T> = Result<T, LedgerError>;

pub(super) async fn environments(
    database: &Database,
    app: Option<&AppName>,
) -> Answer<Vec<EnvironmentRecord>> {
    let statement = match app {
        Some(app) => {
            sqlx::query("SELECT app, environment, format, json FROM environments WHERE app = ? ORDER BY environment")
                .bind(app.as_str())
        }
        None => sqlx::query("SELECT app, environment, format, json FROM environments ORDER BY app, environment"),
    };
    let rows = database.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(|row| {
        let app: String = column("an environment", row, "app")?;
        let environment: String = column("an environment", row, "environment")?;
        decode(&format!("environment {app}/{environment}"), row, RECORD_FORMAT)
    })))
}

pub(super) async fn environment(
    database: &Database,
    key: &EnvironmentKey,
) -> Answer<Option<EnvironmentRecord>> {
    let statement =
        sqlx::query("SELECT format, json FROM environments WHERE app = ? AND environment = ?")
            .bind(key.app.as_str())
            .bind(key.environment.as_str());
    let row = database.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("environment {key}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn open_operation(
    database: &Database,
    key: &EnvironmentKey,
) -> Answer<Option<Plan>> {
    let statement = sqlx::query(
        "SELECT id, format, json FROM operations WHERE app = ? AND environment = ? AND open = 1",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    database.fetch_optional(statement).await?.map(|row| read_plan(&row)).transpose()
}

pub(super) async fn operation(database: &Database, id: &OperationId) -> Answer<Option<Plan>> {
    let statement =
        sqlx::query("SELECT id, format, json FROM operations WHERE id = ?").bind(id.as_str());
    database.fetch_optional(statement).await?.map(|row| read_plan(&row)).transpose()
}

fn read_plan(row: &SqliteRow) -> Answer<Plan> {
    let id: String = column("an operation", row, "id")?;
    decode(&format!("the plan of {id}"), row, PLAN_FORMAT)
}

/// All or an error: a journal with a hole would be folded into a wrong state.
pub(super) async fn entries(database: &Database, operation: &OperationId) -> Answer<Vec<Entry>> {
    let statement = sqlx::query(
        "SELECT sequence, format, json FROM entries WHERE operation = ? ORDER BY sequence",
    )
    .bind(operation.as_str());
    let rows = database.fetch_all(statement).await?;
    let read = |(expected, row): (u64, &SqliteRow)| {
        let what = format!("entry {expected} of {operation}");
        let sequence = unsigned(&what, row, "sequence")?;
        if sequence != expected {
            return Err(corrupt(&what, &format!("it is missing, the next is {sequence}")));
        }
        decode(&what, row, ENTRY_FORMAT)
    };
    (1..).zip(&rows).map(read).collect()
}

/// How many entries a journal has, readable or not.
pub(super) async fn journal_length(database: &Database, operation: &OperationId) -> Answer<u64> {
    length(operation, database.fetch_optional(count(operation)).await?)
}

/// The same inside of a transaction.
pub(super) async fn sequence_of(write: &mut Write<'_>, operation: &OperationId) -> Answer<u64> {
    length(operation, write.fetch_optional(count(operation)).await?)
}

fn count(operation: &OperationId) -> Statement<'static> {
    sqlx::query("SELECT coalesce(max(sequence), 0) AS found FROM entries WHERE operation = ?")
        .bind(operation.as_str().to_owned())
}

fn length(operation: &OperationId, row: Option<SqliteRow>) -> Answer<u64> {
    row.map_or(Ok(0), |row| unsigned(&format!("the journal of {operation}"), &row, "found"))
}

pub(super) async fn deployments(
    database: &Database,
    key: &EnvironmentKey,
    filter: &DeploymentFilter,
) -> Answer<Vec<Deployment>> {
    let mut query =
        QueryBuilder::<Sqlite>::new("SELECT number, format, json FROM deployments WHERE app = ");
    query
        .push_bind(key.app.as_str())
        .push(" AND environment = ")
        .push_bind(key.environment.as_str());
    if filter.rollbacks_only {
        // As text: an index covers just these.
        query.push(" AND kind = 'rollback'");
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(since) = filter.since {
        let since_ns = i64::try_from(since.as_nanosecond()).unwrap_or(i64::MAX);
        query.push(" AND started_at_ns >= ").push_bind(since_ns);
    }
    query.push(" ORDER BY number DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    let rows = database.fetch_all(query.build()).await?;
    Ok(readable(rows.iter().map(|row| read_deployment(key, row))))
}

pub(super) async fn deployment(
    database: &Database,
    key: &EnvironmentKey,
    number: u64,
) -> Answer<Option<Deployment>> {
    let statement = sqlx::query(
        "SELECT number, format, json FROM deployments WHERE app = ? AND environment = ? AND number = ?",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", number)?);
    database.fetch_optional(statement).await?.map(|row| read_deployment(key, &row)).transpose()
}

fn read_deployment(key: &EnvironmentKey, row: &SqliteRow) -> Answer<Deployment> {
    let number = unsigned("a deployment", row, "number")?;
    decode(&format!("deployment {key} #{number}"), row, RECORD_FORMAT)
}

pub(super) async fn deployment_by_id(database: &Database, id: &str) -> Answer<Option<Deployment>> {
    let statement = sqlx::query("SELECT format, json FROM deployments WHERE id = ?").bind(id);
    let row = database.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("deployment {id}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn release_by_id(database: &Database, id: &ReleaseId) -> Answer<Option<Release>> {
    let statement =
        sqlx::query("SELECT id, format, json FROM releases WHERE id = ?").bind(id.as_str());
    database.fetch_optional(statement).await?.map(|row| read_release(&row)).transpose()
}

/// All or an error: what is missing here would be pruned.
pub(super) async fn releases_of(database: &Database, app: &AppName) -> Answer<Vec<Release>> {
    let statement = sqlx::query(
        "SELECT id, format, json FROM releases
         WHERE id IN (SELECT release FROM deployments WHERE app = ?) ORDER BY id",
    )
    .bind(app.as_str());
    database.fetch_all(statement).await?.iter().map(read_release).collect()
}

fn read_release(row: &SqliteRow) -> Answer<Release> {
    let id: String = column("a release", row, "id")?;
    decode(&format!("release {id}"), row, RELEASE_FORMAT)
}

pub(super) async fn rollback_of(
    database: &Database,
    key: &EnvironmentKey,
    number: u64,
) -> Answer<Option<RollbackRecord>> {
    let statement = sqlx::query(
        "SELECT id, format, json FROM rollbacks WHERE app = ? AND environment = ? AND deployment_to = ?
         ORDER BY rowid DESC",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", number)?);
    database.fetch_optional(statement).await?.map(|row| read_rollback(&row)).transpose()
}

pub(super) async fn rollback_by_id(
    database: &Database,
    id: &str,
) -> Answer<Option<RollbackRecord>> {
    let statement = sqlx::query("SELECT id, format, json FROM rollbacks WHERE id = ?").bind(id);
    database.fetch_optional(statement).await?.map(|row| read_rollback(&row)).transpose()
}

fn read_rollback(row: &SqliteRow) -> Answer<RollbackRecord> {
    let id: String = column("a rollback", row, "id")?;
    decode(&format!("rollback {id}"), row, RECORD_FORMAT)
}
