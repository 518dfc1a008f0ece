//! A host in memory that is stricter than the real ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backout_core::ids::{HostName, ServiceName, Unit};
use backout_core::ports::{
    AdapterError, GuardState, Host, HostChange, HostCommand, HostEnded, HostGuard, HostOutput,
    HostWords,
};
use tokio::sync::watch;

use crate::faults::FaultPlan;

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    epoch: u64,
    /// By service: the step at work, and how to end it.
    at_work: BTreeMap<ServiceName, (String, watch::Sender<bool>)>,
    guards: BTreeMap<ServiceName, HostGuard>,
    /// What changing calls have written.
    said: BTreeMap<ServiceName, Vec<u8>>,
    commands: Vec<Vec<String>>,
}

/// Knows the programs `say`, `exit`, `copy`, `variable` and `wait` of the suite, and keeps a book of all calls.
///
/// A change without a step, with an empty command or for a unit of another host is refused as permanent. Faults are named
/// `run`, `read`, `write`, `exists`, `forward_socket`, `last_words` and `confirm`. A forwarded socket is the path itself.
#[derive(Clone)]
pub struct FakeHost {
    name: HostName,
    state: Arc<Mutex<State>>,
    faults: FaultPlan,
}

impl FakeHost {
    /// An empty host.
    #[must_use]
    pub fn new(name: HostName) -> Self {
        Self { name, state: Arc::default(), faults: FaultPlan::new() }
    }

    /// The planned faults.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// All commands that were asked for, in order.
    #[must_use]
    pub fn commands(&self) -> Vec<Vec<String>> {
        self.state().commands.clone()
    }

    /// The guarded change of a service is taken back, as it is when no confirmation comes.
    pub fn take_back(&self, service: &ServiceName, at: jiff::Timestamp) {
        if let Some(guard) = self.state().guards.get_mut(service)
            && guard.state == GuardState::Armed
        {
            guard.state = GuardState::Reverted(at);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn program(&self, command: &HostCommand) -> Result<(i32, Vec<u8>), AdapterError> {
        let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let said =
            |words: &[&str]| words.iter().map(|word| format!("{word}\0")).collect::<String>();
        Ok(match words[..] {
            ["say", ref words @ ..] => (0, said(words).into_bytes()),
            ["exit", code] => (code.parse().unwrap_or(1), Vec::new()),
            ["copy"] => (0, command.stdin.clone().unwrap_or_default()),
            ["variable", name] => {
                let value = command.env.get(name).map(|value| value.expose()).unwrap_or_default();
                (0, said(&[value]).into_bytes())
            }
            ["wait", file, until] => {
                self.add(file, "begin\n");
                while !self.state().files.contains_key(until) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                self.add(file, "end\n");
                (0, Vec::new())
            }
            ref words => {
                let message = format!("failed to start `{}`: no such program", words.join(" "));
                return Err(AdapterError::permanent(message));
            }
        })
    }

    fn add(&self, file: &str, line: &str) {
        self.state().files.entry(file.to_owned()).or_default().extend_from_slice(line.as_bytes());
    }

    /// Ends another change of the service; its own place there, until the end.
    fn begin(&self, change: &HostChange) -> Result<Place, AdapterError> {
        if change.step.is_empty() || change.unit.host != self.name {
            let message = format!("failed by the rules of the fake: {change:?}");
            return Err(AdapterError::permanent(message));
        }
        let mut state = self.state();
        if change.epoch < state.epoch {
            let message =
                format!("failed here: somebody with a newer lease (epoch {}) works", state.epoch);
            return Err(AdapterError::permanent(message));
        }
        state.epoch = change.epoch;
        let (sender, ended) = watch::channel(false);
        let service = change.unit.service.clone();
        if let Some((_, other)) =
            state.at_work.insert(service.clone(), (change.step.clone(), sender))
        {
            let _ = other.send(true);
        }
        state.guards.remove(&service);
        if let Some(revert) = &change.revert {
            let guard = HostGuard { deployment: revert.deployment, state: GuardState::Armed };
            state.guards.insert(service.clone(), guard);
        }
        Ok(Place { host: self.clone(), service, step: change.step.clone(), ended })
    }
}

/// A change at work.
struct Place {
    host: FakeHost,
    service: ServiceName,
    step: String,
    ended: watch::Receiver<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if *self.ended.borrow() {
            return;
        }
        let mut state = self.host.state();
        if state.at_work.get(&self.service).is_some_and(|(step, _)| *step == self.step) {
            state.at_work.remove(&self.service);
        }
    }
}

fn output(code: i32, stdout: Vec<u8>, keep: usize, began: Instant) -> HostOutput {
    let cut = stdout.len() > keep * 2;
    let stdout = if cut {
        let tail = stdout.len() - keep;
        [&stdout[..keep], b"\n[cut]\n", &stdout[tail..]].concat()
    } else {
        stdout
    };
    let ended = HostEnded::Exited(code);
    HostOutput { ended, stdout, stderr: Vec::new(), cut, took: began.elapsed() }
}

#[async_trait]
impl Host for FakeHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutput, AdapterError> {
        let began = Instant::now();
        self.state().commands.push(command.argv.clone());
        if let Some(fault) = self.faults.next("run", true) {
            if fault.has_effect() {
                self.program(command).await?;
            }
            return Err(fault.answer("run").await);
        }
        if command.argv.is_empty() || command.folder.as_ref().is_some_and(|it| it.contains("no/")) {
            return Err(AdapterError::permanent("failed to start: no such program or folder"));
        }
        let place = command.change.as_ref().map(|change| self.begin(change)).transpose()?;
        let ended = async {
            match &place {
                Some(place) => {
                    let _ = place.ended.clone().wait_for(|ended| *ended).await;
                }
                None => std::future::pending().await,
            }
        };
        let ran = tokio::select! {
            ran = self.program(command) => ran?,
            () = ended => {
                return Err(AdapterError::unknown("failed to learn how it went: it was ended"));
            }
            () = tokio::time::sleep(command.timeout) => {
                let ended = HostEnded::TimedOut;
                return Ok(HostOutput { ended, ..output(0, Vec::new(), 1, began) });
            }
        };
        if let Some(change) = &command.change {
            let service = change.unit.service.clone();
            self.state().said.entry(service).or_default().extend_from_slice(&ran.1);
        }
        Ok(output(ran.0, ran.1, command.keep, began))
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, AdapterError> {
        if let Some(fault) = self.faults.next("read", false) {
            return Err(fault.answer("read").await);
        }
        let bytes = self.state().files.get(path).cloned();
        match bytes {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(AdapterError::permanent(format!("failed to read `{path}`: it is too long")))
            }
            bytes => Ok(bytes),
        }
    }

