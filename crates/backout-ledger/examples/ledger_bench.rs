//! Measurements of the ledger, for `cargo xtask bench ledger`. Each prints one line of JSON.
//!
//! `journal-sqlite DIR`, `journal-postgres`: commits a second through the port, and as bare as the database can, in
//! turns. `recovery DIR FINISHED INTERRUPTED`: from nothing open to knowing what each interrupted operation does next.

use std::path::Path;
use std::time::{Duration, Instant};

use backout_core::ports::{Change, Commit, Ledger};
use backout_core::saga::{decide, fold};
use backout_ledger::{
    DatabaseUrl, OpenMode, PostgresLedger, SqliteLedger, holder_for_this_process, seed_history,
    seed_interrupted,
};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::Leased;
use backout_testkit::postgres::{PostgresServer, Setup};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Turns, so that a disk that gets slower does so for both.
const TURNS: u32 = 20;

/// Commits in each turn.
const COMMITS: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["journal-sqlite", folder] => journal_sqlite(Path::new(folder)).await,
        ["journal-postgres"] => journal_postgres().await,
        ["recovery", folder, finished, interrupted] => {
            recovery(Path::new(folder), finished.parse()?, interrupted.parse()?).await
        }
        _ => Err("give a measurement and its arguments".into()),
    }
}

/// A ledger with an open operation.
async fn leased(ledger: impl Ledger + 'static) -> Outcome<Leased> {
    let holder = holder_for_this_process("bench", false)?;
    let lease = ledger.claim(&samples::key("shop", "production"), &holder).await?;
    let leased = Leased { ledger: std::sync::Arc::new(ledger), lease, holder };
    leased.open("one").await;
    Ok(leased)
}

/// One fact of the journal.
fn step(leased: &Leased, length: u64) -> Commit {
    let changes: Vec<Change> = Vec::new();
    Commit { changes, ..leased.entries("one", length, &["what became of a step"]) }
}

/// The text that a bare commit writes: what an entry is stored as.
fn text(leased: &Leased) -> Outcome<String> {
    Ok(serde_json::to_string(&leased.entry("what became of a step"))?)
}

async fn ours(leased: &Leased, length: &mut u64) -> Outcome<Duration> {
    let began = Instant::now();
    for _ in 0..COMMITS {
        leased.ledger.commit(&leased.lease, &[step(leased, *length)]).await?;
        *length += 1;
    }
    Ok(began.elapsed())
}

fn say(ours: Duration, bare: Duration) {
    let rate = |took: Duration| f64::from(TURNS * COMMITS) / took.as_secs_f64();
    println!("{{\"ours\":{:.1},\"bare\":{:.1}}}", rate(ours), rate(bare));
}

async fn journal_sqlite(folder: &Path) -> Outcome<()> {
    let leased =
        leased(SqliteLedger::open(&folder.join("state"), OpenMode::ReadWrite).await?).await?;
    let mut raw: SqliteConnection = SqliteConnectOptions::new()
        .filename(folder.join("raw.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    sqlx::query("CREATE TABLE bare (id INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT")
        .execute(&mut raw)
        .await?;
    let text = text(&leased)?;
    let (mut all_ours, mut all_bare, mut length) = (Duration::ZERO, Duration::ZERO, 1);
    for _ in 0..TURNS {
        all_ours += ours(&leased, &mut length).await?;
        let began = Instant::now();
        for _ in 0..COMMITS {
            let mut transaction = raw.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO bare (json) VALUES ($1)")
                .bind(text.as_str())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        all_bare += began.elapsed();
    }
    say(all_ours, all_bare);
    Ok(())
}

async fn journal_postgres() -> Outcome<()> {
    let server = PostgresServer::start(&Setup { durable: true, ..Setup::default() });
    let address = server.url(&server.database());
    let url: DatabaseUrl = address.parse()?;
    let leased = leased(PostgresLedger::connect(&url, OpenMode::ReadWrite).await?).await?;
    let mut raw = PgConnection::connect(&address).await?;
    let table = "CREATE TABLE bare (id BIGSERIAL PRIMARY KEY, json TEXT NOT NULL)";
    sqlx::query(table).execute(&mut raw).await?;
    let text = text(&leased)?;
    let (mut all_ours, mut all_bare, mut length) = (Duration::ZERO, Duration::ZERO, 1);
    for _ in 0..TURNS {
        all_ours += ours(&leased, &mut length).await?;
        let began = Instant::now();
        for _ in 0..COMMITS {
            let mut transaction = raw.begin().await?;
            sqlx::query("INSERT INTO bare (json) VALUES ($1)")
                .bind(text.as_str())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        all_bare += began.elapsed();
    }
    say(all_ours, all_bare);
    Ok(())
}

async fn recovery(folder: &Path, finished: u64, interrupted: u64) -> Outcome<()> {
    const RUNS: usize = 50;
    let ledger = SqliteLedger::open(folder, OpenMode::ReadWrite).await?;
    let (key, holder) =
        (samples::key("shop", "production"), holder_for_this_process("seed", false)?);
    seed_history(&ledger, &key, &holder, finished).await?;
    seed_interrupted(&ledger, &key.app, &holder, interrupted).await?;
    ledger.close().await?;
    let mut times_ms = Vec::new();
    for run in 0..=RUNS {
        let began = Instant::now();
        let ledger = SqliteLedger::open(folder, OpenMode::ReadWrite).await?;
        let mut found = 0;
        for environment in ledger.environments(None).await? {
            let Some(plan) = ledger.open_operation(&environment.key).await? else { continue };
            let entries = ledger.entries(&plan.operation).await?;
            let state = fold(&plan, &entries)?;
            let next = decide(&plan, &state, jiff::Timestamp::now());
            found += u64::from(!format!("{next:?}").is_empty());
        }
        let took_ms = began.elapsed().as_secs_f64() * 1000.0;
        if found != interrupted {
            return Err(format!("found {found} of {interrupted}").into());
        }
        ledger.close().await?;
        // The first one warms up the file cache.
        if run > 0 {
            times_ms.push(took_ms);
        }
    }
    times_ms.sort_by(f64::total_cmp);
    println!(
        "{{\"median_ms\":{:.2},\"fastest_ms\":{:.2},\"slowest_ms\":{:.2}}}",
        times_ms[RUNS / 2],
        times_ms[0],
        times_ms[RUNS - 1]
    );
    Ok(())
}
