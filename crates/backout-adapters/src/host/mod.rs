//! The one place that runs commands, here and on other hosts, and durable file handling.

mod atomic;
mod capture;
mod command;
mod confine;
mod group;
mod hosts;
mod leftover;
mod local;
mod lock;
mod output;
mod ports;
pub mod procfs;
mod ssh;

pub use atomic::{
    Prepared, create_private_dirs, read_bounded, remove_file_if_there, sync_dir, write_atomic,
    write_synced,
};
pub use capture::Captured;
pub(crate) use capture::{last_bytes, printable};
pub(crate) use command::start_error;
pub use command::{CommandLine, END_GRACE, Ended, Finished, Output, StartError, run, run_noting};
pub use confine::{ConfineError, resolve_inside};
pub(crate) use group::next_poll;
pub use group::{end_processes, signal_group};
pub use hosts::Hosts;
pub(crate) use hosts::not_a_host;
pub use leftover::{Announced, Leftover};
pub use local::{LocalHost, LocalOptions};
pub use lock::FileLock;
pub use ports::{free_port, is_free_port};
pub(crate) use ssh::is_fenced;
pub use ssh::{SshHost, SshOptions, close_connections};
