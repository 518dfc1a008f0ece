//! The port, method by method.

use async_trait::async_trait;
use backout_core::ids::{AppName, EnvironmentKey, LedgerId, OperationId, ReleaseId, RequestId};
use backout_core::model::{
    ControllerBeat, Deployment, DeploymentFilter, EnvironmentRecord, LiveHealth, ReadinessReport,
    Release, Request, RequestAnswer, RollbackRecord,
};
use backout_core::plan::Plan;
use backout_core::ports::audit::AuditVisitor;
use backout_core::ports::{
    AppendError, ClaimError, Commit, ControllerView, Holder, Lease, LeaseView, Ledger, LedgerError,
    OutboxMessage,
};
use backout_core::saga::Entry;

use super::codec::{column, corrupt};
use super::rows::Latest;
use super::store::{Row, Statement, Store};
use super::{LedgerOn, audit, commit, controllers, documents, lease, query, rows, way_back};

impl<S: Store> LedgerOn<S> {
    async fn identity(&self) -> Result<Row, LedgerError> {
        let statement = Statement::new("SELECT id, hash_key FROM ledger WHERE only_row = 1");
        let row = self.store.fetch_optional(statement).await?;
        row.ok_or_else(|| corrupt("the ledger's identity", &"its row is missing"))
    }
}

#[async_trait]
impl<S: Store> Ledger for LedgerOn<S> {
    async fn id(&self) -> Result<LedgerId, LedgerError> {
        let id: String = column("the ledger's id", &self.identity().await?, "id")?;
        LedgerId::new(id).map_err(|error| corrupt("the ledger's id", &error))
    }

    async fn hash_key(&self) -> Result<Vec<u8>, LedgerError> {
        column("the ledger's key", &self.identity().await?, "hash_key")
    }

