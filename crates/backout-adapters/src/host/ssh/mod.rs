//! Another machine, through the user's own `ssh`: its configuration, its agent, its known hosts.

mod answer;
mod channel;
mod failure;
mod folder;
mod link;
mod open;
mod request;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backout_core::ids::{HostName, Unit};
use backout_core::ports::{
    AdapterError, GuardState, Host, HostCommand, HostGuard, HostOutput, HostWords,
};
use tokio::sync::{Mutex, Semaphore, oneshot};

pub(crate) use answer::is_fenced;
use answer::{Effect, guard_of, output_of, refusal};
use channel::{Answer, Failed, exchange, words};
use link::Link;
pub use open::close_connections;
use request::Request;

use crate::host::local::absolute_socket;

/// Most servers allow ten sessions over a connection; one is the connection's own, and some may have ended only here.
const CHANNELS: usize = 6;
/// Questions and files are quick.
const LOOK: Duration = Duration::from_secs(60);
/// Beyond its own limit a command gets this long until its answer must be here.
const MARGIN: Duration = Duration::from_secs(30);
/// Beyond what was asked for: first lines and notes.
const ROOM: usize = 4 << 10;

/// How a host is reached.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The name that ssh is given.
    pub name: HostName,
    /// An ssh_config file in place of the user's own.
    pub config: Option<PathBuf>,
    /// The folder on the host; empty: the home folder of the login.
    pub folder: String,
    /// Until it counts as unreachable.
    pub connect_timeout: Duration,
    /// So often a silent link is asked whether it is still there.
    pub alive_interval: Duration,
    /// After so many questions without an answer it is gone.
    pub alive_count: u32,
}

impl SshOptions {
    /// With what the user has configured.
    #[must_use]
    pub fn new(name: HostName) -> Self {
        Self {
            name,
            config: None,
            folder: String::new(),
            connect_timeout: Duration::from_secs(10),
            alive_interval: Duration::from_secs(5),
            alive_count: 3,
        }
    }
}

/// A host that is reached by ssh.
pub struct SshHost {
    options: SshOptions,
    link: Mutex<Connection>,
    channels: Semaphore,
}

#[derive(Default)]
struct Connection {
    link: Option<Arc<Link>>,
    /// Those who waited for an attempt that failed do not make another one.
    failed: Option<(Instant, AdapterError)>,
}

impl SshHost {
    /// Connects when it is first needed.
    #[must_use]
    pub fn new(options: SshOptions) -> Self {
        Self { options, link: Mutex::default(), channels: Semaphore::new(CHANNELS) }
    }

