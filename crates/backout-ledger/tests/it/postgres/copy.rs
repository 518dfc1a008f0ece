//! A ledger moves from its file into a database: whole, once, whatever happens on the way.

use std::path::{Path, PathBuf};
use std::process::Command;

use backout_core::model::{DeploymentFilter, Health, LiveHealth};
use backout_core::ports::{AppendError, Ledger, LedgerError};
use backout_ledger::{
    Copied, CopyError, DatabaseUrl, LEDGER_FILE, OpenError, OpenMode, PostgresLedger, Progress,
    SqliteLedger, copy_ledger, holder_for_this_process, seed_history,
};
use backout_testkit::ledger::samples;
use backout_testkit::postgres::shared;

use crate::harness::{logged, tamper};
use crate::processes::child_program;

/// Deployments of the history that moves: more rows than are read at once.
const DEPLOYMENTS: u64 = 60;

/// A state folder with a history, an interrupted operation, requests and blobs.
async fn filled(folder: &Path) {
    let ledger = SqliteLedger::open(folder, OpenMode::ReadWrite).await.unwrap();
    let (key, holder) =
        (samples::key("shop", "production"), holder_for_this_process("seed", false).unwrap());
    seed_history(&ledger, &key, &holder, DEPLOYMENTS).await.unwrap();
    let staging = samples::key("shop", "staging");
    let lease = ledger.claim(&staging, &holder).await.unwrap();
    let release = samples::release(&staging.app, "1.0.0");
    let plan = samples::plan(&staging, &samples::operation("one"), 1, &release);
    let commit = backout_core::ports::Commit {
        operation: samples::operation("one"),
        expected_sequence: 0,
        entries: vec![samples::entry(lease.epoch, "begun")],
        changes: vec![
            backout_core::ports::Change::Open(Box::new(plan)),
            backout_core::ports::Change::Outbox(samples::message("a \u{1F600} message")),
        ],
    };
    ledger.commit(&lease, &[commit]).await.unwrap();
    ledger.release(&lease).await.unwrap();
    for name in ["a", "b"] {
        let request = samples::request(&staging, &samples::operation("one"), name);
        ledger.submit(&request).await.unwrap();
    }
    for size in [0, 1, 100_000, 10 * 1024 * 1024] {
        ledger.put_blob(&vec![u8::try_from(size % 251).unwrap(); size]).await.unwrap();
    }
    let live = LiveHealth {
        overall: Health::Healthy,
        services: [("web".to_owned(), Health::Healthy)].into(),
        checked_at: samples::at(7),
        fresh_for_ms: 2000,
        hosts: Default::default(),
    };
    ledger.put_health(&key, &live).await.unwrap();
    ledger.close().await.unwrap();
}

fn target() -> (String, DatabaseUrl) {
    let database = shared().database();
    let url = shared().url(&database).parse().unwrap();
    (database, url)
}

async fn copy(folder: &Path, url: &DatabaseUrl) -> Result<Copied, CopyError> {
    copy_ledger(folder, url, &mut |_| {}).await
}

fn rows(copied: &Copied, table: &str) -> u64 {
    copied.rows.iter().find(|(name, _)| *name == table).unwrap().1
}

#[tokio::test]
async fn everything_moves_and_goes_on_there() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let file = SqliteLedger::open(folder.path(), OpenMode::ReadOnly).await.unwrap();
    let (id, key) = (file.id().await.unwrap(), file.hash_key().await.unwrap());
    let production = samples::key("shop", "production");
    let deployments = file.deployments(&production, &DeploymentFilter::default()).await.unwrap();
    file.close().await.unwrap();
    let (_, url) = target();
    let mut seen = Vec::new();
    let copied =
        copy_ledger(folder.path(), &url, &mut |progress| seen.push(progress)).await.unwrap();
    assert_eq!((&copied.ledger, copied.audit_verified), (&id, true));
    assert_eq!(rows(&copied, "deployments"), DEPLOYMENTS);
    assert_eq!(rows(&copied, "entries"), DEPLOYMENTS * 18 + 1);
    assert_eq!((rows(&copied, "blobs"), rows(&copied, "requests")), (4, 2));
    assert_eq!(seen.first(), Some(&Progress::Begun));
    assert_eq!(seen[seen.len() - 2..], [Progress::Verified, Progress::Marked]);
    let ledger = PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    assert_eq!((ledger.id().await.unwrap(), ledger.hash_key().await.unwrap()), (id, key));
    assert_eq!(
        ledger.deployments(&production, &DeploymentFilter::default()).await.unwrap(),
        deployments
    );
    assert_eq!(ledger.health(&production).await.unwrap().unwrap().checked_at, samples::at(7));
    // Epochs go on, as do numbers and the audit log; the interrupted operation waits for whoever recovers it.
    let staging = samples::key("shop", "staging");
    assert!(ledger.open_operation(&staging).await.unwrap().is_some());
    let holder = holder_for_this_process("recover", false).unwrap();
    let lease = ledger.claim(&staging, &holder).await.unwrap();
    assert_eq!(lease.epoch, 2);
    let operation = samples::operation("one");
    let next = samples::request(&staging, &operation, "0-comes-last");
    ledger.submit(&next).await.unwrap();
    assert_eq!(ledger.pending_requests(&operation).await.unwrap().last(), Some(&next));
    let commit = backout_core::ports::Commit {
        operation,
        expected_sequence: 1,
        entries: vec![samples::entry(2, "recovered")],
        changes: vec![
            backout_core::ports::Change::Outbox(samples::message("second")),
            backout_core::ports::Change::Close,
        ],
    };
    ledger.commit(&lease, &[commit]).await.unwrap();
    ledger.release(&lease).await.unwrap();
    let messages = ledger.outbox(10).await.unwrap();
    assert_eq!(messages.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(seed_history(&ledger, &production, &holder, 10).await.unwrap(), DEPLOYMENTS + 10);
    assert_eq!(logged(&ledger).await, (DEPLOYMENTS + 10) * 18 + 2);
}

