//! Killed in the middle: what was acknowledged is there, what was not is there whole or not at all.

use backout_core::ports::Ledger;
use backout_ledger::{OpenMode, SqliteLedger};
use backout_testkit::ledger::samples;

use crate::harness::logged;
use crate::processes::Running;

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut acknowledged = 0;
    for round in 0..12_u64 {
        let mut child = Running::start("append", &state);
        // Rounds end after different numbers of commits, and at any point of the next one.
        for _ in 0..=round * 3 {
            acknowledged = child.line().parse().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_micros(round * 370));
        if let Some(last) = child.kill().last() {
            acknowledged = last.parse().unwrap();
        }
        let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await.unwrap();
        let entries = ledger.entries(&samples::operation("one")).await.unwrap().len() as u64;
        assert!(
            entries == acknowledged || entries == acknowledged + 1,
            "{entries} of {acknowledged} acknowledged"
        );
        let messages = ledger.outbox(u32::MAX).await.unwrap().len() as u64;
        assert_eq!(messages, entries, "an entry and its message are one commit");
        assert_eq!(logged(&ledger).await, entries);
        ledger.close().await.unwrap();
        acknowledged = entries;
    }
    assert!(acknowledged > 100, "the children should have come far: {acknowledged}");
}

#[tokio::test]
async fn a_kill_during_creation_leaves_a_ledger_or_none() {
    for round in 0..20_u64 {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let child = Running::start("append", &state);
        std::thread::sleep(std::time::Duration::from_micros(300 + round * 600));
        child.kill();
        let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await.unwrap();
        ledger.id().await.unwrap();
        let entries = ledger.entries(&samples::operation("one")).await.unwrap().len() as u64;
        assert_eq!(logged(&ledger).await, entries);
        ledger.close().await.unwrap();
        assert!(!state.join("ledger.db.new").exists());
    }
}
