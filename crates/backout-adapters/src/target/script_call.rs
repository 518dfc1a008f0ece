//! One call of the user's script: the contract with scripts stands here and nowhere else.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::{
    self, CommandLine, Ended, Finished, Leftover, Output, StartError, create_private_dirs,
};
use backout_core::ids::{EnvironmentKey, ReleaseId, ServiceName, Slot, Version};
use backout_core::model::ScriptSpec;
use backout_core::ports::{AdapterError, StepCx};

/// Done.
const DONE: i32 = 0;
/// The verb is not known to the script.
const UNKNOWN_VERB: i32 = 64;
/// Try again later.
const TRY_LATER: i32 = 75;
pub(super) const KEEP_BYTES: usize = 16 << 10;
const MESSAGE_BYTES: usize = 600;

/// What a call may say by its exit.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Exit 0.
    Done(Finished),
    /// Exit 64.
    UnknownVerb,
}

/// Where scripts run, and what is remembered of them.
#[derive(Debug, Clone)]
pub(crate) struct ScriptHome {
    pub folder: PathBuf,
    pub state_dir: PathBuf,
    pub env: Vec<(OsString, OsString)>,
}

/// What a call is about; fields that are not known become empty variables, so that `set -u` scripts work.
#[derive(Debug, Clone)]
pub(crate) struct CallContext<'a> {
    pub key: &'a EnvironmentKey,
    pub service: &'a ServiceName,
    pub slot: Slot,
    pub version: Option<&'a Version>,
    pub release: Option<&'a ReleaseId>,
    pub deployment: Option<u64>,
    pub cx: Option<&'a StepCx>,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct ScriptCall<'a> {
    pub home: &'a ScriptHome,
    pub spec: &'a ScriptSpec,
    pub words: Vec<String>,
    pub context: CallContext<'a>,
    pub timeout: Duration,
    /// It changes something: what it leaves running keeps its output, and no two such calls run at a time.
    pub changes: bool,
}

impl ScriptHome {
    /// Folder of what is remembered of a service's script.
    pub(crate) fn folder_of(&self, key: &EnvironmentKey) -> PathBuf {
        self.state_dir.join("scripts").join(key.app.as_str()).join(key.environment.as_str())
    }

    /// Where a changing call of a service is noted while it runs.
    pub(crate) fn leftover(&self, key: &EnvironmentKey, service: &ServiceName) -> Leftover {
        Leftover::at(self.folder_of(key).join(format!("{service}.run.json")))
    }

    pub(crate) fn program(&self, spec: &ScriptSpec) -> PathBuf {
        self.folder.join(&spec.program)
    }
}

impl ScriptCall<'_> {
    /// Runs the script to its end.
    ///
    /// # Errors
    /// By the contract: 75 is transient, a signal or the time limit is unknown, all else is permanent.
    pub(crate) async fn run(self) -> Result<Answer, AdapterError> {
        let what = format!("`{} {}`", self.spec.program, self.words.join(" "));
        let folder = self.home.folder_of(self.context.key);
        let leftover = self.home.leftover(self.context.key, self.context.service);
        let mut env = call_environment(&self.home.env, &self.context);
        let (mut output, mut announced) = (Output::Pipe, None);
        if self.changes {
            let failed = |e: std::io::Error| AdapterError::transient(e.to_string());
            create_private_dirs(&folder).map_err(failed)?;
            let earlier = leftover.end(Duration::from_secs(2)).await;
            earlier
                .map_err(|why| AdapterError::transient(format!("failed to run {what}: {why}")))?;
            let call = leftover.announce(&self.words.join(" ")).map_err(failed)?;
            env.push(call.variable());
            announced = Some(call);
            let file = |end: &str| {
                folder.join(format!("{}-{}.{end}", self.context.service, self.context.slot))
            };
            output = Output::Files { stdout: file("out"), stderr: file("err") };
        }
        let line = CommandLine {
            program: self.home.program(self.spec),
            args: self.spec.args.iter().chain(&self.words).map(OsString::from).collect(),
            env,
            cwd: self.home.folder.clone(),
            stdin: None,
            timeout: self.timeout,
            end_grace: host::END_GRACE,
            keep: KEEP_BYTES,
            output,
        };
        let note = |pid| announced.iter().for_each(|call| call.note(pid));
        let finished = host::run_noting(line, note).await;
        if announced.is_some() {
            leftover.forget();
        }
        let finished = finished.map_err(|e| not_started(&e))?;
        answer(&what, finished)
    }
}

