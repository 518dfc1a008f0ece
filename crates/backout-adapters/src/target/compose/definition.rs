//! A release's compose files, laid out and resolved by compose itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use backout_core::ids::{EnvironmentKey, Version};
use backout_core::model::{ComposeSpec, ConfigFile, EnvValue, FileKind};
use backout_core::ports::{AdapterError, Secrets};
use fs_err as fs;

use super::ConfigBlobs;
use super::model::Model;
use crate::docker::{Call, Docker, said};
use crate::host::{Ended, create_private_dirs, write_atomic};

/// The file of variables that compose reads where none is named.
const DOT_ENV: &str = ".env";

/// A folder in which a release's compose files lie.
pub(super) struct Definition<'a> {
    /// Where they lie: the folder of `backout.yaml`, or copies.
    pub folder: &'a Path,
    pub spec: &'a ComposeSpec,
    pub key: &'a EnvironmentKey,
    pub version: &'a Version,
}

/// Writes a release's own copies of its config files below `folder`, with today's values of secrets in them.
pub(super) async fn lay_out(
    folder: &Path,
    config: &[ConfigFile],
    blobs: &dyn ConfigBlobs,
    secrets: &Secrets,
) -> Result<(), AdapterError> {
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to write copies of config files: {e}"))
    };
    crate::artifact::remove_tree(folder).map_err(failed)?;
    create_private_dirs(folder).map_err(failed)?;
    for file in config {
        let place = folder.join(inside(file)?);
        if let Some(parent) = place.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o755).create(parent).map_err(failed)?;
        }
        match &file.kind {
            FileKind::File { .. } => {
                let bytes = blobs.unmasked(file, secrets).await?;
                // A container may read it as another user; the folder above lets nobody else in on this side.
                write_atomic(&place, &bytes, file.mode & 0o777).map_err(failed)?;
                let _ = std::os::unix::fs::chown(&place, Some(file.uid), Some(file.gid));
            }
            FileKind::Link { target } => {
                fs::os::unix::fs::symlink(target, &place).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn inside(file: &ConfigFile) -> Result<PathBuf, AdapterError> {
    let path = Path::new(&file.path);
    if !file.path.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(path.to_owned());
    }
    Err(AdapterError::permanent(format!(
        "failed to lay out `{}`: it leads out of its folder",
        file.path
    )))
}

/// Variables that a compose file is filled in with, beside its `.env`.
pub(super) fn variables(
    definition: &Definition<'_>,
    secrets: &Secrets,
) -> Result<BTreeMap<String, String>, AdapterError> {
    let mut all = BTreeMap::from([
        ("BACKOUT_APP".to_owned(), definition.key.app.to_string()),
        ("BACKOUT_ENVIRONMENT".to_owned(), definition.key.environment.to_string()),
        ("BACKOUT_VERSION".to_owned(), definition.version.to_string()),
    ]);
    for (name, value) in &definition.spec.env {
        let value = match value {
            EnvValue::Plain(text) => text.replace("{version}", definition.version.as_str()),
            EnvValue::Secret => match secrets.get(name) {
                Some(secret) => secret.expose().to_owned(),
                None => {
                    return Err(AdapterError::permanent(format!(
                        "failed to fill in the compose file: the secret `{name}` has no value"
                    ))
                    .with_hint(format!("set {name} in the environment")));
                }
            },
        };
        all.insert(name.clone(), value);
    }
    Ok(all)
}

/// Resolves the definition for the app's project.
///
/// # Errors
/// Permanent with what compose says, and where, when a file is wrong or a variable has no value.
pub(super) async fn resolve(
    docker: &Docker,
    definition: &Definition<'_>,
    secrets: &Secrets,
) -> Result<Model, AdapterError> {
    config(docker, definition, secrets, &[]).await
}

/// The same with all paths as they are written.
///
/// # Errors
/// As above.
pub(super) async fn resolve_as_written(
    docker: &Docker,
    definition: &Definition<'_>,
    secrets: &Secrets,
) -> Result<Model, AdapterError> {
    config(docker, definition, secrets, &["--no-path-resolution"]).await
}

async fn config(
    docker: &Docker,
    definition: &Definition<'_>,
    secrets: &Secrets,
    how: &[&str],
) -> Result<Model, AdapterError> {
    let spec = definition.spec;
    let mut args: Vec<OsString> =
        vec!["compose".into(), "--project-name".into(), spec.project.clone().into()];
    args.extend(["--project-directory".into(), definition.folder.into()]);
    for file in &spec.files {
        args.extend(["--file".into(), definition.folder.join(file).into()]);
    }
    for file in &spec.env_files {
        args.extend(["--env-file".into(), definition.folder.join(file).into()]);
    }
    for profile in &spec.profiles {
        args.extend(["--profile".into(), profile.into()]);
    }
    args.extend(["config", "--format", "json"].iter().chain(how).map(OsString::from));
    let env = variables(definition, secrets)?;
    let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let finished = docker.run_here(Call { env, ..Call::look(args) }).await?;
    let files = spec.files.join(", ");
    let words = said(&finished).replace(&format!("{}/", definition.folder.display()), "");
    if finished.ended != Ended::Exited(0) {
        if words.contains("is not a docker command")
            || words.contains("unknown flag")
            || words.contains("unknown shorthand flag")
        {
            return Err(AdapterError::permanent(
                "failed to run `docker compose`: the compose plugin is missing",
            )
            .with_hint(
                "install Docker Compose v2 (package docker-compose-plugin or docker-compose)",
            ));
        }
        return Err(AdapterError::permanent(format!("failed to read {files}: {words}")).with_hint(
            format!(
                "correct it; `docker compose -f {} config` says the same",
                spec.files.join(" -f ")
            ),
        ));
    }
    if let Some(name) = unset_variable(&finished.stderr.last_text(8 << 10)) {
        let dot_env = spec.env_files.first().map_or(DOT_ENV, String::as_str);
        return Err(AdapterError::permanent(format!(
            "failed to read {files}: the variable {name} has no value"
        ))
        .with_hint(format!(
            "add it to target.compose.env or to {dot_env}, or give it a default: ${{{name}:-…}}"
        )));
    }
    if finished.stdout.is_cut() {
        return Err(AdapterError::permanent(format!("failed to read {files}: it is too long")));
    }
    Model::read(&finished.stdout.bytes(), &files)
}

/// The variable that compose warns of: it would be an empty text.
fn unset_variable(said: &str) -> Option<String> {
    let (before, _) = said.split_once("variable is not set")?;
    let name = before.trim_end().trim_end_matches(['"', '\\']);
    let name = name.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_value_is_named() {
        let said = r#"time="x" level=warning msg="The \"TAG\" variable is not set. Defaulting to a blank string.""#;
        assert_eq!(unset_variable(said).as_deref(), Some("TAG"));
        assert_eq!(unset_variable("all is well"), None);
    }
}
