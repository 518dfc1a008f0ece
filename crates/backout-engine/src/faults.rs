//! Fault hooks of the kill tests; release builds have none of them.
//!
//! - `BACKOUT_KILL_AT=BOUNDARY[/STEP]:N` ends this process with SIGKILL at the n-th passing of a boundary such as
//!   `before_intent`, `after_intent`, `after_effect` or `before_outcome`; the boundary `any` is each of them.
//! - `BACKOUT_DWELL_AT=BOUNDARY[/STEP]:N` stays there for a moment, so that somebody else can come.
//! - `BACKOUT_STOP_AT=BOUNDARY[/STEP]:N` stops this process there with SIGSTOP, until somebody lets it go on; there are
//!   two more places for it, `checked/target` and `checked/router`: after the last check, right before the effect.
//! - `BACKOUT_BOUNDARIES=FILE` notes every boundary that is passed, so that a sweep knows them all.
//! - `BACKOUT_MUTANT=NAME` makes one known mistake, which the proofs must catch.

/// Passes a boundary of a step.
#[cfg(debug_assertions)]
pub(crate) fn boundary(name: &str, step: &str) {
    use std::sync::OnceLock;

    static KILL: OnceLock<Option<At>> = OnceLock::new();
    static DWELL: OnceLock<Option<At>> = OnceLock::new();
    note(name, step);
    if passes(&DWELL, "BACKOUT_DWELL_AT", name, step) {
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    stop(name, step);
    if passes(&KILL, "BACKOUT_KILL_AT", name, step) {
        // The whole process, at once: no other thread gets a step further.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// Stops here if told to. By itself it is no boundary: a kill would be the same as at the one before it.
#[cfg(debug_assertions)]
pub(crate) fn stop(name: &str, step: &str) {
    static STOP: std::sync::OnceLock<Option<At>> = std::sync::OnceLock::new();
    if passes(&STOP, "BACKOUT_STOP_AT", name, step) {
        signal_self(rustix::process::Signal::STOP);
    }
}

#[cfg(debug_assertions)]
fn signal_self(signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
}

/// The n-th passing of a boundary, and how often it was passed.
#[cfg(debug_assertions)]
struct At {
    boundary: String,
    nth: u32,
    passed: std::sync::atomic::AtomicU32,
}

#[cfg(debug_assertions)]
fn passes(at: &std::sync::OnceLock<Option<At>>, variable: &str, name: &str, step: &str) -> bool {
    let wanted = at.get_or_init(|| {
        let text = std::env::var(variable).ok()?;
        let (boundary, nth) = text.rsplit_once(':')?;
        let passed = std::sync::atomic::AtomicU32::default();
        Some(At { boundary: boundary.to_owned(), nth: nth.parse().ok()?, passed })
    });
    let Some(At { boundary, nth, passed }) = wanted else { return false };
    let matches = boundary == "any"
        || boundary == name
        || boundary.split_once('/').is_some_and(|(n, s)| n == name && s == step);
    matches && passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == *nth
}

#[cfg(debug_assertions)]
fn note(name: &str, step: &str) {
    use std::io::Write as _;

    let Some(path) = std::env::var_os("BACKOUT_BOUNDARIES") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = writeln!(file, "{name}/{step}");
    }
}

/// Whether this mistake is to be made.
#[cfg(debug_assertions)]
pub(crate) fn mutant(name: &str) -> bool {
    use std::sync::OnceLock;

    static MADE: OnceLock<Option<String>> = OnceLock::new();
    MADE.get_or_init(|| std::env::var("BACKOUT_MUTANT").ok()).as_deref() == Some(name)
}

/// Release builds pass every boundary.
#[cfg(not(debug_assertions))]
pub(crate) fn boundary(_name: &str, _step: &str) {}

/// Release builds stop nowhere.
#[cfg(not(debug_assertions))]
pub(crate) fn stop(_name: &str, _step: &str) {}

/// Release builds make no mistake on purpose.
#[cfg(not(debug_assertions))]
pub(crate) fn mutant(_name: &str) -> bool {
    false
}
