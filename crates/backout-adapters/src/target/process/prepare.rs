//! Everything a supervisor will need, filled in and laid out before it is started.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backout_core::ids::{Unit, hex};
use backout_core::model::{EnvValue, ProcessSpec, Release, RestartPolicy};
use backout_core::ports::{AdapterError, StepCx};

use super::environment::{self, Environment, For, missing};
use super::fill::{Values, fill};
use super::slot::SlotFolder;
use super::spec::{FORMAT, SlotSpec};
use super::{ProcessTargetOptions, artifacts, config_copies, port};

/// Lays out artifact and config copies, finds port and program, and fills all texts in.
pub(crate) async fn prepare(
    options: &ProcessTargetOptions,
    slot: &SlotFolder,
    unit: &Unit,
    release: &Release,
    deployment: u64,
    definition: &ProcessSpec,
    cx: &StepCx,
) -> Result<(SlotSpec, Environment), AdapterError> {
    let asks_for = |name: &str| {
        let plain = definition
            .env
            .values()
            .filter_map(|v| if let EnvValue::Plain(t) = v { Some(t) } else { None });
        definition.command.iter().chain(plain).any(|text| text.contains(name))
    };
    let artifact = {
        let (store, slot, unit, release) =
            (options.artifacts.clone(), slot.clone(), unit.clone(), release.clone());
        super::blocking(move || artifacts::place(&store, &slot, &unit, &release)).await?
    };
    let config = if asks_for("{config}") {
        Some(config_copies::place(options.blobs.as_ref(), slot, unit, release, &cx.secrets).await?)
    } else {
        config_copies::clear(slot).map_err(|e| AdapterError::transient(e.to_string()))?;
        None
    };
    let values = Values {
        version: Some(release.content.version.to_string()),
        release: Some(release.id.to_string()),
        slot: Some(unit.slot.to_string()),
        port: port::choose(definition.port, &options.state_dir, unit)?,
        artifact: artifact.map(|path| text_of(&path)).transpose()?,
        config: config.map(|path| text_of(&path)).transpose()?,
    };
    let instance = random_name()?;
    let of = For { unit, release, deployment, instance: &instance };
    let environment =
        environment::build(definition, &of, &options.inherited, &values, &cx.secrets)?;
    let mut command = Vec::with_capacity(definition.command.len());
    for text in &definition.command {
        command.push(fill(text, &values).map_err(|what| missing(unit, text, &what))?);
    }
    let cwd = options.folder.join(&definition.workdir);
    let cwd = cwd.canonicalize().map_err(|_| {
        AdapterError::permanent(format!(
            "failed to start {unit}: the working folder `{}` is missing",
            cwd.display()
        ))
    })?;
    let Some(program) = command.first_mut() else {
        return Err(AdapterError::permanent(format!(
            "failed to start {unit}: its command is empty"
        )));
    };
    *program =
        text_of(&find_program(program, &cwd, &options.folder, environment.open.get("PATH")))?;
    let spec = SlotSpec {
        format: FORMAT,
        instance,
        ledger: options.ledger.clone(),
        unit: unit.clone(),
        deployment,
        release: release.id.clone(),
        version: release.content.version.clone(),
        command,
        env: environment.open.clone(),
        secret_env: environment.secret.keys().cloned().collect(),
        cwd,
        port: values.port,
        restart: match release.content.services.get(&unit.service).and_then(|s| s.job) {
            // A job ends; its exit code says how it went.
            Some(_) => RestartPolicy { max: 0, ..definition.restart },
            None => definition.restart,
        },
        log_cap_bytes: options.log_cap_bytes,
    };
    Ok((spec, environment))
}

/// A path: below the working folder, else below the folder of `backout.yaml`. A bare name: on `PATH`, else below
/// the working folder. What is not found stays as it was written, so that the failed start names it.
fn find_program(program: &str, cwd: &Path, folder: &Path, search: Option<&String>) -> PathBuf {
    let written = PathBuf::from(program);
    if written.is_absolute() {
        return written;
    }
    let runnable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let here = [cwd.join(&written), folder.join(&written)];
    if program.contains('/') {
        return here
            .iter()
            .find(|path| path.exists())
            .cloned()
            .unwrap_or_else(|| cwd.join(&written));
    }
    let on_path = std::env::split_paths(search.map_or("/usr/bin:/bin", String::as_str))
        .map(|dir| dir.join(&written));
    on_path.chain(here).find(runnable).unwrap_or(written)
}

fn text_of(path: &Path) -> Result<String, AdapterError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        AdapterError::permanent(format!("failed to use `{}`: the path is no UTF-8", path.display()))
    })
}

fn random_name() -> Result<String, AdapterError> {
    let mut bytes = [0_u8; 12];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|e| AdapterError::transient(format!("failed to get random bytes: {e}")))?;
    }
    Ok(hex(&bytes))
}
