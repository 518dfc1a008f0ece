//! Typed names and ids. One registry, so that an app can't be passed where a service is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name or id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct InvalidId {
    /// The text that was given.
    pub value: String,
    /// What it should have named.
    pub what: &'static str,
    /// The rule it breaks, for people.
    pub rule: &'static str,
}

fn is_label(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !value.starts_with('-')
}

fn is_environment(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !value.starts_with(['-', '_'])
}

fn is_version(value: &str) -> bool {
    (1..=128).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-:@".contains(&b))
        && !value.starts_with(['-', '.'])
}

fn is_host(value: &str) -> bool {
    (1..=255).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-:[]".contains(&b))
        && !value.starts_with('-')
        // After a login the name begins anew.
        && !value.contains("@-")
        && value.bytes().any(|b| b.is_ascii_alphanumeric())
}

fn is_token(value: &str) -> bool {
    (1..=128).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`InvalidId`] names the rule that the text breaks.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                if $check(&value) { Ok(Self(value)) } else { Err(InvalidId { value, what: $what, rule: $rule }) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(/** What one `backout.yaml` describes. */ AppName, "app name", is_label, "use a-z, 0-9 and -, at most 63, not starting with -");
id!(/** A deployable part of an app. */ ServiceName, "service name", is_label, "use a-z, 0-9 and -, at most 63, not starting with -");
id!(/** A named place where an app runs. */ EnvironmentName, "environment name", is_environment, "use letters, digits, - and _, at most 63");
id!(/** A version label given by people or CI. */ Version, "version", is_version, "use letters, digits and . _ + - : @, at most 128, not starting with - or .");
id!(/** Where commands run; `local` is this machine. */ HostName, "host name", is_host, "use a name that ssh knows: letters, digits and . _ - : @ [ ], not starting with -");
id!(/** Hash of a release's content: `rel_` and hex digits. */ ReleaseId, "release id", is_token, "use letters, digits, - and _");
id!(/** Global id of a deployment: `dep_…`. */ DeploymentId, "deployment id", is_token, "use letters, digits, - and _");
id!(/** Id of one journaled operation: `op_…`. */ OperationId, "operation id", is_token, "use letters, digits, - and _");
id!(/** Id of a rollback record: `rb_…`. */ RollbackId, "rollback id", is_token, "use letters, digits, - and _");
id!(/** Id of a request row: `rq_…`. */ RequestId, "request id", is_token, "use letters, digits, - and _");
id!(/** Id of a ledger, kept in the markers of what it manages: `led_…`. */ LedgerId, "ledger id", is_token, "use letters, digits, - and _");

impl HostName {
    /// This machine.
    #[must_use]
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0 == "local"
    }
}

/// Twelve random bytes, from the caller (core makes no randomness of its own).
pub type Entropy = [u8; 12];

macro_rules! random_id {
    ($($name:ident, $prefix:literal;)*) => {$(
        impl $name {
            /// A new id from random bytes.
            #[must_use]
            pub fn from_entropy(entropy: Entropy) -> Self {
                Self(format!(concat!($prefix, "{}"), hex(&entropy)))
            }
        }
    )*};
}
random_id! {
    DeploymentId, "dep_";
    OperationId, "op_";
    RollbackId, "rb_";
    RequestId, "rq_";
    LedgerId, "led_";
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The ledger's key of an environment: never a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvironmentKey {
    /// The app.
    pub app: AppName,
    /// The place it runs.
    pub environment: EnvironmentName,
}

impl fmt::Display for EnvironmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

/// One of the two places in which a release of a service can run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both, in order.
    pub const BOTH: [Slot; 2] = [Slot::A, Slot::B];

    /// The one beside it.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// `a` or `b`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What runs (or may run) one service on one host in one slot: the subject of every target effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// App and environment.
    pub key: EnvironmentKey,
    /// The service.
    pub service: ServiceName,
    /// The host.
    pub host: HostName,
    /// The slot.
    pub slot: Slot,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.service, self.host, self.slot)
    }
}
