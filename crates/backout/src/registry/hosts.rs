//! The machines other than this one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::{Hosts, SshHost, SshOptions};
use backout_core::ports::Host;

use crate::config::Settings;

pub use backout_adapters::host::close_connections;

/// The hosts of an environment, by the user's own ssh.
pub fn hosts(settings: &Settings, folder: &Path) -> Hosts {
    let ssh = &settings.ssh;
    Hosts::new(settings.hosts.iter().filter(|name| !name.is_local()).map(|name| {
        let options = SshOptions {
            config: ssh.config.as_ref().map(|path| folder.join(path)),
            folder: ssh.folder.clone(),
            connect_timeout: Duration::from_millis(ssh.connect_timeout_ms),
            ..SshOptions::new(name.clone())
        };
        Arc::new(SshHost::new(options)) as Arc<dyn Host>
    }))
}
