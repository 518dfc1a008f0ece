//! Sticky routing: a client stays on the side that it was drawn to, by a number in a cookie.
//!
//! A client's place follows from that number and the two deployments, and which side is at that place from the
//! weights. So nothing is kept per client, a rising weight moves just those between the old weight and the new one,
//! each at most once, and a lower one moves them back; who is among the first differs from deploy to deploy. A client
//! without a number gets one whose place is that of the request's turn, so that new clients are divided as exactly as
//! requests are where routing is not sticky. Numbers are signed: who could make them up could also fill a side with as
//! many failing clients as it takes.

use std::fmt::Write;

use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::weights::PLACES;

/// Hexadecimal digits of a number, and of its signature.
const DIGITS: usize = 16;

/// What signs the numbers of one route; kept with the route, so that clients stay over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key([u64; 2]);

/// It is a secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0_u8; 16];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        let number = u128::from_ne_bytes(bytes);
        Ok(Self([number as u64, (number >> 64) as u64]))
    }
}

/// A client of a sticky route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) number: u64,
    /// It has just been given its number.
    pub(crate) is_new: bool,
}

/// How a route tells its clients apart and where they belong.
#[derive(Debug, Clone)]
pub(crate) struct Sticky {
    pub(crate) key: Key,
    cookie: String,
    /// Differs between any two pairs of deployments.
    salt: u64,
}

impl Sticky {
    /// `deployments`: of both sides, 0 for one that is missing.
    pub(crate) fn new(route: &str, key: Key, deployments: [u64; 2]) -> Self {
        // Cookies know no ports: two routes of one host must not overwrite each other's.
        let name = sip(Key([0, 0]), route.as_bytes()) as u32;
        let [a, b] = deployments;
        let salt = mix(a ^ mix(b ^ mix(key.0[0])));
        Self { key, cookie: format!("backout-{name:08x}"), salt }
    }

    /// The number that the client brought, if it was given here.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<Session> {
        let pairs = headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        pairs
            .filter_map(|pair| {
                let value = pair.trim_ascii().strip_prefix(self.cookie.as_bytes())?;
                self.parse(value.strip_prefix(b"=")?)
            })
            .map(|number| Session { number, is_new: false })
            .next()
    }

    fn parse(&self, value: &[u8]) -> Option<u64> {
        let (number, signature) = value.split_at_checked(DIGITS)?;
        let number = hexadecimal(number)?;
        (hexadecimal(signature)? == self.signature(number)).then_some(number)
    }

    fn signature(&self, number: u64) -> u64 {
        sip(self.key, &number.to_le_bytes())
    }

    /// A client that came without: `turn` is its place in percent, `random` tells it from all others there.
    pub(crate) fn begin(&self, turn: u64, random: u64) -> Session {
        const WIDTH: u64 = u64::MAX / PLACES;
        let place = turn * WIDTH + turn + random % WIDTH;
        Session { number: unmix(place) ^ self.salt, is_new: true }
    }

    /// Where a client belongs, in percent.
    pub(crate) fn place(&self, session: Session) -> u64 {
        let place = mix(session.number ^ self.salt);
        ((u128::from(place) * u128::from(PLACES)) >> 64) as u64
    }

    /// Gives the number to the client, unless the answer may be kept and given to others.
    pub(crate) fn hand_out(&self, session: Session, is_secure: bool, answer: &mut HeaderMap) {
        if !session.is_new || is_shared(answer) {
            return;
        }
        let number = session.number;
        let mut cookie = String::with_capacity(96);
        let signature = self.signature(number);
        let _ = write!(
            cookie,
            "{}={number:016x}{signature:016x}; Path=/; HttpOnly; SameSite=Lax",
            self.cookie
        );
        if is_secure {
            cookie.push_str("; Secure");
        }
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            answer.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Whether a cache may give this answer to several clients, and with it the cookie of one of them.
fn is_shared(answer: &HeaderMap) -> bool {
    answer.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|word| {
            let word = word.trim_ascii();
            word.eq_ignore_ascii_case(b"public")
                || word.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"s-maxage="))
        })
    })
}

/// Exactly 16 digits, as they were handed out.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.len() != DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

const FIRST: u64 = 0xBF58_476D_1CE4_E5B9;
const SECOND: u64 = 0x94D0_49BB_1331_11EB;

/// A well-mixed permutation (the finalizer of SplitMix64: Steele, Lea, Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(FIRST);
    z = (z ^ (z >> 27)).wrapping_mul(SECOND);
    z ^ (z >> 31)
}

/// Its inverse.
fn unmix(mut z: u64) -> u64 {
    z ^= (z >> 31) ^ (z >> 62);
    z = z.wrapping_mul(inverse(SECOND));
    z ^= (z >> 27) ^ (z >> 54);
    z = z.wrapping_mul(inverse(FIRST));
    z ^ (z >> 30) ^ (z >> 60)
}

