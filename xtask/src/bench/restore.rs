//! Rows of the tables about going back with a target.

use super::Row;
use super::figures::{median, quantile};

const GOAL_RATIO: f64 = 1.3;
const GOAL_SHARE: f64 = 0.10;

/// What was measured of a target that restores by itself, milliseconds each.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Step `start` of rollbacks.
    pub restores: Vec<f64>,
    /// The peer's own way to the same.
    pub peers: Vec<f64>,
    /// Whole deploys.
    pub deploys: Vec<f64>,
    /// Proofs of readiness, as processes of their own.
    pub proofs: Vec<f64>,
}

impl Times {
    /// Both rows; `peer`: what restores beside us, `how`: what is in our step.
    pub(super) fn rows(&self, peer: &str, how: &str) -> Vec<Row> {
        let (ours, theirs) = (median(&self.restores), median(&self.peers));
        let fastest = |values: &[f64]| quantile(values, 0.0);
        let restore = Row {
            name: "restore, median".to_owned(),
            ours: format!("{ours:.0} ms"),
            peer: format!("{peer} {theirs:.0} ms"),
            ratio: Some(ours / theirs),
            how: format!(
                "{how}; {} rounds; fastest {:.0} ms against {:.0} ms",
                self.restores.len(),
                fastest(&self.restores),
                fastest(&self.peers)
            ),
            ..Row::default()
        };
        vec![with_goal(restore), proof(&self.deploys, &self.proofs)]
    }
}

/// Holds a restore to the goal.
pub(super) fn with_goal(row: Row) -> Row {
    let met = row.ratio.map(|ratio| ratio <= GOAL_RATIO);
    Row { goal: format!("ratio ≤ {GOAL_RATIO}"), met, ..row }
}

/// What the proof of readiness costs beside the deploy that it guards.
pub(super) fn proof(deploys: &[f64], proofs: &[f64]) -> Row {
    let share = median(proofs) / median(deploys);
    Row {
        name: "proof of readiness".to_owned(),
        ours: format!("{:.0} ms", median(proofs)),
        peer: format!("its deploy {:.0} ms", median(deploys)),
        ratio: Some(share),
        goal: format!("ratio ≤ {GOAL_SHARE}"),
        met: Some(share <= GOAL_SHARE),
        how: "`status --check` as a process of its own, which probes too; the deploy bakes for 1 s"
            .to_owned(),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_held_to_its_goal() {
        let met = |restore, proof| {
            let times = Times {
                restores: vec![restore],
                peers: vec![100.0],
                deploys: vec![1000.0],
                proofs: vec![proof],
            };
            times.rows("by hand", "all of it").iter().map(|row| row.met).collect::<Vec<_>>()
        };
        assert_eq!(met(130.0, 100.0), [Some(true), Some(true)]);
        assert_eq!(met(131.0, 101.0), [Some(false), Some(false)]);
    }
}
