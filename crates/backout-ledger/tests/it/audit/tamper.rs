//! Every way to change the history behind the ledger's back, on the real file, and what is said of it.

use std::path::Path;

use backout_core::ports::audit::{AuditHead, AuditLeaf, AuditRecord, AuditVisitor};
use backout_core::ports::{Change, Commit, Ledger};
use backout_core::{ids::LedgerId, ports::Lease};
use backout_ledger::audit::tree::{Frontier, hash_leaf};
use backout_ledger::audit::{FindingKind, Known, Report, verify};
use backout_ledger::{LEDGER_FILE, OpenMode, SqliteLedger, seed_history};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};

use crate::harness::{Harness, fresh, tamper};

/// A history with every kind of record, and a request with its answer. Its file is whole without a log.
pub struct Story {
    harness: Harness,
    pub lease: Lease,
}

impl Story {
    pub async fn new() -> Self {
        let harness = fresh().await;
        let key = samples::key("shop", "production");
        seed_history(harness.sqlite(), &key, &harness.holder(), 12).await.unwrap();
        let leased = Leased::of(&harness, &samples::key("shop", "staging")).await;
        leased.open("one").await;
        let request = samples::request(leased.key(), &samples::operation("one"), "abort");
        leased.ledger.submit(&request).await.unwrap();
        let changes = vec![Change::Answer(request.id, samples::answer("done")), Change::Close];
        leased.commit(&[Commit { changes, ..leased.entries("one", 1, &["a", "b", "c"]) }]).await;
        let Leased { lease, .. } = leased;
        let story = Self { harness, lease };
        tamper(&story.state(), "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
        story
    }

    pub fn ledger(&self) -> &SqliteLedger {
        self.harness.sqlite()
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.harness.state()
    }

    /// A copy to be spoiled.
    pub fn copy(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(self.state().join(LEDGER_FILE), folder.path().join(LEDGER_FILE)).unwrap();
        folder
    }
}

pub async fn check(state: &Path, known: &[Known]) -> Report {
    let ledger = SqliteLedger::open(state, OpenMode::ReadOnly).await.unwrap();
    let report = verify(&ledger, known).await.unwrap();
    ledger.close().await.unwrap();
    report
}

fn sentences(report: &Report) -> String {
    let lines =
        report.findings.iter().map(|finding| format!("{:?}: {}\n", finding.kind, finding.message));
    lines.collect()
}

/// Fails unless one change is found, as this kind, in a sentence with these words.
#[track_caller]
fn finds(report: &Report, what: &str, kind: FindingKind, words: &str) {
    let told = report
        .findings
        .iter()
        .any(|finding| finding.kind == kind && finding.message.contains(words));
    assert!(told, "{what}: no {kind:?} with `{words}` in\n{}", sentences(report));
}

#[tokio::test]
async fn an_untouched_history_verifies() {
    let story = Story::new().await;
    let report = check(story.copy().path(), &[]).await;
    assert!(report.verified() && report.notes.is_empty(), "{}", sentences(&report));
    assert_eq!(report.entries, 12 * 18 + 4);
    assert_eq!(report, verify(story.ledger(), &[]).await.unwrap());
}

use FindingKind::{Added, Changed, Gone, Moved};

/// One statement each, and what is said.
const TAMPERINGS: &[(&str, &str, FindingKind, &str)] = &[
    (
        "edit an entry",
        "UPDATE entries SET json = replace(json, '\"a\"', '\"x\"') WHERE operation = 'op_one' AND sequence = 2",
        Changed,
        "entry 2 of op_one was changed after it was written",
    ),
    (
        "edit blanks of an entry",
        "UPDATE entries SET json = json || ' ' WHERE operation = 'op_one' AND sequence = 2",
        Changed,
        "entry 2 of op_one was changed",
    ),
    (
        "restamp an entry",
        "UPDATE entries SET at = replace(at, '2026', '2025'), json = replace(json, '\"at\":\"2026', '\"at\":\"2025') WHERE operation = 'op_one' AND sequence = 3",
        Changed,
        "entry 3 of op_one was changed",
    ),
    (
        "restamp a column",
        "UPDATE entries SET at = replace(at, '2026', '2025') WHERE operation = 'op_one' AND sequence = 3",
        Changed,
        "entry 3 of op_one was changed: its column at says",
    ),
    (
        "delete an entry",
        "DELETE FROM entries WHERE operation = 'op_one' AND sequence = 2",
        Gone,
        "entry 2 of op_one was written at",
    ),
    (
        "delete the last entry",
        "DELETE FROM entries WHERE operation = 'op_one' AND sequence = 4",
        Gone,
        "entry 4 of op_one was written at",
    ),
    (
        "add an entry",
        "INSERT INTO entries SELECT id + 1, operation, sequence + 1, format, epoch, at, json FROM entries WHERE operation = 'op_one' AND sequence = 4",
        Added,
        "entry 5 of op_one stands in the ledger but was never logged",
    ),
    (
        "swap two entries",
        "UPDATE entries SET sequence = 999 WHERE operation = 'op_one' AND sequence = 2; UPDATE entries SET sequence = 2 WHERE operation = 'op_one' AND sequence = 3; UPDATE entries SET sequence = 3 WHERE operation = 'op_one' AND sequence = 999",
        Changed,
        "entry 2 of op_one was changed",
    ),
    (
        "renumber entries",
        "UPDATE entries SET sequence = sequence + 10 WHERE operation = 'op_one' AND sequence > 2",
        Gone,
        "entry 3 of op_one was written at",
    ),
    (
        "move an entry to another operation",
        "UPDATE entries SET operation = (SELECT id FROM operations WHERE id <> 'op_one' LIMIT 1), sequence = 99 WHERE operation = 'op_one' AND sequence = 4",
        Gone,
        "entry 4 of op_one",
    ),
    (
        "edit a plan",
        "UPDATE operations SET json = replace(json, 'ann@host', 'bob@host') WHERE id = 'op_one'",
        Changed,
        "the plan of op_one was changed",
    ),
    (
        "delete a plan",
        "DELETE FROM operations WHERE id = 'op_one'",
        Gone,
        "the plan of op_one was written",
    ),
    (
        "open an operation again",
        "UPDATE operations SET open = 1 WHERE id = 'op_one'",
        Gone,
        "but it is open again",
    ),
    (
        "close an operation",
        "INSERT INTO operations SELECT 'op_new', app, environment, kind, 0, format, json FROM operations WHERE id = 'op_one'",
        Added,
        "the end of op_new stands in the ledger but was never logged",
    ),
    (
        "edit a deployment",
        "UPDATE deployments SET json = replace(json, '\"rejected\":true', '\"rejected\":false') WHERE number = 9",
        Changed,
        "deployment shop/production #9 was changed",
    ),
    (
        "delete a deployment",
        "DELETE FROM deployments WHERE number = 9",
        Gone,
        "deployment shop/production #9 was written",
    ),
    (
        "add a deployment",
        "INSERT INTO deployments SELECT app, environment, 99, 'dep_new', kind, release, version, status, rejected, started_at, started_at_ns, format, json FROM deployments WHERE number = 9",
        Added,
        "deployment shop/production #99 stands",
    ),
    (
        "edit a release",
        "UPDATE releases SET json = replace(json, 'build/web', 'build/evil') WHERE rowid = 3",
        Changed,
        "was changed after it was written",
    ),
    ("delete a release", "DELETE FROM releases WHERE rowid = 3", Gone, "release rel_"),
    (
        "edit a rollback",
        "UPDATE rollbacks SET json = replace(json, '\"forced\":false', '\"forced\":true')",
        Changed,
        "rollback rb_",
    ),
    ("delete a rollback", "DELETE FROM rollbacks", Gone, "rollback rb_"),
    (
        "edit an environment",
        "UPDATE environments SET json = replace(json, '\"live\":12', '\"live\":3') WHERE environment = 'production'",
        Changed,
        "environment shop/production was changed",
    ),
    (
        "delete an environment",
        "DELETE FROM environments WHERE environment = 'staging'",
        Gone,
        "environment shop/staging",
    ),
    (
        "edit a request",
        "UPDATE requests SET json = replace(json, 'bob@host', 'ann@host')",
        Changed,
        "request rq_abort was changed",
    ),
    ("delete a request", "DELETE FROM requests", Gone, "request rq_abort was written"),
    (
        "edit an answer",
        "UPDATE requests SET answer = replace(answer, 'done', 'refused')",
        Changed,
        "the answer to request rq_abort was changed",
    ),
    (
        "take an answer back",
        "UPDATE requests SET answer = NULL",
        Gone,
        "the answer to request rq_abort was written",
    ),
    (
        "raise a format",
        "UPDATE entries SET format = 9 WHERE operation = 'op_one' AND sequence = 2",
        Changed,
        "entry 2 of op_one says format 9",
    ),
    (
        "another birthday",
        "UPDATE ledger SET created_at = '2020-01-01T00:00:00Z'",
        Changed,
        "the identity of ledger led_",
    ),
    (
        "another name",
        "UPDATE ledger SET id = 'led_0123456789abcdef01234567'",
        Gone,
        "the identity of ledger led_",
    ),
    (
        "restamp a leaf",
        "UPDATE audit_leaves SET at = '2020-01-01T00:00:00Z' WHERE leaf = 5",
        Changed,
        "of the log are not as they were written",
    ),
    (
        "edit a leaf",
        "UPDATE audit_leaves SET digest = zeroblob(32) WHERE kind = 'entry' AND subject = 'op_one/2'",
        Changed,
        "of the log are not as they were written",
    ),
    (
        "rename a leaf",
        "UPDATE audit_leaves SET subject = 'op_one/9' WHERE kind = 'entry' AND subject = 'op_one/2'",
        Moved,
        "entry 9 of op_one stands in the log",
    ),
    (
        "a leaf of no kind",
        "UPDATE audit_leaves SET kind = 'nothing' WHERE leaf = 5",
        Changed,
        "leaf 5 is about a `nothing`",
    ),
    (
        "delete a leaf",
        "DELETE FROM audit_leaves WHERE leaf = 7",
        Gone,
        "leaf 7 of the log were removed",
    ),
    (
        "delete the first leaf",
        "DELETE FROM audit_leaves WHERE leaf = 0",
        Gone,
        "leaf 0 of the log were removed",
    ),
    (
        "cut the end of the log",
        "DELETE FROM audit_leaves WHERE leaf > 30",
        Gone,
        "its end was cut off",
    ),
    (
        "add a leaf",
        "INSERT INTO audit_leaves SELECT max(leaf) + 1, 'note', 'trust me', 1, zeroblob(32), '' FROM audit_leaves",
        Added,
        "others were added",
    ),
    (
        "a leaf far away",
        "INSERT INTO audit_leaves VALUES (9223372036854775807, 'note', 'trust me', 1, zeroblob(32), '')",
        Added,
        "stands where no leaf belongs",
    ),
    (
        "swap two leaves",
        "UPDATE audit_leaves SET leaf = 999999 WHERE kind = 'entry' AND subject = 'op_one/2'; UPDATE audit_leaves SET leaf = leaf - 1 WHERE kind = 'entry' AND subject = 'op_one/3'; UPDATE audit_leaves SET leaf = (SELECT leaf + 1 FROM audit_leaves WHERE kind = 'entry' AND subject = 'op_one/3') WHERE leaf = 999999",
        Moved,
        "entry 3 of op_one stands in the log",
    ),
    (
        "an older head",
        "UPDATE audit_head SET size = size - 1",
        Changed,
        "the head of the log is damaged",
    ),
    (
        "a damaged head",
        "UPDATE audit_head SET peaks = zeroblob(length(peaks))",
        Changed,
        "of the log are not as they were written",
    ),
    ("no head", "DELETE FROM audit_head", Added, "only 0 were written"),
];

#[tokio::test]
async fn every_tampering_is_found_and_named() {
    let story = Story::new().await;
    for (what, sql, kind, words) in TAMPERINGS {
        let copy = story.copy();
        assert!(tamper(copy.path(), (*sql).to_owned()).await > 0, "{what} changed nothing");
        let report = check(copy.path(), &[]).await;
        finds(&report, what, *kind, words);
    }
}

/// Every column that queries read says what its record says.
#[tokio::test]
async fn no_column_can_be_edited_beside_its_record() {
    let story = Story::new().await;
    let tables = [
        ("environments", "app, environment"),
        ("operations", "id, app, environment, kind, open"),
        ("entries", "operation, sequence, epoch, at"),
        ("releases", "id, app, version, created_at"),
        (
            "deployments",
            "app, environment, number, id, kind, release, version, status, rejected, started_at, started_at_ns",
        ),
        ("rollbacks", "id, app, environment, deployment_to, status"),
        ("requests", "id, app, environment, operation, kind"),
    ];
    for (table, columns) in tables {
        for column in columns.split(", ") {
            let copy = story.copy();
            let number =
                ["sequence", "epoch", "number", "deployment_to", "started_at_ns"].contains(&column);
            let value = match column {
                "open" | "rejected" => format!("1 - {column}"),
                _ if number => format!("{column} + 1000"),
                _ => format!("{column} || 'x'"),
            };
            let row = if table == "environments" { "environment = 'staging'" } else { "rowid = 1" };
            let sql = format!("UPDATE {table} SET {column} = {value} WHERE {row}");
            assert_eq!(tamper(copy.path(), sql).await, 1, "{table}.{column}");
            assert!(!check(copy.path(), &[]).await.verified(), "{table}.{column}");
        }
    }
}

#[tokio::test]
async fn an_older_version_of_a_row_put_back_is_told_as_such() {
    let story = Story::new().await;
    let copy = story.copy();
    let sql = "CREATE TABLE kept AS SELECT json FROM deployments WHERE number = 12".to_owned();
    tamper(copy.path(), sql).await;
    let ledger = SqliteLedger::open(copy.path(), OpenMode::ReadWrite).await.unwrap();
    let holder = story.harness.holder();
    let lease = ledger.claim(&samples::key("shop", "production"), &holder).await.unwrap();
    let mut deployment = ledger.deployment(&lease.key, 12).await.unwrap().unwrap();
    deployment.rejected = true;
    let changes = vec![Change::Deployment(Box::new(deployment))];
    let operation = samples::operation("none");
    let commit = Commit { operation, expected_sequence: 0, entries: vec![], changes };
    ledger.commit(&lease, &[commit]).await.unwrap();
    ledger.close().await.unwrap();
    let sql =
        "UPDATE deployments SET rejected = 0, json = (SELECT json FROM kept) WHERE number = 12";
    tamper(copy.path(), sql.to_owned()).await;
    let report = check(copy.path(), &[]).await;
    finds(&report, "older row", Changed, "deployment shop/production #12 holds an older version");
}

/// Leaves of a ledger.
#[derive(Default)]
struct Leaves(Vec<AuditLeaf>);

impl AuditVisitor for Leaves {
    fn head(&mut self, _: &LedgerId, _: AuditHead) {}

