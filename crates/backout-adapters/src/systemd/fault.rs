//! What may go wrong between us and the manager.

use backout_core::model::SystemdBus;
use backout_core::ports::AdapterError;
use zbus::DBusError as _;

/// Why there is no good answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nobody was reached: nothing was asked.
    Away(String),
    /// It was asked, and then nothing was heard any more: it may have been done.
    Lost(String),
    /// It said no.
    Refused {
        /// Name of the error.
        name: String,
        /// In words.
        message: String,
    },
}

/// Errors of the bus itself that say that the manager is not there now.
const AWAY: [&str; 5] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
    "org.freedesktop.systemd1.ShuttingDown",
];
/// Errors of the bus that leave open whether the manager has heard.
const LOST: [&str; 3] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",
];
const DENIED: [&str; 3] = [
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.DBus.Error.AuthFailed",
];

impl Fault {
    pub(crate) fn of(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Self::named(name.to_string(), message.unwrap_or_default())
            }
            zbus::Error::FDO(error) => match *error {
                zbus::fdo::Error::ZBus(error) => Self::of(error),
                error => Self::named(
                    error.name().to_string(),
                    error.description().unwrap_or_default().to_owned(),
                ),
            },
            error => Fault::Lost(error.to_string()),
        }
    }

    fn named(name: String, message: String) -> Self {
        match name.as_str() {
            away if AWAY.contains(&away) => Fault::Away(message),
            lost if LOST.contains(&lost) => Fault::Lost(message),
            _ => Fault::Refused { name, message },
        }
    }

    /// In words.
    pub(crate) fn words(&self) -> &str {
        match self {
            Fault::Away(words) | Fault::Lost(words) => words,
            Fault::Refused { name, message } if message.is_empty() => name,
            Fault::Refused { message, .. } => message,
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self, Fault::Refused { name, .. } if DENIED.contains(&name.as_str()))
    }

    /// While nothing was to be changed.
    pub(crate) fn while_looking(&self, doing: &str, bus: &SystemdBus) -> AdapterError {
        let message = format!("failed to {doing}: {}", self.words());
        match self {
            Fault::Away(_) | Fault::Lost(_) => {
                AdapterError::transient(message).with_hint(where_to_look(bus))
            }
            Fault::Refused { .. } if self.is_denied() => {
                AdapterError::permanent(message).with_hint(DENIED_HINT)
            }
            Fault::Refused { .. } => AdapterError::permanent(message),
        }
    }

    /// While something was to be changed.
    pub(crate) fn while_changing(&self, doing: &str, bus: &SystemdBus) -> AdapterError {
        match self {
            Fault::Lost(words) => AdapterError::unknown(format!(
                "failed to learn whether systemd did {doing}: {words}"
            )),
            other => other.while_looking(doing, bus),
        }
    }
}

pub(super) const DENIED_HINT: &str =
    "run as root, let polkit allow org.freedesktop.systemd1.manage-units, or use `bus: user`";

fn where_to_look(bus: &SystemdBus) -> &'static str {
    match bus {
        SystemdBus::System => {
            "systemd must be the init of this machine and D-Bus must run: `systemctl status dbus`"
        }
        SystemdBus::User => {
            "the user's manager must run: `loginctl enable-linger`, and XDG_RUNTIME_DIR must be set"
        }
        SystemdBus::Address(_) => "correct `target.systemd.bus`, or start what listens there",
    }
}