    async fn write_atomic(&self, path: &str, bytes: &[u8], _mode: u32) -> Result<(), AdapterError> {
        if self.state().files.keys().any(|file| file.starts_with(&format!("{path}/"))) {
            return Err(AdapterError::permanent(format!("failed to write `{path}`: a folder")));
        }
        let fault = self.faults.next("write", true);
        if fault.as_ref().is_none_or(|fault| fault.has_effect()) {
            self.state().files.insert(path.to_owned(), bytes.to_vec());
        }
        match fault {
            Some(fault) => Err(fault.answer("write").await),
            None => Ok(()),
        }
    }

    async fn exists(&self, path: &str) -> Result<bool, AdapterError> {
        if let Some(fault) = self.faults.next("exists", false) {
            return Err(fault.answer("exists").await);
        }
        let folder = format!("{path}/");
        Ok(self.state().files.keys().any(|file| file == path || file.starts_with(&folder)))
    }

    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, AdapterError> {
        if let Some(fault) = self.faults.next("forward_socket", false) {
            return Err(fault.answer("forward_socket").await);
        }
        if !remote.starts_with('/') {
            let message = format!("failed to use the socket `{remote}`: not an absolute path");
            return Err(AdapterError::permanent(message));
        }
        Ok(PathBuf::from(remote))
    }

    async fn is_at_work(&self, unit: &Unit) -> Result<bool, AdapterError> {
        Ok(self.state().at_work.contains_key(&unit.service))
    }

    async fn last_words(&self, unit: &Unit, limit: usize) -> Result<HostWords, AdapterError> {
        if let Some(fault) = self.faults.next("last_words", false) {
            return Err(fault.answer("last_words").await);
        }
        let said = self.state().said.get(&unit.service).cloned().unwrap_or_default();
        let stdout = said[said.len().saturating_sub(limit)..].to_vec();
        Ok(HostWords { stdout, ..HostWords::default() })
    }

    async fn guard(&self, unit: &Unit) -> Result<Option<HostGuard>, AdapterError> {
        Ok(self.state().guards.get(&unit.service).cloned())
    }

    async fn confirm(
        &self,
        unit: &Unit,
        deployment: u64,
    ) -> Result<Option<HostGuard>, AdapterError> {
        let fault = self.faults.next("confirm", true);
        if fault.as_ref().is_none_or(|fault| fault.has_effect()) {
            let mut state = self.state();
            let guard = state.guards.get_mut(&unit.service);
            if let Some(guard) = guard.filter(|guard| guard.deployment == deployment) {
                if let GuardState::Reverted(at) = guard.state {
                    return Err(AdapterError::permanent(format!(
                        "failed to confirm {unit}: {} took it back at {at}",
                        self.name
                    )));
                }
                guard.state = GuardState::Confirmed;
            }
        }
        if let Some(fault) = fault {
            return Err(fault.answer("confirm").await);
        }
        self.guard(unit).await
    }

    async fn close(&self) {}
}