    fn leaf(&mut self, leaf: AuditLeaf) {
        self.0.push(leaf);
    }

    fn record(&mut self, _: AuditRecord) {}
}

/// Who may write the file may write all of it: log and head anew, over changed leaves.
async fn write_anew(state: &Path, change: impl FnOnce(&mut Vec<AuditLeaf>)) {
    let mut leaves = Leaves::default();
    let ledger = SqliteLedger::open(state, OpenMode::ReadOnly).await.unwrap();
    ledger.audit_scan(&mut leaves).await.unwrap();
    ledger.close().await.unwrap();
    let mut leaves = leaves.0;
    change(&mut leaves);
    let mut frontier = Frontier::default();
    tamper(state, "DELETE FROM audit_leaves".to_owned()).await;
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (index, leaf) in leaves.iter().enumerate() {
        frontier.push(hash_leaf(&leaf.bytes()));
        let AuditLeaf { kind, subject, format, digest, at, .. } = leaf;
        let digest = text(digest);
        let sql = format!(
            "INSERT INTO audit_leaves VALUES ({index}, '{kind}', '{subject}', {format}, x'{digest}', '{at}')"
        );
        tamper(state, sql).await;
    }
    let AuditHead { size, peaks } = frontier.head();
    let peaks = text(&peaks.concat());
    tamper(state, format!("UPDATE audit_head SET size = {size}, peaks = x'{peaks}'")).await;
}

fn known(report: &Report) -> Known {
    Known {
        source: "the checkpoint".to_owned(),
        size: report.leaves,
        root: report.root,
        leaves: Vec::new(),
    }
}

#[tokio::test]
async fn a_log_written_anew_is_told_by_a_checkpoint_alone_and_named_by_an_export() {
    let story = Story::new().await;
    let copy = story.copy();
    let checkpoint = known(&check(copy.path(), &[]).await);
    let mut old = Vec::new();
    let sql = "UPDATE entries SET json = replace(json, '\"a\"', '\"x\"') WHERE operation = 'op_one' AND sequence = 2";
    assert_eq!(tamper(copy.path(), sql.to_owned()).await, 1);
    let place = std::cell::Cell::new(0);
    write_anew(copy.path(), |leaves| {
        old = leaves.iter().map(|leaf| hash_leaf(&leaf.bytes())).collect();
        let leaf = leaves.iter_mut().find(|leaf| leaf.subject == "op_one/2").unwrap();
        place.set(leaf.index);
        let entry = samples::entry(1, "x");
        let json = serde_json::to_string(&entry).unwrap();
        leaf.digest = backout_core::ports::audit::audit_digest(&json);
    })
    .await;
    let report = check(copy.path(), &[]).await;
    assert!(report.verified(), "nothing in the file tells: {}", sentences(&report));
    let report = check(copy.path(), std::slice::from_ref(&checkpoint)).await;
    finds(
        &report,
        "anew",
        FindingKind::Rewritten,
        "are not the ones that the checkpoint was made over",
    );
    let report = check(copy.path(), &[Known { leaves: old, ..checkpoint }]).await;
    let words = format!("leaf {} of the log (entry 2 of op_one) is not the one", place.get());
    finds(&report, "anew", FindingKind::Rewritten, &words);
    assert_eq!(report.findings.len(), 1, "{}", sentences(&report));
}

#[tokio::test]
async fn an_older_database_put_back_is_told_by_a_checkpoint() {
    let story = Story::new().await;
    let old = story.copy();
    let before = known(&check(old.path(), &[]).await);
    let commit = |name: &str| {
        let plan = samples::plan(
            &story.lease.key,
            &samples::operation(name),
            1,
            &samples::release(&story.lease.key.app, "1"),
        );
        Commit {
            operation: samples::operation(name),
            expected_sequence: 0,
            entries: vec![samples::entry(story.lease.epoch, name)],
            changes: vec![Change::Open(Box::new(plan)), Change::Close],
        }
    };
    story.ledger().commit(&story.lease, &[commit("two")]).await.unwrap();
    let after = known(&verify(story.ledger(), &[]).await.unwrap());
    // What grew is still the same log.
    let report = verify(story.ledger(), &[before.clone(), after.clone()]).await.unwrap();
    assert!(report.verified(), "{}", sentences(&report));
    let report = check(old.path(), &[before.clone(), after.clone()]).await;
    finds(&report, "older", FindingKind::Shorter, "an older ledger was put back");
    // And when it has grown again, otherwise.
    let ledger = SqliteLedger::open(old.path(), OpenMode::ReadWrite).await.unwrap();
    let lease = ledger.claim(&story.lease.key, &story.harness.holder()).await;
    let lease = match lease {
        Ok(lease) => lease,
        Err(_) => story.lease.clone(),
    };
    let other = commit("three");
    let entries = vec![samples::entry(lease.epoch, "three")];
    ledger.commit(&lease, &[Commit { entries, ..other }]).await.unwrap();
    ledger.close().await.unwrap();
    let report = check(old.path(), std::slice::from_ref(&before)).await;
    assert!(report.verified(), "{}", sentences(&report));
    let report = check(old.path(), &[before, after]).await;
    finds(&report, "forked", FindingKind::Rewritten, "are not the ones that the checkpoint");
}

/// A way back must never wait for the log: it is continued, says so, and still shows what was done to it.
#[tokio::test]
async fn a_damaged_log_is_continued_and_never_heals() {
    let story = Story::new().await;
    for (what, sql) in [
        ("no head", "DELETE FROM audit_head"),
        ("a damaged head", "UPDATE audit_head SET peaks = x'00'"),
        ("an older head", "UPDATE audit_head SET size = 8, peaks = zeroblob(32)"),
        ("a hole", "DELETE FROM audit_leaves WHERE leaf = 7"),
        ("the end cut off", "DELETE FROM audit_leaves WHERE leaf > 30"),
        (
            "a leaf added",
            "INSERT INTO audit_leaves SELECT max(leaf) + 2, 'note', 'x', 1, zeroblob(32), '' FROM audit_leaves",
        ),
        (
            "a leaf far away",
            "INSERT INTO audit_leaves VALUES (9223372036854775807, 'note', 'x', 1, zeroblob(32), '')",
        ),
        ("nothing left", "DELETE FROM audit_leaves"),
    ] {
        let copy = story.copy();
        assert!(tamper(copy.path(), sql.to_owned()).await > 0, "{what}");
        let ledger = SqliteLedger::open(copy.path(), OpenMode::ReadWrite).await.unwrap();
        let key = samples::key("shop", "testing");
        let lease = ledger.claim(&key, &story.harness.holder()).await.unwrap();
        for (number, name) in [(1, "two"), (2, "three"), (3, "four")] {
            let release = samples::release(&key.app, "1");
            let plan = samples::plan(&key, &samples::operation(name), number, &release);
            let commit = Commit {
                operation: samples::operation(name),
                expected_sequence: 0,
                entries: vec![samples::entry(lease.epoch, name)],
                changes: vec![Change::Open(Box::new(plan)), Change::Close],
            };
            ledger
                .commit(&lease, &[commit])
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        ledger.close().await.unwrap();
        let report = check(copy.path(), &[]).await;
        let remarked = report.notes.iter().any(|note| note.contains("was made anew"));
        assert!(!report.verified() || remarked, "{what} has healed");
        let remarks = report.notes.len();
        assert!(remarks <= 2, "{what}: one remark is enough: {:?}", report.notes);
        assert!(!sentences(&report).contains("op_two"), "{what}: {}", sentences(&report));
    }
}
