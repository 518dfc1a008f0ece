//! A disk that is really full.

use std::process::Command;

use crate::processes::child_program;

/// In a mount namespace of its own, so that the small disk is gone with the process, however it ends.
pub fn on_a_small_disk(size: &str, verb: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o "size=$1,mode=0700" none "$2" && exec "$3" "$4" "$2""#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", size])
        .arg(folder.path())
        .arg(child_program())
        .arg(verb)
        .output()
        .expect("unshare (util-linux) is needed to make a small disk");
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "needs user namespaces; it said: {said}\n{errors}");
    said.lines().map(str::to_owned).collect()
}

fn number(line: &str) -> u64 {
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn a_full_disk_is_named_and_the_reserve_carries_one_rollback() {
    let said = on_a_small_disk("24m", "fill");
    let [full, writer, reader, freed, rolled_back, cold_reader, cold_writer, back, chain] =
        said.as_slice()
    else {
        panic!("{said:?}");
    };
    let length = number(full);
    assert_eq!(
        (number(writer), number(reader)),
        (length, length),
        "what was acknowledged, and no more"
    );
    assert_eq!(freed, "freed true");
    assert_eq!(number(rolled_back), length + 100);
    assert_eq!(cold_reader, "cold reader misses 0");
    assert!(cold_writer.starts_with("cold writer"), "{cold_writer}");
    assert_eq!(back, "reserve is back: true");
    assert!(number(chain) > length + 100, "{chain}");
}

/// Also where enough is left to open the ledger and to claim, and too little to end.
#[test]
fn whatever_goes_back_has_the_reserve_however_little_is_left() {
    let said = on_a_small_disk("48m", "scarce");
    assert_eq!(said, ["a person goes back", "a verdict goes back", "a request goes back"]);
}
