//! The release build a newcomer waits for before the demo.

use std::path::Path;
use std::time::Instant;

use super::process::cpu_seconds_of_ended_children;
use super::{Bench, Row};
use crate::{Outcome, run};

pub(super) const ABOUT: &str = "`cargo build --release` of the binary, as the demo needs it, in an empty build folder; the \
     crates are downloaded already. The other sections of the same run measure this binary.";

const GOAL_MINUTES: f64 = 8.0;

/// What one build took.
pub(super) struct Built {
    wall_seconds: f64,
    cpu_seconds: f64,
}

/// Builds the binary in the given build folder.
pub(super) fn build(target: &Path) -> Outcome<Built> {
    let call = ["build", "--release", "--quiet", "--locked", "--package", "backout"];
    let mut command = run::cargo(&[&call[..], &["--bin", "backout"]].concat())?;
    command.env("CARGO_TARGET_DIR", target);
    let (began, cpu_before) = (Instant::now(), cpu_seconds_of_ended_children()?);
    run::run(command)?;
    Ok(Built {
        wall_seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds_of_ended_children()? - cpu_before,
    })
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let built = bench.cold.as_ref().ok_or("failed to measure the build: it was not cold")?;
    let path = &bench.backout;
    let size = std::fs::metadata(path)
        .map_err(|e| format!("failed to look at {}: {e}", path.display()))?
        .len();
    Ok(vec![
        time(built),
        Row {
            name: "size of the binary".to_owned(),
            ours: format!("{:.1} MB", size as f64 / 1e6),
            how: "everything in it, SQLite too; no debug information".to_owned(),
            ..Row::default()
        },
    ])
}

fn time(built: &Built) -> Row {
    let minutes = built.wall_seconds / 60.0;
    Row {
        name: "cold release build".to_owned(),
        ours: format!("{minutes:.1} min"),
        goal: format!("≤ {GOAL_MINUTES:.0} min"),
        met: Some(minutes <= GOAL_MINUTES),
        how: format!(
            "one build, wall time; {:.1} min of processor time, user and system",
            built.cpu_seconds / 60.0
        ),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_about_wall_time() {
        let row = |wall_seconds| time(&Built { wall_seconds, cpu_seconds: 600.0 });
        assert_eq!(row(480.0).met, Some(true));
        assert_eq!(row(481.0).met, Some(false));
        assert!(row(60.0).how.contains("10.0 min of processor time"));
    }
}
