//! A systemd of the tests' own: a small system that runs in a container beside everybody else's.
//!
//! It shares the network and the folder of temporary files with this machine, so that its units run what tests put
//! there and serve on loopback, and its bus and its journal are reached from outside. It is shared by all tests of a
//! process that run at the same time, and ends with the last of them. The system itself (`debootstrap`, kept in the
//! cache) and what runs it (`systemd-container`) `cargo xtask test` installs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// Units of the small system that have no work there, or would tidy up folders that are not theirs.
const MASKED: [&str; 10] = [
    // The network is this machine's.
    "ssh.service",
    "ssh.socket",
    "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-clean.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-logind.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
];

/// A running system.
pub struct Machine {
    temp: tempfile::TempDir,
    container: Mutex<Option<Container>>,
    /// The first process inside.
    leader: u32,
}

/// The process, and the thread that started it: the kernel ends the process with that thread, so that a test program
/// that is killed leaves no container behind.
struct Container {
    child: Child,
    _keeper: mpsc::Sender<()>,
}

static SHARED: Mutex<Weak<Machine>> = Mutex::new(Weak::new());

impl Machine {
    /// The system that tests share; each brings units of its own.
    ///
    /// # Panics
    /// When it can't be started, with what is missing.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let machine = Arc::new(Self::own());
            *shared = Arc::downgrade(&machine);
            machine
        })
    }

    /// A system of one test's own.
    ///
    /// # Panics
    /// When it can't be started, with what is missing.
    #[must_use]
    pub fn own() -> Self {
        Self::sharing(&[])
    }

    /// The same, which sees further folders of this machine.
    ///
    /// # Panics
    /// When it can't be started, with what is missing.
    #[must_use]
    pub fn sharing(folders: &[PathBuf]) -> Self {
        let root = root().expect("a small system: run `cargo xtask test` to install it");
        let temp = tempfile::Builder::new().prefix("backout.systemd.").tempdir().expect("a folder");
        for name in ["bus", "journal", "over", "root"] {
            std::fs::create_dir(temp.path().join(name)).expect("a folder");
        }
        // What is written goes into memory: the system in the cache stays as it is.
        mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], &temp.path().join("over"));
        for name in ["up", "work"] {
            std::fs::create_dir(temp.path().join("over").join(name)).expect("a folder");
        }
        let over = |name: &str| temp.path().join("over").join(name).display().to_string();
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", root.display(), over("up"), over("work"));
        mount(&["-t", "overlay", "-o", &layers, "overlay"], &temp.path().join("root"));
        let units = temp.path().join("root/etc/systemd/system");
        std::fs::create_dir_all(&units).expect("a folder");
        for unit in MASKED {
            std::os::unix::fs::symlink("/dev/null", units.join(unit)).expect("a link");
        }
        let container = spawn(temp.path(), folders);
        let mut machine = Self { temp, container: Mutex::new(Some(container)), leader: 0 };
        machine.await_ready();
        machine
    }

    fn await_ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        let address = format!("--address={}", self.address());
        let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
        let state = ["org.freedesktop.systemd1.Manager", "SystemState"];
        loop {
            let mut ask = Command::new("busctl");
            ask.args([address.as_str(), "get-property"]).args(manager).args(state);
            let said = ask.stderr(Stdio::null()).output().expect("busctl of systemd");
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            if said.contains("running") || said.contains("degraded") {
                break;
            }
            assert!(Instant::now() < end, "systemd does not come up: {}", self.log());
            std::thread::sleep(POLL);
        }
        let container = self.container.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let nspawn = container.as_ref().expect("it was started").child.id();
        let children = format!("/proc/{nspawn}/task/{nspawn}/children");
        let children = std::fs::read_to_string(children).expect("its children");
        self.leader = children.split_whitespace().next().expect("a child").parse().expect("an id");
    }

    /// The address of its bus.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// The socket of its bus.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.temp.path().join("bus/system_bus_socket")
    }

    /// The folder of its journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.temp.path().join("journal")
    }

    /// Its root folder as it is seen from here.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// Where unit files are written to, as seen from here. Inside it is `/etc/systemd/system`.
    #[must_use]
    pub fn units(&self) -> PathBuf {
        self.temp.path().join("root/etc/systemd/system")
    }

    /// Writes a unit file, or a drop-in (`NAME.service.d/FILE.conf`). The manager reads it with [`Self::reload`].
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_unit(&self, name: &str, text: &str) {
        let path = self.units().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a unit file");
    }

    /// The same, and the manager knows it.
    pub fn install(&self, name: &str, text: &str) {
        self.write_unit(name, text);
        self.reload();
    }

    /// Has the manager read its files again.
    pub fn reload(&self) {
        self.expect(&["daemon-reload"]);
    }

    /// Runs `systemctl ARGS` inside.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn systemctl(&self, args: &[&str]) -> Output {
        let mut command = self.inside("systemctl");
        command.args(args).output().expect("nsenter of util-linux")
    }

    /// A command that runs inside.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let leader = self.leader.to_string();
        let spaces = ["--mount", "--uts", "--ipc", "--pid", "--root", "--wd=/", "--"];
        command.args(["--target", &leader]).args(spaces).arg(program).stdin(Stdio::null());
        command
    }

    /// The process inside that everything else comes from.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// Runs `systemctl ARGS`, which must succeed, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn expect(&self, args: &[&str]) -> String {
        let output = self.systemctl(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "systemctl {}: {said}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A property of a unit, such as `ActiveState`.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.expect(&["show", "--value", "--property", name, unit])
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.temp.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut container =
            self.container.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut container) = container.take() {
            let _ =
                Command::new("kill").args(["-TERM", &container.child.id().to_string()]).status();
            let end = Instant::now() + PATIENCE;
            while matches!(container.child.try_wait(), Ok(None)) {
                if Instant::now() > end {
                    // What runs inside ends with its first process.
                    let _ = Command::new("kill").args(["-KILL", &self.leader.to_string()]).status();
                    let _ = container.child.kill();
                }
                std::thread::sleep(POLL);
            }
        }
        for name in ["root", "over"] {
            unmount(&self.temp.path().join(name));
        }
    }
}

