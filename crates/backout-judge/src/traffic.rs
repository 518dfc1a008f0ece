//! Whether each side gets the traffic it should, stage by stage.

use crate::event::Arm;
use crate::settings::Settings;
use crate::verdict::{Cause, Failure};
use crate::words;

/// A canary without a request is judged missing only if the odds of that are below e^-14
/// (one in a million): after a stage begins with 5 % weight the first request for it may well be
/// the sixtieth.
const MISSING_LOG_ODDS: f64 = 14.0;

/// For a canary that had traffic and no longer has any. Every gap between two of its requests is
/// a chance to be wrong, so the odds must be far smaller, and it must last.
const SILENCE_LOG_ODDS: f64 = 30.0;
const SILENCE_MS: i64 = 10_000;

/// Requests of one side in this stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageRequests {
    /// All of them.
    pub total: u64,
    /// Those that failed.
    pub failed: u64,
}

/// What the stage needs to know about traffic.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    stage: [StageRequests; 2],
    all: [StageRequests; 2],
    /// Requests of our own in this stage.
    synthetic: [u64; 2],
    /// Share in force, if any was ever given.
    pub share: Option<f64>,
    /// Sum of -ln(1-share) over baseline requests since the canary's last one, or the stage's
    /// beginning: minus the log of the probability of a gap this long.
    gap_log_odds: f64,
    gap_baseline: u64,
    gap_began_ms: i64,
    canary_in_stage: bool,
    /// Requests come by session: one busy client may be all the traffic there is.
    pub by_session: bool,
}

impl Traffic {
    pub fn new(now_ms: i64) -> Self {
        Traffic {
            stage: Default::default(),
            all: Default::default(),
            synthetic: [0; 2],
            share: None,
            gap_log_odds: 0.0,
            gap_baseline: 0,
            gap_began_ms: now_ms,
            canary_in_stage: false,
            by_session: false,
        }
    }

    pub fn stage_began(&mut self, at_ms: i64) {
        self.stage = Default::default();
        self.synthetic = [0; 2];
        self.restart_gap(at_ms);
        self.canary_in_stage = false;
    }

    pub fn weight(&mut self, at_ms: i64, share: f64) {
        self.share = Some(share);
        self.restart_gap(at_ms);
    }

    pub fn requests(&mut self, at_ms: i64, arm: Arm, ok: u64, failed: u64) {
        let total = ok.saturating_add(failed);
        if total == 0 {
            return;
        }
        for counts in [&mut self.stage[arm.index()], &mut self.all[arm.index()]] {
            counts.total = counts.total.saturating_add(total);
            counts.failed = counts.failed.saturating_add(failed);
        }
        match (arm, self.share) {
            (Arm::Canary, _) => {
                self.restart_gap(at_ms);
                self.canary_in_stage = true;
            }
            (Arm::Baseline, Some(share)) if share > 0.0 && share < 1.0 => {
                self.gap_log_odds -= total as f64 * (-share).ln_1p();
                self.gap_baseline = self.gap_baseline.saturating_add(total);
            }
            (Arm::Baseline, _) => {}
        }
    }

    /// Requests of our own: they fill what users leave open, and say nothing of where users go.
    pub fn synthetic(&mut self, arm: Arm, total: u64) {
        let count = &mut self.synthetic[arm.index()];
        *count = count.saturating_add(total);
    }

    pub fn restart_gap(&mut self, at_ms: i64) {
        self.gap_log_odds = 0.0;
        self.gap_baseline = 0;
        self.gap_began_ms = at_ms;
    }

    pub fn stage(&self, arm: Arm) -> StageRequests {
        self.stage[arm.index()]
    }

    pub fn all(&self, arm: Arm) -> StageRequests {
        self.all[arm.index()]
    }

    /// Neither side had a request in this stage although the canary should get some.
    pub fn none_at_all(&self) -> bool {
        self.share.is_some_and(|share| share > 0.0) && self.stage.iter().all(|side| side.total == 0)
    }

    /// The canary gets nothing while the baseline gets plenty.
    pub fn starved(&self, now_ms: i64, settings: &Settings) -> Option<Failure> {
        let enough = self.gap_baseline >= u64::from(settings.minimum_samples).max(1);
        if !enough || settings.sticky_sessions || self.by_session {
            return None;
        }
        let lasted_ms = now_ms.saturating_sub(self.gap_began_ms);
        let evidence = if !self.canary_in_stage && self.gap_log_odds >= MISSING_LOG_ODDS {
            format!(
                "canary got none of the last {} requests although it should get {}",
                self.gap_baseline,
                words::percent(self.share.unwrap_or_default() * 100.0),
            )
        } else if self.gap_log_odds >= SILENCE_LOG_ODDS && lasted_ms >= SILENCE_MS {
            format!(
                "canary has answered nothing for {} while the baseline answered {} requests",
                words::duration(lasted_ms),
                self.gap_baseline,
            )
        } else {
            return None;
        };
        Some(Failure { cause: Cause::NoTraffic, evidence, metric: Some("traffic".into()) })
    }

    /// Requests came in this stage, but too few of them to the canary.
    pub fn missing(&self, settings: &Settings) -> Option<String> {
        let needed = u64::from(settings.minimum_samples);
        let own = self.synthetic[Arm::Canary.index()];
        let canary = self.stage(Arm::Canary).total.saturating_add(own);
        let any = canary > 0 || self.stage(Arm::Baseline).total > 0;
        let expected = self.share.is_none_or(|share| share > 0.0);
        (any && expected && canary < needed)
            .then(|| format!("canary has answered {canary} of {needed} requests in this stage"))
    }
}
