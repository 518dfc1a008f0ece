//! Folder, file, formats, damage.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backout_core::model::EnvironmentRecord;
use backout_core::ports::{Ledger, LedgerError};
use backout_ledger::{
    LEDGER_FILE, OpenError, OpenMode, RESERVE_BYTES, RESERVE_FILE, SqliteLedger,
    holder_for_this_process,
};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::harness::{fresh, tamper};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn create(state: &Path) {
    SqliteLedger::open(state, OpenMode::ReadWrite).await.unwrap().close().await.unwrap();
}

fn unavailable(result: Result<SqliteLedger, OpenError>) -> String {
    match result.map(|_| ()) {
        Err(OpenError::Ledger(LedgerError::Unavailable(message))) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn folder_and_files_are_ours_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a").join("b");
    let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await.unwrap();
    let key = samples::key("shop", "production");
    ledger.claim(&key, &holder_for_this_process("deploy", false).unwrap()).await.unwrap();
    assert_eq!((mode(&state), mode(&folder.path().join("a"))), (0o700, 0o700));
    let files = names(&state);
    assert_eq!(files, ["ledger.db", "ledger.db-shm", "ledger.db-wal", "reserve"]);
    for file in files {
        assert_eq!(mode(&state.join(&file)), 0o600, "{file}");
    }
    ledger.close().await.unwrap();
    assert_eq!(names(&state), ["ledger.db", "reserve"]);
    assert_eq!(std::fs::metadata(state.join(RESERVE_FILE)).unwrap().len(), RESERVE_BYTES);
}

#[tokio::test]
async fn reading_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("state");
    let result = SqliteLedger::open(&missing, OpenMode::ReadOnly).await.map(|_| ());
    assert_eq!(result, Err(OpenError::NotFound(missing.clone())));
    assert!(!missing.exists());
    std::fs::create_dir(&missing).unwrap();
    std::fs::set_permissions(&missing, PermissionsExt::from_mode(0o700)).unwrap();
    let result = SqliteLedger::open(&missing, OpenMode::ReadOnly).await.map(|_| ());
    assert_eq!(result, Err(OpenError::NotFound(missing.clone())));
    assert_eq!(names(&missing), Vec::<String>::new());
}

#[tokio::test]
async fn readers_change_nothing_and_leave_nothing() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    // Beside a writer.
    let reader = SqliteLedger::open(&harness.state(), OpenMode::ReadOnly).await.unwrap();
    assert_eq!(reader.entries(&samples::operation("one")).await.unwrap().len(), 1);
    leased.commit(&[leased.entries("one", 1, &["next"])]).await;
    assert_eq!(reader.entries(&samples::operation("one")).await.unwrap().len(), 2);
    assert!(matches!(reader.put_blob(b"x").await, Err(LedgerError::Unavailable(_))));
    assert!(reader.claim(leased.key(), &harness.holder()).await.is_err());
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_reader_alone_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path()).await;
    let before = std::fs::read(folder.path().join(LEDGER_FILE)).unwrap();
    let reader = SqliteLedger::open(folder.path(), OpenMode::ReadOnly).await.unwrap();
    assert_eq!(reader.environments(None).await.unwrap(), vec![]);
    reader.close().await.unwrap();
    assert_eq!(names(folder.path()), ["ledger.db", "reserve"]);
    assert_eq!(std::fs::read(folder.path().join(LEDGER_FILE)).unwrap(), before);
}

