//! The `docker` command: the one way by which anything here talks to an engine.
//!
//! Inspection goes through the command too, not through a client of the engine's socket: whatever context, host,
//! TLS or credentials the caller has set up hold for compose and for us alike, so that what is looked at can't be
//! another engine than the one that is changed.

mod container;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backout_core::ports::AdapterError;

pub(crate) use container::Container;

use crate::host::{self, CommandLine, Ended, Finished, Output, StartError};

/// Variables of the caller that choose the engine and the way to it. Everything else stays outside: what a compose
/// file is filled in with must be recorded with the release.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
];
/// Reading never holds anybody up for longer.
pub(crate) const LOOK: Duration = Duration::from_secs(20);
const KEEP_BYTES: usize = 8 << 20;
const MESSAGE_BYTES: usize = 700;
/// Between looks for an engine that is starting again.
const POLL: Duration = Duration::from_millis(250);

/// Runs the `docker` command.
#[derive(Debug, Clone)]
pub struct Docker {
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
}

/// A call whose process is noted while it runs, so that a later process can end what a killed one left.
pub(crate) struct Call {
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub stdin: Option<Vec<u8>>,
    pub timeout: Duration,
}

impl Call {
    pub(crate) fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: None,
            timeout: LOOK,
        }
    }

    pub(crate) fn words(&self) -> String {
        let words: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("docker {}", words.join(" "))
    }
}

impl Docker {
    /// The engine that the caller's variables choose; commands run in `folder`.
    #[must_use]
    pub fn new(env: impl IntoIterator<Item = (OsString, OsString)>, folder: PathBuf) -> Self {
        let env = env.into_iter().filter(|(name, _)| KEPT.iter().any(|kept| name == kept));
        Self { env: env.collect(), folder }
    }

    /// Runs a call to its end, whatever its exit code.
    pub(crate) async fn run(&self, call: Call) -> Result<Finished, AdapterError> {
        self.run_noting(call, |_| ()).await
    }

    pub(crate) async fn run_noting(
        &self,
        call: Call,
        started: impl FnOnce(u32),
    ) -> Result<Finished, AdapterError> {
        let mut env = self.env.clone();
        // Nothing in the output is for a terminal.
        let plain = [("COMPOSE_ANSI", "never"), ("COMPOSE_PROGRESS", "plain"), ("NO_COLOR", "1")];
        env.extend(plain.map(|(name, value)| (name.into(), value.into())));
        env.extend(call.env);
        let line = CommandLine {
            program: PathBuf::from("docker"),
            args: call.args,
            env,
            cwd: self.folder.clone(),
            stdin: call.stdin,
            timeout: call.timeout,
            end_grace: host::END_GRACE,
            keep: KEEP_BYTES,
            output: Output::Pipe,
        };
        host::run_noting(line, started).await.map_err(|error| match error {
            StartError::Missing(_) => {
                AdapterError::permanent("failed to start `docker`: no such program on PATH")
                    .with_hint("install Docker Engine and its command")
            }
            StartError::NoFolder(..) | StartError::NotExecutable(_) => {
                AdapterError::permanent(error.to_string())
            }
            _ => AdapterError::transient(error.to_string()),
        })
    }

    /// Runs a call that only looks, and wants its output.
    pub(crate) async fn look<S: Into<OsString>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, AdapterError> {
        let call = Call::new(args);
        let words = call.words();
        let finished = self.run(call).await?;
        match finished.ended {
            Ended::Exited(0) if !finished.stdout.is_cut() => Ok(finished.stdout.bytes()),
            Ended::Exited(0) => Err(AdapterError::permanent(format!(
                "failed to read `{words}`: it printed more than {} MiB",
                KEEP_BYTES >> 19
            ))),
            _ => Err(failed_look(&words, &finished)),
        }
    }

    /// Waits for an engine that does not answer, as while it is started again.
    ///
    /// # Errors
    /// Transient when it does not answer in time.
    pub(crate) async fn await_engine(&self, patience: Duration) -> Result<(), AdapterError> {
        let end = Instant::now() + patience;
        loop {
            match self.look(["version", "--format", "{{.Server.Version}}"]).await {
                Ok(_) => return Ok(()),
                Err(error) if is_no_engine(&error.message) && Instant::now() < end => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The containers with all of these labels (`name` or `name=value`), in any state.
    pub(crate) async fn containers(
        &self,
        labels: &[String],
    ) -> Result<Vec<Container>, AdapterError> {
        let mut args: Vec<String> = ["ps", "-aq", "--no-trunc"].map(str::to_owned).to_vec();
        args.extend(
            labels.iter().flat_map(|label| ["--filter".to_owned(), format!("label={label}")]),
        );
        let listed = self.look(args).await?;
        let listed = String::from_utf8_lossy(&listed);
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call::new(["inspect", "--type", "container"].iter().chain(&ids));
        let words = "docker inspect".to_owned();
        let finished = self.run(call).await?;
        // One that went away between the two calls is named on stderr; the others are printed all the same.
        let said = finished.stderr.last_text(MESSAGE_BYTES);
        if finished.ended != Ended::Exited(0) && !said.contains("No such container") {
            return Err(failed_look(&words, &finished));
        }
        container::read(&finished.stdout.bytes())
    }

    /// The image's id that a reference names here; `None` if there is no such image.
    pub(crate) async fn image_id(&self, reference: &str) -> Result<Option<String>, AdapterError> {
        Ok(self.image(reference).await?.map(|image| image.id))
    }

    pub(crate) async fn image(&self, reference: &str) -> Result<Option<Image>, AdapterError> {
        let call = Call::new(["image", "inspect", reference]);
        let words = call.words();
        let finished = self.run(call).await?;
        if finished.ended == Ended::Exited(0) {
            let images: Vec<Image> = serde_json::from_slice(&finished.stdout.bytes())
                .map_err(|e| AdapterError::permanent(format!("failed to read `{words}`: {e}")))?;
            return Ok(images.into_iter().next());
        }
        let said = finished.stderr.last_text(MESSAGE_BYTES);
        if said.contains("No such image") || said.contains("no such image") {
            return Ok(None);
        }
        Err(failed_look(&words, &finished))
    }
}

/// An image as `docker image inspect` shows it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Image {
    pub id: String,
    #[serde(default)]
    pub repo_digests: Option<Vec<String>>,
    #[serde(default)]
    pub config: Option<ImageConfig>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

/// The engine itself could not be reached, so nothing was changed by this call after it began to say so.
pub(crate) fn is_no_engine(said: &str) -> bool {
    ["Cannot connect to the Docker daemon", "error during connect", "docker daemon is not running"]
        .iter()
        .any(|words| said.contains(words))
}

/// The last words of a call that failed.
pub(crate) fn said(finished: &Finished) -> String {
    let stream = if finished.stderr.total() > 0 { &finished.stderr } else { &finished.stdout };
    stream.last_text(MESSAGE_BYTES)
}

fn failed_look(words: &str, finished: &Finished) -> AdapterError {
    let said = said(finished);
    let how = match finished.ended {
        Ended::Exited(_) => String::new(),
        Ended::Signalled(signal) => format!(" (signal {signal} ended it)"),
        Ended::TimedOut => format!(" (it was ended after {} s)", finished.took.as_secs()),
    };
    let error = AdapterError::transient(format!("failed to run `{words}`{how}: {said}"));
    if is_no_engine(&said) {
        return error.with_hint("start the Docker daemon, or correct DOCKER_HOST");
    }
    if said.contains("permission denied") {
        return error.with_hint("run as root, or as a member of the group docker");
    }
    error
}
