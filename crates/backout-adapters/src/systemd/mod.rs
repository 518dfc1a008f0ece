//! The service manager, asked over D-Bus.

mod fault;
mod job;
mod journal;
mod state;

use std::time::{Duration, Instant};

use backout_core::model::SystemdBus;
use backout_core::ports::AdapterError;
use tokio::sync::Mutex;
use zbus::message::Message;
use zbus::{Connection, DynamicType, OwnedObjectPath, OwnedVariant, connection};

pub(crate) use fault::Fault;
pub(crate) use job::{Ended, Verb};
pub(crate) use journal::Journal;
pub(crate) use state::UnitState;

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// To be connected.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer: while it reads its files again the manager answers nobody.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a manager that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// The service manager of the system, or of a user.
#[derive(Debug)]
pub struct Manager {
    bus: SystemdBus,
    connection: Mutex<Option<Connection>>,
}

impl Manager {
    /// Connects with the first question.
    #[must_use]
    pub fn new(bus: SystemdBus) -> Self {
        Self { bus, connection: Mutex::new(None) }
    }

    /// Which manager it is.
    #[must_use]
    pub fn bus(&self) -> &SystemdBus {
        &self.bus
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref() {
            return Ok(connection.clone());
        }
        let builder = match &self.bus {
            SystemdBus::System => connection::Builder::system(),
            SystemdBus::User => connection::Builder::session(),
            SystemdBus::Address(address) => connection::Builder::address(address.as_str()),
        };
        let connection = tokio::time::timeout(CONNECT, builder.build())
            .await
            .map_err(|_| Fault::Away("nobody answers on the bus".to_owned()))?
            .map_err(|error| Fault::Away(error.to_string()))?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// The next question opens a new connection.
    async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// Asks once.
    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, Fault>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let connection = self.connect().await?;
        let asked = connection.call_method(Some(NAME), path, Some(interface), method, body);
        let answer = match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(Fault::of),
            Err(_) => Err(Fault::Lost(format!("no answer in {} s", ANSWER.as_secs()))),
        };
        if matches!(answer, Err(Fault::Lost(_) | Fault::Away(_))) {
            self.disconnect().await;
        }
        answer
    }

    /// Asks for something that changes nothing, again where there is no answer.
    async fn look<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
        patience: Duration,
    ) -> Result<Message, Fault>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let end = Instant::now() + patience;
        // A connection that was lost since the last question is no failure of this one.
        let mut again = true;
        loop {
            match self.call(path, interface, method, body).await {
                Err(Fault::Lost(_) | Fault::Away(_)) if again || Instant::now() < end => {
                    if !again {
                        tokio::time::sleep(POLL).await;
                    }
                    again = false;
                }
                answer => return answer,
            }
        }
    }

    /// What is known of a unit, loaded or not.
    pub(crate) async fn state(&self, unit: &str) -> Result<UnitState, Fault> {
        self.state_within(unit, Duration::ZERO).await
    }

    /// The same of a manager that may be busy with itself for a while.
    pub(crate) async fn state_patiently(&self, unit: &str) -> Result<UnitState, Fault> {
        self.state_within(unit, PATIENCE).await
    }

    async fn state_within(&self, unit: &str, patience: Duration) -> Result<UnitState, Fault> {
        let loaded = self.look(PATH, MANAGER, "LoadUnit", &(unit,), patience).await?;
        let path: OwnedObjectPath = loaded.body().deserialize().map_err(Fault::of)?;
        let mut known = state::Properties::new();
        for interface in ["org.freedesktop.systemd1.Unit", "org.freedesktop.systemd1.Service"] {
            let answer =
                self.look(path.as_str(), PROPERTIES, "GetAll", &(interface,), patience).await?;
            let body = answer.body();
            let more: state::Properties = body.deserialize().map_err(Fault::of)?;
            known.extend(more);
        }
        Ok(UnitState::read(unit, &known))
    }

    /// Version of the manager.
    pub(crate) async fn version(&self) -> Result<String, Fault> {
        let asked = (MANAGER, "Version");
        let answer = self.look(PATH, PROPERTIES, "Get", &asked, Duration::ZERO).await?;
        let body = answer.body();
        let value: OwnedVariant = body.deserialize().map_err(Fault::of)?;
        Ok(state::text(&value).unwrap_or_default())
    }

    /// Has all unit files read again.
    pub(crate) async fn reload(&self) -> Result<(), Fault> {
        // Twice is once.
        self.look(PATH, MANAGER, "Reload", &(), PATIENCE).await.map(drop)
    }

    /// Forgets failures, restarts and how often the unit was started lately.
    pub(crate) async fn forget_failures(&self, unit: &str) -> Result<(), Fault> {
        match self.look(PATH, MANAGER, "ResetFailedUnit", &(unit,), PATIENCE).await {
            Ok(_) => Ok(()),
            // Nothing to forget.
            Err(Fault::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Sends a signal to all processes of a unit.
    pub(crate) async fn kill(&self, unit: &str, signal: i32) -> Result<(), Fault> {
        match self.call(PATH, MANAGER, "KillUnit", &(unit, "all", signal)).await {
            Ok(_) => Ok(()),
            Err(Fault::Refused { name, .. })
                if name.ends_with(".NoSuchUnit") || name.ends_with(".NoSuchProcess") =>
            {
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// A fault as an adapter's error, where nothing was changed.
    pub(crate) fn unreachable(&self, doing: &str, fault: &Fault) -> AdapterError {
        fault.while_looking(doing, &self.bus)
    }
}
