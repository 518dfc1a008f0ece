//! Known mistakes, made on purpose: the proofs of the binary must catch each of them. Release builds have none.

/// Whether `BACKOUT_MUTANT` names this mistake.
#[cfg(debug_assertions)]
pub(crate) fn mutant(name: &str) -> bool {
    use std::sync::OnceLock;

    static MADE: OnceLock<Option<String>> = OnceLock::new();
    MADE.get_or_init(|| std::env::var("BACKOUT_MUTANT").ok()).as_deref() == Some(name)
}

/// Release builds make no mistake on purpose.
#[cfg(not(debug_assertions))]
pub(crate) fn mutant(_name: &str) -> bool {
    false
}
