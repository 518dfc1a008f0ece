//! Processes that went away.
//!
//! The rule. Before a service's first passing check each exit is one start-up failure, and
//! `startup_failures` of them fail the release. After it, an exit that stays down (not restarted)
//! fails at once; one that was restarted is a warning, and the `startup_failures`-th within the
//! short window is a crash-loop and fails. Nothing here is muted by a warm-up.

use crate::event::Arm;
use crate::settings::Settings;
use crate::verdict::{Cause, Failure};
use crate::words;

/// Services beyond this are not told apart.
const MAX_SERVICES: usize = 64;

/// One exit as it was reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    pub at_ms: i64,
    pub code: Option<i32>,
    pub restarts: u32,
    pub before_first_pass: bool,
}

/// The exits of one service on one side.
#[derive(Debug, Clone)]
struct Service {
    arm: Arm,
    name: String,
    before_first_pass: u32,
    /// Ring of the latest exits after the first pass, `startup_failures` long.
    later_ms: Vec<i64>,
    later: u64,
    last: Exit,
}

/// All exits seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exits {
    services: Vec<Service>,
}

impl Exits {
    /// Takes an exit in; says whether it makes its side fail.
    pub fn observe(
        &mut self,
        arm: Arm,
        name: &str,
        exit: Exit,
        settings: &Settings,
    ) -> Option<Failure> {
        let limit = settings.startup_failures.max(1);
        let service = self.entry(arm, name, exit, limit);
        service.last = exit;
        let how = how(exit.code);
        if exit.before_first_pass {
            // A supervisor may have restarted more often than anybody looked.
            service.before_first_pass =
                service.before_first_pass.saturating_add(1).max(exit.restarts);
            let seen = service.before_first_pass;
            return (seen >= limit).then(|| Failure {
                cause: Cause::StartupFailure,
                evidence: format!("{name} {how}, {seen} times before its first passing check"),
                metric: Some("start".into()),
            });
        }
        let ring = service.later_ms.len() as u64;
        service.later_ms[(service.later % ring) as usize] = exit.at_ms;
        service.later += 1;
        if exit.restarts == 0 {
            return Some(Failure {
                cause: Cause::HealthCheckFailed,
                evidence: format!("{name} {how} and was not restarted"),
                metric: Some("process".into()),
            });
        }
        let oldest_ms = service.later_ms[(service.later % ring) as usize];
        let apart_ms = exit.at_ms.saturating_sub(oldest_ms);
        (service.later >= ring && apart_ms <= settings.window_short_ms).then(|| Failure {
            cause: Cause::HealthCheckFailed,
            evidence: format!(
                "{name} {how}, {ring} times in {}: a crash-loop",
                words::duration(apart_ms)
            ),
            metric: Some("process".into()),
        })
    }

    fn entry(&mut self, arm: Arm, name: &str, exit: Exit, limit: u32) -> &mut Service {
        let known = self.services.iter().position(|s| s.arm == arm && s.name == name);
        let index = known.unwrap_or_else(|| {
            if self.services.len() < MAX_SERVICES {
                self.services.push(Service {
                    arm,
                    name: name.to_owned(),
                    before_first_pass: 0,
                    later_ms: vec![0; (limit as usize).min(1024)],
                    later: 0,
                    last: exit,
                });
            }
            self.services.len() - 1
        });
        &mut self.services[index]
    }

    /// Exits of the short window that failed nothing so far.
    pub fn warnings(&self, now_ms: i64, settings: &Settings) -> Vec<String> {
        let recent = |s: &&Service| now_ms.saturating_sub(s.last.at_ms) <= settings.window_short_ms;
        let words = |s: &Service| {
            let ago = words::duration(now_ms.saturating_sub(s.last.at_ms));
            format!("{} {} {} {ago} ago", s.arm.word(), s.name, how(s.last.code))
        };
        self.services.iter().filter(recent).map(words).collect()
    }
}

fn how(code: Option<i32>) -> String {
    match code {
        Some(code) => format!("exited with code {code}"),
        None => "ended without an exit code".to_owned(),
    }
}
