//! Hosts on real sshd.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::{SshHost, SshOptions};
use backout_core::ids::{HostName, Slot, Unit};
use backout_core::ports::{Host, HostChange, HostCommand, HostGuard, HostOutput, HostRevert};
use backout_testkit::fixtures::unit;
pub use backout_testkit::host_suite::sh;
use backout_testkit::sshd::SshServers;

pub fn name(index: usize) -> HostName {
    HostName::new(format!("host{index}")).unwrap()
}

/// Patient with a link that is slow because the machine has much to do.
pub fn options(servers: &SshServers, index: usize) -> SshOptions {
    SshOptions {
        config: Some(servers.config()),
        folder: "app".to_owned(),
        connect_timeout: Duration::from_secs(20),
        alive_interval: Duration::from_secs(10),
        alive_count: 6,
        ..SshOptions::new(name(index))
    }
}

/// One host with a folder of its own.
pub struct World {
    pub servers: SshServers,
    pub host: Arc<SshHost>,
}

impl World {
    pub fn new() -> Self {
        Self::on(SshServers::start(1))
    }

    pub fn on(servers: SshServers) -> Self {
        let options = options(&servers, 0);
        Self::with(servers, options)
    }

    pub fn with(servers: SshServers, options: SshOptions) -> Self {
        let host = Arc::new(SshHost::new(options));
        let world = Self { servers, host };
        std::fs::create_dir_all(world.folder()).unwrap();
        world
    }

    /// The folder of the app on the host.
    pub fn folder(&self) -> PathBuf {
        self.servers.home(0).join("app")
    }

    pub fn unit(&self) -> Unit {
        remote_unit(0)
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder().join(path)).unwrap_or_default()
    }

    pub fn has(&self, path: &str) -> bool {
        self.folder().join(path).exists()
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.folder().join(path), text).unwrap();
    }

    /// Waits until something is so on the host.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(90), wait).await;
        assert!(waited.is_ok(), "{what}");
    }

    pub async fn run(&self, command: &HostCommand) -> HostOutput {
        self.host.run(command).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub async fn guard(&self) -> Option<HostGuard> {
        self.host.guard(&self.unit()).await.unwrap()
    }

    /// Waits until nobody is connected any more.
    pub async fn until_nobody_is_connected(&self) {
        self.until("the connections end", |world| world.servers.connections(0) == 0).await;
    }
}

pub fn remote_unit(index: usize) -> Unit {
    Unit { host: name(index), ..unit(Slot::A) }
}

pub fn look(line: &str) -> HostCommand {
    HostCommand::look(sh(line), Duration::from_secs(60))
}

pub fn change(line: &str, step: &str) -> HostCommand {
    let (unit, step) = (remote_unit(0), step.to_owned());
    HostCommand { change: Some(HostChange { unit, step, epoch: 1, revert: None }), ..look(line) }
}

/// A change that comes back by a line unless it is confirmed.
pub fn guarded(line: &str, step: &str, within: Duration, back: &str) -> HostCommand {
    let mut command = change(line, step);
    command.change.as_mut().unwrap().revert = Some(HostRevert {
        deployment: 7,
        within,
        commands: vec![sh(back)],
        env: [("BACK".to_owned(), backout_core::ports::Secret::new("way back".to_owned()))].into(),
        folder: None,
        timeout: Duration::from_secs(60),
    });
    command
}
