//! What every host must do.

use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::{ServiceName, Slot, Unit};
use backout_core::ports::{
    ErrorClass, Host, HostChange, HostCommand, HostEnded, HostOutput, HostWords, Secret,
};

use crate::fixtures;

const LIMIT: Duration = Duration::from_secs(120);

/// A host on which nothing runs yet, and what can be run on it.
pub trait HostBench: Send + Sync {
    /// The host.
    fn host(&self) -> Arc<dyn Host>;
    /// Prints each word, followed by a zero byte.
    fn say(&self, words: &[&str]) -> Vec<String>;
    /// Ends with this code.
    fn exit(&self, code: i32) -> Vec<String>;
    /// Prints what it reads.
    fn copy(&self) -> Vec<String>;
    /// Prints the value of a variable.
    fn variable(&self, name: &str) -> Vec<String>;
    /// Adds `begin` to a file, waits until there is another file, and adds `end`.
    fn wait(&self, file: &str, until: &str) -> Vec<String>;
    /// A unit on it.
    fn unit(&self) -> Unit {
        Unit { host: self.host().name().clone(), ..fixtures::unit(Slot::A) }
    }
}

/// A bench of any host that has a POSIX shell.
pub struct ShellBench(pub Arc<dyn Host>);

/// A line for `sh`.
#[must_use]
pub fn sh(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(str::to_owned).to_vec()
}

/// A line for `sh` that is given words.
fn sh_with<'a>(line: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words = std::iter::once("sh").chain(words).map(str::to_owned);
    sh(line).into_iter().chain(words).collect()
}

impl HostBench for ShellBench {
    fn host(&self) -> Arc<dyn Host> {
        self.0.clone()
    }
    fn say(&self, words: &[&str]) -> Vec<String> {
        sh_with(r#"for word in "$@"; do printf '%s\0' "$word"; done"#, words.iter().copied())
    }
    fn exit(&self, code: i32) -> Vec<String> {
        sh(&format!("exit {code}"))
    }
    fn copy(&self) -> Vec<String> {
        vec!["cat".to_owned()]
    }
    fn variable(&self, name: &str) -> Vec<String> {
        sh(&format!("printf '%s\\0' \"${name}\""))
    }
    fn wait(&self, file: &str, until: &str) -> Vec<String> {
        let line =
            r#"echo begin >> "$1"; while [ ! -e "$2" ]; do sleep 0.05; done; echo end >> "$1""#;
        sh_with(line, [file, until])
    }
}

/// Runs the whole suite.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_host(bench: &dyn HostBench) {
    words_arrive_as_they_are(bench).await;
    ends_are_told_apart(bench).await;
    what_can_not_start_is_permanent(bench).await;
    files_are_old_or_new(bench).await;
    time_limits_hold(bench).await;
    one_change_at_a_time(bench).await;
    older_epochs_are_refused(bench).await;
    what_changes_said_is_kept(bench).await;
    a_call_that_nobody_waits_for_ends(bench).await;
}

/// A command that only looks.
#[must_use]
pub fn look(argv: Vec<String>) -> HostCommand {
    HostCommand::look(argv, LIMIT)
}

/// A command that changes something.
#[must_use]
pub fn change(bench: &dyn HostBench, argv: Vec<String>, step: &str, epoch: u64) -> HostCommand {
    let (unit, step) = (bench.unit(), step.to_owned());
    HostCommand { change: Some(HostChange { unit, step, epoch, revert: None }), ..look(argv) }
}

/// Texts that a shell, a line or a terminal might take for something else.
pub const HOSTILE: &[&str] = &[
    "",
    " ",
    "a b",
    "it's",
    "'; touch oh-no; '",
    "$(touch oh-no) `touch oh-no` ${HOME}",
    "\\ \\n \\0 \\'",
    "\"quoted\" !history !! %d ~ * ? [a] {a,b} | & ; < > #",
    "two\nlines\n\nand a \r return\tand a tab\n",
    "-e -n --",
    "ünïcödé \u{1f980} \u{81} \u{88} \u{7f} \u{1b}[2J",
    "#end",
];

