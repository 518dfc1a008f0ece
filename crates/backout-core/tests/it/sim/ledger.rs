//! A ledger in memory, and an operation as its holder has it.

use std::collections::BTreeMap;

use backout_core::ids::{OperationId, Slot};
use backout_core::model::{
    Deployment, DeploymentKind, DeploymentStatus, EnvironmentRecord, Health, Release,
    RollbackRecord, SlotRecord, SlotState, Surface,
};
use backout_core::plan::{Live, Plan};
use backout_core::ports::Change;
use backout_core::saga::{Entry, Opening, State, fold};

use crate::fixtures::{Setup, Start, at, context, key};

/// What is durable.
#[derive(Debug, Clone)]
pub struct Store {
    pub environment: EnvironmentRecord,
    pub deployments: BTreeMap<u64, Deployment>,
    pub rollbacks: BTreeMap<u64, RollbackRecord>,
    pub open: Option<Plan>,
    pub journals: BTreeMap<OperationId, Vec<Entry>>,
    /// In the order in which they were opened.
    pub plans: Vec<Plan>,
    pub epoch: u64,
}

/// An operation in its holder's memory.
#[derive(Debug, Clone)]
pub struct Op {
    pub plan: Plan,
    pub entries: Vec<Entry>,
    pub state: State,
    pub rows: Opening,
    /// Rows as they were opened: `live` is judged against them.
    pub live_before: Option<u64>,
}

/// A row of a deployment that ended before the run.
pub fn row(number: u64, release: &Release, slot: Slot, status: DeploymentStatus) -> Deployment {
    let stable = status == DeploymentStatus::Stable;
    Deployment {
        id: context(Setup::legal()[0], &Setup::legal()[0].policy(), number).deployment_id,
        key: key(),
        number,
        kind: if number == 0 { DeploymentKind::Adopt } else { DeploymentKind::Deploy },
        release: release.id.clone(),
        version: release.content.version.clone(),
        from_version: None,
        from_number: None,
        status,
        rejected: false,
        slot,
        rollback_type: None,
        trigger: None,
        surface: Surface::Cli,
        reason: None,
        requested_by: "ann".to_owned(),
        forced: false,
        operation: OperationId::new(format!("op_before_{number}")).unwrap(),
        started_at: at(0),
        completed_at: Some(at(0)),
        stable_at: stable.then(|| at(0)),
        health: Health::Healthy,
        error_message: None,
        warnings: Vec::new(),
        services: Vec::new(),
    }
}

impl Store {
    /// The ledger in which an operation begins.
    pub fn new(setup: Setup, start: Start) -> Self {
        let situation = start.situation(setup);
        let mut environment = EnvironmentRecord::new(key());
        let mut deployments = BTreeMap::new();
        if start != Start::NothingLive {
            let older = setup.release("0");
            deployments.insert(0, row(0, &older, Slot::A, DeploymentStatus::Stable));
            let one = setup.release("1");
            deployments.insert(1, row(1, &one, Slot::A, DeploymentStatus::Stable));
            environment.next_number = 2;
        }
        if matches!(start, Start::Leftover | Start::Baking) {
            let status = if start == Start::Baking {
                DeploymentStatus::Superseded
            } else {
                DeploymentStatus::Failed
            };
            deployments.insert(2, row(2, &setup.release("2"), Slot::B, status));
            environment.next_number = 3;
        }
        environment.live = situation.live.as_ref().map(|live| live.number);
        for (slot, side) in &situation.slots {
            let record = SlotRecord {
                deployment: side.deployment,
                release: side.release.id.clone(),
                version: side.release.content.version.clone(),
                state: SlotState::Running,
                services: side.services.clone(),
                hosts: side.hosts.clone(),
            };
            environment.slots.insert(*slot, record);
        }
        Self {
            environment,
            deployments,
            rollbacks: BTreeMap::new(),
            open: None,
            journals: BTreeMap::new(),
            plans: Vec::new(),
            epoch: 0,
        }
    }

    /// The live deployment as planners name it.
    pub fn live(&self, environment: &EnvironmentRecord) -> Option<Live> {
        let row = self.deployments.get(&environment.live?)?;
        Some(Live {
            number: row.number,
            release: row.release.clone(),
            version: row.version.clone(),
            slot: row.slot,
        })
    }

    /// Opens an operation.
    pub fn open(&mut self, plan: &Plan) {
        self.open = Some(plan.clone());
        self.plans.push(plan.clone());
    }

    /// Makes an operation durable; ended, it is closed.
    pub fn commit(&mut self, op: &Op) {
        self.journals.insert(op.plan.operation.clone(), op.entries.clone());
        for change in op.rows.changes() {
            match change {
                Change::Environment(row) => self.environment = *row,
                Change::Deployment(row) => {
                    self.deployments.insert(row.number, *row);
                }
                Change::Rollback(row) => {
                    self.rollbacks.insert(row.deployment_to, *row);
                }
                _ => {}
            }
        }
        let ours = self.open.as_ref().is_some_and(|open| open.operation == op.plan.operation);
        if ours && op.state.ended.is_some() {
            self.open = None;
        }
    }

    /// The open operation, from its journal.
    pub fn load(&self) -> Option<Result<Op, String>> {
        let plan = self.open.clone()?;
        let entries = self.journals[&plan.operation].clone();
        let state = match fold(&plan, &entries) {
            Ok(state) => state,
            Err(error) => return Some(Err(error.to_string())),
        };
        let row = |number: Option<u64>| number.and_then(|n| self.deployments.get(&n)).cloned();
        let rows = Opening {
            environment: self.environment.clone(),
            deployment: row(plan.deployment),
            left: row(plan.left.as_ref().map(|left| left.number)),
            rollback: plan.deployment.and_then(|n| self.rollbacks.get(&n)).cloned(),
        };
        let live_before = plan.from.as_ref().map(|from| from.number);
        Some(Ok(Op { plan, entries, state, rows, live_before }))
    }
}
