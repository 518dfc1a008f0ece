//! What is said when the database can't be used; never with the password.

use backout_core::ports::{AppendError, Ledger, LedgerError};
use backout_ledger::{DatabaseUrl, OpenError, OpenMode, PostgresLedger};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};
use backout_testkit::postgres::{LOCKED_USER, PASSWORD, PostgresServer, shared};

use super::harness::fresh;

async fn open(url: &str, mode: OpenMode) -> Result<PostgresLedger, OpenError> {
    PostgresLedger::connect(&url.parse::<DatabaseUrl>().unwrap(), mode).await
}

async fn complaint(url: &str, mode: OpenMode) -> String {
    match open(url, mode).await {
        Err(error) => format!("{error} {error:?}"),
        Ok(_) => panic!("{url} was opened"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_and_none_is_shown() {
    let server = shared();
    let database = server.database();
    let wrong = server.url_of(&format!("{LOCKED_USER}:wr0ng-w0rd"), &database);
    let said = complaint(&wrong, OpenMode::ReadWrite).await;
    assert!(said.contains("check the password of locked"), "{said}");
    assert!(!said.contains("wr0ng-w0rd"), "{said}");
    let right = server.url_of(&format!("{LOCKED_USER}:{PASSWORD}"), &database);
    // Let in, but it may not make a schema there.
    let said = complaint(&right, OpenMode::ReadWrite).await;
    assert!(said.contains("GRANT CREATE ON DATABASE"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    server.sql(&database, &format!("GRANT CREATE ON DATABASE {database} TO {LOCKED_USER}"));
    let ledger = open(&right, OpenMode::ReadWrite).await.unwrap();
    assert!(!format!("{} {:?}", ledger.url(), ledger.url()).contains(PASSWORD));
    ledger.disconnect().await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let server = shared();
    let said = complaint(&server.url("nowhere"), OpenMode::ReadWrite).await;
    assert!(said.contains("createdb nowhere"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().to_str().unwrap().replace('/', "%2F");
    let said = complaint(&format!("postgres://ann@{nobody}/ledger"), OpenMode::ReadWrite).await;
    assert!(said.contains("check that the server runs"), "{said}");
}

#[tokio::test]
async fn reading_makes_nothing() {
    let server = shared();
    let database = server.database();
    let opened = open(&server.url(&database), OpenMode::ReadOnly).await;
    assert!(matches!(opened, Err(OpenError::NoLedger(_))));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'backout'";
    assert_eq!(server.sql(&database, schemas), "0");
    open(&server.url(&database), OpenMode::ReadWrite).await.unwrap();
    let reader = open(&server.url(&database), OpenMode::ReadOnly).await.unwrap();
    assert_eq!(reader.environments(None).await.unwrap(), vec![]);
    let refused = reader.put_blob(b"x").await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert_eq!(server.sql(&database, "SELECT count(*) FROM backout.blobs"), "0");
}

#[tokio::test]
async fn a_newer_format_is_refused_also_by_who_has_it_open() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    harness.sql("UPDATE backout.ledger SET format = 77");
    let url = shared().url(harness.database());
    for mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        let Err(OpenError::Ledger(error)) = open(&url, mode).await else { panic!("opened") };
        assert!(matches!(error, LedgerError::NewerFormat { found: 77, .. }), "{error:?}");
    }
    let commit = leased.entries("one", 1, &["late"]);
    let refused = leased.ledger.commit(&leased.lease, &[commit]).await;
    assert!(
        matches!(&refused, Err(AppendError::Unavailable(LedgerError::NewerFormat { .. }))),
        "{refused:?}"
    );
    assert_eq!(harness.sql("SELECT format FROM backout.ledger"), "77");
    assert_eq!(harness.sql("SELECT count(*) FROM backout.entries"), "1");
}

/// The server itself says so, wherever its disk is full.
#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    harness.sql(
        "CREATE FUNCTION backout.full() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON backout.outbox
             FOR EACH ROW EXECUTE FUNCTION backout.full()",
    );
    let change = backout_core::ports::Change::Outbox(samples::message("x"));
    let commit =
        backout_core::ports::Commit { changes: vec![change], ..leased.entries("one", 1, &["a"]) };
    let refused = leased.ledger.commit(&leased.lease, std::slice::from_ref(&commit)).await;
    let Err(AppendError::Unavailable(LedgerError::DiskFull(place))) = refused else {
        panic!("{refused:?}")
    };
    assert!(place.contains(harness.database()), "{place}");
    assert_eq!(leased.ledger.journal_length(&samples::operation("one")).await.unwrap(), 1);
    harness.sql("DROP TRIGGER full_disk ON backout.outbox");
    leased.commit(&[commit]).await;
}

#[tokio::test]
async fn a_database_that_can_not_hold_every_letter_is_refused() {
    let server = shared();
    server.sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    let said = complaint(&server.url("latin"), OpenMode::ReadWrite).await;
    assert!(said.contains("encoding LATIN1") && said.contains("UTF8"), "{said}");
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'backout'";
    assert_eq!(server.sql("latin", schemas), "0");
}

#[tokio::test]
async fn a_schema_made_by_an_administrator_is_used() {
    let server: &PostgresServer = shared();
    let database = server.database();
    let role = format!("{database}_role");
    server.sql(
        &database,
        &format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA backout AUTHORIZATION {role}"),
    );
    let ledger = open(&server.url_of(&role, &database), OpenMode::ReadWrite).await.unwrap();
    ledger.id().await.unwrap();
}

#[tokio::test]
async fn a_standby_is_named_as_such() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    harness.sql(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        harness.database()
    ));
    let again = harness.reopen().await;
    let refused = again.renew(&leased.lease).await;
    let Err(error) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("not a standby"), "{error}");
}

/// The shared server of the tests is one that may lose everything.
#[tokio::test]
async fn a_server_that_may_forget_is_told() {
    let url = shared().url(&shared().database());
    let ledger = open(&url, OpenMode::ReadWrite).await.unwrap();
    assert_eq!(ledger.careless_settings().await.unwrap(), ["fsync", "full_page_writes"]);
}