async fn run(bench: &dyn HostBench, command: &HostCommand) -> HostOutput {
    bench.host().run(command).await.expect("it ran")
}

fn words_of(output: &HostOutput) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    text.split_terminator('\0').map(str::to_owned).collect()
}

async fn words_arrive_as_they_are(bench: &dyn HostBench) {
    let output = run(bench, &look(bench.say(HOSTILE))).await;
    assert_eq!(words_of(&output), HOSTILE, "only looking");
    let output = run(bench, &change(bench, bench.say(HOSTILE), "words", 1)).await;
    assert_eq!(words_of(&output), HOSTILE, "changing");
    for text in HOSTILE {
        let mut command = look(bench.variable("SAID"));
        command.env.insert("SAID".to_owned(), Secret::new((*text).to_owned()));
        assert_eq!(words_of(&run(bench, &command).await), [*text], "as a variable");
    }
    let mut command = look(bench.copy());
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    command.stdin = Some(bytes.clone());
    command.keep = 100_000;
    assert_eq!(run(bench, &command).await.stdout, bytes, "as input");
    let mut command = change(bench, bench.copy(), "input", 1);
    command.stdin = Some(b"read me\n".to_vec());
    assert_eq!(run(bench, &command).await.stdout, b"read me\n", "as input of a change");
    command.stdin = Some(bytes);
    command.keep = 1_000;
    let output = run(bench, &command).await;
    assert!(output.cut && output.stdout.len() < 3_000, "long output is cut");
}

async fn ends_are_told_apart(bench: &dyn HostBench) {
    for code in [0, 1, 64, 75, 94, 124, 126, 127, 128, 255] {
        let looked = run(bench, &look(bench.exit(code))).await;
        assert_eq!(looked.ended, HostEnded::Exited(code));
        let changed = run(bench, &change(bench, bench.exit(code), "exit", 1)).await;
        assert_eq!(changed.ended, HostEnded::Exited(code));
    }
}

async fn what_can_not_start_is_permanent(bench: &dyn HostBench) {
    for program in ["./no-such-program", "no-such-program"] {
        let argv = vec![program.to_owned()];
        for command in [look(argv.clone()), change(bench, argv.clone(), "missing", 1)] {
            let error = bench.host().run(&command).await.expect_err("there is none");
            assert_eq!(error.class, ErrorClass::Permanent, "{error}");
            assert!(error.message.contains("no-such-program"), "{error}");
        }
    }
    let mut command = look(bench.exit(0));
    command.folder = Some("no/such/folder".to_owned());
    let error = bench.host().run(&command).await.expect_err("there is none");
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
}

async fn files_are_old_or_new(bench: &dyn HostBench) {
    let host = bench.host();
    let path = "new folder/it's a file";
    assert_eq!(host.read(path, 1_000).await.expect("asked"), None);
    assert!(!host.exists(path).await.expect("asked"));
    let bytes: Vec<u8> = (0..=255).rev().cycle().take(300_000).collect();
    host.write_atomic(path, &bytes, 0o600).await.expect("written");
    assert_eq!(host.read(path, 300_000).await.expect("read"), Some(bytes));
    let error = host.read(path, 299_999).await.expect_err("it is longer");
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    host.write_atomic(path, b"", 0o640).await.expect("replaced");
    assert_eq!(host.read(path, 10).await.expect("read"), Some(Vec::new()));
    for there in [path, "new folder"] {
        assert!(host.exists(there).await.expect("asked"), "{there}");
    }
    let error = host.write_atomic("new folder", b"x", 0o600).await.expect_err("it is a folder");
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
}

async fn lines(bench: &dyn HostBench, file: &str) -> Vec<String> {
    let bytes = bench.host().read(file, 10_000).await.expect("read").unwrap_or_default();
    String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
}

async fn has_begun(bench: &dyn HostBench, file: &str) {
    let begun = async {
        while lines(bench, file).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, begun).await.expect("it begins");
}

