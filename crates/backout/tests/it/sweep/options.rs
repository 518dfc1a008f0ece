//! What a sweep is asked to do: by `cargo xtask sweep` through variables, else a sample for continuous integration.

use std::time::Duration;

/// Of the sample.
const SAMPLE_SEED: u64 = 20_261_121;

/// How much is swept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything that is drawn is drawn from it.
    pub seed: u64,
    /// Kills in a row, at most.
    pub depth: usize,
    /// Part of the name of a scene; all without it.
    pub kind: Option<String>,
    /// No further point is begun after that.
    pub limit: Duration,
    /// Points of a scene, drawn; all of them without it.
    pub sample: Option<usize>,
    /// Points at a time: they mostly wait.
    pub at_once: usize,
}

impl Options {
    /// From the variables that `cargo xtask sweep` sets; without them `sample` points, in `limit`.
    pub fn from_env(sample: usize, limit: Duration) -> Self {
        let variable = |name: &str| std::env::var(format!("BACKOUT_SWEEP_{name}")).ok();
        let number = |name: &str| variable(name).and_then(|text| text.parse::<u64>().ok());
        let whole = variable("WHOLE").is_some();
        Self {
            // A change is judged by the same points each time; whole sweeps draw anew.
            seed: number("SEED").unwrap_or_else(|| if whole { fresh_seed() } else { SAMPLE_SEED }),
            depth: number("DEPTH").map_or(3, |depth| usize::try_from(depth).unwrap()),
            kind: variable("KIND"),
            limit: number("LIMIT_S").map_or(limit, Duration::from_secs),
            sample: (!whole).then_some(sample),
            at_once: number("AT_ONCE").map_or(4, |count| usize::try_from(count).unwrap()),
        }
    }

    /// Whether a scene of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.kind.as_ref().is_none_or(|kind| name.contains(kind.as_str()))
    }
}

/// Another one each time: printed, so that what it found can be found again.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The draws of one subject.
    pub fn of(seed: u64, subject: &str) -> Self {
        let mut state = seed;
        for byte in subject.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(state)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `1..=most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        1 + usize::try_from(self.next() % most.max(1) as u64).unwrap()
    }

    /// `count` different ones of `1..=most`, rising; all if there are fewer.
    pub fn some_of(&mut self, most: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (1..=most).collect();
        for at in 0..all.len() {
            let with = at + usize::try_from(self.next() % (all.len() - at) as u64).unwrap();
            all.swap(at, with);
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }
}
