//! See ARCHITECTURE.md.

pub mod ledger;

mod artifacts_fake;
pub mod artifacts_suite;
mod config_files_fake;
pub mod config_files_suite;
pub mod docker;
mod faults;
pub mod fixtures;
mod host_fake;
pub mod host_suite;
pub mod postgres;
mod probe_fake;
pub mod probe_suite;
mod router_fake;
mod router_fake_state;
pub mod sshd;
pub mod systemd;
mod target_fake;
mod target_fake_state;
pub mod target_suite;

pub use artifacts_fake::FakeArtifacts;
pub use config_files_fake::FakeConfigFiles;
pub use faults::{Fault, FaultPlan};
pub use host_fake::FakeHost;
pub use probe_fake::{FakeProbe, sample};
pub use router_fake::FakeRouter;
pub use sshd::{Relay, SshServers};
pub use target_fake::{FakeTarget, TargetCall};
