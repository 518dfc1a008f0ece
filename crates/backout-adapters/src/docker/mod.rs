//! The `docker` command: the one way by which anything here talks to an engine.
//!
//! Inspection goes through the command too, not through a client of the engine's socket: whatever context, host,
//! TLS or credentials the caller has set up hold for compose and for us alike, so that what is looked at can't be
//! another engine than the one that is changed.

mod container;
mod remote;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::ports::{AdapterError, Host, StepCx};

pub(crate) use container::Container;
#[cfg(test)]
pub(crate) use container::read;
use remote::{Fence, Remote};

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
    /// The engine is on another host.
    remote: Option<Arc<Remote>>,
    fence: Option<Arc<Fence>>,
}

/// A call whose process is noted while it runs, so that a later process can end what a killed one left.
pub(crate) struct Call {
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub stdin: Option<Vec<u8>>,
    pub timeout: Duration,
    /// Nobody needs to know whether it was done: it only looks, or may be done again at will.
    pub harmless: bool,
}

impl Call {
    /// A call that changes what runs.
    pub(crate) fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: None,
            timeout: LOOK,
            harmless: false,
        }
    }

    /// A call that only looks, or may be done again at will.
    pub(crate) fn look<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self { harmless: true, ..Self::new(args) }
    }

    pub(crate) fn words(&self) -> String {
        let words: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("docker {}", words.join(" "))
    }

    /// The first words, without what a path or a name of a project would add.
    fn verb(&self) -> String {
        let word = |arg: &OsString| arg.to_string_lossy().into_owned();
        let of_compose = ["up", "config", "version"];
        let first = self.args.first().map(word).unwrap_or_default();
        let second = self.args.iter().map(word).find(|arg| of_compose.contains(&arg.as_str()));
        match second.filter(|_| first == "compose") {
            Some(second) => format!("docker compose {second}"),
            None => format!("docker {first}"),
        }
    }
}

impl Docker {
    /// The engine that the caller's variables choose; commands run in `folder`.
    #[must_use]
    pub fn new(env: impl IntoIterator<Item = (OsString, OsString)>, folder: PathBuf) -> Self {
        let env = env.into_iter().filter(|(name, _)| KEPT.iter().any(|kept| name == kept));
        Self { env: env.collect(), folder, remote: None, fence: None }
    }

    /// The same command for the engine of another host, which listens at `socket` there: absolute, below the home folder
    /// of the login, or by default where engines do.
    #[must_use]
    pub fn on(&self, host: Arc<dyn Host>, socket: Option<String>) -> Self {
        let remote = Some(Arc::new(Remote::new(host, socket)));
        Self { remote, ..self.clone() }
    }

    /// The same for one step: on another host no call that changes something is made any more once somebody with a newer
    /// lease has worked there.
    pub(crate) fn for_step(&self, unit: &Unit, cx: &StepCx) -> Self {
        Self { fence: Some(Arc::new(Fence::of(unit, cx))), ..self.clone() }
    }

    /// The host of the engine; `None`: whatever the caller's variables choose.
    pub(crate) fn host(&self) -> Option<&Arc<dyn Host>> {
        self.remote.as_ref().map(|remote| &remote.host)
    }

    /// Whether the host can be reached, and has a socket of an engine.
    pub(crate) async fn reach(&self) -> Result<(), AdapterError> {
        match &self.remote {
            Some(remote) => remote.socket().await.map(drop),
            None => Ok(()),
        }
    }

    /// ` on HOST` where that is another one, for sentences.
    pub(crate) fn on_host(&self) -> String {
        self.host().map(|host| format!(" on {}", host.name())).unwrap_or_default()
    }

    /// The machine in words.
    pub(crate) fn machine(&self) -> String {
        self.host().map_or_else(|| "this machine".to_owned(), |host| host.name().to_string())
    }

    /// What can be done about an engine that does not answer.
    pub(crate) fn no_engine_hint(&self) -> String {
        match self.host() {
            None => "start the Docker daemon, or correct DOCKER_HOST".to_owned(),
            Some(host) => format!(
                "is the Docker daemon running on {}, and does its sshd permit forwarding \
                 (AllowStreamLocalForwarding, DisableForwarding, no-port-forwarding)?",
                host.name()
            ),
        }
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
        let Some(remote) = &self.remote else {
            return self.start(call, self.env.clone(), started).await;
        };
        let (harmless, words) = (call.harmless, call.verb());
        if let Some(fence) = self.fence.as_ref().filter(|_| !harmless) {
            remote.require(fence).await?;
        }
        let socket = remote.socket().await?;
        let finished = self.start(call, Remote::env(&self.env, &socket), started).await?;
        if finished.ended == Ended::Exited(0) {
            return Ok(finished);
        }
        let host = remote.host.name();
        match remote.held(&socket).await {
            Ok(()) => Ok(finished),
            Err(why) if harmless => {
                Err(AdapterError::transient(format!("failed to run `{words}` on {host}: {why}")))
            }
            Err(why) => Err(AdapterError::unknown(format!(
                "failed to learn how `{words}` went on {host}: {why}"
            ))),
        }
    }

    /// Runs a call that asks no engine.
    pub(crate) async fn run_here(&self, call: Call) -> Result<Finished, AdapterError> {
        self.start(call, self.env.clone(), |_| ()).await
    }

