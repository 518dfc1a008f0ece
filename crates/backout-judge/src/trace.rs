//! How the evidence grew, for those who ask why: at most 256 points, whatever the time.

use serde::{Deserialize, Serialize};

const MOST: usize = 256;

/// Evidence over time. When it is full, every other point is dropped and points come half as often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    points: Vec<(i64, f64)>,
    spacing_ms: i64,
}

impl Trace {
    /// Notes where the evidence stands. Of points too close together the larger one stays.
    pub(crate) fn note(&mut self, at_ms: i64, e_value: f64) {
        if let Some(last) = self.points.last_mut()
            && at_ms.saturating_sub(last.0) < self.spacing_ms
        {
            last.1 = last.1.max(e_value);
            return;
        }
        if self.points.len() == MOST {
            let all = std::mem::take(&mut self.points);
            let larger = |pair: &[(i64, f64)]| {
                (pair[0].0, pair.iter().map(|point| point.1).fold(0.0, f64::max))
            };
            self.points = all.chunks(2).map(larger).collect();
            let (first, last) = (self.points[0].0, all[MOST - 1].0);
            self.spacing_ms = (last.saturating_sub(first) / (MOST as i64 / 2)).max(1);
        }
        self.points.push((at_ms, e_value));
    }

    /// The points: time and combined e-value.
    pub fn points(&self) -> &[(i64, f64)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_small_and_keeps_the_peaks() {
        let mut trace = Trace::default();
        for at_ms in 0..100_000 {
            trace.note(at_ms, if at_ms == 77_777 { 50.0 } else { 1.0 });
        }
        let points = trace.points();
        assert!((MOST / 4..=MOST).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let peak = points.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert!(peak.1 == 50.0 && (77_777 - peak.0).abs() < 2_000, "{peak:?}");
    }
}
