//! What was different from what a demo must show. Nothing, if all is well.

use backout_core::model::DeploymentStatus;

use super::story::{BAD, GOOD, RELEASES, Told};
use super::tally::{self, NOBODY, Times};

/// The times of the bad release, as users saw it.
#[must_use]
pub fn times(told: &Told) -> Option<Times> {
    let bad = told.found_bad.as_ref()?;
    tally::times(&told.records, BAD.version, bad.at_us)
}

/// Every difference, for people.
#[must_use]
pub fn differences(told: &Told) -> Vec<String> {
    let mut found = Vec::new();
    for (shipped, code) in RELEASES.iter().zip(&told.codes) {
        if *code != shipped.expected {
            let (version, expected) = (shipped.version, shipped.expected);
            found.push(format!("the deploy of {version} ended with {code}, not {expected}"));
        }
    }
    found.extend(told.stuck.iter().map(|reason| format!("it could not go on: {reason}")));
    let expected = [
        ("v1", DeploymentStatus::Stable, false),
        ("v2", DeploymentStatus::Stable, false),
        ("v3", DeploymentStatus::RolledBack, true),
        ("v2", DeploymentStatus::Stable, false),
    ];
    let seen: Vec<(&str, DeploymentStatus, bool)> = told
        .deployments
        .iter()
        .map(|row| (row.version.as_str(), row.status, row.rejected))
        .collect();
    if seen != expected {
        let rows: Vec<String> = told
            .deployments
            .iter()
            .map(|row| {
                let why = row.error_message.as_ref().map(|why| format!(" ({why})"));
                let why = why.unwrap_or_default();
                format!("#{} {} {}{why}", row.number, row.version, row.status)
            })
            .collect();
        found.push(format!("the deployments are {}", rows.join(", ")));
    }
    match &told.health {
        Some(report) if report.healthy() => {}
        Some(report) => {
            found.push(format!("{} is not healthy: {}", GOOD.version, report.findings.join("; ")));
        }
        None => found.push("nothing is live at the end".to_owned()),
    }
    for (who, count) in tally::by_version(&told.records) {
        match count.failed {
            0 => {}
            failed if who == NOBODY => {
                found.push(format!("{failed} requests were answered by no release"));
            }
            failed if who != BAD.version => found.push(format!("{who} failed {failed} requests")),
            _ => {}
        }
    }
    match times(told) {
        Some(times) if times.after.failed > 0 => {
            found.push(format!("{} requests failed after it was over", times.after.failed));
        }
        Some(times) if times.after.requests == 0 => {
            found.push("nobody came after it was over".to_owned());
        }
        Some(_) => {}
        None => found.push(format!("{} was not found to be bad", BAD.version)),
    }
    if told.config != GOOD.config {
        found.push(format!("the config file is not the one of {}", GOOD.version));
    }
    found
}
