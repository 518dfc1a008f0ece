//! Exports: whole or not there, and nothing that was cut or bent passes.

use std::path::Path;

use backout_core::ports::Ledger as _;
use backout_ledger::audit::{
    ExportError, FindingKind, Keeper, Known, Report, Verifier, export, is_export_of, read_export,
};
use backout_ledger::{LEDGER_FILE, OpenMode, SqliteLedger};

use super::tamper::{Story, check};
use crate::harness::tamper;
use crate::space::on_a_small_disk;

fn seed() -> [u8; 32] {
    [1; 32]
}

async fn write(story: &Story, path: &Path) -> String {
    let id = story.ledger().id().await.unwrap();
    let keeper = Keeper::new(&story.state(), &id);
    let exported = export(story.ledger(), &keeper, path, &[], seed).await;
    let exported = exported.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(keeper.remembered().unwrap(), Some(exported.note.clone()));
    assert!(keeper.open(&exported.note, &[]).is_ok());
    exported.note
}

fn read(bytes: &[u8]) -> Result<Report, String> {
    let mut verifier = Verifier::new(&[]);
    match read_export(bytes, &mut verifier) {
        Ok(_) => Ok(verifier.finish()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn an_export_says_what_the_ledger_says() {
    let story = Story::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let note = write(&story, &path).await;
    let bytes = std::fs::read(&path).unwrap();
    let mut verifier = Verifier::new(&[]);
    let exported = read_export(&bytes[..], &mut verifier).unwrap_or_else(|error| panic!("{error}"));
    let report = verifier.finish();
    let ledgers = check(&story.state(), &[]).await;
    assert_eq!(report, ledgers);
    assert_eq!((exported.note, exported.leaves.len() as u64), (note, ledgers.leaves));
    let id = story.ledger().id().await.unwrap();
    assert!(is_export_of(&path, &id));
    assert!(!is_export_of(&story.state().join(LEDGER_FILE), &id));
    // The next one takes its place.
    write(&story, &path).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_export_that_was_cut_anywhere_is_refused() {
    let story = Story::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    write(&story, &path).await;
    let bytes = std::fs::read(&path).unwrap();
    assert!(read(&bytes).unwrap().verified());
    // At every end of a line, and at some hundred places in between.
    let ends = (0..bytes.len()).filter(|at| bytes[*at] == b'\n');
    for at in ends.chain((0..bytes.len()).step_by(997)).collect::<Vec<_>>() {
        assert!(read(&bytes[..at]).is_err(), "cut at {at} of {}", bytes.len());
    }
    let more = [&bytes[..], b"x"].concat();
    assert!(read(&more).unwrap_err().contains("behind the last line"));
}

#[tokio::test]
async fn an_export_that_was_bent_anywhere_does_not_verify() {
    let story = Story::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    write(&story, &path).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let signed = text.lines().last().unwrap().len();
    // The last line is the signature's business, and the time in the first one says nothing.
    for (place, line) in lines.iter().enumerate().take(lines.len() - 1).step_by(7) {
        for (from, to) in [("0", "1"), ("a", "b"), ("\"", "'"), ("2026", "2025")] {
            let Some(at) = line.find(from).filter(|_| place > 0) else { continue };
            let mut bent: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            bent[place].replace_range(at..at + from.len(), to);
            let bent = bent.join("\n") + "\n";
            assert_ne!(bent, text);
            let passes = read(bent.as_bytes()).is_ok_and(|report| report.verified());
            assert!(!passes, "line {place}, {from} for {to}: {line}");
        }
    }
    for place in (1..lines.len() - 1).step_by(11) {
        let mut fewer = lines.clone();
        fewer.remove(place);
        let mut twice = lines.clone();
        twice.insert(place, lines[place]);
        for bent in [fewer, twice] {
            let bent = bent.join("\n") + "\n";
            let passes = read(bent.as_bytes()).is_ok_and(|report| report.verified());
            assert!(!passes, "line {place} removed or doubled: {}", lines[place]);
        }
    }
    assert!(signed > 0);
}

#[tokio::test]
async fn what_does_not_verify_is_not_signed() {
    let story = Story::new().await;
    let copy = story.copy();
    tamper(
        copy.path(),
        "DELETE FROM entries WHERE operation = 'op_one' AND sequence = 2".to_owned(),
    )
    .await;
    let ledger = SqliteLedger::open(copy.path(), OpenMode::ReadOnly).await.unwrap();
    let keeper = Keeper::new(copy.path(), &ledger.id().await.unwrap());
    let path = copy.path().join("out");
    match export(&ledger, &keeper, &path, &[], seed).await {
        Err(ExportError::NotVerified(report)) => {
            assert_eq!(report.findings[0].kind, FindingKind::Gone);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was signed"),
    }
    ledger.close().await.unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(copy.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [LEDGER_FILE], "neither a file nor a key");
}

#[tokio::test]
async fn a_log_shorter_than_the_last_checkpoint_is_not_signed() {
    let story = Story::new().await;
    let id = story.ledger().id().await.unwrap();
    let keeper = Keeper::new(&story.state(), &id);
    let known = Known {
        source: "the last export".to_owned(),
        size: 100_000,
        root: [0; 32],
        leaves: Vec::new(),
    };
    let path = story.state().join("out");
    let result = export(story.ledger(), &keeper, &path, &[known], seed).await;
    assert!(matches!(result, Err(ExportError::NotVerified(_))));
    assert!(!path.exists());
}

#[test]
fn a_disk_without_room_leaves_the_old_export() {
    let said = on_a_small_disk("24m", "export");
    let [error, old, left, again] = said.as_slice() else { panic!("{said:?}") };
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(old, "the old one is whole: true");
    assert_eq!(left, "names: audit, fill, ledger.db, out, reserve");
    assert_eq!(again, "with room again: true");
}

#[tokio::test]
async fn a_place_that_can_not_be_written_is_named() {
    let story = Story::new().await;
    let id = story.ledger().id().await.unwrap();
    let keeper = Keeper::new(&story.state(), &id);
    let nowhere = story.state().join(LEDGER_FILE).join("below a file");
    match export(story.ledger(), &keeper, &nowhere, &[], seed).await {
        Err(error @ ExportError::File { .. }) => {
            assert!(error.to_string().contains("below a file"), "{error}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was written"),
    }
    assert!(keeper.remembered().unwrap().is_none() && !keeper.key_path().exists());
}
