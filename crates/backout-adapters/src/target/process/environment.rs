//! What a program finds in its environment: what the release says, a few names of the caller's, and `BACKOUT_*`.

use std::collections::BTreeMap;

use backout_core::ids::Unit;
use backout_core::model::{EnvValue, ProcessSpec, Release};
use backout_core::ports::{AdapterError, Secrets};

use super::fill::{Values, fill};
use super::spec::INSTANCE_VARIABLE;

/// Names that a program inherits.
const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// The variables of this process that programs inherit: `PATH HOME USER LANG TZ`, as far as they are set.
#[must_use]
pub fn inherited_environment() -> BTreeMap<String, String> {
    INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Takes out what programs do not inherit.
pub(crate) fn keep_inherited(variables: &mut BTreeMap<String, String>) {
    variables.retain(|name, _| INHERITED.contains(&name.as_str()));
}

/// A program's environment in two parts: what may be written down, and what may not.
pub(crate) struct Environment {
    pub open: BTreeMap<String, String>,
    pub secret: BTreeMap<String, String>,
}

/// Who the environment is for.
pub(crate) struct For<'a> {
    pub unit: &'a Unit,
    pub release: &'a Release,
    pub deployment: u64,
    pub instance: &'a str,
}

pub(crate) fn build(
    spec: &ProcessSpec,
    of: &For<'_>,
    inherited: &BTreeMap<String, String>,
    values: &Values,
    secrets: &Secrets,
) -> Result<Environment, AdapterError> {
    let mut open = inherited.clone();
    let mut secret = BTreeMap::new();
    if let Some(port) = values.port {
        open.insert(spec.port_env.clone(), port.to_string());
    }
    for (name, value) in &spec.env {
        match value {
            EnvValue::Plain(text) => {
                open.insert(
                    name.clone(),
                    fill(text, values).map_err(|what| missing(of.unit, name, &what))?,
                );
            }
            EnvValue::Secret => {
                let value = secrets.get(name).ok_or_else(|| {
                    AdapterError::permanent(format!(
                        "failed to start {}: the secret `{name}` has no value",
                        of.unit
                    ))
                    .with_hint(format!("set `{name}` in the environment of this command"))
                })?;
                open.remove(name);
                secret.insert(name.clone(), value.expose().to_owned());
            }
        }
    }
    let ours = [
        ("BACKOUT_APP", of.unit.key.app.to_string()),
        ("BACKOUT_ENVIRONMENT", of.unit.key.environment.to_string()),
        ("BACKOUT_SERVICE", of.unit.service.to_string()),
        ("BACKOUT_VERSION", of.release.content.version.to_string()),
        ("BACKOUT_RELEASE", of.release.id.to_string()),
        ("BACKOUT_SLOT", of.unit.slot.to_string()),
        ("BACKOUT_DEPLOYMENT", of.deployment.to_string()),
        (INSTANCE_VARIABLE, of.instance.to_owned()),
    ];
    open.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    Ok(Environment { open, secret })
}

/// A text asks for something that the release has not.
pub(crate) fn missing(unit: &Unit, place: &str, what: &str) -> AdapterError {
    let key = if what == "artifact" { "artifact:" } else { "port:" };
    AdapterError::permanent(format!(
        "failed to start {unit}: `{place}` asks for {{{what}}}, and there is none"
    ))
    .with_hint(format!("give the service `{key}`, or take {{{what}}} out"))
}
