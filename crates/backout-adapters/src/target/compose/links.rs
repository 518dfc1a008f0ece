//! What the second slot's project shares with the first: volumes, and services that run once for both.

use std::collections::BTreeSet;

use backout_core::ports::AdapterError;

use super::model::Model;
use super::{ComposeTargetOptions, labels};
use crate::docker::{Call, said};
use crate::host::Ended;

/// Makes the named volumes that are not there, as compose would make them for the first project.
pub(super) async fn make_volumes(
    options: &ComposeTargetOptions,
    model: &Model,
    project: &str,
) -> Result<(), AdapterError> {
    for (key, name, volume) in model.volumes() {
        let look = options.docker.run(Call::look(["volume", "inspect", name.as_str()])).await?;
        if look.ended == Ended::Exited(0) {
            continue;
        }
        let mut args: Vec<String> = vec!["volume".into(), "create".into()];
        if let Some(driver) = volume.get("driver").and_then(|d| d.as_str()) {
            args.extend(["--driver".to_owned(), driver.to_owned()]);
        }
        let of = |key: &str| volume.get(key).and_then(|o| o.as_object()).into_iter().flatten();
        for (option, value) in of("driver_opts") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            args.extend(["--opt".to_owned(), format!("{option}={value}")]);
        }
        for (label, value) in of("labels") {
            args.extend([
                "--label".to_owned(),
                format!("{label}={}", value.as_str().unwrap_or_default()),
            ]);
        }
        args.extend(["--label".to_owned(), format!("{}={project}", labels::PROJECT)]);
        args.extend(["--label".to_owned(), format!("com.docker.compose.volume={key}")]);
        args.push(name.clone());
        let made = options.docker.run(Call::new(args)).await?;
        if made.ended != Ended::Exited(0) {
            return Err(AdapterError::transient(format!(
                "failed to make volume {name}: {}",
                said(&made)
            )));
        }
    }
    Ok(())
}

/// Lets the first project's shared services be found by their names in the networks of the project beside it.
pub(super) async fn connect_shared(
    options: &ComposeTargetOptions,
    first: &str,
    beside: &str,
    shared: &[String],
) -> Result<(), AdapterError> {
    let filter = format!("{}={first}", labels::PROJECT);
    let containers = options.docker.containers(&[filter]).await?;
    for network in networks(options, beside).await? {
        for container in &containers {
            let name = container.label(labels::COMPOSE_SERVICE).unwrap_or_default().to_owned();
            if !shared.contains(&name) {
                continue;
            }
            let args = ["network", "connect", "--alias", &name, &network, &container.id];
            let connected = options.docker.run(Call::new(args)).await?;
            let words = said(&connected);
            if connected.ended != Ended::Exited(0) && !words.contains("already exists in network") {
                return Err(AdapterError::transient(format!(
                    "failed to connect {name} to {network}: {words}"
                )));
            }
        }
    }
    Ok(())
}

async fn networks(
    options: &ComposeTargetOptions,
    project: &str,
) -> Result<Vec<String>, AdapterError> {
    let filter = format!("label={}={project}", labels::PROJECT);
    let listed = options
        .docker
        .look(["network", "ls", "--filter", filter.as_str(), "--format", "{{.Name}}"])
        .await?;
    Ok(String::from_utf8_lossy(&listed).split_whitespace().map(str::to_owned).collect())
}

/// Removes the networks of a project in which nothing is left. They are made again with the next start, so that
/// a failure here is nobody's trouble.
pub(super) async fn remove_networks(
    options: &ComposeTargetOptions,
    first: &str,
    project: &str,
) -> Result<(), AdapterError> {
    let filter = |project: &str| format!("{}={project}", labels::PROJECT);
    if !options.docker.containers(&[filter(project)]).await?.is_empty() {
        return Ok(());
    }
    let shared: BTreeSet<String> = match first == project {
        true => BTreeSet::new(),
        false => {
            options.docker.containers(&[filter(first)]).await?.into_iter().map(|c| c.id).collect()
        }
    };
    for network in networks(options, project).await? {
        for id in &shared {
            let _ = options
                .docker
                .run(Call::new(["network", "disconnect", "--force", &network, id]))
                .await?;
        }
        let _ = options.docker.run(Call::new(["network", "rm", network.as_str()])).await?;
    }
    Ok(())
}
