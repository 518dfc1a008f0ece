//! Fault hooks of the kill tests; release builds have none of them.
//!
//! - `BACKOUT_KILL_AT=BOUNDARY[/STEP]:N` ends this process with SIGKILL at the n-th passing of a boundary such as
//!   `before_intent`, `after_intent`, `after_effect` or `before_outcome`; the boundary `any` is each of them.
//! - `BACKOUT_BOUNDARIES=FILE` notes every boundary that is passed, so that a sweep knows them all.
//! - `BACKOUT_MUTANT=NAME` makes one known mistake, which the proofs must catch.

/// Passes a boundary of a step.
#[cfg(debug_assertions)]
pub(crate) fn boundary(name: &str, step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    note(name, step);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("BACKOUT_KILL_AT").ok()?;
        let (boundary, count) = text.rsplit_once(':')?;
        Some((boundary.to_owned(), count.parse().ok()?))
    });
    let Some((boundary, count)) = wanted else { return };
    let matches = boundary == "any"
        || boundary == name
        || boundary.split_once('/').is_some_and(|(n, s)| n == name && s == step);
    if matches && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        // The whole process, at once: no other thread gets a step further.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
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

/// Release builds make no mistake on purpose.
#[cfg(not(debug_assertions))]
pub(crate) fn mutant(_name: &str) -> bool {
    false
}
