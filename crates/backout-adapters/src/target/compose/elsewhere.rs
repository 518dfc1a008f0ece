//! What is different where the engine is that of another host: this machine's files are not there, and its ports are
//! not those that containers get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::{Artifact, ComposeSpec};
use backout_core::ports::{AdapterError, Host, HostCommand, Observed, Secrets};

use super::ComposeTargetOptions;
use super::definition::{self, Definition};
use super::model::Model;
use super::parts::running_images;
use super::place::Place;
use crate::artifact::IMAGE_SCHEME;
use crate::docker::Docker;

const LOOK: Duration = Duration::from_secs(30);
/// Lines of two tables of the kernel.
const KEEP_BYTES: usize = 1 << 20;
/// Sockets that listen, in those tables.
const LISTENING: &str = r#"grep -hs " 0A " /proc/net/tcp /proc/net/tcp6; true"#;

/// Refuses a definition that needs files of this machine, before anything is changed.
///
/// # Errors
/// Permanent, with the service and the path.
pub(super) async fn check(
    docker: &Docker,
    definition: &Definition<'_>,
    secrets: &Secrets,
    services: &[String],
) -> Result<(), AdapterError> {
    let Some(host) = docker.host() else { return Ok(()) };
    let model = definition::resolve_as_written(docker, definition, secrets).await?;
    let files = definition.spec.files.join(", ");
    refuse(&model, services, host.as_ref(), &files, |path| !path.starts_with('/'))
}

/// The same for a definition that is about to start: its paths lead into our copies by then.
///
/// # Errors
/// As above.
pub(super) fn check_resolved(
    options: &ComposeTargetOptions,
    model: &Model,
    spec: &ComposeSpec,
    services: &[String],
) -> Result<(), AdapterError> {
    let Some(host) = options.docker.host() else { return Ok(()) };
    let ours = |path: &str| {
        [&options.state_dir, &options.folder].iter().any(|it| Path::new(path).starts_with(it))
    };
    refuse(model, services, host.as_ref(), &spec.files.join(", "), ours)
}

fn refuse(
    model: &Model,
    services: &[String],
    host: &dyn Host,
    files: &str,
    is_ours: impl Fn(&str) -> bool,
) -> Result<(), AdapterError> {
    let name = host.name();
    for service in services {
        if let Some(path) = model.mounted(service).into_iter().find(|path| is_ours(path)) {
            return Err(AdapterError::permanent(format!(
                "failed to use {files} on {name}: {service} mounts `{path}` of this machine, which {name} does not have"
            ))
            .with_hint("use a named volume, or the absolute path of something that is on the hosts"));
        }
        if let Some((key, path)) =
            model.files_of(service).into_iter().find(|(_, path)| is_ours(path))
        {
            return Err(AdapterError::permanent(format!(
                "failed to use {files} on {name}: {service} mounts `{path}` of this machine, which {name} does not have"
            ))
            .with_hint(format!("give {key} its `content:` or `environment:` in place of `file:`")));
        }
    }
    Ok(())
}

/// Ports on which something listens there; `None`: the engine is this machine's.
///
/// # Errors
/// As the host says.
pub(super) async fn listening(docker: &Docker) -> Result<Option<BTreeSet<u16>>, AdapterError> {
    let Some(host) = docker.host() else { return Ok(None) };
    let mut command = HostCommand::look(["sh", "-c", LISTENING], LOOK);
    command.keep = KEEP_BYTES;
    let output = host.run(&command).await?;
    Ok(Some(ports_of(&String::from_utf8_lossy(&output.stdout))))
}

fn ports_of(table: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let local = line.split_ascii_whitespace().nth(1)?;
        u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
    };
    table.lines().filter_map(port).collect()
}

/// What is seen on another host without what means something only there.
pub(super) fn seen_from_here(docker: &Docker, seen: Observed) -> Observed {
    match docker.host() {
        Some(_) => Observed { address: None, pid: None, ..seen },
        None => seen,
    }
}

/// Takes over what runs on one more host, if it is the same as what was recorded.
///
/// # Errors
/// Permanent when it is something else.
pub(super) async fn adopt(
    options: &ComposeTargetOptions,
    unit: &Unit,
    spec: &ComposeSpec,
    artifacts: &[Artifact],
) -> Result<(), AdapterError> {
    let running = running_images(options, unit, spec, &spec.services).await?;
    for (name, (shown, id)) in &running {
        let prefix = format!("{name}=");
        let recorded = artifacts.iter().find(|artifact| artifact.path.starts_with(&prefix));
        let Some(recorded) = recorded else { continue };
        if recorded.digest != format!("{IMAGE_SCHEME}{id}") {
            return Err(AdapterError::permanent(format!(
                "failed to adopt: {} runs another image for {name} ({shown}) than the first host",
                unit.host
            ))
            .with_hint("bring all hosts to one version first, as you did until now"));
        }
    }
    let images: BTreeMap<_, _> = running.into_iter().map(|(name, (_, id))| (name, id)).collect();
    Place::of(options, &unit.key).adopt(unit, &images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_listen_are_read() {
        let table = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
                     garbage\n   1: 00000000000000000000000000000000:0050 0:0 0A\n";
        assert_eq!(ports_of(table), BTreeSet::from([0x1f90, 0x50]));
    }
}