#[tokio::test]
async fn a_folder_that_others_can_change_is_refused() {
    for bad in [0o770, 0o707, 0o722] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(bad)).unwrap();
        for open_mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
            let result = SqliteLedger::open(folder.path(), open_mode).await.map(|_| ());
            let Err(error @ OpenError::NotOurs { .. }) = result else { panic!("{result:?}") };
            assert!(error.to_string().contains("chmod 700"), "{error}");
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_read_but_never_written() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path()).await;
    let file = folder.path().join(LEDGER_FILE);
    if !rustix::process::geteuid().is_root() {
        // Only root can give a folder away; the folder of root shows the same.
        let result = SqliteLedger::open(Path::new("/"), OpenMode::ReadWrite).await.map(|_| ());
        assert!(matches!(result, Err(OpenError::NotOurs { .. })), "{result:?}");
        return;
    }
    std::os::unix::fs::chown(&file, Some(12345), Some(12345)).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(12345), Some(12345)).unwrap();
    let before = (names(folder.path()), mode(&file), std::fs::read(&file).unwrap());
    let result = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.map(|_| ());
    let Err(error @ OpenError::NotOurs { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("12345"), "{error}");
    let reader = SqliteLedger::open(folder.path(), OpenMode::ReadOnly).await.unwrap();
    assert_eq!(reader.environments(None).await.unwrap(), vec![]);
    reader.id().await.unwrap();
    assert_eq!((names(folder.path()), mode(&file), std::fs::read(&file).unwrap()), before);
    // Its owner goes on; the reader sees it, although it had read the files as they lay.
    let sql =
        "INSERT INTO environments SELECT 'shop', 'production', 1, '{}' FROM ledger".to_owned();
    let json =
        serde_json::to_string(&EnvironmentRecord::new(samples::key("shop", "production"))).unwrap();
    let sql = sql.replace("'{}'", &format!("'{json}'"));
    let mut owner = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    sqlx::query(AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    let during = names(folder.path());
    assert_eq!(reader.environments(None).await.unwrap().len(), 1, "in the log");
    assert_eq!(names(folder.path()), during);
    owner.close().await.unwrap();
    let late = SqliteLedger::open(folder.path(), OpenMode::ReadOnly).await.unwrap();
    assert_eq!(late.environments(None).await.unwrap().len(), 1, "in the file");
    late.close().await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path()).await;
    tamper(folder.path(), "PRAGMA user_version = 77".to_owned()).await;
    let before = std::fs::read(folder.path().join(LEDGER_FILE)).unwrap();
    for open_mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        let result = SqliteLedger::open(folder.path(), open_mode).await.map(|_| ());
        let newer = LedgerError::NewerFormat { found: 77, supported: 4 };
        assert_eq!(result, Err(OpenError::Ledger(newer)));
    }
    assert_eq!(std::fs::read(folder.path().join(LEDGER_FILE)).unwrap(), before);
}

/// What is said of a file with these bytes, by whichever call notices first.
async fn complaint(bytes: &[u8], open_mode: OpenMode) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(LEDGER_FILE);
    std::fs::write(&file, bytes).unwrap();
    let complaint = match SqliteLedger::open(folder.path(), open_mode).await {
        Err(OpenError::Ledger(error)) => error,
        Err(other) => panic!("{other:?}"),
        Ok(ledger) => match ledger.entries(&samples::operation("one")).await {
            Err(error) => error,
            Ok(entries) => panic!("{} bytes gave {entries:?}", bytes.len()),
        },
    };
    assert_eq!(
        std::fs::metadata(&file).unwrap().len(),
        bytes.len() as u64,
        "nothing is written over the remains"
    );
    complaint.to_string()
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_damaged() {
    let harness = fresh().await;
    Leased::new(&harness).await.open("one").await;
    tamper(&harness.state(), "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
    let whole = std::fs::read(harness.state().join(LEDGER_FILE)).unwrap();
    for open_mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        for length in [0, 1, 50, 100, 4096, 5000, whole.len() / 2, whole.len() - 4096] {
            let complaint = complaint(&whole[..length], open_mode).await;
            let expected = if length == 0 { "is empty" } else { "damaged" };
            assert!(complaint.contains(expected), "{length}: {complaint}");
        }
        assert!(complaint(&[b'x'; 8192], open_mode).await.contains("damaged"));
    }
}

#[tokio::test]
async fn a_log_without_its_file_is_not_covered_with_a_new_ledger() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ledger.db-wal"), b"the last commits").unwrap();
    for open_mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        let message = unavailable(SqliteLedger::open(folder.path(), open_mode).await);
        assert!(message.contains("-wal"), "{message}");
    }
    assert_eq!(names(folder.path()), ["ledger.db-wal"]);
}

#[tokio::test]
async fn what_is_left_of_a_creation_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ledger.db.new", "ledger.db.new-wal", "ledger.db.new-shm"] {
        std::fs::write(folder.path().join(name), b"half").unwrap();
    }
    create(folder.path()).await;
    assert_eq!(names(folder.path()), ["ledger.db", "reserve"]);
}

#[tokio::test]
async fn a_lease_with_an_unreadable_holder_locks_nobody_out() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    assert_eq!(tamper(&harness.state(), "UPDATE leases SET holder = '{'".to_owned()).await, 1);
    let view = leased.ledger.lease(leased.key()).await.unwrap().unwrap();
    assert_eq!((view.holder.pid, view.alive), (leased.holder.pid, true));
    harness.kill(&leased.holder);
    assert_eq!(leased.ledger.claim(leased.key(), &harness.holder()).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn loose_file_modes_are_tightened() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path()).await;
    let file = folder.path().join(LEDGER_FILE);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    create(folder.path()).await;
    assert_eq!(mode(&file), 0o600);
}
