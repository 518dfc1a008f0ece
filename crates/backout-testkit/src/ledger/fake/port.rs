//! The port, on memory.

use async_trait::async_trait;
use backout_core::ids::{
    AppName, EnvironmentKey, LedgerId, OperationId, ReleaseId, RequestId, hex,
};
use backout_core::model::{
    ControllerBeat, Deployment, DeploymentFilter, DeploymentKind, EnvironmentRecord, LiveHealth,
    MIXED_RELEASE_FORMAT, ReadinessReport, Release, Request, RequestAnswer, RequestKind,
    RollbackRecord,
};
use backout_core::plan::{PLAN_FORMAT, Plan};
use backout_core::ports::audit::{AUDIT_PLAIN_FORMAT, AuditKind, AuditVisitor};
use backout_core::ports::{
    AppendError, ClaimError, Commit, ControllerView, Holder, Lease, LeaseView, Ledger, LedgerError,
    OutboxMessage,
};
use backout_core::saga::{ENTRY_FORMAT, Entry};
use sha2::{Digest, Sha256};

use super::state::{RECORD_FORMAT, RequestRow, State, Text};
use super::{Call, CommitFault, FakeLedger};

const MAX_BLOB_BYTES: usize = 10 * 1024 * 1024;

fn read_request(row: &RequestRow, id: &RequestId) -> Result<Request, LedgerError> {
    let what = format!("request {id}");
    let request: Request = row.text.read(&what, RECORD_FORMAT)?;
    let answer = row.answer.as_ref().map(|text| text.read(&what, RECORD_FORMAT)).transpose()?;
    Ok(Request { answer, ..request })
}

