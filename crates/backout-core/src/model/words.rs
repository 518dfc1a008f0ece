//! The closed vocabularies of records (`INTERFACES`, "Words in records").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The word as it stands in records and output.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("`{text}` is none of {}", [$($text),*].join(", "))),
                }
            }
        }
    };
}

words!(/** How far a deployment has come. */ DeploymentStatus {
    /** Recorded, nothing done. */ Pending = "pending",
    /** Its operation runs. */ InProgress = "in_progress",
    /** At 100 % and watched. */ Baking = "baking",
    /** Passed its bake time. */ Stable = "stable",
    /** Ended without being taken back. */ Failed = "failed",
    /** Taken back. */ RolledBack = "rolled_back",
    /** Replaced by a newer deploy while baking. */ Superseded = "superseded",
    /** Could not continue. */ Stuck = "stuck",
});
words!(/** What made a deployment. */ DeploymentKind {
    /** `backout deploy`. */ Deploy = "deploy",
    /** A rollback. */ Rollback = "rollback",
    /** `backout adopt`. */ Adopt = "adopt",
});
words!(/** What an operation does. */ OperationKind {
    /** Makes a release live. */ Deploy = "deploy",
    /** Makes an older release live again. */ Rollback = "rollback",
    /** Records what runs already. */ Adopt = "adopt",
    /** Stops what runs. Also the way back of a first deployment. */ Down = "down",
    /** Tries the way back beside what runs. */ Drill = "drill",
    /** Lets what runs go on without Backout. */ Eject = "eject",
});
words!(/** How the target of a rollback was found. */ RollbackType {
    /** Last known good. */ Previous = "previous",
    /** Named by a person. */ Specific = "specific",
    /** The old side was still warm beside it. */ BlueGreenSwitch = "blue_green_switch",
    /** Decided by Backout. */ Automatic = "automatic",
});
words!(/** How far a rollback has come. */ RollbackStatus {
    /** Recorded, nothing done. */ Pending = "pending",
    /** Runs. */ InProgress = "in_progress",
    /** Over. */ Completed = "completed",
    /** Ended before any change. */ Failed = "failed",
    /** Could not continue. */ Stuck = "stuck",
});
words!(/** Through which door a change came. */ Surface {
    /** The command line. */ Cli = "cli",
    /** The HTTP interface. */ Api = "api",
    /** An agent's tool. */ Mcp = "mcp",
    /** The standing controller. */ Controller = "controller",
    /** The built-in proxy by itself. */ Proxy = "proxy",
});
words!(/** What caused a rollback. */ Trigger {
    /** A person. */ Manual = "manual",
    /** Consecutive failures or a crash. */ HealthCheckFailed = "health_check_failed",
    /** It never became ready. */ StartupFailure = "startup_failure",
    /** Comparison of canary and baseline. */ Analysis = "analysis",
    /** A fixed threshold. */ Threshold = "threshold",
    /** An alert from outside. */ Alert = "alert",
    /** Time ran out, or the watcher was gone. */ Timeout = "timeout",
    /** A timer. */ Schedule = "schedule",
    /** The machine is being taken away. */ SpotInterruption = "spot_interruption",
    /** An integrity check. */ DataIntegrity = "data_integrity",
    /** What runs is not what was deployed. */ VersionMismatch = "version_mismatch",
    /** The new side did not get the traffic it should. */ NoTraffic = "no_traffic",
});
words!(/** How something does. */ Health {
    /** All checks pass. */ Healthy = "healthy",
    /** Something is near its limit. */ Warning = "warning",
    /** It fails. */ Failing = "failing",
    /** Nobody knows: no fresh sample. */ Unknown = "unknown",
});

impl Health {
    /// The worse of both. A failure that was seen counts for more than what could not be seen.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if [self, other].contains(&Health::Failing) { Health::Failing } else { self.max(other) }
    }
}

impl From<backout_judge::Cause> for Trigger {
    fn from(cause: backout_judge::Cause) -> Self {
        use backout_judge::Cause;
        match cause {
            Cause::HealthCheckFailed => Trigger::HealthCheckFailed,
            Cause::StartupFailure => Trigger::StartupFailure,
            Cause::Analysis => Trigger::Analysis,
            Cause::Threshold => Trigger::Threshold,
            Cause::VersionMismatch => Trigger::VersionMismatch,
            Cause::NoTraffic => Trigger::NoTraffic,
        }
    }
}

impl From<backout_judge::Level> for Health {
    fn from(level: backout_judge::Level) -> Self {
        use backout_judge::Level;
        match level {
            Level::Healthy => Health::Healthy,
            Level::Warning => Health::Warning,
            Level::Failing => Health::Failing,
            Level::NotEnoughData => Health::Unknown,
        }
    }
}
