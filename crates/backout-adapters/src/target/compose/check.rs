//! What `doctor` asks: whether the engine, compose and the compose file are there and do.

use backout_core::ids::{EnvironmentKey, Version};
use backout_core::model::ComposeSpec;
use backout_core::ports::{AdapterError, Secrets};
use futures_util::stream::{self, StreamExt as _};

use super::definition::{self, Definition};
use super::elsewhere;
use crate::docker::{Call, Docker, said};
use crate::host::Ended;

/// The oldest compose that hands its definition over as we read it.
const OLDEST: (u32, u32) = (2, 17);

/// Engines that are asked at the same time.
const AT_ONCE: usize = 16;

/// One line: what was looked at, and how it is.
pub type Finding = (&'static str, Result<String, AdapterError>);

/// Looks at the engines, at compose, and at one service's compose file. Nothing is pulled or changed.
pub async fn check(
    engines: &[Docker],
    folder: &std::path::Path,
    key: &EnvironmentKey,
    spec: &ComposeSpec,
    secrets: &Secrets,
) -> Vec<Finding> {
    let all = stream::iter(engines.to_vec());
    let asked = all.map(|docker| async move { engine(&docker).await }).buffered(AT_ONCE);
    let mut found: Vec<Finding> = asked.map(|answer| ("docker", answer)).collect().await;
    // The command and the file are of this machine, whatever engines there are.
    let here = engines.iter().find(|docker| docker.host().is_some()).or(engines.first());
    if let Some(docker) = here {
        let compose = compose(docker).await;
        let usable = compose.is_ok() && (docker.host().is_some() || found[0].1.is_ok());
        found.push(("compose", compose));
        if usable {
            found.push(("compose_file", file(docker, folder, key, spec, secrets).await));
        }
    }
    found
}

async fn engine(docker: &Docker) -> Result<String, AdapterError> {
    let version = docker.look(["version", "--format", "{{.Server.Version}}"]).await?;
    let version = String::from_utf8_lossy(&version);
    Ok(format!("Docker Engine {}{} answers", version.trim(), docker.on_host()))
}

async fn compose(docker: &Docker) -> Result<String, AdapterError> {
    let finished = docker.run_here(Call::look(["compose", "version", "--short"])).await?;
    let install = "install Docker Compose v2 (package docker-compose-plugin or docker-compose)";
    if finished.ended != Ended::Exited(0) {
        let error = format!("failed to run `docker compose`: {}", said(&finished));
        return Err(AdapterError::permanent(error).with_hint(install));
    }
    let text = finished.stdout.last_text(200);
    let version = text.trim().trim_start_matches('v').to_owned();
    match numbers(&version) {
        Some(numbers) if numbers < OLDEST => Err(AdapterError::permanent(format!(
            "failed to use Docker Compose {version}: it is older than {}.{}",
            OLDEST.0, OLDEST.1
        ))
        .with_hint(install)),
        _ => Ok(format!("Docker Compose {version}")),
    }
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

async fn file(
    docker: &Docker,
    folder: &std::path::Path,
    key: &EnvironmentKey,
    spec: &ComposeSpec,
    secrets: &Secrets,
) -> Result<String, AdapterError> {
    let version = Version::new("next").map_err(|e| AdapterError::permanent(e.to_string()))?;
    let definition = Definition { folder, spec, key, version: &version };
    let model = definition::resolve(docker, &definition, secrets).await?;
    elsewhere::check(docker, &definition, secrets, &model.names()).await?;
    Ok(format!("{} is valid: {}", spec.files.join(", "), model.names().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("2.9.0").unwrap() < OLDEST && numbers("2.26.1-4").unwrap() > OLDEST);
        assert!(numbers("5.0.0").unwrap() > OLDEST && numbers("dev").is_none());
    }
}
