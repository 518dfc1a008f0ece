//! The supervisor: a detached process that runs one program in one slot until it is told to end.
//!
//! ```text
//! starting ──► running ──► waiting ──► running …      the program ended; limits not reached
//!    │            │           │
//!    │            │           └─► gave up             too many restarts: everything is ended, status stays
//!    │            └─► stopping ──► stopped            SIGTERM: group asked, after the grace killed
//!    └─► failed                                       the program can't be started at all
//! ```
//!
//! Programs stay in the foreground. What one leaves behind when it ends is ended too: a forked grandchild
//! becomes a child of the supervisor and is found by descent.

mod family;
mod limits;
mod log;
mod program;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use backout_core::ports::Exit;
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use self::family::Family;
use self::limits::Restarts;
use self::program::Program;
use super::slot::SlotFolder;
use super::spec::{FORMAT, HandOver, Phase, SlotSpec, Status};
use crate::host::FileLock;

/// Ended as asked.
pub const EXIT_STOPPED: i32 = 0;
/// The program could not be started, or ended too often.
pub const EXIT_GAVE_UP: i32 = 1;
/// The specification or the hand-over can't be used.
pub const EXIT_BAD_SPEC: i32 = 2;
/// Another supervisor holds the slot.
pub const EXIT_HELD: i32 = 5;

/// Grace when nobody said how long: SIGTERM from elsewhere, such as a machine going down.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// For what a program leaves behind when it ends by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// Observers hold the lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const MAX_HAND_OVER_BYTES: u64 = 1 << 20;

/// Runs the program of a `spec.json` until it is told to end; secrets come over stdin. Returns the exit code.
/// Must be called on the main thread of a process of its own, before any other thread is started.
#[must_use]
pub fn run(spec_path: &Path) -> i32 {
    // A session of its own: the terminal of whoever started it has no hold on it.
    let _ = rustix::process::setsid();
    if let Err(e) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        eprintln!("failed to adopt orphaned children: {e}");
        return EXIT_BAD_SPEC;
    }
    let (Some(slot), Ok(runtime)) = (
        SlotFolder::holding(spec_path),
        tokio::runtime::Builder::new_current_thread().enable_all().build(),
    ) else {
        eprintln!("failed to begin: no folder, or no runtime");
        return EXIT_BAD_SPEC;
    };
    let hand_over = match read_hand_over() {
        Ok(hand_over) => hand_over,
        Err(e) => {
            eprintln!("{e}");
            return EXIT_BAD_SPEC;
        }
    };
    runtime.block_on(begin(slot, hand_over)).unwrap_or_else(|(code, why)| {
        eprintln!("{why}");
        code
    })
}

async fn begin(slot: SlotFolder, hand_over: HandOver) -> Result<i32, (i32, String)> {
    let bad = |e: &dyn std::fmt::Display| (EXIT_BAD_SPEC, format!("failed to begin: {e}"));
    let lock = FileLock::take(&slot.supervisor_lock(), LOCK_PATIENCE).await.map_err(|e| bad(&e))?;
    let Some(_lock) = lock else {
        return Err((EXIT_HELD, "failed to begin: another supervisor holds the slot".to_owned()));
    };
    // Read under the lock: nobody replaces it as long as that is held.
    let spec = slot
        .read_spec()
        .map_err(|e| bad(&e))?
        .ok_or_else(|| bad(&"the specification is missing"))?;
    if hand_over.format > FORMAT || hand_over.instance != spec.instance {
        return Err(bad(&"the specification was replaced meanwhile"));
    }
    let mut supervisor = Supervisor::new(slot, spec, hand_over.secrets).map_err(|e| bad(&e))?;
    Ok(supervisor.supervise().await)
}

type Secrets = std::collections::BTreeMap<String, String>;

fn read_hand_over() -> Result<HandOver, String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_HAND_OVER_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("failed to read the hand-over: {e}"))?;
    serde_json::from_slice(&bytes)
        .map_err(|_| "failed to read the hand-over: whoever started this went away".to_owned())
}

/// Why the wait for the program is over.
enum Event {
    Ended(Exit),
    ToldToEnd,
}

struct Supervisor {
    slot: SlotFolder,
    spec: SlotSpec,
    secrets: Secrets,
    status: Status,
    restarts: Restarts,
    family: Family,
    log: log::Log,
    terminate: SignalStream,
    child_ended: SignalStream,
}

