//! Under sticky routing the unit is the session, not the request.
//!
//! A session stays on its side, so its requests do not fall to the canary one by one with
//! probability ρ: it does, once. Each session therefore counts at most once per kind of event (its
//! first failed request; its first one slower than a quantile). Arms are drawn per session without
//! regard to how it behaves, so under the null the arms of the sessions counted are independent
//! draws with probability ρ.
//!
//! That is a promise about sessions as they are drawn, and none about one of which it is *known* that it is the
//! canary's: a client that abuses the service is a single event, but one that nothing on the other
//! side stands against. The null is therefore wider: *all sessions but one of the canary's*, whichever it is and
//! whatever it does, are as in the null above. Let a be that session, and E⁻ˢ the e-value of all sessions but s. E⁻ᵃ
//! is a supermartingale under this null, since a is not in it. What is compared with 1/α is
//!
//! ```text
//! E* ≤ min over s of E⁻ˢ ≤ E⁻ᵃ
//! ```
//!
//! so that by Ville's inequality it ever reaches 1/α with probability at most α, without knowing a (a minimum over
//! the parts of a union is how *harmless* works too). `mixture` has the recursion. E* leaves out the worst event of each
//! alternative of each metric by itself, which only makes it smaller. It costs the delay of one more session that fails;
//! a single session is never evidence, and two are the fewest that are.
//!
//! Memory is a pair of Bloom filters (Bloom 1970) of fixed size. A new session taken for one seen
//! before (about one in eight at the fullest) is left out on either side alike, which costs speed,
//! not validity. When the younger filter is full the older one is dropped; sessions that still cause events
//! are carried over, so only one that was quiet for thousands of others' events can count again.

use crate::mutants::{self, Mutant};

const BITS: usize = 16 * 1024;
const WORDS: usize = BITS / 64;
/// Entries after which the generations change.
const FULL: u32 = 3_000;

/// Remembers which sessions have had an event.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    young: [u64; WORDS],
    old: [u64; WORDS],
    entries: u32,
}

impl Sessions {
    pub fn new() -> Self {
        Sessions { young: [0; WORDS], old: [0; WORDS], entries: 0 }
    }

    /// Whether this session had no event of this kind before; from now on it had.
    pub fn is_first(&mut self, session: u64, kind: u64) -> bool {
        if mutants::is(Mutant::SessionsCountEachTime) {
            return true;
        }
        let bits = bits(session, kind);
        if has(&self.young, bits) {
            return false;
        }
        let known = has(&self.old, bits);
        for bit in bits {
            self.young[bit / 64] |= 1 << (bit % 64);
        }
        self.entries += 1;
        if self.entries >= FULL {
            self.old = self.young;
            self.young = [0; WORDS];
            self.entries = 0;
        }
        !known
    }

    /// Whether this session had an event of this kind, without noting anything.
    pub fn had(&self, session: u64, kind: u64) -> bool {
        let bits = bits(session, kind);
        has(&self.young, bits) || has(&self.old, bits)
    }
}

fn bits(session: u64, kind: u64) -> [usize; 2] {
    let hash = scramble(session ^ scramble(kind.wrapping_add(1)));
    [hash as usize % BITS, (hash >> 32) as usize % BITS]
}

fn has(filter: &[u64; WORDS], bits: [usize; 2]) -> bool {
    bits.iter().all(|bit| (filter[bit / 64] >> (bit % 64)) & 1 == 1)
}

/// A well-mixed version of a number (the finalizer of SplitMix64: Steele, Lea, Flood 2014).
pub(crate) fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_once_per_kind() {
        let mut sessions = Sessions::new();
        assert!(sessions.is_first(7, 0));
        assert!(!sessions.is_first(7, 0));
        assert!(sessions.is_first(7, 1));
        assert!(sessions.had(7, 0) && !sessions.had(8, 0));
    }

    #[test]
    fn a_session_that_goes_on_is_never_forgotten() {
        let mut sessions = Sessions::new();
        let mut fresh = 0;
        assert!(sessions.is_first(1, 0));
        for other in 1_000..101_000 {
            fresh += u32::from(sessions.is_first(other, 0));
            assert!(other % 100 != 0 || !sessions.is_first(1, 0));
        }
        // Most others are still told apart.
        assert!(fresh > 80_000, "{fresh}");
    }
}