/// Of an odd number, modulo 2^64: each of Newton's steps doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash for short messages.
fn sip(key: Key, message: &[u8]) -> u64 {
    let [k0, k1] = key.0;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let (words, rest) = message.as_chunks::<8>();
    words.iter().for_each(|word| absorb(u64::from_le_bytes(*word)));
    let mut last = [0_u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = message.len() as u8;
    absorb(u64::from_le_bytes(last));
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{server::weights, wire::SideName};

    fn sticky(deployments: [u64; 2]) -> Sticky {
        Sticky::new("shop/production/web", Key([3, 4]), deployments)
    }

    fn clients(sticky: &Sticky, count: u64) -> Vec<Session> {
        (0..count).map(|n| sticky.begin(weights::turn(n), mix(n))).collect()
    }

    fn on_b(sticky: &Sticky, clients: &[Session], b: u8) -> Vec<Session> {
        let is_b = |session: &Session| {
            weights::at(&[100 - b, b], sticky.place(*session)) == Some(SideName::B)
        };
        clients.iter().copied().filter(is_b).collect()
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        #[allow(deprecated)] // it is the reference
        let reference = |key: Key, message: &[u8]| {
            use std::hash::{Hasher, SipHasher};
            let mut hasher = SipHasher::new_with_keys(key.0[0], key.0[1]);
            hasher.write(message);
            hasher.finish()
        };
        let text: Vec<u8> = (0..64).collect();
        for length in 0..64 {
            for key in [Key([0, 0]), Key([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908])] {
                assert_eq!(sip(key, &text[..length]), reference(key, &text[..length]));
            }
        }
    }

    #[test]
    fn numbers_and_places_are_each_others_inverse() {
        for n in (0..10_000).map(mix).chain([0, 1, u64::MAX, u64::MAX - 1]) {
            assert_eq!(unmix(mix(n)), n);
            for turn in [0, 1, 50, 98, 99] {
                let sticky = sticky([n, n >> 1]);
                assert_eq!(sticky.place(sticky.begin(turn, n)), turn);
                assert_eq!(sticky.place(sticky.begin(turn, u64::MAX - n)), turn);
            }
        }
    }

    #[test]
    fn of_any_hundred_new_clients_each_weight_has_its_part_exactly() {
        let sticky = sticky([1, 2]);
        let clients = clients(&sticky, 300);
        for hundred in clients.windows(100).step_by(7) {
            for b in 0..=100 {
                assert_eq!(on_b(&sticky, hundred, b).len(), usize::from(b));
            }
        }
    }

    #[test]
    fn a_rising_weight_moves_each_client_once_and_a_lower_one_moves_it_back() {
        let sticky = sticky([1, 2]);
        let clients = clients(&sticky, 1_000);
        let mut before = Vec::new();
        for b in 0..=100 {
            let now = on_b(&sticky, &clients, b);
            assert!(before.iter().all(|client| now.contains(client)), "{b}");
            before = now;
        }
        assert_eq!(on_b(&sticky, &clients, 0), []);
        assert_eq!(before.len(), 1_000);
    }

    #[test]
    fn the_next_deploy_draws_anew() {
        let (first, next) = (sticky([1, 2]), sticky([3, 2]));
        let clients = clients(&first, 20_000);
        let early = on_b(&first, &clients, 10);
        assert_eq!(early.len(), 2_000);
        let again = on_b(&next, &early, 10).len();
        assert!((140..=260).contains(&again), "{again} of 2000 at 10 %");
        let all = on_b(&next, &clients, 10).len();
        assert!((1_800..=2_200).contains(&all), "{all} of 20000 at 10 %");
    }

    fn cookies(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (header::COOKIE, value.parse().unwrap()));
        values.collect()
    }

    #[test]
    fn only_numbers_that_were_handed_out_are_believed() {
        let sticky = sticky([1, 2]);
        let session = sticky.begin(42, 7);
        let mut answer = HeaderMap::new();
        sticky.hand_out(session, false, &mut answer);
        let cookie = answer[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let known = Some(Session { is_new: false, ..session });
        for good in [
            vec![pair],
            vec!["x=1", &format!("a=b;{pair} ; c")],
            vec![&format!("{}=1; {pair}", sticky.cookie)],
        ] {
            assert_eq!(sticky.read(&cookies(&good)), known, "{good:?}");
        }
        let mut forged = pair.to_owned().into_bytes();
        let digit = sticky.cookie.len() + 3;
        forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).unwrap();
        for bad in [
            "",
            "=",
            &forged,
            &pair[..pair.len() - 1],
            &format!("{pair}0"),
            &format!("x{pair}"),
            &pair.to_uppercase(),
        ] {
            assert_eq!(sticky.read(&cookies(&[bad])), None, "{bad}");
        }
        let other = Sticky::new("shop/staging/web", sticky.key, [1, 2]);
        assert_ne!(other.cookie, sticky.cookie);
        let rekeyed = Sticky::new("shop/production/web", Key([3, 5]), [1, 2]);
        assert_eq!(rekeyed.read(&cookies(&[pair])), None);
    }

    #[test]
    fn what_others_may_be_given_carries_nobodys_number() {
        let sticky = sticky([1, 2]);
        let handed_out = |cache: &str, is_new| {
            let mut answer =
                HeaderMap::from_iter([(header::CACHE_CONTROL, cache.parse().unwrap())]);
            sticky.hand_out(Session { number: 1, is_new }, true, &mut answer);
            answer.get(header::SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned())
        };
        assert!(handed_out("private, max-age=5", true).unwrap().ends_with("; Secure"));
        assert_eq!(handed_out("private", false), None);
        assert_eq!(handed_out("max-age=5, Public", true), None);
        assert_eq!(handed_out("s-maxage=5", true), None);
    }
}