#[tokio::test]
async fn the_old_ledger_is_kept_from_everybody() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    // Open since before the move.
    let early = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let (database, url) = target();
    copy(folder.path(), &url).await.unwrap();
    let holder = holder_for_this_process("deploy", false).unwrap();
    let staging = samples::key("shop", "staging");
    let refused = early.claim(&staging, &holder).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("moved into a database"), "{refused}");
    assert!(early.put_blob(b"new").await.is_err());
    for mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
        let Err(OpenError::Moved { database: to, .. }) =
            SqliteLedger::open(folder.path(), mode).await
        else {
            panic!("it was opened")
        };
        assert_eq!(to, url.to_string());
    }
    // Once more is the same, also when it has gone on; elsewhere is another ledger.
    let moved = PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    moved.put_blob(b"since").await.unwrap();
    assert_eq!(rows(&copy(folder.path(), &url).await.unwrap(), "blobs"), 4);
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM backout.blobs"), "5");
    let Err(CopyError::Refused(why)) = copy(folder.path(), &target().1).await else {
        panic!("it was copied twice")
    };
    assert!(why.contains(&format!("moved to {url}")), "{why}");
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM backout.ledger"), "1");
}

#[tokio::test]
async fn what_would_be_lost_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    // A ledger is there already.
    let (_, taken) = target();
    let other = PostgresLedger::connect(&taken, OpenMode::ReadWrite).await.unwrap();
    other.put_blob(b"theirs").await.unwrap();
    let Err(CopyError::Refused(why)) = copy(folder.path(), &taken).await else {
        panic!("it was written over")
    };
    assert!(why.contains("holds a ledger already"), "{why}");
    assert_eq!(
        other.blob(&other.put_blob(b"theirs").await.unwrap()).await.unwrap().unwrap(),
        b"theirs"
    );
    // Somebody works.
    let (_, url) = target();
    let ledger = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let (staging, holder) =
        (samples::key("shop", "staging"), holder_for_this_process("deploy", false).unwrap());
    let lease = ledger.claim(&staging, &holder).await.unwrap();
    let Err(CopyError::Busy { key, view }) = copy(folder.path(), &url).await else {
        panic!("it was copied under somebody")
    };
    assert_eq!((key, view.holder), (staging, holder));
    ledger.release(&lease).await.unwrap();
    // There is none.
    let nothing = tempfile::tempdir().unwrap();
    let copied = copy(nothing.path(), &url).await;
    assert!(matches!(copied, Err(CopyError::Open(OpenError::NotFound(_)))), "{copied:?}");
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
    // An empty ledger, as a first command leaves it, is in nobody's way.
    PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    copy(folder.path(), &url).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_differs_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let (database, url) = target();
    PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    // One letter of one row changes on its way.
    shared().sql(
        &database,
        "CREATE FUNCTION backout.spoil() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN NEW.json := replace(NEW.json, 'stable', 'stabel'); RETURN NEW; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON backout.deployments
             FOR EACH ROW WHEN (NEW.number = 33) EXECUTE FUNCTION backout.spoil()",
    );
    let Err(CopyError::Differs(what)) = copy(folder.path(), &url).await else {
        panic!("nobody noticed")
    };
    assert_eq!(what, "deployments shop/production/33");
    // The old one stays in use, the copy is none.
    SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap().close().await.unwrap();
    let opened = PostgresLedger::connect(&url, OpenMode::ReadWrite).await;
    assert!(matches!(opened, Err(OpenError::HalfCopied { .. })));
    // Another ledger does not go there.
    let other = tempfile::tempdir().unwrap();
    filled(other.path()).await;
    let Err(CopyError::Refused(why)) = copy(other.path(), &url).await else { panic!("mixed") };
    assert!(why.contains("holds a part of"), "{why}");
    shared().sql(&database, "DROP TRIGGER spoil ON backout.deployments");
    copy(folder.path(), &url).await.unwrap();
}

