//! Fault hook of the kill tests: in debug builds `BACKOUT_KILL_AT=BOUNDARY:N` ends this process with
//! SIGKILL at the n-th passing of a boundary. Release builds have no such switch.

/// Passes a boundary such as `before_intent`, `after_intent`, `after_effect` or `after_outcome`,
/// qualified by the step's name: `after_intent/shift_traffic`.
#[cfg(debug_assertions)]
pub(crate) fn boundary(name: &str, step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("BACKOUT_KILL_AT").ok()?;
        let (boundary, count) = text.rsplit_once(':')?;
        Some((boundary.to_owned(), count.parse().ok()?))
    });
    let Some((boundary, count)) = wanted else { return };
    let matches =
        boundary == name || boundary.split_once('/').is_some_and(|(n, s)| n == name && s == step);
    if matches && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        let me = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &me]).status();
        std::thread::sleep(std::time::Duration::from_secs(5));
        std::process::abort();
    }
}

/// Release builds pass every boundary.
#[cfg(not(debug_assertions))]
pub(crate) fn boundary(_name: &str, _step: &str) {}
