//! Ledgers of older versions: read as they are, brought up to date with their log, and refused to older programs.
//!
//! The fixtures are dumps of ledgers that those versions wrote.

use std::path::Path;

use backout_core::ids::OperationId;
use backout_core::model::DeploymentFilter;
use backout_core::ports::Ledger as _;
use backout_core::saga::fold;
use backout_ledger::audit::{FindingKind, verify};
use backout_ledger::{LEDGER_FILE, OpenMode, SqliteLedger};
use backout_testkit::ledger::samples;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::harness::tamper;

/// Two environments with four deployments and a rollback, and a deploy that was killed in a step.
const V1: &str = include_str!("../../fixtures/v1.sql");

const OPEN: &str = "op_303b1c60295581ebd7c82b5d";

/// The ledger of a dump in a state folder.
async fn restored(dump: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new()
        .filename(folder.path().join(LEDGER_FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = file.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(dump.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    folder
}

async fn format_of(state: &Path) -> i64 {
    let file = SqliteConnectOptions::new().filename(state.join(LEDGER_FILE));
    let mut connection = file.connect().await.unwrap();
    let row = sqlx::query("PRAGMA user_version").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    row.get(0)
}

/// Everything that status, history and inspect ask for.
async fn reads_whole(ledger: &SqliteLedger) {
    let key = samples::key("shop", "production");
    assert_eq!(ledger.environments(None).await.unwrap().len(), 2);
    let deployments = ledger.deployments(&key, &DeploymentFilter::default()).await.unwrap();
    assert_eq!(deployments.iter().map(|row| row.number).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    for deployment in &deployments {
        let plan = ledger.operation(&deployment.operation).await.unwrap().unwrap();
        let entries = ledger.entries(&deployment.operation).await.unwrap();
        fold(&plan, &entries).unwrap_or_else(|error| panic!("#{}: {error}", deployment.number));
        ledger.release_by_id(&deployment.release).await.unwrap().unwrap();
    }
    assert!(ledger.rollback_of(&key, 4).await.unwrap().is_some());
    assert!(ledger.readiness(&key).await.unwrap().is_some());
    assert!(ledger.health(&key).await.unwrap().is_some());
    assert!(!ledger.lease(&key).await.unwrap().unwrap().alive, "another boot");
    let open = ledger.open_operation(&key).await.unwrap().unwrap();
    assert_eq!(open.operation, OperationId::new(OPEN).unwrap());
    assert_eq!(ledger.pending_requests(&open.operation).await.unwrap().len(), 1);
    assert_eq!(ledger.controllers().await.unwrap(), []);
    for release in ledger.releases_of(&key.app).await.unwrap() {
        for file in &release.content.config {
            let backout_core::model::FileKind::File { blob, .. } = &file.kind else { continue };
            assert!(ledger.blob(blob).await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn readers_read_an_older_ledger_and_leave_it_as_it_is() {
    let state = restored(V1).await;
    let before = std::fs::read(state.path().join(LEDGER_FILE)).unwrap();
    let ledger = SqliteLedger::open(state.path(), OpenMode::ReadOnly).await.unwrap();
    reads_whole(&ledger).await;
    let report = verify(&ledger, &[]).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_eq!(report.findings[0].kind, FindingKind::Gone);
    assert!(report.findings[0].message.contains("a ledger of an older version gets one"));
    ledger.close().await.unwrap();
    assert_eq!(std::fs::read(state.path().join(LEDGER_FILE)).unwrap(), before);
}

#[tokio::test]
async fn a_writer_brings_an_older_ledger_up_to_date_with_all_its_history_in_the_log() {
    let state = restored(V1).await;
    let ledger = SqliteLedger::open(state.path(), OpenMode::ReadWrite).await.unwrap();
    reads_whole(&ledger).await;
    let report = verify(&ledger, &[]).await.unwrap();
    assert!(report.verified() && report.notes.is_empty(), "{report:#?}");
    assert_eq!(report.entries, 53);
    // The killed deploy goes on where it was.
    let key = samples::key("shop", "production");
    let lease = ledger
        .claim(&key, &backout_ledger::holder_for_this_process("deploy", false).unwrap())
        .await
        .unwrap();
    let operation = OperationId::new(OPEN).unwrap();
    let length = ledger.journal_length(&operation).await.unwrap();
    let entries = vec![samples::entry(lease.epoch, "the newer program goes on")];
    let commit = backout_core::ports::Commit {
        operation,
        expected_sequence: length,
        entries,
        changes: vec![],
    };
    ledger.commit(&lease, &[commit]).await.unwrap();
    let grown = verify(&ledger, &[]).await.unwrap();
    assert!(grown.verified() && grown.entries == 54, "{grown:#?}");
    ledger.close().await.unwrap();
    assert!(format_of(state.path()).await > 1);
}

/// What an older version's chain of hashes told must not be lost with it.
#[tokio::test]
async fn a_chain_that_was_broken_is_remembered_for_good() {
    let state = restored(V1).await;
    let sql = format!(
        "UPDATE entries SET json = json || ' ' WHERE operation = '{OPEN}' AND sequence = 2"
    );
    assert_eq!(tamper(state.path(), sql).await, 1);
    let ledger = SqliteLedger::open(state.path(), OpenMode::ReadWrite).await.unwrap();
    let report = verify(&ledger, &[]).await.unwrap();
    ledger.close().await.unwrap();
    let remark = format!("the chain of hashes before it was broken at entry 2 of {OPEN}");
    assert!(report.notes.iter().any(|note| note.contains(&remark)), "{report:#?}");
}

/// A record of an older ledger that can't be read is moved as it is, and names itself as before.
#[tokio::test]
async fn a_bad_record_stops_no_move() {
    let state = restored(V1).await;
    for sql in [
        format!(
            "UPDATE entries SET json = '{{ not json' WHERE operation = '{OPEN}' AND sequence = 2"
        ),
        "UPDATE deployments SET json = '', format = 77 WHERE number = 2".to_owned(),
        "UPDATE environments SET json = '[]' WHERE environment = 'staging'".to_owned(),
    ] {
        assert!(tamper(state.path(), sql).await > 0);
    }
    let ledger = SqliteLedger::open(state.path(), OpenMode::ReadWrite).await.unwrap();
    let key = samples::key("shop", "production");
    let deployments = ledger.deployments(&key, &DeploymentFilter::default()).await.unwrap();
    assert_eq!(deployments.iter().map(|row| row.number).collect::<Vec<_>>(), [5, 4, 3, 1]);
    let error = ledger.entries(&OperationId::new(OPEN).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("entry 2"), "{error}");
    assert!(verify(&ledger, &[]).await.unwrap().verified(), "the log is of what was there");
}

/// A program that is open while a newer one changes the format writes nothing more, and says why.
#[tokio::test]
async fn a_program_that_is_left_behind_writes_nothing_more() {
    let state = restored(V1).await;
    let ledger = SqliteLedger::open(state.path(), OpenMode::ReadWrite).await.unwrap();
    let key = samples::key("shop", "production");
    let lease = ledger
        .claim(&key, &backout_ledger::holder_for_this_process("deploy", false).unwrap())
        .await
        .unwrap();
    tamper(state.path(), "PRAGMA user_version = 77".to_owned()).await;
    let error = ledger.renew(&lease).await.unwrap_err().to_string();
    assert!(error.contains("has format 77") && error.contains("use the newer backout"), "{error}");
    let error = ledger.put_blob(b"x").await.unwrap_err().to_string();
    assert!(error.contains("has format 77"), "{error}");
}

/// The old program, whose own words can't be run here: an insert as format 1 wrote it.
#[tokio::test]
async fn an_older_program_that_is_open_can_not_write_past_the_log() {
    let state = restored(V1).await;
    SqliteLedger::open(state.path(), OpenMode::ReadWrite).await.unwrap().close().await.unwrap();
    let file = SqliteConnectOptions::new().filename(state.path().join(LEDGER_FILE));
    let mut connection = file.connect().await.unwrap();
    let insert = format!(
        "INSERT INTO entries (operation, sequence, format, epoch, at, json, hash)
         VALUES ('{OPEN}', 99, 1, 1, '', '{{}}', zeroblob(32))"
    );
    let error = sqlx::query(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap_err();
    assert!(error.to_string().contains("hash"), "{error}");
    connection.close().await.unwrap();
}
