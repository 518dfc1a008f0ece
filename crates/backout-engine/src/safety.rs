//! The safety checks of a rollback (`SPEC` §6).

use std::collections::BTreeSet;
use std::sync::Arc;

use backout_core::ids::ServiceName;
use backout_core::model::{
    Deployment, DeploymentKind, DeploymentStatus, EnvironmentRecord, ReadinessCheck, Release,
    Severity,
};
use backout_core::plan::Live;
use backout_core::ports::LedgerError;

use crate::commands::health::{self, CheckReport};
use crate::context::Context;
use crate::dependencies::Alone;
use crate::readiness::{STARTABLE, check, rejected_releases, way_back_checks};

/// What the checks are given.
pub(crate) struct Subject<'a> {
    pub environment: &'a EnvironmentRecord,
    pub history: &'a [Deployment],
    pub target: &'a Deployment,
    pub release: &'a Arc<Release>,
    /// Only these services go back, and what is live now.
    pub partial: Option<(&'a [ServiceName], &'a Release)>,
    /// A deploy or automatic rollback runs: its release is not asked whether it looks healthy.
    pub during_operation: bool,
    /// What is left.
    pub left: Option<&'a Live>,
    pub forced: bool,
    pub skip_validation: bool,
    pub overrides: &'a [String],
}

/// All checks in order; lifted ones are warnings that say so.
pub(crate) async fn checks(
    cx: &Context,
    subject: &Subject<'_>,
) -> Result<Vec<ReadinessCheck>, LedgerError> {
    let mut all = vec![
        check(
            "target_exists",
            Severity::Pass,
            format!("#{} {}", subject.target.number, subject.target.version),
        ),
        target_status(subject),
    ];
    all.extend(way_back_checks(cx, subject.environment, subject.release).await?);
    // What a drill has shown some time ago is no fresh fact: it gates no way back.
    for old in all.iter_mut().filter(|check| check.name == STARTABLE) {
        old.status = match old.status {
            Severity::Error => Severity::Warning,
            Severity::Warning | Severity::Pass => Severity::Pass,
        };
    }
    all.push(schema(subject));
    all.push(dependencies(cx, subject).await?);
    all.push(check(
        "snapshot_intact",
        Severity::Pass,
        "data is left as it is; config is saved before it is replaced",
    ));
    all.push(check("policy", Severity::Pass, "no freeze, window or approval stands against it"));
    all.push(already_healthy(cx, subject).await);
    all.push(not_a_loop(subject));
    if subject.skip_validation {
        all.retain(|check| check.status != Severity::Warning);
    }
    lift(&mut all, subject.overrides);
    Ok(all)
}

/// A failing check that a person lifts by its name goes on as a warning.
pub(crate) fn lift(checks: &mut [ReadinessCheck], overrides: &[String]) {
    for check in checks.iter_mut().filter(|check| check.status == Severity::Error) {
        if overrides.contains(&check.name) {
            check.status = Severity::Warning;
            check.message = format!("lifted by --override: {}", check.message);
        }
    }
}

fn target_status(subject: &Subject<'_>) -> ReadinessCheck {
    let name = "target_status";
    let rejected = rejected_releases(subject.history);
    let label = format!("#{} {}", subject.target.number, subject.target.version);
    if rejected.contains(&subject.target.release) {
        return check(
            name,
            Severity::Error,
            format!("{label} was rolled back from; lift this with --override target_status"),
        );
    }
    match subject.target.status {
        DeploymentStatus::Stable => check(name, Severity::Pass, format!("{label} was stable")),
        DeploymentStatus::Superseded | DeploymentStatus::Baking | DeploymentStatus::RolledBack => {
            check(
                name,
                Severity::Warning,
                format!("{label} never finished its bake ({})", subject.target.status),
            )
        }
        status => check(
            name,
            Severity::Error,
            format!("{label} ended {status}; lift this with --override target_status"),
        ),
    }
}

async fn dependencies(cx: &Context, subject: &Subject<'_>) -> Result<ReadinessCheck, LedgerError> {
    if let Some((named, live)) = subject.partial {
        let (environment, history) = (subject.environment, subject.history);
        let alone = Alone { environment, history, live, wanted: subject.release };
        return alone.rolled_back(cx, named).await;
    }
    Ok(of_the_whole(cx, subject.release))
}

