//! Which endpoint a request is for, in a bounded number of kinds, so that one bad endpoint of fifty is seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::Method;

/// Kinds that are told apart; what comes later counts as `other`.
const MAX_KINDS: usize = 64;
/// Segments of a path that are looked at.
const MAX_SEGMENTS: usize = 6;
/// Bytes of a segment that is taken for a word.
const MAX_WORD_BYTES: usize = 32;

/// Method and template of a request: `GET /orders/:id`.
pub(crate) fn kind(method: &Method, path: &str) -> String {
    let mut kind = String::with_capacity(48);
    kind.push_str(if method.as_str().len() <= 8 { method.as_str() } else { "OTHER" });
    kind.push(' ');
    let mut segments = path.split('/').skip(1);
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        kind.push('/');
        if is_word(segment) {
            kind.push_str(segment);
        } else {
            kind.push_str(":id");
        }
    }
    if segments.next().is_some() {
        kind.push_str("/*");
    }
    kind
}

/// A part of the program's own, not a number, a key or a name that a user gave.
fn is_word(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let version = segment.strip_prefix('v').is_some_and(|rest| rest.len() == digits);
    segment.len() <= MAX_WORD_BYTES
        && segment.bytes().all(plain)
        && (digits == 0 || version || (digits <= 2 && segment.len() > 2 * digits))
}

/// Trials and failures by kind.
#[derive(Default)]
pub(crate) struct Endpoints {
    kinds: Mutex<HashMap<Box<str>, (u64, u64)>>,
}

impl Endpoints {
    fn kinds(&self) -> MutexGuard<'_, HashMap<Box<str>, (u64, u64)>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a trial, a failure, or both.
    pub(crate) fn count(&self, kind: &str, trial: bool, failed: bool) {
        let mut kinds = self.kinds();
        let known = kinds.contains_key(kind);
        let name = if known || kinds.len() < MAX_KINDS { kind } else { "other" };
        let (trials, failures) = match kinds.get_mut(name) {
            Some(counts) => (&mut counts.0, &mut counts.1),
            None => {
                let counts = kinds.entry(name.into()).or_default();
                (&mut counts.0, &mut counts.1)
            }
        };
        *trials += u64::from(trial);
        *failures += u64::from(failed);
    }

    /// Adds up what this one counted.
    pub(crate) fn add_to(&self, sums: &mut std::collections::BTreeMap<String, (u64, u64)>) {
        for (kind, (trials, failures)) in self.kinds().iter() {
            // What did not fit here has a name of its own, whatever the order in which they are met.
            let named = sums.len() - usize::from(sums.contains_key("other"));
            let fits = &**kind == "other" || named < MAX_KINDS || sums.contains_key(&**kind);
            let name = if fits { kind.to_string() } else { "other".to_owned() };
            let sum = sums.entry(name).or_default();
            sum.0 += trials;
            sum.1 += failures;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_name_is_left_out() {
        for (path, template) in [
            ("/", "GET /"),
            ("/orders/4711/items", "GET /orders/:id/items"),
            ("/api/v2/users/550e8400-e29b-41d4-a716-446655440000", "GET /api/v2/users/:id"),
            ("/search/caf%C3%A9", "GET /search/:id"),
            ("/files/0a1b2c3d4e5f60718293", "GET /files/:id"),
            ("/page2/index.html", "GET /page2/index.html"),
            ("/a/b/c/d/e/f/g/h", "GET /a/b/c/d/e/f/*"),
            ("*", "GET "),
        ] {
            assert_eq!(kind(&Method::GET, path), template);
        }
        assert_eq!(kind(&Method::from_bytes(b"PROPFINDALL").unwrap(), "/x"), "OTHER /x");
    }

    #[test]
    fn kinds_are_bounded() {
        let endpoints = Endpoints::default();
        for number in 0..1_000 {
            endpoints.count(&format!("GET /{number}"), true, number % 2 == 0);
        }
        endpoints.count("GET /3", false, true);
        let mut sums = std::collections::BTreeMap::new();
        endpoints.add_to(&mut sums);
        assert_eq!(sums.len(), MAX_KINDS + 1);
        assert_eq!(sums["GET /3"], (1, 1));
        assert_eq!(sums.values().map(|counts| counts.0).sum::<u64>(), 1_000);
        assert_eq!(sums.values().map(|counts| counts.1).sum::<u64>(), 501);
    }
}
