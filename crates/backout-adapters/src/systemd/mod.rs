//! The service manager, asked over D-Bus.

mod fault;
mod job;
mod journal;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::model::SystemdBus;
use backout_core::ports::{AdapterError, Host};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use zbus::message::Message;
use zbus::{Connection, DynamicType, OwnedVariant, connection};

pub(crate) use fault::Fault;
pub(crate) use job::{Ended, Ends, Verb};
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

/// Where the system's bus listens, on every machine that has one.
const SYSTEM_SOCKET: &str = "/run/dbus/system_bus_socket";

/// Another host, and who we are there.
#[derive(Clone)]
pub(crate) struct Elsewhere {
    /// The host.
    pub host: Arc<dyn Host>,
    /// The login's user there: the bus knows who has opened its socket.
    pub user: u32,
}

impl Elsewhere {
    /// A connection to the bus over the one connection to the host.
    async fn bus(&self, bus: &SystemdBus) -> Result<connection::Builder<'static>, Fault> {
        let socket = match bus {
            SystemdBus::System => SYSTEM_SOCKET.to_owned(),
            SystemdBus::User => format!("/run/user/{}/bus", self.user),
            SystemdBus::Address(address) => {
                let path = address.strip_prefix("unix:path=").unwrap_or_default();
                path.to_owned()
            }
        };
        let here = self.host.forward_socket(&socket).await;
        let here = here.map_err(|error| Fault::Away(error.message))?;
        let name = self.host.name();
        let lost = |error: std::io::Error| Fault::Away(format!("`{socket}` of {name}: {error}"));
        let stream = UnixStream::connect(&here).await.map_err(lost)?;
        let stream = stream.into_std().map_err(lost)?;
        Ok(connection::Builder::unix_stream(stream).user_id(self.user))
    }
}

/// The service manager of the system, or of a user.
pub struct Manager {
    bus: SystemdBus,
    /// Where it is, if on another host.
    there: Option<Elsewhere>,
    connection: Mutex<Option<Connection>>,
}

impl Manager {
    /// Connects with the first question.
    #[must_use]
    pub fn new(bus: SystemdBus) -> Self {
        Self { bus, there: None, connection: Mutex::new(None) }
    }

    /// The same of another host.
    pub(crate) fn of_host(there: Elsewhere, bus: SystemdBus) -> Self {
        Self { there: Some(there), ..Self::new(bus) }
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
        let builder = match (&self.there, &self.bus) {
            (Some(there), bus) => there.bus(bus).await?,
            (None, SystemdBus::System) => connection::Builder::system(),
            (None, SystemdBus::User) => connection::Builder::session(),
            (None, SystemdBus::Address(address)) => connection::Builder::address(address.as_str()),
        };
        // Another host first opens a channel, and its machine may have much to do.
        let limit = if self.there.is_some() { ANSWER } else { CONNECT };
        let connection = tokio::time::timeout(limit, builder.build())
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

    /// Asks for what may be asked twice, again where there is no answer.
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
        patiently(patience, || self.call(path, interface, method, body)).await
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
        // One question, as `systemctl show` puts it: asked for by its path a unit is loaded, and no interface is all.
        let answer = self.look(&path_of(unit), PROPERTIES, "GetAll", &("",), patience).await?;
        let body = answer.body();
        let known: state::Properties = body.deserialize().map_err(Fault::of)?;
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
        self.at_host(fault.while_looking(doing, &self.bus))
    }

    /// The same where something was to be changed.
    pub(crate) fn unsure(&self, doing: &str, fault: &Fault) -> AdapterError {
        self.at_host(fault.while_changing(doing, &self.bus))
    }

    /// What to do about it on another host.
    fn at_host(&self, error: AdapterError) -> AdapterError {
        let Some(there) = &self.there else { return error };
        let (name, user) = (there.host.name(), there.user);
        let hint = match &self.bus {
            _ if error.hint.as_deref() == Some(fault::DENIED_HINT) => format!(
                "log in as root, or let polkit there allow org.freedesktop.systemd1.manage-units to user {user}"
            ),
            SystemdBus::User => format!(
                "the user's manager must run on {name}: `loginctl enable-linger` there; and sshd must allow AllowStreamLocalForwarding"
            ),
            _ => format!(
                "systemd and D-Bus must run on {name}, and its sshd must allow AllowStreamLocalForwarding"
            ),
        };
        if error.hint.is_some() { error.with_hint(hint) } else { error }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.there.as_ref().map(|there| there.host.name());
        f.debug_struct("Manager")
            .field("bus", &self.bus)
            .field("host", &host)
            .finish_non_exhaustive()
    }
}

/// Does it again while the manager is away, or was lost in the middle: only what is the same twice as once.
async fn patiently<T, F>(patience: Duration, attempt: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let end = Instant::now() + patience;
    // A connection that was lost since the last question is no failure of this one.
    let mut again = true;
    loop {
        match attempt().await {
            Err(Fault::Lost(_) | Fault::Away(_)) if again || Instant::now() < end => {
                if !again {
                    tokio::time::sleep(POLL).await;
                }
                again = false;
            }
            outcome => return outcome,
        }
    }
}

/// The path of a unit on the bus: what is neither letter nor digit stands there as its number.
fn path_of(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(byte)),
            b'0'..=b'9' if at > 0 => path.push(char::from(byte)),
            other => path.push_str(&format!("_{other:02x}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_path_on_the_bus() {
        let root = "/org/freedesktop/systemd1/unit/";
        for (unit, path) in
            [("shop@a.service", "shop_40a_2eservice"), ("9-x_y.service", "_39_2dx_5fy_2eservice")]
        {
            assert_eq!(path_of(unit), format!("{root}{path}"));
        }
    }
}
