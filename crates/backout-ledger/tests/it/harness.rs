//! A ledger in a folder of its own, with a clock and processes that the test decides.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backout_core::ports::{Holder, Ledger};
use backout_ledger::audit;
use backout_ledger::{LEDGER_FILE, Liveness, OpenMode, SqliteLedger, SqliteOptions, Surroundings};
use backout_testkit::ledger::suite::LedgerHarness;
use backout_testkit::ledger::{Harm, Stored};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

pub const TERM_MS: u64 = 15_000;
const BOOT: &str = "this boot";

/// Clock and processes.
#[derive(Default)]
pub struct World {
    boottime_ms: AtomicU64,
    last_pid: AtomicU32,
    dead: Mutex<BTreeSet<(u32, u64)>>,
}

impl Surroundings for World {
    fn boottime_ms(&self) -> u64 {
        self.boottime_ms.load(Ordering::SeqCst)
    }

    fn liveness(&self, holder: &Holder) -> Liveness {
        let dead = self.dead.lock().unwrap().contains(&(holder.pid, holder.pid_start));
        if dead || holder.boot_id != BOOT { Liveness::Gone } else { Liveness::Lives }
    }
}

impl World {
    /// A living process; each time another one.
    pub fn holder(&self) -> Holder {
        let pid = 1000 + self.last_pid.fetch_add(1, Ordering::SeqCst);
        Holder {
            label: format!("ann@host:{pid}"),
            pid,
            pid_start: u64::from(pid) * 100,
            boot_id: BOOT.to_owned(),
            activity: "deploy".to_owned(),
            person: false,
            goes_back: false,
        }
    }

    /// Ends one.
    pub fn kill(&self, holder: &Holder) {
        self.dead.lock().unwrap().insert((holder.pid, holder.pid_start));
    }
}

pub struct Harness {
    folder: tempfile::TempDir,
    world: Arc<World>,
    ledger: Arc<SqliteLedger>,
}

pub async fn fresh() -> Harness {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let ledger = Arc::new(open(&state_of(&folder), &world).await);
    Harness { folder, world, ledger }
}

fn state_of(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state")
}

async fn open(state: &Path, world: &Arc<World>) -> SqliteLedger {
    let options = SqliteOptions { term_ms: TERM_MS, surroundings: world.clone() };
    SqliteLedger::open_with(state, OpenMode::ReadWrite, options).await.unwrap()
}

impl Harness {
    pub fn sqlite(&self) -> &SqliteLedger {
        &self.ledger
    }

    pub fn state(&self) -> PathBuf {
        state_of(&self.folder)
    }
}

/// Entries of a ledger that is as its audit log says.
pub async fn logged(ledger: &dyn Ledger) -> u64 {
    let report = audit::verify(ledger, &[]).await.unwrap();
    assert!(report.verified(), "{report:#?}");
    report.entries
}

/// Changes the file behind the ledger's back. Returns how many rows changed.
pub async fn tamper(state: &Path, sql: String) -> u64 {
    let options = SqliteConnectOptions::new().filename(state.join(LEDGER_FILE)).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    let changed =
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap().rows_affected();
    connection.close().await.unwrap();
    changed
}

#[async_trait]
impl LedgerHarness for Harness {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    async fn reopen(&self) -> Arc<dyn Ledger> {
        Arc::new(open(&self.state(), &self.world).await)
    }

    fn term_ms(&self) -> u64 {
        TERM_MS
    }

    fn advance_ms(&self, ms: u64) {
        self.world.boottime_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn holder(&self) -> Holder {
        self.world.holder()
    }

    fn kill(&self, holder: &Holder) {
        self.world.kill(holder);
    }

    async fn damage(&self, record: &Stored, harm: Harm) {
        let place = place_of(record);
        let (table, condition) = place.split_once(' ').unwrap();
        let change = change_of(record, harm);
        let changed =
            tamper(&self.state(), format!("UPDATE {table} SET {change} {condition}")).await;
        assert_eq!(changed, 1, "{record:?} is not stored");
    }
}

/// The table of a record, and the condition that finds it.
pub fn place_of(record: &Stored) -> String {
    match record {
        Stored::Environment(key) => {
            format!(
                "environments WHERE app = '{}' AND environment = '{}'",
                key.app, key.environment
            )
        }
        Stored::Plan(id) => format!("operations WHERE id = '{id}'"),
        Stored::Entry(id, sequence) => {
            format!("entries WHERE operation = '{id}' AND sequence = {sequence}")
        }
        Stored::Deployment(key, number) => format!(
            "deployments WHERE app = '{}' AND environment = '{}' AND number = {number}",
            key.app, key.environment
        ),
        Stored::Release(id) => format!("releases WHERE id = '{id}'"),
        Stored::Rollback(id) => format!("rollbacks WHERE id = '{id}'"),
        Stored::Request(id) => format!("requests WHERE id = '{id}'"),
        Stored::Message(id) => format!("outbox WHERE id = {id}"),
        Stored::Blob(digest) => format!("blobs WHERE digest = '{digest}'"),
    }
}

/// What spoils it.
pub fn change_of(record: &Stored, harm: Harm) -> &'static str {
    match (record, harm) {
        (Stored::Blob(_), _) => "bytes = x'00'",
        (_, Harm::Garbage) => "json = '{ not json'",
        (_, Harm::NewerFormat) => "format = 999",
    }
}