    async fn start(
        &self,
        call: Call,
        mut env: Vec<(OsString, OsString)>,
        started: impl FnOnce(u32),
    ) -> Result<Finished, AdapterError> {
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
        let call = Call::look(args);
        let words = call.words();
        let finished = self.run(call).await?;
        match finished.ended {
            Ended::Exited(0) if !finished.stdout.is_cut() => Ok(finished.stdout.bytes()),
            Ended::Exited(0) => Err(AdapterError::permanent(format!(
                "failed to read `{words}`: it printed more than {} MiB",
                KEEP_BYTES >> 19
            ))),
            _ => Err(self.failed_look(&words, &finished)),
        }
    }

    /// Waits for an engine that does not answer, as while it is started again.
    ///
    /// # Errors
    /// Transient when it does not answer in time.
    pub(crate) async fn await_engine(&self, patience: Duration) -> Result<(), AdapterError> {
        self.look_patiently(&["version", "--format", "{{.Server.Version}}"], patience).await?;
        Ok(())
    }

    async fn look_patiently(
        &self,
        args: &[&str],
        patience: Duration,
    ) -> Result<Vec<u8>, AdapterError> {
        let end = Instant::now() + patience;
        loop {
            match self.look(args.iter().copied()).await {
                Err(error) if is_no_engine(&error.message) && Instant::now() < end => {
                    tokio::time::sleep(POLL).await;
                }
                other => return other,
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
        self.inspect(&listed.split_whitespace().collect::<Vec<_>>()).await
    }

    /// For each set of labels (`name=value`) the containers that have all of them, in any state. Each call takes its
    /// time, so the engine is asked once which there are, and once for these. Waits for an engine that does not answer.
    pub(crate) async fn containers_with<const N: usize>(
        &self,
        sets: [&[String]; N],
        patience: Duration,
    ) -> Result<[Vec<Container>; N], AdapterError> {
        let labels: Vec<(&str, &str)> =
            sets.iter().copied().flatten().filter_map(|label| label.split_once('=')).collect();
        let columns = labels.iter().map(|(name, _)| format!("\t{{{{.Label \"{name}\"}}}}"));
        let format = format!("{{{{.ID}}}}{}", columns.collect::<String>());
        let args = ["ps", "--all", "--no-trunc", "--format", &format];
        let listed = self.look_patiently(&args, patience).await?;
        let listed = String::from_utf8_lossy(&listed);
        let is_wanted = |values: &[&str]| {
            let mut next = 0;
            sets.iter().any(|set| {
                let from = next;
                next += set.len();
                (from..next).all(|at| values.get(at) == Some(&labels[at].1))
            })
        };
        let ids = listed.lines().filter_map(|line| {
            let (id, values) = line.split_once('\t')?;
            is_wanted(&values.split('\t').collect::<Vec<_>>()).then_some(id)
        });
        let all = self.inspect(&ids.collect::<Vec<_>>()).await?;
        Ok(sets.map(|set| {
            let has = |c: &Container, label: &String| {
                label.split_once('=').is_some_and(|(name, value)| c.label(name) == Some(value))
            };
            all.iter().filter(|c| set.iter().all(|label| has(c, label))).cloned().collect()
        }))
    }

    async fn inspect(&self, ids: &[&str]) -> Result<Vec<Container>, AdapterError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call::look(["inspect", "--type", "container"].iter().chain(ids));
        let words = "docker inspect".to_owned();
        let finished = self.run(call).await?;
        // One that went away between the two calls is named on stderr; the others are printed all the same.
        let said = finished.stderr.last_text(MESSAGE_BYTES);
        if finished.ended != Ended::Exited(0) && !said.contains("No such container") {
            return Err(self.failed_look(&words, &finished));
        }
        container::read(&finished.stdout.bytes())
    }

    /// The image's id that a reference names here; `None` if there is no such image.
    pub(crate) async fn image_id(&self, reference: &str) -> Result<Option<String>, AdapterError> {
        Ok(self.image(reference).await?.map(|image| image.id))
    }

    pub(crate) async fn image(&self, reference: &str) -> Result<Option<Image>, AdapterError> {
        let call = Call::look(["image", "inspect", reference]);
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
        Err(self.failed_look(&words, &finished))
    }

    fn failed_look(&self, words: &str, finished: &Finished) -> AdapterError {
        let (said, on) = (said(finished), self.on_host());
        let how = match finished.ended {
            Ended::Exited(_) => String::new(),
            Ended::Signalled(signal) => format!(" (signal {signal} ended it)"),
            Ended::TimedOut => format!(" (it was ended after {} s)", finished.took.as_secs()),
        };
        let error = AdapterError::transient(format!("failed to run `{words}`{on}{how}: {said}"));
        if is_no_engine(&said) {
            return error.with_hint(self.no_engine_hint());
        }
        if said.contains("permission denied") {
            return error.with_hint("run as root, or as a member of the group docker");
        }
        error
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

/// How we say it ourselves.
const NOT_RUNNING: &str = "it does not seem to run";

/// The engine itself could not be reached, so nothing was changed by this call after it began to say so.
pub(crate) fn is_no_engine(said: &str) -> bool {
    [
        "Cannot connect to the Docker daemon",
        "failed to connect to the docker API",
        "error during connect",
        "docker daemon is not running",
        NOT_RUNNING,
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// The last words of a call that failed.
pub(crate) fn said(finished: &Finished) -> String {
    let stream = if finished.stderr.total() > 0 { &finished.stderr } else { &finished.stdout };
    stream.last_text(MESSAGE_BYTES)
}