/// What the audit log complained of before, it complains of there.
#[tokio::test]
async fn a_changed_history_moves_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let change = "UPDATE entries SET json = replace(json, 'seed', 'sead') WHERE id = 1";
    assert_eq!(tamper(folder.path(), change.to_owned()).await, 1);
    let (_, url) = target();
    let copied = copy(folder.path(), &url).await.unwrap();
    assert!(!copied.audit_verified);
    let ledger = PostgresLedger::connect(&url, OpenMode::ReadOnly).await.unwrap();
    let report = backout_ledger::audit::verify(&ledger, &[]).await.unwrap();
    assert!(!report.verified());
}

/// The child ends itself with SIGKILL at a step of its copy; `None` once it came to the end.
fn killed_at(step: u32, folder: &Path, url: &str) -> bool {
    let output = Command::new(child_program())
        .arg("copy")
        .arg(folder)
        .arg(url)
        .arg(step.to_string())
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    match output.status.signal() {
        Some(9) => true,
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}");
            false
        }
    }
}

fn duplicate(from: &Path) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::copy(from.join(LEDGER_FILE), state.join(LEDGER_FILE)).unwrap();
    (folder, state)
}

#[tokio::test]
async fn a_kill_at_any_point_leaves_one_ledger_and_the_copy_goes_on() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path()).await;
    let mut step = 0;
    loop {
        let (_folder, state) = duplicate(original.path());
        let (_, url) = target();
        let address = shared().url(url.to_string().rsplit('/').next().unwrap());
        let killed = killed_at(step, &state, &address);
        // Never both.
        let file = SqliteLedger::open(&state, OpenMode::ReadWrite).await;
        let database = PostgresLedger::connect(&url, OpenMode::ReadWrite).await;
        match (&file, &database) {
            (Ok(_), Err(OpenError::HalfCopied { .. })) if killed => {}
            (Err(OpenError::Moved { .. }), Err(OpenError::HalfCopied { .. })) if killed => {}
            (Err(OpenError::Moved { .. }), Ok(_)) => {}
            (file, database) => {
                panic!("step {step}: {:?} and {:?}", file.as_ref().err(), database.as_ref().err())
            }
        }
        if let Ok(file) = file {
            // It goes on in between, and what it writes moves too.
            let holder = holder_for_this_process("deploy", false).unwrap();
            let key = samples::key("shop", "production");
            assert_eq!(seed_history(&file, &key, &holder, 1).await.unwrap(), DEPLOYMENTS + 1);
            file.close().await.unwrap();
            let copied = copy(&state, &url).await.unwrap();
            assert_eq!(rows(&copied, "deployments"), DEPLOYMENTS + 1);
        } else {
            let copied = copy(&state, &url).await.unwrap();
            assert_eq!(rows(&copied, "deployments"), DEPLOYMENTS, "step {step}");
        }
        let ledger = PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
        assert!(logged(&ledger).await > DEPLOYMENTS * 18);
        if !killed {
            break;
        }
        step += 1;
    }
    assert!(step > 15, "{step} steps");
}

/// Writers of the file wait for the copy, and are told by whom it is locked.
#[tokio::test]
async fn nobody_writes_while_it_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let other = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let (_, url) = target();
    let mut during = None;
    let mut progress = |progress| {
        if progress == Progress::Begun {
            during = Some(std::thread::scope(|scope| {
                let ask = || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(other.put_blob(b"meanwhile"))
                };
                scope.spawn(ask).join().unwrap()
            }));
        }
    };
    copy_ledger(folder.path(), &url, &mut progress).await.unwrap();
    let Some(Err(LedgerError::Unavailable(message))) = during else { panic!("{during:?}") };
    assert!(message.contains("stays locked"), "{message}");
}

#[tokio::test]
async fn the_lease_of_a_moved_ledger_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let ledger = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let staging = samples::key("shop", "staging");
    // Its process is gone, but its handle is not: as after a stop that lasts.
    let mut holder = holder_for_this_process("deploy", false).unwrap();
    holder.pid_start += 1;
    let lease = ledger.claim(&staging, &holder).await.unwrap();
    let (_, url) = target();
    copy(folder.path(), &url).await.unwrap();
    let commit = backout_core::ports::Commit {
        operation: samples::operation("one"),
        expected_sequence: 1,
        entries: vec![samples::entry(lease.epoch, "late")],
        changes: vec![],
    };
    let refused = ledger.commit(&lease, &[commit]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(ledger.renew(&lease).await.is_err());
    let moved = PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    assert_eq!(moved.entries(&samples::operation("one")).await.unwrap().len(), 1);
}