    async fn link(&self) -> Result<Arc<Link>, AdapterError> {
        let asked = Instant::now();
        let mut connection = self.link.lock().await;
        if let Some(link) = connection.link.as_ref().filter(|link| !link.is_dead()) {
            return Ok(link.clone());
        }
        if let Some((_, error)) = connection.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        connection.link = None;
        match Link::connect(&self.options).await {
            Ok(link) => {
                let link = Arc::new(link);
                open::remember(&link);
                connection.link = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                connection.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// One request, answered. A connection that turns out to be gone before anything was sent is made again once.
    async fn ask(
        &self,
        request: Result<Request, AdapterError>,
        keep: usize,
        limit: Duration,
        effect: Effect,
    ) -> Result<(Answer, Request), AdapterError> {
        let request = request?;
        let name = &self.options.name;
        let closed = || AdapterError::transient(format!("failed to reach {name}: it was closed"));
        let _channel = self.channels.acquire().await.map_err(|_| closed())?;
        let (mut again, mut refusals) = (true, 0);
        loop {
            let link = self.link().await?;
            let (_wanted, cancelled) = oneshot::channel();
            // Whoever waits may go away; then the call is still to be told so.
            let call = exchange(link.clone(), request.clone(), keep + ROOM, limit, cancelled);
            let answered = tokio::spawn(call).await;
            let answered = answered.unwrap_or_else(|e| Err(Failed::Lost(e.to_string())));
            match answered {
                Ok(answer) => {
                    if let Some(error) = refusal(name, &answer) {
                        return Err(error);
                    }
                    return Ok((answer, request));
                }
                // A session that has just ended here may still count there.
                Err(Failed::NotBegun(why)) if is_full(&why) && refusals < REFUSALS => {
                    refusals += 1;
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                Err(Failed::NotBegun(_)) if again && link.ended_within(SETTLE).await => {
                    again = false;
                }
                Err(Failed::NotBegun(why)) => {
                    return Err(AdapterError::transient(format!("failed to use {name}: {why}"))
                        .with_hint(
                            "does its sshd allow at least 10 sessions over a connection (MaxSessions)?",
                        ));
                }
                Err(Failed::Lost(why)) => return Err(effect.lost(name, &why)),
            }
        }
    }

    async fn about(
        &self,
        verb: &str,
        unit: &Unit,
        deployment: u64,
        effect: Effect,
    ) -> Result<Answer, AdapterError> {
        let request = Request::about(verb, unit, deployment);
        self.ask(request, ROOM, LOOK, effect).await.map(|(answer, _)| answer)
    }
}

/// What ssh says when a server allows no more sessions.
fn is_full(why: &str) -> bool {
    why.contains("Session open refused")
}

const REFUSALS: u32 = 50;
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// The end of a process is seen a moment after the end of its sockets.
const SETTLE: Duration = Duration::from_secs(2);

#[async_trait]
impl Host for SshHost {
    fn name(&self) -> &HostName {
        &self.options.name
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutput, AdapterError> {
        let home = &self.options.folder;
        let limit = command.timeout.saturating_add(MARGIN);
        match &command.change {
            None => {
                let request = Request::look(home, command);
                let (answer, _) = self.ask(request, command.keep, limit, Effect::None).await?;
                Ok(answer::looked(&answer, command.timeout))
            }
            Some(change) => {
                let request = Request::change(home, command, change);
                // Both ends of both streams come in one.
                let keep = command.keep.saturating_mul(4);
                let (answer, _) = self.ask(request, keep, limit, Effect::Maybe).await?;
                output_of(&self.options.name, &answer, command)
            }
        }
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, AdapterError> {
        let request = Request::read(&self.options.folder, path, limit);
        let keep = usize::try_from(limit).unwrap_or(usize::MAX - ROOM).min(1 << 30);
        let (answer, _) = self.ask(request, keep, LOOK, Effect::None).await?;
        answer::file_of(&self.options.name, path, &answer)
    }

    async fn write_atomic(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), AdapterError> {
        let request = Request::write(&self.options.folder, path, bytes, mode);
        self.ask(request, ROOM, LOOK, Effect::Maybe).await.map(drop)
    }

    async fn exists(&self, path: &str) -> Result<bool, AdapterError> {
        let request = Request::exists(&self.options.folder, path);
        let (answer, _) = self.ask(request, ROOM, LOOK, Effect::None).await?;
        Ok(answer.line == "yes")
    }

    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, AdapterError> {
        let remote = absolute_socket(remote)?;
        let mut again = true;
        loop {
            let link = self.link().await?;
            let why = match tokio::time::timeout(LOOK, link.forward(remote)).await {
                Ok(Ok(path)) => return Ok(path),
                Ok(Err(error)) => words(&error),
                Err(_) => format!("no answer within {} s", LOOK.as_secs()),
            };
            if again && link.ended_within(SETTLE).await {
                again = false;
                continue;
            }
            let name = &self.options.name;
            let message = format!("failed to forward `{remote}` of {name}: {why}");
            return Err(AdapterError::transient(message));
        }
    }

    async fn is_at_work(&self, unit: &Unit) -> Result<bool, AdapterError> {
        Ok(self.about("at_work", unit, 0, Effect::None).await?.line == "yes")
    }

    async fn last_words(&self, unit: &Unit, limit: usize) -> Result<HostWords, AdapterError> {
        let request = Request::last_words(unit, limit);
        let keep = limit.saturating_mul(3);
        let (answer, _) = self.ask(request, keep, LOOK, Effect::None).await?;
        answer::words_of(&self.options.name, &answer)
    }

    async fn guard(&self, unit: &Unit) -> Result<Option<HostGuard>, AdapterError> {
        let answer = self.about("guard", unit, 0, Effect::None).await?;
        guard_of(&self.options.name, &answer)
    }

    async fn confirm(
        &self,
        unit: &Unit,
        deployment: u64,
    ) -> Result<Option<HostGuard>, AdapterError> {
        let name = &self.options.name;
        let answer = self.about("confirm", unit, deployment, Effect::Maybe).await?;
        let guard = guard_of(name, &answer)?.filter(|guard| guard.deployment == deployment);
        let how = match guard.as_ref().map(|guard| &guard.state) {
            Some(GuardState::Reverting) => "is taking it back right now".to_owned(),
            Some(GuardState::Reverted(at)) => format!("took it back at {at}"),
            Some(GuardState::Failed(at, _)) => {
                format!("tried to take it back at {at}, and could not")
            }
            Some(GuardState::Armed | GuardState::Lost | GuardState::Confirmed) | None => {
                return Ok(guard);
            }
        };
        Err(AdapterError::permanent(format!("failed to confirm {unit}: {name} {how}")).with_hint(
            "no confirmation had come in time: give `ssh.confirm` more time if the link is slow",
        ))
    }

    async fn close(&self) {
        let link = self.link.lock().await.link.take();
        if let Some(link) = link {
            link.close().await;
        }
    }
}
