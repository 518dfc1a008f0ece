//! Several processes on one database.

use backout_testkit::postgres::shared;

use crate::processes::{Running, race_to_claim};

#[test]
fn of_racing_processes_one_wins_and_one_makes_the_ledger() {
    let server = shared();
    for _ in 0..5 {
        // The ledger is not there yet: they race to make it too.
        let database = server.database();
        race_to_claim(server.url(&database), 5);
        assert_eq!(server.sql(&database, "SELECT count(*) FROM backout.ledger"), "1");
        let logged = "SELECT count(*) FROM backout.audit_leaves WHERE kind = 'ledger'";
        assert_eq!(server.sql(&database, logged), "1");
    }
}

#[test]
fn a_killed_holder_of_this_machine_is_taken_over_at_once() {
    let server = shared();
    let url = server.url(&server.database());
    let claim = |url: &str| {
        let mut child = Running::start("claim", url);
        assert_eq!(child.line(), "ready");
        child.go();
        let said = child.line();
        (child, said)
    };
    let (first, said) = claim(&url);
    assert_eq!(said, "1");
    assert!(claim(&url).1.starts_with("busy: "));
    first.kill();
    assert_eq!(claim(&url).1, "2");
}

/// What a process acknowledged before it was killed is there, and the next one goes on.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let server = shared();
    let database = server.database();
    let url = server.url(&database);
    let mut acknowledged: u64 = 0;
    for round in 0..8_u64 {
        let mut child = Running::start("append", &url);
        for _ in 0..=round * 3 {
            acknowledged = child.line().parse().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_micros(round * 370));
        if let Some(last) = child.kill().last() {
            acknowledged = last.parse().unwrap();
        }
        // A COMMIT may still be on its way: who writes next waits for it.
        let settled = "BEGIN; SELECT 1 FROM backout.ledger FOR UPDATE; COMMIT;
                       SELECT count(*) FROM backout.entries";
        let entries = server.sql(&database, settled);
        let entries: u64 = entries.lines().last().unwrap().parse().unwrap();
        assert!(
            entries == acknowledged || entries == acknowledged + 1,
            "{entries} of {acknowledged} acknowledged"
        );
        let messages = server.sql(&database, "SELECT count(*) FROM backout.outbox");
        assert_eq!(messages, entries.to_string(), "an entry and its message are one commit");
        acknowledged = entries;
    }
    assert!(acknowledged > 50, "the children should have come far: {acknowledged}");
}