async fn time_limits_hold(bench: &dyn HostBench) {
    let mut looks = look(bench.wait("slow-look", "never"));
    let mut changes = change(bench, bench.wait("slow-change", "never"), "slow", 1);
    for (command, file) in [(&mut looks, "slow-look"), (&mut changes, "slow-change")] {
        command.timeout = Duration::from_secs(1);
        assert_eq!(run(bench, command).await.ended, HostEnded::TimedOut, "{file}");
    }
    bench.host().write_atomic("never", b"", 0o600).await.expect("written");
    // Whoever still lived would write now; a later change of the service has waited for all of it.
    run(bench, &change(bench, bench.exit(0), "after", 1)).await;
    assert_eq!(lines(bench, "slow-change").await, ["begin"]);
    assert_eq!(lines(bench, "slow-look").await, ["begin"]);
}

async fn one_change_at_a_time(bench: &dyn HostBench) {
    let host = bench.host();
    let first = change(bench, bench.wait("same", "same-go"), "same", 1);
    let (left, right) = (host.clone(), first.clone());
    let early = tokio::spawn(async move { left.run(&right).await });
    has_begun(bench, "same").await;
    let late = tokio::spawn({
        let (host, command) = (host.clone(), first);
        async move { host.run(&command).await }
    });
    host.write_atomic("same-go", b"", 0o600).await.expect("written");
    let late = late.await.expect("no panic").expect("it ran");
    assert_eq!(late.ended, HostEnded::Exited(0), "the same step again");
    let _ = early.await.expect("no panic");
    let ends = lines(bench, "same").await.iter().filter(|line| *line == "end").count();
    assert!((1..=2).contains(&ends), "never two at a time");

    let other = change(bench, bench.wait("other", "other-go"), "other", 1);
    let waits = tokio::spawn({
        let host = host.clone();
        async move { host.run(&other).await }
    });
    has_begun(bench, "other").await;
    let next = run(bench, &change(bench, bench.exit(0), "next", 1)).await;
    assert_eq!(next.ended, HostEnded::Exited(0));
    host.write_atomic("other-go", b"", 0o600).await.expect("written");
    let ended = waits.await.expect("no panic");
    assert!(
        !ended.as_ref().is_ok_and(|output| output.ended == HostEnded::Exited(0)),
        "another change ends the earlier one first: {ended:?}"
    );
    assert_eq!(lines(bench, "other").await, ["begin"]);
}

async fn older_epochs_are_refused(bench: &dyn HostBench) {
    run(bench, &change(bench, bench.exit(0), "new", 7)).await;
    let error = bench.host().run(&change(bench, bench.exit(0), "old", 6)).await;
    let error = error.expect_err("an older holder");
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("epoch 7"), "{error}");
    run(bench, &change(bench, bench.exit(0), "same", 7)).await;
}

async fn what_changes_said_is_kept(bench: &dyn HostBench) {
    let said = async |limit| bench.host().last_words(&bench.unit(), limit).await.expect("had");
    run(bench, &change(bench, bench.say(&["first", "last"]), "said", 7)).await;
    run(bench, &look(bench.say(&["only looked"]))).await;
    let words = said(10_000).await;
    assert!(words.stdout.ends_with(b"first\0last\0"), "{words:?}");
    assert!(words.revert.is_empty(), "nothing was guarded: {words:?}");
    assert_eq!(said(5).await.stdout, b"last\0", "no more than was asked for");
    let mut nobody = bench.unit();
    nobody.service = ServiceName::new("never-changed").expect("a name");
    let words = bench.host().last_words(&nobody, 100).await.expect("had");
    assert_eq!(words, HostWords::default());
}

async fn a_call_that_nobody_waits_for_ends(bench: &dyn HostBench) {
    let command = change(bench, bench.wait("left", "left-go"), "left", 7);
    let host = bench.host();
    let waits = tokio::spawn(async move { host.run(&command).await });
    has_begun(bench, "left").await;
    waits.abort();
    let _ = waits.await;
    let gone = async {
        while bench.host().is_at_work(&bench.unit()).await.expect("asked") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it ends");
    run(bench, &change(bench, bench.exit(0), "after left", 7)).await;
    bench.host().write_atomic("left-go", b"", 0o600).await.expect("written");
    assert_eq!(lines(bench, "left").await, ["begin"]);
}
