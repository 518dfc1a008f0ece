//! A registry on loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Keeps images in a folder of its own. Dropped, it ends.
pub struct Registry {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let folder =
            tempfile::Builder::new().prefix("backout.registry.").tempdir().expect("a folder");
        let config = format!(
            "version: 0.1\nstorage:\n  delete: {{ enabled: true }}\n  filesystem: {{ rootdirectory: {}/data }}\n\
             http: {{ addr: \"127.0.0.1:{port}\" }}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("a file");
        let mut registry = Self { folder, port, child: None };
        registry.resume();
        registry
    }

    /// A reference to an image in it.
    #[must_use]
    pub fn reference(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// Ends it; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn resume(&mut self) {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.folder.path().join("config.yml"));
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.expect("docker-registry: run `cargo xtask test` to install it"));
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
