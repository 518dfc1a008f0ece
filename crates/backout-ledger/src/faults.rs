//! Known mistakes, made on purpose: the proofs of the binary must catch each of them. Release builds have none.

/// Whether `BACKOUT_MUTANT` names this mistake.
#[cfg(debug_assertions)]
pub(crate) fn mutant(name: &str) -> bool {
    use std::sync::OnceLock;

    static MADE: OnceLock<Option<String>> = OnceLock::new();
    MADE.get_or_init(|| std::env::var("BACKOUT_MUTANT").ok()).as_deref() == Some(name)
}

/// The term of a lease; shorter where `BACKOUT_LEASE_TERM_MS` says so, for tests that let one end.
#[cfg(debug_assertions)]
pub(crate) fn term_ms(usual_ms: u64) -> u64 {
    let wanted = std::env::var("BACKOUT_LEASE_TERM_MS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(usual_ms)
}

/// Release builds know one term.
#[cfg(not(debug_assertions))]
pub(crate) fn term_ms(usual_ms: u64) -> u64 {
    usual_ms
}

/// Release builds make no mistake on purpose.
#[cfg(not(debug_assertions))]
pub(crate) fn mutant(_name: &str) -> bool {
    false
}
