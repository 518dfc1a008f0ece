//! Reading records.

use backout_core::ids::{AppName, EnvironmentKey, OperationId, ReleaseId};
use backout_core::model::{
    Deployment, DeploymentFilter, EnvironmentRecord, MIXED_RELEASE_FORMAT, Release, RollbackRecord,
};
use backout_core::plan::{PLAN_FORMAT, Plan};
use backout_core::ports::LedgerError;
use backout_core::saga::{ENTRY_FORMAT, Entry};

use super::codec::{RECORD_FORMAT, column, corrupt, decode, readable, signed, unsigned};
use super::logged::Logged;
use super::store::{Row, Statement, Store};

type Answer<T> = Result<T, LedgerError>;

pub(super) async fn environments(
    store: &dyn Store,
    app: Option<&AppName>,
) -> Answer<Vec<EnvironmentRecord>> {
    let statement = match app {
        Some(app) => {
            Statement::new("SELECT app, environment, format, json FROM environments WHERE app = $1 ORDER BY environment")
                .bind(app.as_str())
        }
        None => Statement::new("SELECT app, environment, format, json FROM environments ORDER BY app, environment"),
    };
    let rows = store.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(|row| {
        let app: String = column("an environment", row, "app")?;
        let environment: String = column("an environment", row, "environment")?;
        decode(&format!("environment {app}/{environment}"), row, RECORD_FORMAT)
    })))
}

