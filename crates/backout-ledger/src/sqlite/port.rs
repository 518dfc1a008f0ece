//! The port, method by method.

use async_trait::async_trait;
use backout_core::ids::{AppName, EnvironmentKey, LedgerId, OperationId, ReleaseId, RequestId};
use backout_core::model::{
    Deployment, DeploymentFilter, EnvironmentRecord, LiveHealth, ReadinessReport, Release, Request,
    RollbackRecord,
};
use backout_core::plan::Plan;
use backout_core::ports::{
    AppendError, ClaimError, Commit, Holder, Lease, LeaseView, Ledger, LedgerError, OutboxMessage,
};
use backout_core::saga::Entry;
use sqlx::sqlite::SqliteRow;

use super::codec::{column, corrupt};
use super::rows::Latest;
use super::{SqliteLedger, commit, lease, query, rows};

impl SqliteLedger {
    async fn identity(&self) -> Result<SqliteRow, LedgerError> {
        let statement = sqlx::query("SELECT id, hash_key FROM ledger WHERE only_row = 1");
        let row = self.database.fetch_optional(statement).await?;
        row.ok_or_else(|| corrupt("the ledger's identity", &"its row is missing"))
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn id(&self) -> Result<LedgerId, LedgerError> {
        let id: String = column("the ledger's id", &self.identity().await?, "id")?;
        LedgerId::new(id).map_err(|error| corrupt("the ledger's id", &error))
    }

    async fn hash_key(&self) -> Result<Vec<u8>, LedgerError> {
        column("the ledger's key", &self.identity().await?, "hash_key")
    }

    async fn claim(&self, key: &EnvironmentKey, holder: &Holder) -> Result<Lease, ClaimError> {
        lease::claim(&self.database, &self.terms(), key, holder).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), AppendError> {
        lease::renew(&self.database, &self.terms(), lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LedgerError> {
        lease::release(&self.database, lease).await
    }

    async fn lease(&self, key: &EnvironmentKey) -> Result<Option<LeaseView>, LedgerError> {
        lease::view(&self.database, &self.terms(), key).await
    }

    async fn commit(&self, lease: &Lease, commits: &[Commit]) -> Result<(), AppendError> {
        commit::commit(&self.database, lease, commits).await
    }

    async fn environments(
        &self,
        app: Option<&AppName>,
    ) -> Result<Vec<EnvironmentRecord>, LedgerError> {
        query::environments(&self.database, app).await
    }

    async fn environment(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<EnvironmentRecord>, LedgerError> {
        query::environment(&self.database, key).await
    }

    async fn open_operation(&self, key: &EnvironmentKey) -> Result<Option<Plan>, LedgerError> {
        query::open_operation(&self.database, key).await
    }

    async fn operation(&self, operation: &OperationId) -> Result<Option<Plan>, LedgerError> {
        query::operation(&self.database, operation).await
    }

    async fn entries(&self, operation: &OperationId) -> Result<Vec<Entry>, LedgerError> {
        query::entries(&self.database, operation).await
    }

    async fn journal_length(&self, operation: &OperationId) -> Result<u64, LedgerError> {
        query::journal_length(&self.database, operation).await
    }

    async fn deployments(
        &self,
        key: &EnvironmentKey,
        filter: &DeploymentFilter,
    ) -> Result<Vec<Deployment>, LedgerError> {
        query::deployments(&self.database, key, filter).await
    }

    async fn deployment(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<Deployment>, LedgerError> {
        query::deployment(&self.database, key, number).await
    }

    async fn deployment_by_id(&self, id: &str) -> Result<Option<Deployment>, LedgerError> {
        query::deployment_by_id(&self.database, id).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        query::release_by_id(&self.database, id).await
    }

    async fn releases_of(&self, app: &AppName) -> Result<Vec<Release>, LedgerError> {
        query::releases_of(&self.database, app).await
    }

    async fn rollback_of(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<RollbackRecord>, LedgerError> {
        query::rollback_of(&self.database, key, number).await
    }

    async fn rollback_by_id(&self, id: &str) -> Result<Option<RollbackRecord>, LedgerError> {
        query::rollback_by_id(&self.database, id).await
    }

    async fn put_blob(&self, bytes: &[u8]) -> Result<String, LedgerError> {
        rows::put_blob(&self.database, bytes).await
    }

    async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        rows::blob(&self.database, digest).await
    }

    async fn submit(&self, request: &Request) -> Result<(), LedgerError> {
        rows::submit(&self.database, request).await
    }

    async fn pending_requests(&self, operation: &OperationId) -> Result<Vec<Request>, LedgerError> {
        rows::pending_requests(&self.database, operation).await
    }

    async fn request(&self, id: &RequestId) -> Result<Option<Request>, LedgerError> {
        rows::request(&self.database, id).await
    }

    async fn readiness(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<ReadinessReport>, LedgerError> {
        rows::latest(&self.database, Latest::Readiness, key).await
    }

    async fn put_readiness(
        &self,
        key: &EnvironmentKey,
        report: &ReadinessReport,
    ) -> Result<(), LedgerError> {
        rows::put_latest(&self.database, Latest::Readiness, key, report).await
    }

    async fn health(&self, key: &EnvironmentKey) -> Result<Option<LiveHealth>, LedgerError> {
        rows::latest(&self.database, Latest::Health, key).await
    }

    async fn put_health(
        &self,
        key: &EnvironmentKey,
        health: &LiveHealth,
    ) -> Result<(), LedgerError> {
        rows::put_latest(&self.database, Latest::Health, key, health).await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxMessage)>, LedgerError> {
        rows::outbox(&self.database, limit).await
    }
}
