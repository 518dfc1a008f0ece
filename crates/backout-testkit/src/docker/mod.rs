//! A Docker Engine of the tests' own: its folders, its socket and its networks belong to nobody else.
//!
//! The daemon is shared by all tests of a process that run at the same time and ends with the last of them. What
//! it needs (`docker.io`, `iptables`, `busybox-static`, `docker-registry`, Compose v2) `cargo xtask test` installs.

mod images;
mod registry;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak, mpsc};
use std::time::{Duration, Instant};

pub use registry::Registry;

const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// A running daemon.
pub struct Engine {
    temp: tempfile::TempDir,
    /// The addresses that its containers get.
    pool: String,
    daemon: Mutex<Option<Daemon>>,
}

/// The process, and the thread that started it: the kernel ends the process with that thread, so that a test
/// program that is killed leaves no daemon behind.
struct Daemon {
    child: Child,
    _keeper: mpsc::Sender<()>,
}

static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());

impl Engine {
    /// The daemon that tests share; each brings names of its own.
    ///
    /// # Panics
    /// When it can't be started, with what is missing.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let engine = Arc::new(Self::own());
            *shared = Arc::downgrade(&engine);
            engine
        })
    }

    /// A daemon of one test's own, to be stopped and started at will.
    ///
    /// # Panics
    /// When it can't be started, with what is missing.
    #[must_use]
    pub fn own() -> Self {
        let temp = tempfile::Builder::new().prefix("backout.docker.").tempdir().expect("a folder");
        let plugins = temp.path().join("config/cli-plugins");
        std::fs::create_dir_all(&plugins).expect("a folder");
        let compose =
            compose_plugin().expect("Docker Compose v2: run `cargo xtask test` to install it");
        std::os::unix::fs::symlink(compose, plugins.join("docker-compose")).expect("a link");
        let engine = Self { temp, pool: next_pool(), daemon: Mutex::new(None) };
        engine.let_through("-I");
        engine.start();
        engine
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.temp.path()
    }

    /// What the `docker` command needs to find it.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.temp.path().join(name).display().to_string();
        vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", path("socket"))),
            ("DOCKER_CONFIG".to_owned(), path("config")),
        ]
    }

    /// The same with the caller's `PATH` and `HOME`.
    #[must_use]
    pub fn whole_env(&self) -> Vec<(OsString, OsString)> {
        let own = self.env().into_iter().map(|(k, v)| (k.into(), v.into()));
        let kept =
            ["PATH", "HOME"].into_iter().filter_map(|k| Some((k.into(), std::env::var_os(k)?)));
        kept.chain(own).collect()
    }

    /// Starts the daemon again after [`Self::stop`], and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(&self) {
        let mut daemon = self.daemon();
        assert!(daemon.is_none(), "it runs already");
        let end = Instant::now() + PATIENCE;
        // One at a time looks for free addresses.
        let _alone = alone();
        while !self.docker(&["version"]).status.success() {
            let running = daemon.as_mut().is_some_and(|d| matches!(d.child.try_wait(), Ok(None)));
            assert!(Instant::now() < end, "dockerd does not answer: {}", self.log());
            if !running {
                let _ = std::fs::remove_file(self.temp.path().join("pid"));
                *daemon = Some(spawn(self.temp.path(), &self.pool));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the daemon as a service manager does.
    pub fn stop(&self) {
        self.end();
    }

    /// Adds or takes away the one rule that lets its containers reach each other, also where another daemon has
    /// forbidden all that it does not know.
    fn let_through(&self, how: &str) {
        let rule = ["FORWARD", "-s", &self.pool, "-d", &self.pool, "-j", "ACCEPT"];
        let mut command = Command::new("iptables");
        command.args(["--wait", how]).args(rule).env("PATH", with_system_folders());
        let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn end(&self) {
        let Some(mut daemon) = self.daemon().take() else { return };
        let pid = daemon.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let end = Instant::now() + PATIENCE;
        while matches!(daemon.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = daemon.child.kill();
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs `docker ARGS`.
    ///
    /// # Panics
    /// When the command is missing.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.args(args).envs(self.env()).stdin(Stdio::null());
        command.output().expect("the docker command: run `cargo xtask test` to install it")
    }

    /// Runs `docker ARGS`, which must succeed, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn expect(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {}: {said}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.temp.path().join("log")).unwrap_or_default();
        log[log.len().saturating_sub(2_000)..].to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers first: the daemon would leave those that it can't end in time.
        let all = self.docker(&["ps", "-aq"]);
        let ids = String::from_utf8_lossy(&all.stdout);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = self.docker(&[&["rm", "-f"], &ids[..]].concat());
        }
        self.end();
        self.let_through("-D");
    }
}

/// Another one for each engine, far from what daemons usually take.
fn next_pool() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 7 + NEXT.fetch_add(1, Ordering::Relaxed);
    format!("10.{}.0.0/16", 130 + number % 120)
}

/// Daemons live in folders that are not on everybody's `PATH`.
fn with_system_folders() -> String {
    let system = "/usr/local/sbin:/usr/sbin:/sbin";
    std::env::var("PATH").map_or(system.to_owned(), |path| format!("{path}:{system}"))
}

/// Held by whoever starts a daemon, over all test programs of this machine.
fn alone() -> Option<std::fs::File> {
    let path = std::env::temp_dir().join("backout.dockerd.lock");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn spawn(folder: &Path, pool: &str) -> Daemon {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    let path = |name: &str| folder.join(name).display().to_string();
    let args = [
        "--pdeathsig".to_owned(),
        "TERM".to_owned(),
        "dockerd".to_owned(),
        "--data-root".to_owned(),
        path("data"),
        "--exec-root".to_owned(),
        path("exec"),
        "--pidfile".to_owned(),
        path("pid"),
        "--host".to_owned(),
        format!("unix://{}", path("socket")),
        "--bridge".to_owned(),
        "none".to_owned(),
        // The chains of the machine belong to nobody here: two daemons would take each other's rules away. Ports on
        // loopback are served by docker-proxy without them.
        "--iptables=false".to_owned(),
        "--default-address-pool".to_owned(),
        format!("base={pool},size=26"),
        "--shutdown-timeout".to_owned(),
        "3".to_owned(),
    ];
    let (keeper, until) = mpsc::channel::<()>();
    let (sent, started) = mpsc::channel();
    std::thread::spawn(move || {
        let mut command = Command::new("setpriv");
        command.args(args).env("PATH", with_system_folders()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a handle")).stderr(log);
        let child = command.spawn().expect("setpriv of util-linux");
        let _ = sent.send(child);
        // Until the other end is dropped.
        let _ = until.recv();
    });
    Daemon { child: started.recv().expect("the thread sends it"), _keeper: keeper }
}

/// Compose v2: where `cargo xtask test` puts it, or where packages do.
#[must_use]
pub fn compose_plugin() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(home.clone()?.join(".cache")));
    let ours = cache.map(|cache| cache.join("backout/tools/docker/cli-plugins"));
    let of_user = home.map(|home| home.join(".docker/cli-plugins"));
    let system = ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"];
    let system = system.map(|folder| Path::new(folder).join("docker/cli-plugins"));
    let folders = ours.into_iter().chain(of_user).chain(system);
    folders.map(|folder| folder.join("docker-compose")).find(|plugin| plugin.is_file())
}
