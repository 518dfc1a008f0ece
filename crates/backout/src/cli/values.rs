//! Values on the command line: versions, revisions, times, durations.

use backout_core::ids::{AppName, ServiceName, Version};
use backout_core::model::DeploymentStatus;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::args::ConfigChoice;
use crate::config::{nearest, parse_duration_ms};

/// The safety checks of a rollback that `--override` may lift.
pub const SAFETY_CHECKS: [&str; 12] = [
    "target_exists",
    "target_status",
    "artifact_available",
    "config_compatibility",
    "unit_files_unchanged",
    "worktree_ready",
    "schema_compatibility",
    "service_dependencies",
    "snapshot_intact",
    "policy",
    "already_healthy",
    "not_a_loop",
];

/// The checks of a deploy that `--override` may lift. A missing secret is none of them: nothing could be started.
pub const DEPLOY_CHECKS: [&str; 8] = [
    "artifact_available",
    "config_compatibility",
    "unit_files_unchanged",
    "worktree_ready",
    "old_release_startable",
    "router_movable",
    "nothing_in_the_way",
    "service_dependencies",
];

/// Where a rollback goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackPoint {
    /// The deployment of this number.
    Revision(u64),
    /// What was live then.
    Time(Timestamp),
}

/// What `inspect` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentName {
    /// `#42` or `42`.
    Number(u64),
    /// An id or a version.
    Word(String),
}

pub(super) fn version(text: &str) -> Result<Version, String> {
    Version::new(text).map_err(|error| error.rule.to_owned())
}

pub(super) fn app(text: &str) -> Result<AppName, String> {
    AppName::new(text).map_err(|error| error.rule.to_owned())
}

pub(super) fn service(text: &str) -> Result<ServiceName, String> {
    ServiceName::new(text).map_err(|error| error.rule.to_owned())
}

/// `42` or `#42`.
pub(super) fn revision(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits).ok_or_else(|| {
        "write a deployment's number, such as 42; `backout history` lists them".to_owned()
    })
}

pub(super) fn config_choice(text: &str) -> Result<ConfigChoice, String> {
    if text == "keep" {
        return Ok(ConfigChoice::Keep);
    }
    revision(text)
        .map(ConfigChoice::Deployment)
        .map_err(|_| "write keep, or a deployment's number such as 42".to_owned())
}

pub(super) fn deployment_name(text: &str) -> Result<DeploymentName, String> {
    if let Ok(number) = revision(text) {
        return Ok(DeploymentName::Number(number));
    }
    let word = text.trim();
    if word.is_empty()
        || word.starts_with('#')
        || word.len() > 128
        || word.contains(char::is_control)
    {
        return Err("write an id, a number such as '#42', or a version".to_owned());
    }
    Ok(DeploymentName::Word(word.to_owned()))
}

pub(super) fn positive_duration_ms(text: &str) -> Result<u64, String> {
    match parse_duration_ms(text)? {
        0 => Err("it can't be zero".to_owned()),
        ms => Ok(ms),
    }
}

pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why in a few words".to_owned());
    }
    if text.len() > 2_000 {
        return Err("it is longer than 2000 bytes".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let uri: Option<hyper::Uri> = text.parse().ok();
    let valid = uri.is_some_and(|uri| {
        uri.scheme_str() == Some("http") && uri.host().is_some_and(|h| !h.is_empty())
    });
    if valid {
        Ok(text.to_owned())
    } else {
        Err("write an address such as http://127.0.0.1:8080/health".to_owned())
    }
}

pub(super) fn deployment_status(text: &str) -> Result<DeploymentStatus, String> {
    let word = text.to_lowercase().replace('-', "_");
    let words = || DeploymentStatus::ALL.iter().map(|status| status.as_str());
    word.parse().map_err(|_| match nearest(&word, words()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", words().collect::<Vec<_>>().join(", ")),
    })
}

/// A number is a revision, anything else a time.
pub(super) fn rollback_point(text: &str) -> Result<RollbackPoint, String> {
    match revision(text) {
        Ok(number) => Ok(RollbackPoint::Revision(number)),
        Err(_) => past_time(text).map(RollbackPoint::Time),
    }
}

pub(super) fn past_time(text: &str) -> Result<Timestamp, String> {
    past_time_at(text, Timestamp::now(), &TimeZone::system())
}

/// `2h ago`, `1d 12h ago`, RFC 3339, or a date with or without time in the local zone.
fn past_time_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    let refuse =
        || format!("`{text}` is no past time; write '2h ago', 2026-11-20 or 2026-11-20T10:00:00Z");
    let time = if let Some(span) = text.strip_suffix("ago") {
        let span: String = span.split_whitespace().collect();
        let ms = parse_duration_ms(&span).map_err(|_| refuse())?;
        let ms = i64::try_from(ms).map_err(|_| refuse())?;
        now.checked_sub(SignedDuration::from_millis(ms)).map_err(|_| refuse())?
    } else if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else {
        let local: DateTime = match text.parse::<DateTime>() {
            Ok(time) => time,
            Err(_) => text.parse::<Date>().map_err(|_| refuse())?.into(),
        };
        local.to_zoned(zone.clone()).map_err(|_| refuse())?.timestamp()
    };
    if time > now { Err(format!("{time} lies in the future")) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_point_is_a_number_or_a_past_time() {
        assert_eq!(rollback_point("42"), Ok(RollbackPoint::Revision(42)));
        assert_eq!(rollback_point("#42"), Ok(RollbackPoint::Revision(42)));
        assert!(matches!(rollback_point("2h ago"), Ok(RollbackPoint::Time(_))));
        for text in ["", "-1", "1.4.2", "soon", "2h", "in 2h", "99999999999999999999"] {
            assert!(rollback_point(text).is_err(), "{text}");
        }
    }

    #[test]
    fn past_times_are_read() {
        let now = at("2026-11-20T12:00:00Z");
        for (text, wanted) in [
            ("2h ago", "2026-11-20T10:00:00Z"),
            ("90s ago", "2026-11-20T11:58:30Z"),
            ("1d ago", "2026-11-19T12:00:00Z"),
            ("1d 12h ago", "2026-11-19T00:00:00Z"),
            ("5m  ago", "2026-11-20T11:55:00Z"),
            ("2026-11-20T11:00:00+01:00", "2026-11-20T10:00:00Z"),
            ("2026-11-20 10:00", "2026-11-20T10:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
        ] {
            assert_eq!(past_time_at(text, now, &TimeZone::UTC), Ok(at(wanted)), "{text}");
        }
        for text in [
            "ago",
            "2 ago",
            "-2h ago",
            "2026-11-21T00:00:00Z",
            "2026-13-01",
            "yesterday",
            "9999d ago",
        ] {
            assert!(past_time_at(text, now, &TimeZone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn inspect_takes_numbers_ids_and_versions() {
        assert_eq!(deployment_name("#42"), Ok(DeploymentName::Number(42)));
        assert_eq!(deployment_name("dep_01ab"), Ok(DeploymentName::Word("dep_01ab".to_owned())));
        assert_eq!(deployment_name("1.4.2"), Ok(DeploymentName::Word("1.4.2".to_owned())));
        assert!(deployment_name("#x").is_err());
        assert!(deployment_name("").is_err());
    }

    #[test]
    fn a_wrong_status_names_the_nearest() {
        assert_eq!(deployment_status("rolled-back"), Ok(DeploymentStatus::RolledBack));
        assert!(deployment_status("stabel").unwrap_err().contains("`stable`"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = rollback_point(&text);
            let _ = deployment_name(&text);
            let _ = config_choice(&text);
            let _ = endpoint(&text);
        }
    }
}