/// The caller's environment, secrets, and what a program of the user's is told of the step.
pub(crate) fn call_environment(
    caller: &[(OsString, OsString)],
    context: &CallContext<'_>,
) -> Vec<(OsString, OsString)> {
    let text =
        |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    let cx = context.cx;
    let version = text(context.version.map(|v| v as _));
    let from = text(cx.and_then(|cx| cx.from_version.as_ref()).map(|v| v as _));
    let deployment =
        text(context.deployment.or(cx.map(|cx| cx.deployment)).as_ref().map(|n| n as _));
    let operation = text(cx.map(|cx| &cx.operation as _));
    let ours = [
        ("BACKOUT_APP", context.key.app.to_string()),
        ("BACKOUT_ENVIRONMENT", context.key.environment.to_string()),
        ("BACKOUT_SERVICE", context.service.to_string()),
        ("BACKOUT_VERSION", version.clone()),
        ("BACKOUT_FROM_VERSION", from.clone()),
        ("BACKOUT_RELEASE", text(context.release.map(|r| r as _))),
        ("BACKOUT_SLOT", context.slot.to_string()),
        ("BACKOUT_DEPLOYMENT", deployment.clone()),
        ("BACKOUT_OPERATION_ID", operation.clone()),
        ("BACKOUT_STEP_ID", text(cx.map(|cx| &cx.step_id as _))),
        ("BACKOUT_EPOCH", text(cx.map(|cx| &cx.epoch as _))),
        ("BACKOUT_REASON", text(cx.map(|cx| &cx.reason as _))),
        // For scripts written before Backout.
        ("DEPLOYMENT_ID", deployment),
        ("COMMIT_SHA", version),
        ("PREVIOUS_COMMIT", from),
        ("BUILD_ID", operation),
    ];
    let secrets = cx.into_iter().flat_map(|cx| cx.secrets.iter());
    let secrets =
        secrets.map(|(name, value)| (OsString::from(name), OsString::from(value.expose())));
    let ours = ours
        .into_iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value.replace('\0', ""))));
    let mut all: std::collections::BTreeMap<OsString, OsString> = caller.iter().cloned().collect();
    all.extend(secrets);
    all.extend(ours);
    all.into_iter().collect()
}

fn not_started(error: &StartError) -> AdapterError {
    let hint = match error {
        StartError::Missing(_) => "the path is relative to the folder of backout.yaml",
        StartError::NotExecutable(program) => {
            return AdapterError::permanent(error.to_string())
                .with_hint(format!("run `chmod +x {program}`"));
        }
        StartError::BadFormat(_) => "begin the script with a line such as `#!/bin/sh`",
        StartError::NoInterpreter(_) => "install the interpreter, or correct the first line",
        StartError::NoFolder(..) => "the folder of backout.yaml is gone",
        StartError::Other(..) => return AdapterError::transient(error.to_string()),
    };
    AdapterError::permanent(error.to_string()).with_hint(hint)
}

pub(super) fn answer(what: &str, finished: Finished) -> Result<Answer, AdapterError> {
    match finished.ended {
        Ended::Exited(DONE) => Ok(Answer::Done(finished)),
        Ended::Exited(UNKNOWN_VERB) => Ok(Answer::UnknownVerb),
        Ended::Exited(TRY_LATER) => Err(AdapterError::transient(format!(
            "failed to run {what}: it asks to try again later{}",
            said(&finished)
        ))),
        Ended::Exited(code) => Err(AdapterError::permanent(format!(
            "failed to run {what}: exit code {code}{}",
            said(&finished)
        ))),
        Ended::Signalled(signal) => Err(AdapterError::unknown(format!(
            "failed to learn how {what} went: signal {signal} ended it{}",
            said(&finished)
        ))),
        Ended::TimedOut => Err(AdapterError::unknown(format!(
            "failed to learn how {what} went: it was ended after {} s{}",
            finished.took.as_secs(),
            said(&finished)
        ))),
    }
}

/// Its last words, stderr before stdout.
fn said(finished: &Finished) -> String {
    let stream = if finished.stderr.total() > 0 { &finished.stderr } else { &finished.stdout };
    match stream.last_text(MESSAGE_BYTES) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    }
}
