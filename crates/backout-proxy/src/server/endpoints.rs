//! Which endpoint a request is for, in a bounded number of kinds, so that one bad endpoint of fifty is seen.
//!
//! The template of a request is hashed as it is read, and written out only where it is met for the first time: a
//! request takes no lock and no memory for this.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release},
    },
};

use hyper::Method;

/// Kinds that are told apart; what comes later counts as `other`.
const MAX_KINDS: usize = 64;
/// Places for them, so that most are found at the first look.
const PLACES: usize = 2 * MAX_KINDS;
/// Segments of a path that are looked at.
const MAX_SEGMENTS: usize = 6;
/// Bytes of a segment that is taken for a word.
const MAX_WORD_BYTES: usize = 32;
const OTHER: &str = "other";

/// A kind of request on one side, as its worker numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    /// What is not told apart.
    pub(crate) const OTHER: Self = Self(PLACES as u8);
}

const _: () = assert!(PLACES <= u8::MAX as usize && PLACES.is_power_of_two());

fn segments(path: &str) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/').skip(1)
}

/// Method and template of a request: `GET /orders/:id`.
fn name(method: &Method, path: &str) -> String {
    let mut name = String::with_capacity(48);
    name.push_str(method_name(method));
    name.push(' ');
    let mut segments = segments(path);
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        name.push('/');
        match word(segment).and_then(|_| str::from_utf8(segment).ok()) {
            Some(word) => name.push_str(word),
            None => name.push_str(":id"),
        }
    }
    if segments.next().is_some() {
        name.push_str("/*");
    }
    name
}

fn method_name(method: &Method) -> &str {
    if method.as_str().len() <= 8 { method.as_str() } else { "OTHER" }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

fn mixed(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Two requests of one name have one hash; never 0.
fn hash(method: &Method, path: &str) -> u64 {
    let bytes = method_name(method).bytes();
    let mut hash = bytes.fold(SEED, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let mut segments = segments(path);
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        hash = mixed(hash, word(segment).unwrap_or(1));
    }
    mixed(hash, u64::from(segments.next().is_some())) | 1
}

/// The hash of a part of the program's own; none of a number, a key or a name that a user gave.
fn word(segment: &[u8]) -> Option<u64> {
    if segment.len() > MAX_WORD_BYTES {
        return None;
    }
    let (mut hash, mut digits) = (SEED, 0);
    for byte in segment {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => {}
            _ => return None,
        }
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    let version = || segment.first() == Some(&b'v') && segment.len() == digits + 1;
    let is_word = digits == 0 || (digits <= 2 && segment.len() > 2 * digits) || version();
    is_word.then_some(hash)
}

fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Release);
}

#[derive(Default)]
struct Counts {
    trials: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Place {
    /// 0 where it is free.
    hash: AtomicU64,
    name: OnceLock<Box<str>>,
    counts: Counts,
}

/// Trials and failures by kind, of one worker: only its thread writes, others read.
pub(crate) struct Endpoints {
    places: Box<[Place; PLACES]>,
    named: AtomicUsize,
    other: Counts,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            places: Box::new(std::array::from_fn(|_| Place::default())),
            named: AtomicUsize::new(0),
            other: Counts::default(),
        }
    }
}

impl Endpoints {
    /// The kind of a request.
    pub(crate) fn kind(&self, method: &Method, path: &str) -> Kind {
        let hash = hash(method, path);
        let mut at = (hash >> 32) as usize;
        loop {
            at %= PLACES;
            let place = &self.places[at];
            match place.hash.load(Relaxed) {
                found if found == hash => return Kind(at as u8),
                0 => {
                    let named = self.named.load(Relaxed);
                    if named == MAX_KINDS {
                        return Kind::OTHER;
                    }
                    self.named.store(named + 1, Relaxed);
                    place.name.get_or_init(|| name(method, path).into());
                    place.hash.store(hash, Release);
                    return Kind(at as u8);
                }
                // Half of the places stay free, so that this ends.
                _ => at += 1,
            }
        }
    }

    /// Counts a trial, a failure, or both.
    pub(crate) fn count(&self, kind: Kind, trial: bool, failed: bool) {
        let place = self.places.get(usize::from(kind.0));
        let counts = place.map_or(&self.other, |place| &place.counts);
        if trial {
            bump(&counts.trials);
        }
        if failed {
            bump(&counts.failures);
        }
    }

