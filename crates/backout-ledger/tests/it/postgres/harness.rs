//! A ledger in a database of its own, with a clock and processes that the test decides.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{Holder, Ledger};
use backout_ledger::{DatabaseUrl, Limits, OpenMode, PostgresLedger, PostgresOptions};
use backout_testkit::ledger::suite::LedgerHarness;
use backout_testkit::ledger::{Harm, Stored};
use backout_testkit::postgres::{PostgresServer, shared};

use crate::harness::{TERM_MS, World, change_of, place_of};

/// The server's clock, stopped until the test turns it.
const TEST_CLOCK: &str = "
    CREATE TABLE backout.test_clock (ms BIGINT NOT NULL);
    INSERT INTO backout.test_clock VALUES (1000000);
    CREATE OR REPLACE FUNCTION backout.now_ms() RETURNS BIGINT LANGUAGE sql VOLATILE
        AS 'SELECT ms FROM backout.test_clock';";

pub struct Harness {
    server: &'static PostgresServer,
    database: String,
    world: Arc<World>,
    ledger: Arc<PostgresLedger>,
}

pub async fn fresh() -> Harness {
    let server = shared();
    let database = server.database();
    let world = Arc::new(World::default());
    let ledger = Arc::new(open(server, &database, &world).await);
    server.sql(&database, TEST_CLOCK);
    Harness { server, database, world, ledger }
}

/// The ledger of a harness by another way.
pub async fn open_at(url: &str, harness: &Harness) -> PostgresLedger {
    connect(url, &harness.world, Limits::default()).await
}

async fn open(server: &PostgresServer, database: &str, world: &Arc<World>) -> PostgresLedger {
    connect(&server.url(database), world, Limits::default()).await
}

pub async fn connect(url: &str, world: &Arc<World>, limits: Limits) -> PostgresLedger {
    let url: DatabaseUrl = url.parse().unwrap();
    let options = PostgresOptions { term_ms: TERM_MS, surroundings: world.clone(), limits };
    PostgresLedger::connect_with(&url, OpenMode::ReadWrite, options).await.unwrap()
}

impl Harness {
    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.database, sql)
    }
}

#[async_trait]
impl LedgerHarness for Harness {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    async fn reopen(&self) -> Arc<dyn Ledger> {
        Arc::new(open(self.server, &self.database, &self.world).await)
    }

    fn term_ms(&self) -> u64 {
        TERM_MS
    }

    fn advance_ms(&self, ms: u64) {
        self.sql(&format!("UPDATE backout.test_clock SET ms = ms + {ms}"));
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
        let change = change_of(record, harm).replace("x'00'", "'\\x00'");
        let changed = self.sql(&format!(
            "WITH changed AS (UPDATE backout.{table} SET {change} {condition} RETURNING 1)
             SELECT count(*) FROM changed"
        ));
        assert_eq!(changed, "1", "{record:?} is not stored");
    }
}
