//! Valid types, made from what was written. Only these reach the engine.

mod compose;
mod git;
mod health;
mod hosts;
mod judge;
mod metrics;
mod policy;
mod services;
mod systemd;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backout_core::ids::{
    AppName, EnvironmentKey, EnvironmentName, HostName, InvalidId, ServiceName,
};
use backout_core::model::{Policy, Service};
use backout_core::ports::{Secret, Secrets};

pub use hosts::SshSettings;
pub use metrics::{Auth, MetricsFrom, MetricsSettings, SyntheticSettings};

use super::errors::Problem;
use super::node::{Key, Position};
use super::raw::{At, Raw};
use super::scalar::Duration;
use super::variables::Lookup;

/// An environment's settings, valid and whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// App and environment.
    pub key: EnvironmentKey,
    /// How Backout acts.
    pub policy: Policy,
    /// Where it runs, in the order of the file, at least one.
    pub hosts: Vec<HostName>,
    /// How those that are not this machine are reached.
    pub ssh: SshSettings,
    /// What runs; part of the next release.
    pub services: BTreeMap<ServiceName, Service>,
    /// Where metrics come from, by service.
    pub metrics: BTreeMap<ServiceName, Vec<MetricsSettings>>,
    /// Requests of our own to services that take traffic.
    pub synthetic: Option<SyntheticSettings>,
    /// What is versioned with every release.
    pub config_globs: Vec<String>,
    /// A copy of each image is kept in the state folder.
    pub copies_images: bool,
    /// Today's values of the keys under `secrets:`: as expanded in the file, else from the caller's environment.
    pub secrets: Secrets,
    /// Secret keys that a process needs and that have no value.
    pub missing_secrets: Vec<String>,
    /// The file.
    pub config_path: PathBuf,
    /// What a person should know although it is valid.
    pub warnings: Vec<String>,
}

/// What the settings are made from beside the file's values.
pub(super) struct Given<'a> {
    pub environment: &'a Key,
    pub file: &'a Path,
    pub lookup: Lookup<'a>,
}

/// Collects what is wrong, so that several mistakes are shown at once.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Findings {
    fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn refuse_at(&mut self, at: Position, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::at(at, message).hint(hint));
    }

    /// A valid name, or a finding.
    fn name<T>(&mut self, at: Position, result: Result<T, InvalidId>) -> Option<T> {
        result
            .map_err(|error| {
                self.refuse_at(
                    at,
                    format!("`{}` is not a valid {}", error.value, error.what),
                    error.rule,
                );
            })
            .ok()
    }

    /// A duration, or its default; zero is refused.
    fn positive(&mut self, key: &str, written: Option<&At<Duration>>, default_ms: u64) -> u64 {
        let Some(written) = written else { return default_ms };
        if written.value.0 == 0 {
            self.refuse_at(
                written.at,
                format!("`{key}` can't be zero"),
                "write a duration such as `1s`",
            );
        }
        written.value.0
    }

    /// A number within limits, or its default.
    fn within(
        &mut self,
        key: &str,
        written: Option<&At<u32>>,
        default: u32,
        limits: (u32, u32),
    ) -> u32 {
        let Some(written) = written else { return default };
        if !(limits.0..=limits.1).contains(&written.value) {
            let message =
                format!("`{key}` must be from {} to {}, not {}", limits.0, limits.1, written.value);
            self.refuse(Problem::at(written.at, message));
        }
        written.value
    }

    /// A path below the folder of the file, or a finding.
    fn relative_path(&mut self, at: Position, what: &str, path: &str) -> bool {
        let wrong = if path.trim().is_empty() {
            "is empty"
        } else if path.starts_with('/') || path.starts_with('~') {
            "is absolute"
        } else if path.split('/').any(|part| part == "..") {
            "leads out of the folder of backout.yaml"
        } else if path.contains('\0') {
            "holds a zero byte"
        } else {
            return true;
        };
        self.refuse_at(
            at,
            format!("the {what} `{path}` {wrong}"),
            "write a path below the folder of backout.yaml",
        );
        false
    }
}