impl Supervisor {
    fn new(slot: SlotFolder, spec: SlotSpec, secrets: Secrets) -> std::io::Result<Self> {
        // Listened for before anything is started, so that no order is lost.
        let terminate = signal(SignalKind::terminate())?;
        let child_ended = signal(SignalKind::child())?;
        for ignored in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()] {
            // A handler that does nothing; programs get the default back when they are started.
            drop(signal(ignored)?);
        }
        let status = Status::new(&spec);
        slot.write_status(&status)?;
        let log = log::Log::open(
            slot.log(spec.deployment),
            slot.older_log(spec.deployment),
            spec.log_cap_bytes,
        );
        let restarts = Restarts::new(spec.restart);
        Ok(Self {
            slot,
            spec,
            secrets,
            status,
            restarts,
            family: Family::new(),
            log,
            terminate,
            child_ended,
        })
    }

    async fn supervise(&mut self) -> i32 {
        loop {
            let exit = match Program::start(&self.spec, &self.secrets, &self.log).await {
                Ok(program) => {
                    self.restarts.began(std::time::Instant::now());
                    self.status.child = Some(program.id.clone());
                    self.report(Phase::Running);
                    match self.watch(&program).await {
                        Event::ToldToEnd => return self.stop(Some(program)).await,
                        Event::Ended(exit) => {
                            program.drain_output().await;
                            exit
                        }
                    }
                }
                Err(e) if self.status.restarts == 0 && self.status.last_exit.is_none() => {
                    self.status.error = Some(e);
                    self.report(Phase::Failed);
                    return EXIT_GAVE_UP;
                }
                // It could be started before: somebody has taken it away. Counted like an end.
                Err(e) => {
                    self.log.note(&e);
                    Exit { code: Some(127), signal: None, at: Timestamp::now() }
                }
            };
            self.status.child = None;
            self.status.last_exit = Some(exit);
            self.note_exit(exit);
            self.end_leftovers().await;
            let Some(pause) = self.restarts.next(std::time::Instant::now()) else {
                self.log.note("given up: too many restarts");
                self.report(Phase::GaveUp);
                return EXIT_GAVE_UP;
            };
            self.report(Phase::Waiting);
            if self.pause(pause).await {
                return self.stop(None).await;
            }
            self.status.restarts += 1;
        }
    }

    /// Waits for the program's end or for the order to end, reaping adopted descendants meanwhile.
    async fn watch(&mut self, program: &Program) -> Event {
        loop {
            if let Some(exit) = self.family.reap(program.id.pid) {
                return Event::Ended(exit);
            }
            tokio::select! {
                _ = self.child_ended.recv() => {}
                _ = self.terminate.recv() => return Event::ToldToEnd,
            }
        }
    }

    /// Waits before a restart. True if it was told to end meanwhile.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            _ = self.terminate.recv() => true,
        }
    }

    async fn stop(&mut self, program: Option<Program>) -> i32 {
        self.report(Phase::Stopping);
        let order = self.slot.read_stop_order();
        let grace = order.map_or(DEFAULT_GRACE, |order| Duration::from_millis(order.grace_ms));
        if let Some(program) = program {
            let exit = self.family.end(Some(program.id.pid), grace).await;
            if let Some(exit) = exit {
                self.status.last_exit = Some(exit);
                self.note_exit(exit);
            }
            program.drain_output().await;
        } else {
            self.family.end(None, grace).await;
        }
        self.status.child = None;
        self.report(Phase::Stopped);
        EXIT_STOPPED
    }

    async fn end_leftovers(&mut self) {
        let left = Family::members().len();
        if left > 0 {
            self.log.note(&format!("{left} process(es) outlived the program and are ended; it must stay in the foreground"));
            self.family.end(None, LEFTOVER_GRACE).await;
        }
    }

    fn note_exit(&mut self, exit: Exit) {
        let how = match (exit.code, exit.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}{}", name_of(signal)),
            (None, None) => "unknown cause".to_owned(),
        };
        self.log.note(&format!("the program ended: {how}"));
    }

    /// A full disk must not end a program that runs: the next change is tried again.
    fn report(&mut self, phase: Phase) {
        self.status.phase = phase;
        if let Err(e) = self.slot.write_status(&self.status) {
            eprintln!("failed to write the status: {e}");
        }
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        s if s == Signal::KILL.as_raw() => " (SIGKILL; was memory short?)",
        s if s == Signal::SEGV.as_raw() => " (SIGSEGV)",
        s if s == Signal::ABORT.as_raw() => " (SIGABRT)",
        s if s == Signal::TERM.as_raw() => " (SIGTERM)",
        _ => "",
    }
}
