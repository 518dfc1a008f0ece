//! The user's script on another host: called there as it would be called here, and guarded where that is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::{Release, ScriptSpec, TargetSpec};
use backout_core::ports::{
    AdapterError, ErrorClass, Host, HostChange, HostCommand, HostRevert, NamedText, Rehearsal,
    Revert, Secret, StepCx,
};

use super::remote::finished;
use super::script_call::{Answer, CallContext, KEEP_BYTES, ScriptCall, answer, call_environment};
use crate::host::printable;

/// A look at the script's file.
const LOOK: Duration = Duration::from_secs(30);

/// Where the script is on a host: below the folder that is ours there.
fn program_of(spec: &ScriptSpec) -> String {
    match spec.program.contains('/') {
        true => spec.program.clone(),
        false => format!("./{}", spec.program),
    }
}

fn argv_of(spec: &ScriptSpec, words: &[String]) -> Vec<String> {
    std::iter::once(program_of(spec)).chain(spec.args.iter().chain(words).cloned()).collect()
}

/// What the script is told beside the variables that its login has on the host: those of this machine stay here.
fn environment(context: &CallContext<'_>) -> BTreeMap<String, Secret> {
    let all = call_environment(&[], context).into_iter();
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    all.map(|(name, value)| (text(name), Secret::new(text(value)))).collect()
}

/// Runs one call on a host.
///
/// # Errors
/// By the contract with scripts, and the host's own.
pub(super) async fn run(
    call: &ScriptCall<'_>,
    host: &dyn Host,
    unit: &Unit,
    revert: Option<HostRevert>,
) -> Result<Answer, AdapterError> {
    let change = match (call.changes, call.context.cx) {
        (true, Some(cx)) => Some(HostChange {
            unit: unit.clone(),
            step: cx.step_id.clone(),
            epoch: cx.epoch,
            revert,
        }),
        _ => None,
    };
    let command = HostCommand {
        argv: argv_of(call.spec, &call.words),
        env: environment(&call.context),
        folder: None,
        stdin: None,
        timeout: call.timeout,
        keep: KEEP_BYTES,
        change,
    };
    let what = format!("`{} {}` on {}", call.spec.program, call.words.join(" "), host.name());
    let output = host.run(&command).await?;
    answer(&what, finished(output, KEEP_BYTES))
}

/// The way back of a guarded start: what a rollback, or where nothing ran before a stop, would call.
///
/// # Errors
/// Permanent if the release to go back to is none of this target.
pub(super) fn way_back(
    unit: &Unit,
    release: &Release,
    deployment: u64,
    revert: &Revert,
    cx: &StepCx,
) -> Result<HostRevert, AdapterError> {
    let (old, verb) = match &revert.back_to {
        Some(old) => (old.as_ref(), "rollback"),
        None => (release, "stop"),
    };
    let service = old.content.services.get(&unit.service);
    let Some(TargetSpec::Script(spec)) = service.map(|service| &service.target) else {
        return Err(AdapterError::permanent(format!(
            "failed to guard {unit}: release {} has no service `{}` of target `script`",
            old.id, unit.service
        )));
    };
    let cx = StepCx {
        step_id: format!("{}/not-confirmed", cx.step_id),
        from_version: Some(release.content.version.clone()),
        reason: format!("not confirmed within {} s", revert.within_ms.div_ceil(1000)),
        ..cx.clone()
    };
    let context = CallContext {
        key: &unit.key,
        service: &unit.service,
        slot: unit.slot,
        version: Some(&old.content.version),
        release: Some(&old.id),
        deployment: Some(deployment),
        cx: Some(&cx),
    };
    Ok(HostRevert {
        deployment,
        within: Duration::from_millis(revert.within_ms),
        commands: vec![argv_of(spec, &[verb.to_owned()])],
        env: environment(&context),
        folder: None,
        timeout: Duration::from_millis(spec.timeout_ms),
    })
}

/// Whether the script can be called there: for people, one line each.
///
/// # Errors
/// As the host says.
pub(super) async fn obstacles(
    host: &dyn Host,
    spec: &ScriptSpec,
) -> Result<Vec<String>, AdapterError> {
    let (program, name) = (program_of(spec), host.name());
    let argv = ["test", "-f", &program, "-a", "-x", &program];
    let looked = match host.run(&HostCommand::look(argv, LOOK)).await {
        Ok(looked) => looked,
        // Known before anything is changed, rather than in the middle of it.
        Err(error) if error.class == ErrorClass::Permanent => return Ok(vec![error.to_string()]),
        Err(error) => return Err(error),
    };
    if looked.ended == backout_core::ports::HostEnded::Exited(0) {
        return Ok(Vec::new());
    }
    Ok(vec![if host.exists(&program).await? {
        format!(
            "the script `{program}` on {name} is not an executable file; run `chmod +x {program}` there"
        )
    } else {
        format!(
            "there is no script `{program}` on {name}: it is looked for below `ssh.folder`, else in the home folder"
        )
    }])
}

/// The last of what the calls on a host have written, and of the way back that it went by itself.
///
/// # Errors
/// As the host says.
pub(super) async fn last_words(
    host: &dyn Host,
    unit: &Unit,
    limit_bytes: usize,
) -> Result<Vec<NamedText>, AdapterError> {
    let words = host.last_words(unit, limit_bytes).await?;
    let streams =
        [("script.out", words.stdout), ("script.err", words.stderr), ("revert.out", words.revert)];
    let text = |(name, bytes): (&str, Vec<u8>)| NamedText {
        name: name.to_owned(),
        text: printable(&bytes),
        cut: bytes.len() >= limit_bytes,
    };
    Ok(streams.into_iter().map(text).filter(|said| !said.text.is_empty()).collect())
}

/// The script itself, which is not called.
///
/// # Errors
/// Permanent with what is in the way.
pub(super) async fn rehearse(
    host: &dyn Host,
    spec: &ScriptSpec,
) -> Result<Rehearsal, AdapterError> {
    if let Some(why) = obstacles(host, spec).await?.into_iter().next() {
        return Err(AdapterError::permanent(why));
    }
    Ok(Rehearsal {
        rehearsed: vec![format!("`{}` is there on {} and executable", spec.program, host.name())],
        left_out: vec![format!("`{} rollback` was not called", spec.program)],
    })
}