pub(super) async fn environment(
    store: &dyn Store,
    key: &EnvironmentKey,
) -> Answer<Option<EnvironmentRecord>> {
    let statement =
        Statement::new("SELECT format, json FROM environments WHERE app = $1 AND environment = $2")
            .bind(key.app.as_str())
            .bind(key.environment.as_str());
    let row = store.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("environment {key}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn open_operation(
    store: &dyn Store,
    key: &EnvironmentKey,
) -> Answer<Option<Plan>> {
    let statement = Statement::new(
        "SELECT id, format, json FROM operations WHERE app = $1 AND environment = $2 AND open = 1",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    store.fetch_optional(statement).await?.map(|row| read_plan(&row)).transpose()
}

pub(super) async fn open_operation_id(
    store: &dyn Store,
    key: &EnvironmentKey,
) -> Answer<Option<OperationId>> {
    let statement = Statement::new(
        "SELECT id FROM operations WHERE app = $1 AND environment = $2 AND open = 1",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    let Some(row) = store.fetch_optional(statement).await? else { return Ok(None) };
    let id: String = column("an operation", &row, "id")?;
    OperationId::new(id).map(Some).map_err(|error| corrupt("an operation", &error))
}

pub(super) async fn operation(store: &dyn Store, id: &OperationId) -> Answer<Option<Plan>> {
    let statement =
        Statement::new("SELECT id, format, json FROM operations WHERE id = $1").bind(id.as_str());
    store.fetch_optional(statement).await?.map(|row| read_plan(&row)).transpose()
}

fn read_plan(row: &Row) -> Answer<Plan> {
    let id: String = column("an operation", row, "id")?;
    decode(&format!("the plan of {id}"), row, PLAN_FORMAT)
}

/// All or an error: a journal with a hole would be folded into a wrong state.
pub(super) async fn entries(store: &dyn Store, operation: &OperationId) -> Answer<Vec<Entry>> {
    let statement = Statement::new(
        "SELECT sequence, format, json FROM entries WHERE operation = $1 ORDER BY sequence",
    )
    .bind(operation.as_str());
    let rows = store.fetch_all(statement).await?;
    let read = |(expected, row): (u64, &Row)| {
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
pub(super) async fn journal_length(store: &dyn Store, operation: &OperationId) -> Answer<u64> {
    length(operation, store.fetch_optional(count(operation)).await?)
}

/// The same inside of a transaction.
pub(super) async fn sequence_of(write: &mut Logged<'_>, operation: &OperationId) -> Answer<u64> {
    length(operation, write.fetch_optional(count(operation)).await?)
}

fn count(operation: &OperationId) -> Statement {
    Statement::new("SELECT coalesce(max(sequence), 0) AS found FROM entries WHERE operation = $1")
        .bind(operation.as_str().to_owned())
}

fn length(operation: &OperationId, row: Option<Row>) -> Answer<u64> {
    row.map_or(Ok(0), |row| unsigned(&format!("the journal of {operation}"), &row, "found"))
}

pub(super) async fn deployments(
    store: &dyn Store,
    key: &EnvironmentKey,
    filter: &DeploymentFilter,
) -> Answer<Vec<Deployment>> {
    let mut query = Statement::new(
        "SELECT number, format, json FROM deployments WHERE app = $1 AND environment = $2",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str());
    if filter.rollbacks_only {
        // As text: an index covers just these.
        query.push_sql(" AND kind = 'rollback'");
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ", status.as_str());
    }
    if let Some(since) = filter.since {
        let since_ns = i64::try_from(since.as_nanosecond()).unwrap_or(i64::MAX);
        query.push(" AND started_at_ns >= ", since_ns);
    }
    query.push_sql(" ORDER BY number DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ", limit);
    }
    let rows = store.fetch_all(query).await?;
    Ok(readable(rows.iter().map(|row| read_deployment(key, row))))
}

pub(super) async fn deployment(
    store: &dyn Store,
    key: &EnvironmentKey,
    number: u64,
) -> Answer<Option<Deployment>> {
    let statement = Statement::new(
        "SELECT number, format, json FROM deployments WHERE app = $1 AND environment = $2 AND number = $3",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", number)?);
    store.fetch_optional(statement).await?.map(|row| read_deployment(key, &row)).transpose()
}

fn read_deployment(key: &EnvironmentKey, row: &Row) -> Answer<Deployment> {
    let number = unsigned("a deployment", row, "number")?;
    decode(&format!("deployment {key} #{number}"), row, RECORD_FORMAT)
}

pub(super) async fn deployment_by_id(store: &dyn Store, id: &str) -> Answer<Option<Deployment>> {
    let statement = Statement::new("SELECT format, json FROM deployments WHERE id = $1").bind(id);
    let row = store.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("deployment {id}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn release_by_id(store: &dyn Store, id: &ReleaseId) -> Answer<Option<Release>> {
    let statement =
        Statement::new("SELECT id, format, json FROM releases WHERE id = $1").bind(id.as_str());
    store.fetch_optional(statement).await?.map(|row| read_release(&row)).transpose()
}

/// All or an error: what is missing here would be pruned.
pub(super) async fn releases_of(store: &dyn Store, app: &AppName) -> Answer<Vec<Release>> {
    let statement = Statement::new(
        "SELECT id, format, json FROM releases
         WHERE id IN (SELECT release FROM deployments WHERE app = $1) ORDER BY id",
    )
    .bind(app.as_str());
    store.fetch_all(statement).await?.iter().map(read_release).collect()
}

fn read_release(row: &Row) -> Answer<Release> {
    let id: String = column("a release", row, "id")?;
    decode(&format!("release {id}"), row, MIXED_RELEASE_FORMAT)
}

pub(super) async fn rollback_of(
    store: &dyn Store,
    key: &EnvironmentKey,
    number: u64,
) -> Answer<Option<RollbackRecord>> {
    let statement = Statement::new(
        "SELECT id, format, json FROM rollbacks WHERE app = $1 AND environment = $2 AND deployment_to = $3
         ORDER BY rowid DESC LIMIT 1",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("number", number)?);
    store.fetch_optional(statement).await?.map(|row| read_rollback(&row)).transpose()
}

pub(super) async fn rollback_by_id(store: &dyn Store, id: &str) -> Answer<Option<RollbackRecord>> {
    let statement = Statement::new("SELECT id, format, json FROM rollbacks WHERE id = $1").bind(id);
    store.fetch_optional(statement).await?.map(|row| read_rollback(&row)).transpose()
}

fn read_rollback(row: &Row) -> Answer<RollbackRecord> {
    let id: String = column("a rollback", row, "id")?;
    decode(&format!("rollback {id}"), row, RECORD_FORMAT)
}
