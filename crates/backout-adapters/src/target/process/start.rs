//! Starting a release in a slot.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use backout_core::ids::{Unit, hex};
use backout_core::model::{EnvValue, ProcessSpec, Release};
use backout_core::ports::{AdapterError, Receipt, StepCx};
use tokio::process::{Child, Command};

use super::environment::{self, Environment, For, missing};
use super::fill::{Values, fill};
use super::slot::{SlotFolder, refuse_foreign};
use super::spec::{FORMAT, HandOver, Phase, SlotSpec, Status};
use super::{ProcessTargetOptions, artifacts, config_copies, orphans, port, process_spec};

/// How long an orphan may take to end before it is killed.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How long a supervisor may take to report that it has started the program.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Makes a release run in a slot. The same deployment and release twice is one start.
///
/// A caller that is dropped before the hand-over has started nothing; after it the supervisor goes on alone,
/// and the next call finds it.
pub(crate) async fn start(
    options: &ProcessTargetOptions,
    unit: &Unit,
    release: &Release,
    deployment: u64,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let began = Instant::now();
    let definition = process_spec(unit, release)?;
    let slot = SlotFolder::of(&options.state_dir, unit);
    slot.create().map_err(|e| AdapterError::permanent(e.to_string()))?;
    let _lock = slot.lock(cx.timeout).await?;
    let mut warnings = Vec::new();
    if let Some(spec) = slot.read_spec()? {
        refuse_foreign(&spec, &options.ledger)?;
        if let Some(receipt) =
            already_running(&slot, &spec, release, deployment, cx.timeout).await?
        {
            return Ok(receipt);
        }
    }
    let ended = orphans::end(&slot, unit, ORPHAN_GRACE).await?;
    if ended > 0 {
        warnings.push(format!("ended {ended} process(es) of {unit} whose supervisor was gone"));
    }
    let (spec, environment) =
        prepare(options, &slot, unit, release, deployment, definition, cx).await?;
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to prepare the start of {unit}: {e}"))
    };
    slot.forget_stop_order().map_err(failed)?;
    slot.write_spec(&spec).map_err(failed)?;
    let mut supervisor = spawn_supervisor(options, &slot, unit).await?;
    hand_over(&mut supervisor, &spec, environment).await;
    let patience =
        cx.timeout.saturating_sub(began.elapsed()).clamp(Duration::from_secs(1), REPORT_PATIENCE);
    let status = first_report(&slot, unit, &spec, &mut supervisor, patience).await?;
    slot.prune_logs(deployment);
    Ok(Receipt {
        message: format!("started {unit} version {}", spec.version),
        warnings,
        data: serde_json::json!({ "port": spec.port, "pid": status.child.map(|c| c.pid) }),
    })
}

/// A receipt if exactly this is running already; an error if something else is.
async fn already_running(
    slot: &SlotFolder,
    spec: &SlotSpec,
    release: &Release,
    deployment: u64,
    patience: Duration,
) -> Result<Option<Receipt>, AdapterError> {
    let end = Instant::now() + patience.min(REPORT_PATIENCE);
    loop {
        let supervised =
            slot.is_supervised().map_err(|e| AdapterError::transient(e.to_string()))?;
        if !supervised {
            return Ok(None);
        }
        let status = slot.read_status()?.filter(|s| s.instance == spec.instance);
        match status.as_ref().map(|s| s.phase) {
            Some(Phase::Running | Phase::Waiting)
                if (spec.deployment, &spec.release) == (deployment, &release.id) =>
            {
                return Ok(Some(Receipt {
                    message: format!("{} runs version {} already", spec.unit, spec.version),
                    warnings: Vec::new(),
                    data: serde_json::json!({ "port": spec.port, "pid": status.and_then(|s| s.child).map(|c| c.pid) }),
                }));
            }
            Some(Phase::Running | Phase::Waiting) => {
                return Err(AdapterError::permanent(format!(
                    "failed to start deployment {deployment} in {}: deployment {} (version {}) runs there",
                    spec.unit, spec.deployment, spec.version
                ))
                .with_hint("stop it first"));
            }
            // Beginning or ending: wait for one or the other.
            _ if Instant::now() < end => tokio::time::sleep(POLL).await,
            _ => {
                return Err(AdapterError::transient(format!(
                    "failed to start {}: its supervisor neither begins nor ends",
                    spec.unit
                )));
            }
        }
    }
}

async fn prepare(
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
        restart: definition.restart,
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

async fn spawn_supervisor(
    options: &ProcessTargetOptions,
    slot: &SlotFolder,
    unit: &Unit,
) -> Result<Child, AdapterError> {
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to start the supervisor of {unit}: {e}"))
    };
    let log = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(slot.supervisor_log())
        .map_err(failed)?;
    // It outlives its caller: it makes a session of its own, and is given nothing that holds a terminal.
    Command::new(&options.supervise_exe)
        .args(&options.supervise_args)
        .arg(slot.spec_path())
        .env_clear()
        .envs(&options.inherited)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .map_err(failed)
}

async fn hand_over(supervisor: &mut Child, spec: &SlotSpec, environment: Environment) {
    let hand_over =
        HandOver { format: FORMAT, instance: spec.instance.clone(), secrets: environment.secret };
    if let (Some(mut stdin), Ok(bytes)) = (supervisor.stdin.take(), serde_json::to_vec(&hand_over))
    {
        use tokio::io::AsyncWriteExt;
        // A supervisor that can't read this says why in its first report.
        let _ = stdin.write_all(&bytes).await;
        let _ = stdin.shutdown().await;
    }
}

/// Waits until the supervisor says that the program was started, or why not.
async fn first_report(
    slot: &SlotFolder,
    unit: &Unit,
    spec: &SlotSpec,
    supervisor: &mut Child,
    patience: Duration,
) -> Result<Status, AdapterError> {
    let end = Instant::now() + patience;
    loop {
        // Asked before the status is read: one that ended between the two has written its last word.
        let ended = supervisor.try_wait().ok().flatten();
        let status = slot
            .read_status()?
            .filter(|s| s.instance == spec.instance && s.phase != Phase::Starting);
        match status {
            Some(status) if status.phase == Phase::Failed => {
                let _ = tokio::time::timeout(patience, supervisor.wait()).await;
                let why = status.error.unwrap_or_default();
                let _ = slot.forget_spec();
                return Err(AdapterError::permanent(why)
                    .with_hint(format!("look at the command of {unit} in backout.yaml")));
            }
            Some(status) => return Ok(status),
            None => {}
        }
        if let Some(ended) = ended {
            let mut said = Vec::new();
            if let Ok(mut log) = std::fs::File::open(slot.supervisor_log()) {
                let _ = std::io::copy(&mut std::io::Read::take(&mut log, 2048), &mut said);
            }
            let said = crate::host::printable(&said);
            return Err(AdapterError::transient(format!(
                "failed to start {unit}: its supervisor ended ({ended}): {said}"
            )));
        }
        if Instant::now() >= end {
            return Err(AdapterError::unknown(format!(
                "failed to hear from the supervisor of {unit} in time"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}