fn spawn(folder: &Path, shares: &[PathBuf]) -> Container {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let path = |name: &str| folder.join(name).display().to_string();
    let shared = std::env::temp_dir().display().to_string();
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    let name: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut args = vec![
        "--pdeathsig".to_owned(),
        "TERM".to_owned(),
        "systemd-nspawn".to_owned(),
        // Killed itself, it would leave the container running: asked to end, it kills the first process inside.
        "--kill-signal=SIGKILL".to_owned(),
        "--quiet".to_owned(),
        "--boot".to_owned(),
        "--directory".to_owned(),
        path("root"),
        format!("--machine={name}"),
        "--register=no".to_owned(),
        "--keep-unit".to_owned(),
        "--console=pipe".to_owned(),
        "--resolv-conf=off".to_owned(),
        "--timezone=off".to_owned(),
        "--link-journal=no".to_owned(),
        format!("--bind={shared}"),
        format!("--bind-ro={}", built().display()),
        format!("--bind={}:/run/dbus", path("bus")),
        format!("--bind={}:/run/log/journal", path("journal")),
    ];
    args.extend(shares.iter().map(|share| format!("--bind={}", share.display())));
    let (keeper, until) = mpsc::channel::<()>();
    let (sent, started) = mpsc::channel();
    std::thread::spawn(move || {
        let mut command = Command::new("setpriv");
        command.args(args).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a handle")).stderr(log);
        let child = command.spawn().expect("setpriv of util-linux");
        let _ = sent.send(child);
        // Until the other end is dropped.
        let _ = until.recv();
    });
    Container { child: started.recv().expect("the thread sends it"), _keeper: keeper }
}

/// The folder of what was built: programs under test run inside too.
fn built() -> PathBuf {
    let under_test = std::env::var_os("BACKOUT_UNDER_TEST").map(PathBuf::from);
    let test = std::env::current_exe().expect("its own path");
    // Tests stand in a folder of their own beside it.
    let folder = |path: &Path| path.parent().map(Path::to_owned);
    let of_test = folder(&test).and_then(|deps| folder(&deps));
    under_test.as_deref().and_then(folder).or(of_test).expect("a folder")
}

#[track_caller]
fn mount(args: &[&str], at: &Path) {
    let output = Command::new("mount").args(args).arg(at).output().expect("mount");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mount {}: {said}", at.display());
}

/// Its last process may hold it for a moment.
fn unmount(at: &Path) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let output = Command::new("umount").arg(at).output();
        if output.is_ok_and(|output| output.status.success()) || Instant::now() > end {
            return;
        }
        std::thread::sleep(POLL);
    }
}

/// The system in the cache, where `cargo xtask test` puts it.
#[must_use]
pub fn root() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(home?.join(".cache")))?;
    Some(cache.join("backout/tools/systemd/root-2"))
        .filter(|root| root.join("usr/lib/systemd/systemd").exists())
}
