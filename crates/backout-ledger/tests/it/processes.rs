//! What only several processes can show.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use backout_core::ports::{ClaimError, Ledger};
use backout_ledger::{
    LEDGER_FILE, OpenMode, RealSurroundings, SqliteLedger, SqliteOptions, Surroundings,
    holder_for_this_process,
};
use backout_testkit::ledger::samples;

/// The example `ledger_child`, which is built with the tests.
pub fn child_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program =
        tests.parent().and_then(Path::parent).unwrap().join("examples").join("ledger_child");
    assert!(
        program.exists(),
        "build it with `cargo test -p backout-ledger` or `cargo build --examples`"
    );
    program
}

/// A child that is ended with the test.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(verb: &str, place: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut command = Command::new(child_program());
        command.arg(verb).arg(place).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// Its next line; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it at once and returns the rest of what it said.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of so many processes that claim at once, one wins and the others are busy.
pub fn race_to_claim(place: impl AsRef<std::ffi::OsStr>, count: usize) {
    let mut racers: Vec<Running> = (0..count).map(|_| Running::start("claim", &place)).collect();
    for racer in &mut racers {
        assert_eq!(racer.line(), "ready");
    }
    for racer in &mut racers {
        racer.go();
    }
    let said: Vec<String> = racers.iter_mut().map(Running::line).collect();
    assert_eq!(said.iter().filter(|line| *line == "1").count(), 1, "{said:?}");
    let busy = said.iter().filter(|line| line.starts_with("busy: ")).count();
    assert_eq!(busy, count - 1, "{said:?}");
}

#[test]
fn of_racing_processes_exactly_one_wins() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        // The ledger is not there yet: they race to create it too.
        let state = folder.path().join("state");
        race_to_claim(&state, 4);
    }
}

#[tokio::test]
async fn a_killed_holder_is_taken_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Running::start("claim", folder.path());
    assert_eq!(child.line(), "ready");
    child.go();
    assert_eq!(child.line(), "1");
    let ledger = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let (key, us) =
        (samples::key("shop", "production"), holder_for_this_process("rollback", true).unwrap());
    assert!(matches!(ledger.claim(&key, &us).await, Err(ClaimError::Busy(_))));
    // A zombie is dead: nobody has to wait for its parent.
    child.signal(rustix::process::Signal::KILL);
    assert_eq!(child.line(), "");
    let mut claimed = ledger.claim(&key, &us).await;
    for _ in 0..500 {
        if claimed.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        claimed = ledger.claim(&key, &us).await;
    }
    assert_eq!(claimed.unwrap().epoch, 2);
    drop(child);
}

/// The real processes, and a clock that can be turned.
struct Later(std::sync::atomic::AtomicU64);

impl Surroundings for Later {
    fn boottime_ms(&self) -> u64 {
        RealSurroundings.boottime_ms() + self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn liveness(&self, holder: &backout_core::ports::Holder) -> backout_ledger::Liveness {
        RealSurroundings.liveness(holder)
    }
}

#[tokio::test]
async fn a_stopped_holder_is_busy_until_its_term_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Running::start("claim", folder.path());
    assert_eq!(child.line(), "ready");
    child.go();
    assert_eq!(child.line(), "1");
    child.signal(rustix::process::Signal::STOP);
    let clock = Arc::new(Later(std::sync::atomic::AtomicU64::new(0)));
    let options = SqliteOptions { surroundings: clock.clone(), ..SqliteOptions::default() };
    let ledger =
        SqliteLedger::open_with(folder.path(), OpenMode::ReadWrite, options).await.unwrap();
    let (key, us) =
        (samples::key("shop", "production"), holder_for_this_process("rollback", true).unwrap());
    assert!(matches!(ledger.claim(&key, &us).await, Err(ClaimError::Busy(_))));
    clock.0.store(backout_ledger::DEFAULT_TERM_MS, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ledger.claim(&key, &us).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn a_lock_that_stays_is_reported_with_its_holder() {
    use sqlx::{ConnectOptions, Connection, Executor};
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.unwrap();
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(LEDGER_FILE));
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let (key, us) =
        (samples::key("shop", "production"), holder_for_this_process("deploy", false).unwrap());
    let waited = std::time::Instant::now();
    let refused = ledger.claim(&key, &us).await.unwrap_err();
    assert!(refused.to_string().contains("stays locked"), "{refused}");
    assert!(waited.elapsed().as_secs() < 15, "less than a term");
    // Reading goes on meanwhile, and writing afterwards.
    assert_eq!(ledger.environments(None).await.unwrap(), vec![]);
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    assert_eq!(ledger.claim(&key, &us).await.unwrap().epoch, 1);
}
