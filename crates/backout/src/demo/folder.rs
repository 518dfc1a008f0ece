//! The temporary folder of a demo: everything that it writes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::cli::args::{Format, Global};
use crate::error::CommandError;

/// How the folders of demos are named.
pub const PREFIX: &str = "backout-demo-";
/// The service's config file, recorded with every release.
pub const SERVICE_CONFIG: &str = "service.json";
/// Below the range from which the kernel takes ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_768;
const PORT_TRIES: u32 = 64;

/// A demo's folder. It is removed by [`super::janitor::clean`], never by dropping this.
#[derive(Debug, Clone)]
pub struct DemoFolder {
    /// Its path, without symbolic links.
    pub path: PathBuf,
    /// Where the proxy listens.
    pub listen: SocketAddr,
}

impl DemoFolder {
    /// Chooses where it will be; makes nothing yet.
    ///
    /// # Errors
    /// When programs can't be run from the folder for temporary files, or no port is free.
    pub fn choose() -> Result<Self, CommandError> {
        let parent = std::env::temp_dir().canonicalize().map_err(|error| unusable(&error))?;
        refuse_noexec(&parent)?;
        let name: String = random::<6>().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: parent.join(format!("{PREFIX}{name}")), listen: free_address()? })
    }

    /// Makes it, for this user alone.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn make(&self) -> Result<(), CommandError> {
        std::fs::DirBuilder::new().mode(0o700).create(&self.path).map_err(|error| unusable(&error))
    }

    /// Writes what a user would have: the program and `backout.yaml`.
    ///
    /// # Errors
    /// When the disk is full, for instance.
    pub fn fill(&self, program: &Path) -> Result<(), CommandError> {
        let failed = |error: std::io::Error| {
            CommandError::failed(format!("failed to write the demo's files: {error}"))
        };
        fs_err::copy(program, self.path.join("service")).map_err(failed)?;
        fs_err::write(self.path.join("backout.yaml"), yaml(self.listen)).map_err(failed)
    }

    /// What a developer changes for a new version.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_service_config(&self, text: &str) -> Result<(), CommandError> {
        fs_err::write(self.path.join(SERVICE_CONFIG), text).map_err(|error| {
            CommandError::failed(format!("failed to write the demo's files: {error}"))
        })
    }

    /// The service's config file as it lies on disk now.
    #[must_use]
    pub fn service_config(&self) -> String {
        std::fs::read_to_string(self.path.join(SERVICE_CONFIG)).unwrap_or_default()
    }

    /// The flags of a command that works in this folder only.
    #[must_use]
    pub fn global(&self) -> Global {
        Global {
            files: vec![self.path.join("backout.yaml")],
            env: None,
            format: Format::Table,
            yes: true,
            verbose: 0,
            state_dir: Some(self.path.join("state")),
            local_ledger: false,
            own_ledger: true,
        }
    }
}

/// Short times, because nobody wants to wait; everything else as in production.
fn yaml(listen: SocketAddr) -> String {
    format!(
        r#"app: shop
target:
  process:
    command: ["{{artifact}}", demo-service, --version, "{{version}}", --config, "{{config}}/{SERVICE_CONFIG}"]
    artifact: service
    port: auto
config: [{SERVICE_CONFIG}]
router: {{ builtin: {{ listen: "{listen}" }} }}
strategy: {{ canary: {{ stages: [10, 25, 50, 100], hold: 2s, hold_max: 20s, on_no_data: rollback }} }}
health:
  http: {{ url: "http://127.0.0.1:{{port}}/health", timeout: 2s }}
  during_rollout: {{ interval: 500ms }}
bake_time: 2s
shutdown: {{ drain: 2s, grace: 2s }}
"#
    )
}

fn unusable(error: &std::io::Error) -> CommandError {
    let dir = std::env::temp_dir();
    CommandError::failed(format!("failed to make a folder in {}: {error}", dir.display()))
        .hint("name another place: TMPDIR=/path backout demo")
}

/// Without randomness all names are the same, and a second demo is refused.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes
}

fn refuse_noexec(dir: &Path) -> Result<(), CommandError> {
    let forbidden =
        statvfs(dir).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if !forbidden {
        return Ok(());
    }
    Err(CommandError::failed(format!(
        "failed to begin: programs can't be run from {} (mounted noexec)",
        dir.display()
    ))
    .hint("name another place: TMPDIR=/path backout demo"))
}

fn free_address() -> Result<SocketAddr, CommandError> {
    for _ in 0..PORT_TRIES {
        let port = PORTS.start + u16::from_le_bytes(random()) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(CommandError::failed(format!(
        "failed to find a free port on 127.0.0.1 between {} and {}",
        PORTS.start, PORTS.end
    )))
}
