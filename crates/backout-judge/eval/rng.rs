//! Random numbers from a fixed seed: the same traffic in every run, on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
    /// The other half of the last pair of normal numbers.
    spare: Option<f64>,
}

impl Rng {
    /// Neighbouring seeds give unrelated numbers.
    pub fn new(seed: u64) -> Self {
        Rng { state: mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)), spare: None }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Between 0 and 1, without 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }

    /// Gamma with mean 1 (Marsaglia and Tsang 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        let boost = if shape < 1.0 { self.uniform().powf(1.0 / shape) } else { 1.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return boost * d * v / shape;
            }
        }
    }

    /// Poisson: by inversion, in parts of a mean of at most 20.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let mut left = mean.max(0.0);
        let mut count = 0;
        while left > 0.0 {
            let part = left.min(20.0);
            left -= part;
            let mut product = (1.0 - self.uniform()) * part.exp();
            while product > 1.0 {
                count += 1;
                product *= 1.0 - self.uniform();
            }
        }
        count
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut(&mut Rng) -> f64) -> (f64, f64) {
        const N: usize = 200_000;
        let mut rng = Rng::new(1);
        let all: Vec<f64> = (0..N).map(|_| draw(&mut rng)).collect();
        let mean = all.iter().sum::<f64>() / N as f64;
        (mean, all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / N as f64)
    }

    #[test]
    fn means_and_variances_are_right() {
        let near = |(mean, variance): (f64, f64), (m, v): (f64, f64)| {
            assert!((mean - m).abs() < 0.02 * m.max(1.0), "{mean} instead of {m}");
            assert!((variance - v).abs() < 0.04 * v.max(1.0), "{variance} instead of {v}");
        };
        near(moments(Rng::uniform), (0.5, 1.0 / 12.0));
        near(moments(Rng::normal), (0.0, 1.0));
        near(moments(|rng| rng.gamma(0.5)), (1.0, 2.0));
        near(moments(|rng| rng.gamma(4.0)), (1.0, 0.25));
        near(moments(|rng| rng.poisson(0.7) as f64), (0.7, 0.7));
        near(moments(|rng| rng.poisson(47.0) as f64), (47.0, 47.0));
    }
}