/// Makes the settings of one environment.
///
/// # Errors
/// Everything found to be wrong, at least one.
pub(super) fn build(raw: &Raw, given: &Given<'_>) -> Result<Settings, Vec<Problem>> {
    let mut found = Findings::default();
    let app = match &raw.app {
        Some(app) => found.name(app.at, AppName::new(app.value.as_str())),
        None => {
            found.refuse(
                Problem::whole("`app` is missing")
                    .hint("name the application, such as `app: shop`"),
            );
            None
        }
    };
    let environment =
        found.name(given.environment.at, EnvironmentName::new(given.environment.text.as_str()));
    let hosts = hosts::hosts(raw, &mut found);
    let ssh = hosts::ssh(raw, &hosts, &mut found);
    let secret_names = secret_names(raw, &mut found);
    let config_globs = config_globs(raw, &mut found);
    let project = compose::default_project(app.as_ref(), environment.as_ref());
    let services =
        app.as_ref().map(|app| services::services(raw, app, &project, &secret_names, &mut found));
    let copies_images = compose::copies_images(raw, &mut found);
    let mut policy = policy::policy(raw, services.as_ref(), secret_names, &mut found);
    if let Some(policy) = &mut policy {
        policy.hosts = hosts::policy(&hosts, &ssh);
    }
    let mut metrics = BTreeMap::new();
    if let (Some(services), Some(policy)) = (&services, &policy) {
        services::check_together(raw, services, policy, &mut found);
        hosts::check_remote(raw, &hosts, policy, &mut found);
        metrics = metrics::metrics(raw, services, policy, &policy.secrets, &mut found);
    }
    let synthetic = metrics::synthetic(raw, &mut found);
    let (secrets, missing_secrets) = secret_values(raw, given.lookup, &mut found);
    match (app, environment, services, policy) {
        (Some(app), Some(environment), Some(services), Some(policy))
            if found.problems.is_empty() =>
        {
            Ok(Settings {
                key: EnvironmentKey { app, environment },
                policy,
                hosts,
                ssh,
                services,
                metrics,
                synthetic,
                config_globs,
                copies_images,
                secrets,
                missing_secrets,
                config_path: given.file.to_owned(),
                warnings: found.warnings,
            })
        }
        _ => Err(found.problems),
    }
}

fn secret_names(raw: &Raw, found: &mut Findings) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for secret in raw.secrets.iter().flatten() {
        let name = &secret.value;
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=')
        {
            found.refuse_at(
                secret.at,
                format!("`{name}` is not the name of a key"),
                "write names such as API_KEY",
            );
        } else if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn config_globs(raw: &Raw, found: &mut Findings) -> Vec<String> {
    let mut globs: Vec<String> = Vec::new();
    for written in raw.config.iter().flatten() {
        let glob = written.value.trim_start_matches("./");
        if !found.relative_path(written.at, "config path", glob) {
            continue;
        }
        if let Err(error) = glob::Pattern::new(glob) {
            found.refuse_at(
                written.at,
                format!("`{glob}` is not a glob: {}", error.msg),
                "write a path, or use * and ?",
            );
        } else if !globs.iter().any(|other| other == glob) {
            globs.push(glob.to_owned());
        }
    }
    globs
}

/// Today's values, and the keys that a process needs and nobody gave.
fn secret_values(raw: &Raw, lookup: Lookup<'_>, found: &mut Findings) -> (Secrets, Vec<String>) {
    let mut values = BTreeMap::new();
    let mut missing = Vec::new();
    for secret in raw.secrets.iter().flatten() {
        let mut written: Option<&str> = None;
        let mut needed = false;
        for (key, value) in services::env_entries(raw).filter(|(key, _)| key.value == secret.value)
        {
            needed = true;
            let Some(value) = value else { continue };
            if written.is_some_and(|other| other != value.0) {
                found.refuse_at(
                    key.at,
                    format!("the secret `{}` has two values", key.value),
                    "give services with different values differently named keys",
                );
            }
            written = Some(&value.0);
        }
        match written.map(str::to_owned).or_else(|| lookup(&secret.value)) {
            Some(value) => {
                values.insert(secret.value.clone(), Secret::new(value));
            }
            None if needed && !missing.contains(&secret.value) => {
                missing.push(secret.value.clone())
            }
            None => {}
        }
    }
    (Arc::new(values), missing)
}
