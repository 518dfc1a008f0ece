//! How much of the machine other programs use: figures from a busy one are worth less.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::Outcome;

const SAMPLE: Duration = Duration::from_secs(1);
/// A machine that is idle for our purposes still does something.
const IDLE_UP_TO: f64 = 0.1;

/// The part of all processor time that is used while nothing of ours runs: 0 to 1.
pub(super) fn share_used_by_others() -> Outcome<f64> {
    let before = read()?;
    thread::sleep(SAMPLE);
    let after = read()?;
    Ok(after.share_since(&before))
}

/// A sentence for the section.
pub(super) fn sentence(before: f64, after: f64) -> String {
    if before.max(after) <= IDLE_UP_TO {
        return "The machine was idle otherwise.".to_owned();
    }
    format!(
        "The machine was **not idle**: other programs used {:.0} % of its processor time just before, \
         {:.0} % just after.",
        before * 100.0,
        after * 100.0
    )
}

struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn share_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle).min(all);
        if all == 0 { 0.0 } else { (all - idle) as f64 / all as f64 }
    }
}

fn read() -> Outcome<Ticks> {
    let text =
        fs::read_to_string("/proc/stat").map_err(|e| format!("failed to read /proc/stat: {e}"))?;
    parse(&text).ok_or("failed to read the first line of /proc/stat".to_owned())
}

/// `cpu user nice system idle iowait irq softirq steal …`; what follows is contained in the first two.
fn parse(text: &str) -> Option<Ticks> {
    let mut fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.by_ref().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(Ticks { idle, all: ticks.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_neither_idle_nor_waiting_is_used() {
        let before = parse("cpu  10 0 10 100 20 0 0 0 7 7\ncpu0 1").unwrap();
        let after = parse("cpu  20 5 15 160 30 0 0 10 9 9\n").unwrap();
        assert_eq!(after.share_since(&before), 0.3);
        assert_eq!(before.share_since(&before), 0.0);
        assert!(parse("intr 1").is_none());
        assert!(parse("cpu  1 2 3").is_none());
    }

    #[test]
    fn a_busy_machine_is_told() {
        assert_eq!(sentence(0.1, 0.0), "The machine was idle otherwise.");
        assert!(
            sentence(0.0, 0.42).contains("0 % of its processor time just before, 42 % just after")
        );
    }
}