fn of_the_whole(cx: &Context, release: &Release) -> ReadinessCheck {
    let name = "service_dependencies";
    let there: BTreeSet<_> = release.content.services.keys().collect();
    let dangling: Vec<String> = release
        .content
        .services
        .values()
        .flat_map(|s| {
            s.depends_on
                .iter()
                .filter(|d| !there.contains(d))
                .map(move |d| format!("{} needs {d}", s.name))
        })
        .collect();
    if !dangling.is_empty() {
        return check(name, Severity::Error, dangling.join("; "));
    }
    let gone: Vec<String> = cx
        .services
        .keys()
        .filter(|service| !there.contains(service))
        .map(ToString::to_string)
        .collect();
    if gone.is_empty() {
        check(name, Severity::Pass, "the same services, each with what it depends on")
    } else {
        check(name, Severity::Warning, format!("that release had no {}", gone.join(", ")))
    }
}

/// Rolling back what looks healthy needs `--force` or a person's confirmation.
async fn already_healthy(cx: &Context, subject: &Subject<'_>) -> ReadinessCheck {
    let name = "already_healthy";
    if subject.during_operation {
        return check(name, Severity::Pass, "an operation runs; its release is being judged");
    }
    let left =
        subject.left.and_then(|left| subject.history.iter().find(|row| row.number == left.number));
    if let Some(row) = left.filter(|row| row.status == DeploymentStatus::Failed) {
        let words = format!("{} {} failed and was left as it is", row.label(), row.version);
        return check(name, Severity::Pass, words);
    }
    let report: CheckReport = match health::probe_live(cx, subject.environment).await {
        Ok(Some(report)) => report,
        Ok(None) => return check(name, Severity::Pass, "nothing is live"),
        Err(error) => {
            return check(name, Severity::Warning, format!("health can't be told: {error}"));
        }
    };
    let version = subject.environment.live.map(|n| format!("#{n}")).unwrap_or_default();
    if !report.healthy() {
        return check(name, Severity::Pass, format!("{version} does not pass its checks now"));
    }
    if subject.forced {
        return check(
            name,
            Severity::Warning,
            format!("{version} looks healthy; rolled back all the same"),
        );
    }
    check(
        name,
        Severity::Error,
        format!("{version} looks healthy; roll it back all the same with --force"),
    )
}

/// No migrations are recorded; a jump over a major version is a hint that there was one.
fn schema(subject: &Subject<'_>) -> ReadinessCheck {
    let name = "schema_compatibility";
    let words = "no migrations are recorded between the two";
    let (to, left) = (&subject.target.version, subject.left.map(|left| &left.version));
    match left.filter(|left| major(left.as_str()).is_some_and(|m| major(to.as_str()) != Some(m))) {
        Some(left) if major(to.as_str()).is_some() => check(
            name,
            Severity::Warning,
            format!("{words}, but {left} and {to} are of different major versions"),
        ),
        _ => check(name, Severity::Pass, words),
    }
}

/// `2` of `2.0.1` and `v2.0.1`; a label without a dot has none.
fn major(version: &str) -> Option<u64> {
    let (first, _) = version.strip_prefix('v').unwrap_or(version).split_once('.')?;
    first.parse().ok()
}

/// Nothing goes back by itself from a rollback; a person who does so is told.
fn not_a_loop(subject: &Subject<'_>) -> ReadinessCheck {
    let name = "not_a_loop";
    let row = |number: u64| subject.history.iter().find(|row| row.number == number);
    let live = subject.left.and_then(|left| row(left.number));
    let back = live.filter(|live| live.kind == DeploymentKind::Rollback);
    let from = back.and_then(|live| row(live.from_number?));
    match (back, from) {
        (Some(live), Some(from)) if from.release == subject.target.release => check(
            name,
            Severity::Warning,
            format!("{} was itself a rollback away from {}", live.label(), from.version),
        ),
        _ => check(name, Severity::Pass, "no rollback is taken back by itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn only_versions_with_a_dot_have_a_major_one() {
        assert_eq!(major("2.0.1"), Some(2));
        assert_eq!(major("v10.3"), Some(10));
        for label in ["v2", "2", "main", "x.1", ""] {
            assert_eq!(major(label), None, "{label}");
        }
    }
}