fn matches(filter: &DeploymentFilter, deployment: &Deployment) -> bool {
    (!filter.rollbacks_only || deployment.kind == DeploymentKind::Rollback)
        && filter.status.is_none_or(|status| deployment.status == status)
        && filter.since.is_none_or(|since| deployment.started_at >= since)
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

impl State {
    /// Applies to a copy, so that nothing is left of what fails half-way.
    fn commit(&mut self, lease: &Lease, commits: &[Commit]) -> Result<(), AppendError> {
        self.commits += 1;
        self.calls.push(Call::Commit(commits.to_vec()));
        let fault = self.faults.remove(&self.commits);
        let unavailable =
            |when: &str| LedgerError::Unavailable(format!("injected {when} the commit"));
        match fault {
            Some(CommitFault::UnavailableBefore) => return Err(unavailable("before").into()),
            Some(CommitFault::DiskFull) => {
                return Err(LedgerError::DiskFull("the fake".to_owned()).into());
            }
            Some(CommitFault::Fenced) => {
                self.last_pid += 1;
                let pid = self.last_pid;
                let thief = Holder {
                    label: format!("thief@host:{pid}"),
                    pid,
                    pid_start: 1,
                    boot_id: self.boot_id.clone(),
                    activity: "rollback".to_owned(),
                    person: true,
                    goes_back: true,
                };
                self.grant(&lease.key, &thief);
            }
            Some(CommitFault::UnavailableAfter) | None => {}
        }
        self.check(lease)?;
        let mut data = self.data.clone();
        for commit in commits {
            data.apply(lease, commit)?;
        }
        self.data = data;
        if fault == Some(CommitFault::UnavailableAfter) {
            Err(unavailable("after").into())
        } else {
            Ok(())
        }
    }

    fn deployments(&self, key: &EnvironmentKey, filter: &DeploymentFilter) -> Vec<Deployment> {
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let range = (key.clone(), 0)..=(key.clone(), u64::MAX);
        let read = |(_, row): (_, &super::state::DeploymentRow)| {
            row.text.read(&row.id, RECORD_FORMAT).ok()
        };
        let rows = self.data.deployments.range(range).rev().filter_map(read);
        rows.filter(|deployment| matches(filter, deployment)).take(limit).collect()
    }
}

#[async_trait]
impl Ledger for FakeLedger {
    async fn id(&self) -> Result<LedgerId, LedgerError> {
        drop(self.up()?);
        Ok(super::audit::id())
    }

    async fn hash_key(&self) -> Result<Vec<u8>, LedgerError> {
        drop(self.up()?);
        Ok(vec![9; 32])
    }

    async fn claim(&self, key: &EnvironmentKey, holder: &Holder) -> Result<Lease, ClaimError> {
        let mut state = self.up()?;
        state.calls.push(Call::Claim(key.clone(), holder.clone()));
        state.claim(key, holder)
    }

    async fn renew(&self, lease: &Lease) -> Result<(), AppendError> {
        let mut state = self.up()?;
        state.calls.push(Call::Renew(lease.key.clone()));
        state.renew(lease)
    }

    async fn release(&self, lease: &Lease) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Release(lease.key.clone()));
        state.release(lease)
    }

    async fn lease(&self, key: &EnvironmentKey) -> Result<Option<LeaseView>, LedgerError> {
        Ok(self.up()?.view(key))
    }

    async fn commit(&self, lease: &Lease, commits: &[Commit]) -> Result<(), AppendError> {
        self.up()?.commit(lease, commits)
    }

    async fn environments(
        &self,
        app: Option<&AppName>,
    ) -> Result<Vec<EnvironmentRecord>, LedgerError> {
        let state = self.up()?;
        let wanted =
            state.data.environments.iter().filter(|(key, _)| app.is_none_or(|app| key.app == *app));
        Ok(wanted
            .filter_map(|(key, text)| text.read(&key.to_string(), RECORD_FORMAT).ok())
            .collect())
    }

    async fn environment(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<EnvironmentRecord>, LedgerError> {
        let state = self.up()?;
        let text = state.data.environments.get(key);
        text.map(|text| text.read(&format!("environment {key}"), RECORD_FORMAT)).transpose()
    }

    async fn open_operation(&self, key: &EnvironmentKey) -> Result<Option<Plan>, LedgerError> {
        let state = self.up()?;
        let open = state.data.operations.iter().find(|(_, row)| row.open && row.key == *key);
        open.map(|(id, row)| row.plan.read(&format!("the plan of {id}"), PLAN_FORMAT)).transpose()
    }

    async fn open_operation_id(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<OperationId>, LedgerError> {
        let state = self.up()?;
        let open = state.data.operations.iter().find(|(_, row)| row.open && row.key == *key);
        Ok(open.map(|(id, _)| id.clone()))
    }

    async fn operation(&self, operation: &OperationId) -> Result<Option<Plan>, LedgerError> {
        let state = self.up()?;
        let row = state.data.operations.get(operation);
        row.map(|row| row.plan.read(&format!("the plan of {operation}"), PLAN_FORMAT)).transpose()
    }

    async fn entries(&self, operation: &OperationId) -> Result<Vec<Entry>, LedgerError> {
        let state = self.up()?;
        let texts = state.data.entries.get(operation).map(Vec::as_slice).unwrap_or_default();
        let read = |(sequence, text): (u64, &Text)| {
            text.read(&format!("entry {sequence} of {operation}"), ENTRY_FORMAT)
        };
        (1..).zip(texts).map(read).collect()
    }

    async fn journal_length(&self, operation: &OperationId) -> Result<u64, LedgerError> {
        Ok(self.up()?.data.sequence_of(operation))
    }

    async fn deployments(
        &self,
        key: &EnvironmentKey,
        filter: &DeploymentFilter,
    ) -> Result<Vec<Deployment>, LedgerError> {
        Ok(self.up()?.deployments(key, filter))
    }

    async fn deployment(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<Deployment>, LedgerError> {
        let state = self.up()?;
        let row = state.data.deployments.get(&(key.clone(), number));
        row.map(|row| row.text.read(&format!("deployment {key} #{number}"), RECORD_FORMAT))
            .transpose()
    }

    async fn deployment_by_id(&self, id: &str) -> Result<Option<Deployment>, LedgerError> {
        let state = self.up()?;
        let row = state.data.deployments.values().find(|row| row.id == id);
        row.map(|row| row.text.read(&format!("deployment {id}"), RECORD_FORMAT)).transpose()
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        let state = self.up()?;
        let text = state.data.releases.get(id);
        text.map(|text| text.read(&format!("release {id}"), MIXED_RELEASE_FORMAT)).transpose()
    }

    async fn releases_of(&self, app: &AppName) -> Result<Vec<Release>, LedgerError> {
        let state = self.up()?;
        let deployments = &state.data.deployments;
        let named = |id: &ReleaseId| {
            deployments.iter().any(|((key, _), row)| key.app == *app && row.release == *id)
        };
        let releases = state.data.releases.iter().filter(|(id, _)| named(id));
        releases
            .map(|(id, text)| text.read(&format!("release {id}"), MIXED_RELEASE_FORMAT))
            .collect()
    }

    async fn rollback_of(
        &self,
        key: &EnvironmentKey,
        number: u64,
    ) -> Result<Option<RollbackRecord>, LedgerError> {
        let state = self.up()?;
        let found =
            state.data.rollbacks.iter().find(|(_, (owner, to, _))| owner == key && *to == number);
        found
            .map(|(id, (_, _, text))| text.read(&format!("rollback {id}"), RECORD_FORMAT))
            .transpose()
    }

    async fn rollback_by_id(&self, id: &str) -> Result<Option<RollbackRecord>, LedgerError> {
        let state = self.up()?;
        let found = state.data.rollbacks.get(id);
        found.map(|(_, _, text)| text.read(&format!("rollback {id}"), RECORD_FORMAT)).transpose()
    }

    async fn put_blob(&self, bytes: &[u8]) -> Result<String, LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Put("blob"));
        if bytes.len() > MAX_BLOB_BYTES {
            return Err(LedgerError::Unavailable(format!(
                "a blob of {} bytes is too large",
                bytes.len()
            )));
        }
        let digest = digest_of(bytes);
        state.data.blobs.insert(digest.clone(), bytes.to_vec());
        Ok(digest)
    }

    async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let state = self.up()?;
        let Some(bytes) = state.data.blobs.get(digest) else { return Ok(None) };
        if digest_of(bytes) == digest {
            return Ok(Some(bytes.clone()));
        }
        let message = "its content has another digest".to_owned();
        Err(LedgerError::CorruptRecord { what: format!("blob {digest}"), message })
    }

    async fn submit(&self, request: &Request) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Put("request"));
        let row = RequestRow {
            sequence: state.data.requests.len(),
            key: request.key.clone(),
            operation: request.operation.clone(),
            text: Text::of(RECORD_FORMAT, &Request { answer: None, ..request.clone() })?,
            answer: None,
        };
        if !state.data.requests.contains_key(&request.id) {
            state.data.log(AuditKind::Request, request.id.as_str(), &row.text);
            state.data.requests.insert(request.id.clone(), row);
        }
        Ok(())
    }

    async fn pending_requests(&self, operation: &OperationId) -> Result<Vec<Request>, LedgerError> {
        let state = self.up()?;
        let pending = |row: &RequestRow| row.operation == *operation && row.answer.is_none();
        let mut rows: Vec<_> = state.data.requests.iter().filter(|(_, row)| pending(row)).collect();
        rows.sort_by_key(|(_, row)| row.sequence);
        Ok(rows.into_iter().filter_map(|(id, row)| read_request(row, id).ok()).collect())
    }

    async fn request(&self, id: &RequestId) -> Result<Option<Request>, LedgerError> {
        self.up()?.data.requests.get(id).map(|row| read_request(row, id)).transpose()
    }

    async fn orders(&self, key: Option<&EnvironmentKey>) -> Result<Vec<Request>, LedgerError> {
        let state = self.up()?;
        let mut rows: Vec<_> = state
            .data
            .requests
            .iter()
            .filter(|(_, row)| row.answer.is_none() && key.is_none_or(|key| row.key == *key))
            .collect();
        rows.sort_by_key(|(_, row)| row.sequence);
        let requests = rows.into_iter().filter_map(|(id, row)| read_request(row, id).ok());
        Ok(requests.filter(|request| request.kind == RequestKind::Deploy).collect())
    }

    async fn answer(&self, id: &RequestId, answer: &RequestAnswer) -> Result<bool, LedgerError> {
        let mut state = self.up()?;
        let row = state.data.requests.get_mut(id).filter(|row| row.answer.is_none());
        let Some(row) = row else { return Ok(false) };
        let text = Text::of(AUDIT_PLAIN_FORMAT, answer)?;
        row.answer = Some(text.clone());
        state.data.log(AuditKind::Answer, id.as_str(), &text);
        Ok(true)
    }

    async fn beat(&self, beat: &ControllerBeat) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        let expires_ms = state.boottime_ms + state.term_ms;
        let text = Text::of(RECORD_FORMAT, beat)?;
        state.controllers.insert((beat.holder.pid, beat.holder.pid_start), (expires_ms, text));
        Ok(())
    }

    async fn leave(&self, holder: &Holder) -> Result<(), LedgerError> {
        self.up()?.controllers.remove(&(holder.pid, holder.pid_start));
        Ok(())
    }

    async fn controllers(&self) -> Result<Vec<ControllerView>, LedgerError> {
        let state = self.up()?;
        let mut views = Vec::new();
        for (process, (expires_ms, text)) in &state.controllers {
            let beat: ControllerBeat = text.read("a controller", RECORD_FORMAT)?;
            let lives = beat.holder.boot_id == state.boot_id && !state.dead.contains(process);
            views.push(ControllerView { beat, alive: lives && state.boottime_ms < *expires_ms });
        }
        views.sort_by_key(|view| (view.beat.started_at, view.beat.holder.pid));
        Ok(views)
    }

    async fn readiness(
        &self,
        key: &EnvironmentKey,
    ) -> Result<Option<ReadinessReport>, LedgerError> {
        let state = self.up()?;
        state.data.readiness.get(key).map(|text| text.read("readiness", RECORD_FORMAT)).transpose()
    }

    async fn put_readiness(
        &self,
        key: &EnvironmentKey,
        report: &ReadinessReport,
    ) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Put("readiness"));
        state.data.readiness.insert(key.clone(), Text::of(RECORD_FORMAT, report)?);
        Ok(())
    }

    async fn forget_readiness(&self, key: &EnvironmentKey) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Put("readiness"));
        state.data.readiness.remove(key);
        Ok(())
    }

    async fn health(&self, key: &EnvironmentKey) -> Result<Option<LiveHealth>, LedgerError> {
        let state = self.up()?;
        state.data.health.get(key).map(|text| text.read("health", RECORD_FORMAT)).transpose()
    }

    async fn put_health(
        &self,
        key: &EnvironmentKey,
        health: &LiveHealth,
    ) -> Result<(), LedgerError> {
        let mut state = self.up()?;
        state.calls.push(Call::Put("health"));
        state.data.health.insert(key.clone(), Text::of(RECORD_FORMAT, health)?);
        Ok(())
    }

    async fn document(
        &self,
        key: &EnvironmentKey,
        name: &str,
    ) -> Result<Option<serde_json::Value>, LedgerError> {
        Ok(self.up()?.documents.get(&(key.clone(), name.to_owned())).map(|(_, it)| it.clone()))
    }

    async fn put_document(
        &self,
        key: &EnvironmentKey,
        name: &str,
        document: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        if document.to_string().len() > 256 << 10 {
            return Err(LedgerError::Unavailable(format!("document {name} is too large")));
        }
        let mut state = self.up()?;
        let number = state.documents.values().map(|(number, _)| number + 1).max().unwrap_or(0);
        state.documents.insert((key.clone(), name.to_owned()), (number, document.clone()));
        let of_key = state.documents.iter().filter(|((of, _), _)| of == key);
        let oldest = of_key.clone().min_by_key(|(_, (number, _))| *number);
        if let Some(name) = oldest.map(|(name, _)| name.clone()).filter(|_| of_key.count() > 200) {
            state.documents.remove(&name);
        }
        Ok(())
    }

    async fn audit_scan(&self, visitor: &mut dyn AuditVisitor) -> Result<(), LedgerError> {
        self.up()?.data.scan(visitor);
        Ok(())
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<(i64, OutboxMessage)>, LedgerError> {
        let state = self.up()?;
        let rows = state.data.outbox.iter().take(limit as usize);
        Ok(rows
            .filter_map(|(id, text)| Some((*id, text.read("a message", RECORD_FORMAT).ok()?)))
            .collect())
    }
}