    async fn claim(&self, key: &EnvironmentKey, holder: &Holder) -> Result<Lease, ClaimError> {
        self.store.goes_back(key, way_back::is_of(holder));
        let mut tries = 0;
        loop {
            match lease::claim(&self.store, &self.terms(), key, holder).await {
                Err(ClaimError::Ledger(_)) if self.once_more(&mut tries) => {}
                Err(ClaimError::Ledger(error)) if self.store.makes_room(&error).await => {}
                result => return result,
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), AppendError> {
        let mut tries = 0;
        loop {
            match lease::renew(&self.store, &self.terms(), lease).await {
                Err(AppendError::Unavailable(_)) if self.once_more(&mut tries) => {}
                result => return result,
            }
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), LedgerError> {
        let released = lease::release(&self.store, lease).await;
        self.store.goes_back(&lease.key, false);
        released
    }

    async fn lease(&self, key: &EnvironmentKey) -> Result<Option<LeaseView>, LedgerError> {
        lease::view(&self.store, &self.terms(), key).await
    }

    async fn commit(&self, lease: &Lease, commits: &[Commit]) -> Result<(), AppendError> {
        if way_back::begins(commits) {
            self.store.goes_back(&lease.key, true);
        }
        let mut tries = 0;
        loop {
            match commit::commit(&self.store, lease, commits).await {
                Err(AppendError::Unavailable(_)) if self.once_more(&mut tries) => {}
                Err(AppendError::Unavailable(error)) if self.store.makes_room(&error).await => {}
                result => return result,
            }
        }
    }

    async fn environments(
        &self,
        app: Option<&AppName>,
    ) -> Result<Vec<EnvironmentRecord>, LedgerError> {
        query::environments(&self.store, app).await
    }

    async fn environment(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<EnvironmentRecord>, LedgerError> {
        query::environment(&self.store, key).await
    }

    async fn open_operation(&self, key: &EnvironmentKey) -> Result<Option<Plan>, LedgerError> {
        query::open_operation(&self.store, key).await
    }

    async fn open_operation_id(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<OperationId>, LedgerError> {
        query::open_operation_id(&self.store, key).await
    }

    async fn operation(&self, operation: &OperationId) -> Result<Option<Plan>, LedgerError> {
        query::operation(&self.store, operation).await
    }

    async fn entries(&self, operation: &OperationId) -> Result<Vec<Entry>, LedgerError> {
        query::entries(&self.store, operation).await
    }

    async fn journal_length(&self, operation: &OperationId) -> Result<u64, LedgerError> {
        query::journal_length(&self.store, operation).await
    }

    async fn deployments(
        &self,
        key: &EnvironmentKey,
        filter: &DeploymentFilter,
    ) -> Result<Vec<Deployment>, LedgerError> {
        query::deployments(&self.store, key, filter).await
    }

    async fn deployment(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<Deployment>, LedgerError> {
        query::deployment(&self.store, key, number).await
    }

    async fn deployment_by_id(&self, id: &str) -> Result<Option<Deployment>, LedgerError> {
        query::deployment_by_id(&self.store, id).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        query::release_by_id(&self.store, id).await
    }

    async fn releases_of(&self, app: &AppName) -> Result<Vec<Release>, LedgerError> {
        query::releases_of(&self.store, app).await
    }

    async fn rollback_of(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<RollbackRecord>, LedgerError> {
        query::rollback_of(&self.store, key, number).await
    }

    async fn rollback_by_id(&self, id: &str) -> Result<Option<RollbackRecord>, LedgerError> {
        query::rollback_by_id(&self.store, id).await
    }

    async fn put_blob(&self, bytes: &[u8]) -> Result<String, LedgerError> {
        rows::put_blob(&self.store, bytes).await
    }

    async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        rows::blob(&self.store, digest).await
    }

    async fn submit(&self, request: &Request) -> Result<(), LedgerError> {
        if way_back::is_asked(request) {
            self.store.goes_back(&request.key, true);
        }
        let mut tries = 0;
        loop {
            match rows::submit(&self.store, request).await {
                Err(_) if self.once_more(&mut tries) => {}
                Err(error) if self.store.makes_room(&error).await => {}
                result => return result,
            }
        }
    }

    async fn pending_requests(&self, operation: &OperationId) -> Result<Vec<Request>, LedgerError> {
        rows::pending_requests(&self.store, operation).await
    }

    async fn request(&self, id: &RequestId) -> Result<Option<Request>, LedgerError> {
        rows::request(&self.store, id).await
    }

    async fn orders(&self, key: Option<&EnvironmentKey>) -> Result<Vec<Request>, LedgerError> {
        rows::orders(&self.store, key).await
    }

    async fn answer(&self, id: &RequestId, answer: &RequestAnswer) -> Result<bool, LedgerError> {
        let mut tries = 0;
        loop {
            match rows::answer(&self.store, id, answer).await {
                Err(_) if self.once_more(&mut tries) => {}
                result => return result,
            }
        }
    }

    async fn beat(&self, beat: &ControllerBeat) -> Result<(), LedgerError> {
        controllers::beat(&self.store, &self.terms(), beat).await
    }

    async fn leave(&self, holder: &Holder) -> Result<(), LedgerError> {
        controllers::leave(&self.store, holder).await
    }

    async fn controllers(&self) -> Result<Vec<ControllerView>, LedgerError> {
        controllers::list(&self.store, &self.terms()).await
    }

    async fn readiness(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<ReadinessReport>, LedgerError> {
        rows::latest(&self.store, Latest::Readiness, key).await
    }

    async fn put_readiness(
        &self,
        key: &EnvironmentKey,
        report: &ReadinessReport,
    ) -> Result<(), LedgerError> {
        rows::put_latest(&self.store, Latest::Readiness, key, report).await
    }

    async fn forget_readiness(&self, key: &EnvironmentKey) -> Result<(), LedgerError> {
        rows::forget_readiness(&self.store, key).await
    }

    async fn health(&self, key: &EnvironmentKey) -> Result<Option<LiveHealth>, LedgerError> {
        rows::latest(&self.store, Latest::Health, key).await
    }

    async fn put_health(
        &self,
        key: &EnvironmentKey,
        health: &LiveHealth,
    ) -> Result<(), LedgerError> {
        rows::put_latest(&self.store, Latest::Health, key, health).await
    }

    async fn document(
        &self,
        key: &EnvironmentKey,
        name: &str,
    ) -> Result<Option<serde_json::Value>, LedgerError> {
        documents::document(&self.store, key, name).await
    }

    async fn put_document(
        &self,
        key: &EnvironmentKey,
        name: &str,
        document: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        documents::put(&self.store, key, name, document).await
    }

    async fn audit_scan(&self, visitor: &mut dyn AuditVisitor) -> Result<(), LedgerError> {
        audit::scan(&self.store, visitor).await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxMessage)>, LedgerError> {
        rows::outbox(&self.store, limit).await
    }
}
