//! The `exec` probe.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};

use super::fill_for;
use super::tries::{sample, with_retries};
use crate::host::{CommandLine, Ended, Finished, Output, run};

/// A check changes nothing, so it need not tidy up for long.
const END_GRACE: Duration = Duration::from_millis(200);
const KEEP_BYTES: usize = 4 << 10;
const MESSAGE_BYTES: usize = 300;

/// Runs a command; exit 0 passes.
#[derive(Debug, Clone)]
pub struct ExecProbe {
    command: Vec<String>,
    folder: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl ExecProbe {
    /// A probe that runs `command` in the folder of `backout.yaml`, with the caller's environment and `BACKOUT_*`.
    #[must_use]
    pub fn new(
        command: Vec<String>,
        folder: impl Into<PathBuf>,
        env: Vec<(OsString, OsString)>,
    ) -> Self {
        Self { command, folder: folder.into(), env }
    }

    fn environment(&self, subject: &ProbeSubject) -> Vec<(OsString, OsString)> {
        let unit = &subject.unit;
        let mut all: BTreeMap<OsString, OsString> = self.env.iter().cloned().collect();
        let ours = [
            ("BACKOUT_APP", unit.key.app.to_string()),
            ("BACKOUT_ENVIRONMENT", unit.key.environment.to_string()),
            ("BACKOUT_SERVICE", unit.service.to_string()),
            ("BACKOUT_VERSION", subject.version.to_string()),
            ("BACKOUT_RELEASE", subject.release.to_string()),
            ("BACKOUT_SLOT", unit.slot.to_string()),
            ("BACKOUT_PORT", subject.address.map(|a| a.port().to_string()).unwrap_or_default()),
        ];
        all.extend(ours.map(|(name, value)| (name.into(), value.into())));
        all.into_iter().collect()
    }

    async fn attempt(
        &self,
        subject: &ProbeSubject,
        words: &[String],
        budget: Duration,
    ) -> Result<Sample, ProbeError> {
        let Some((program, args)) = words.split_first() else {
            return Err(ProbeError(format!(
                "failed to check {}: the command is empty",
                subject.unit
            )));
        };
        // A path is relative to the folder; a bare name is looked up.
        let program_path =
            if program.contains('/') { self.folder.join(program) } else { PathBuf::from(program) };
        let line = CommandLine {
            program: program_path,
            args: args.iter().map(OsString::from).collect(),
            env: self.environment(subject),
            cwd: self.folder.clone(),
            stdin: None,
            timeout: budget,
            end_grace: END_GRACE,
            keep: KEEP_BYTES,
            output: Output::Pipe,
        };
        let finished = run(line)
            .await
            .map_err(|e| ProbeError(format!("failed to check {}: {e}", subject.unit)))?;
        let outcome = match finished.ended {
            Ended::Exited(0) => SampleOutcome::Pass,
            Ended::Exited(code) => {
                SampleOutcome::Fail(format!("`{program}` exited with {code}{}", said(&finished)))
            }
            Ended::Signalled(signal) => {
                SampleOutcome::Fail(format!("signal {signal} ended `{program}`{}", said(&finished)))
            }
            Ended::TimedOut => SampleOutcome::NotReady(format!(
                "`{program}` did not end within {} ms{}",
                budget.as_millis(),
                said(&finished)
            )),
        };
        Ok(sample(outcome, finished.took))
    }
}

fn said(finished: &Finished) -> String {
    let stream = if finished.stderr.total() > 0 { &finished.stderr } else { &finished.stdout };
    match stream.last_text(MESSAGE_BYTES) {
        text if text.is_empty() => String::new(),
        text => format!(": {text}"),
    }
}

#[async_trait]
impl Probe for ExecProbe {
    fn name(&self) -> &'static str {
        "exec"
    }

    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError> {
        let words = self
            .command
            .iter()
            .map(|word| fill_for(word, subject))
            .collect::<Result<Vec<_>, _>>()?;
        with_retries(subject, |budget| self.attempt(subject, &words, budget)).await
    }
}