    /// Adds up what this one counted.
    pub(crate) fn add_to(&self, sums: &mut BTreeMap<String, (u64, u64)>) {
        let named =
            self.places.iter().filter_map(|place| Some((&**place.name.get()?, &place.counts)));
        for (kind, counts) in named.chain([(OTHER, &self.other)]) {
            // Read in this order there are never more failures than trials.
            let failures = counts.failures.load(Acquire);
            let trials = counts.trials.load(Acquire);
            if trials == 0 && failures == 0 {
                continue;
            }
            // What did not fit here has a name of its own, whatever the order in which they are met.
            let known = sums.len() - usize::from(sums.contains_key(OTHER));
            let fits = kind == OTHER || known < MAX_KINDS || sums.contains_key(kind);
            let sum = sums.entry(if fits { kind } else { OTHER }.to_owned()).or_default();
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
            ("/api/v20251121/x", "GET /api/v20251121/x"),
            ("/search/caf%C3%A9", "GET /search/:id"),
            ("/files/0a1b2c3d4e5f60718293", "GET /files/:id"),
            ("/page2/index.html", "GET /page2/index.html"),
            ("/a/b/c/d/e/f/g/h", "GET /a/b/c/d/e/f/*"),
            ("*", "GET "),
        ] {
            assert_eq!(name(&Method::GET, path), template);
        }
        assert_eq!(name(&Method::from_bytes(b"PROPFINDALL").unwrap(), "/x"), "OTHER /x");
    }

    #[test]
    fn hashes_differ_where_names_do_and_only_there() {
        let mut known = std::collections::HashMap::new();
        let parts = ["a", "b", "ab", "ba", "v1", "v2", "", "17", "18", "%20", "index.html"];
        for method in [Method::GET, Method::POST, Method::PUT] {
            for first in parts {
                for second in parts {
                    for path in [
                        format!("/{first}/{second}"),
                        format!("/{first}"),
                        format!("/{first}/x/x/x/x/x/{second}"),
                    ] {
                        let name = name(&method, &path);
                        let hash = hash(&method, &path);
                        assert_eq!(known.entry(hash).or_insert_with(|| name.clone()), &name);
                    }
                }
            }
        }
        let names: std::collections::HashSet<_> = known.values().collect();
        assert_eq!(names.len(), known.len());
    }

    fn sums(endpoints: &[Endpoints]) -> BTreeMap<String, (u64, u64)> {
        let mut sums = BTreeMap::new();
        endpoints.iter().for_each(|endpoints| endpoints.add_to(&mut sums));
        sums
    }

    #[test]
    fn kinds_are_bounded() {
        let endpoints = Endpoints::default();
        let letter = |number: u32| char::from_u32(u32::from('a') + number).unwrap();
        for number in 0..676 {
            let path = format!("/{}{}", letter(number / 26), letter(number % 26));
            let kind = endpoints.kind(&Method::GET, &path);
            endpoints.count(kind, true, number % 2 == 0);
        }
        let again = endpoints.kind(&Method::GET, "/ad");
        assert_ne!(again, Kind::OTHER);
        endpoints.count(again, false, true);
        let counted = sums(&[endpoints]);
        assert_eq!(counted.len(), MAX_KINDS + 1);
        assert_eq!(counted["GET /ad"], (1, 1));
        assert_eq!(counted.values().map(|counts| counts.0).sum::<u64>(), 676);
        assert_eq!(counted.values().map(|counts| counts.1).sum::<u64>(), 339);
    }

    #[test]
    fn what_two_workers_met_is_one_kind_and_all_together_are_bounded() {
        let workers = [Endpoints::default(), Endpoints::default()];
        for (worker, prefix) in workers.iter().zip(["x", "y"]) {
            worker.count(worker.kind(&Method::GET, "/orders/1"), true, true);
            for number in 0..60_u8 {
                let path = format!(
                    "/{prefix}{}{}",
                    char::from(b'a' + number / 8),
                    char::from(b'a' + number % 8)
                );
                worker.count(worker.kind(&Method::GET, &path), true, false);
            }
        }
        let sums = sums(&workers);
        assert_eq!((sums.len(), sums["GET /orders/:id"]), (MAX_KINDS + 1, (2, 2)));
        assert_eq!(sums.values().map(|counts| counts.0).sum::<u64>(), 122);
    }
}
