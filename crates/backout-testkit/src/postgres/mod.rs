//! A real PostgreSQL server for tests: in a temporary folder, on a socket in it, as a user that is not root. It ends
//! with its value, and with the test process however that ends.

#![allow(clippy::unwrap_used, reason = "tests shall panic")]

mod programs;
mod proxy;

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use programs::{program, unprivileged};

pub use proxy::{Cut, Proxy};

/// Longest wait for a server; a machine under load is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who owns everything in the server; no password is asked for.
pub const USER: &str = "backout";

/// A user whose password is asked for.
pub const LOCKED_USER: &str = "locked";

/// The password of [`LOCKED_USER`].
pub const PASSWORD: &str = "s3cret-w0rd";

/// Ends the server when its input ends, which the test process holds; then removes the folder.
const GUARD: &str = r#"
folder=$1; shift
"$@" & server=$!
trap 'kill -QUIT "$server" 2>/dev/null' TERM INT HUP
while read -r word; do
    case $word in
        stop) kill -QUIT "$server" 2>/dev/null; wait "$server" ;;
        start) "$@" & server=$! ;;
    esac
done
kill -QUIT "$server" 2>/dev/null
wait "$server"
cd / && rm -rf "$folder"
"#;

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether it survives a crash of the machine; slower.
    pub durable: bool,
    /// A port of 127.0.0.1 that it listens on beside its socket.
    pub port: Option<u16>,
    /// Further settings.
    pub settings: Vec<(String, String)>,
    /// Files to lie in its data folder, mode 0600.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A running server.
pub struct PostgresServer {
    folder: PathBuf,
    guard: Child,
    databases: AtomicU32,
}

/// The server that tests of one process share. Each takes a database of its own.
pub fn shared() -> &'static PostgresServer {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    SHARED.get_or_init(|| PostgresServer::start(&Setup::default()))
}

impl PostgresServer {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// Without PostgreSQL on this machine, or when it does not start.
    #[must_use]
    pub fn start(setup: &Setup) -> Self {
        let temp = tempfile::Builder::new().prefix("backout.pg.").tempdir().unwrap();
        let folder = temp.keep();
        let owner = unprivileged();
        if let Some((user, group)) = owner {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        init(&folder, owner);
        configure(&folder, setup, owner);
        let mut server = vec![program("postgres"), "-D".into(), folder.join("data")];
        let port = setup.port.unwrap_or(5432);
        server.extend(["-p".into(), port.to_string().into(), "-k".into(), folder.clone()]);
        let mut command = as_user("sh", owner);
        command.args(["-c", GUARD, "guard"]).arg(&folder).args(&server).current_dir(&folder);
        let log = std::fs::File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = Self { folder, guard: command.spawn().unwrap(), databases: AtomicU32::new(0) };
        server.wait_until_ready();
        server.sql("postgres", &format!("CREATE ROLE {LOCKED_USER} LOGIN PASSWORD '{PASSWORD}'"));
        server
    }

    /// Folder of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// The socket itself.
    #[must_use]
    pub fn socket_file(&self) -> PathBuf {
        std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
            })
            .expect("a running server has a socket")
    }

    /// A new, empty database.
    #[must_use]
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        name
    }

    /// The address of a database, over the socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_of(USER, database)
    }

    /// The same for another user, which may carry a password behind a colon.
    #[must_use]
    pub fn url_of(&self, user: &str, database: &str) -> String {
        let socket = self.socket_file();
        let port = socket.extension().unwrap().to_str().unwrap();
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{folder}:{port}/{database}")
    }

    /// Runs SQL as the owner of everything; its rows, columns parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.socket_file();
        let port = port.extension().unwrap().to_str().unwrap().to_owned();
        let output = Command::new(program("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", USER, "-p", &port, "-d", database])
            .args(["-c", sql, "-h"])
            .arg(&self.folder)
            .env_remove("PGOPTIONS")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Ends it at once, as `pg_ctl stop -m immediate` does: nothing is finished, nothing written back.
    pub fn stop_at_once(&mut self) {
        self.tell("stop");
        let pid_file = self.folder.join("data/postmaster.pid");
        wait_for("the end of the server", || {
            (!pid_file.exists() || !self.socket_is_open()).then_some(())
        });
    }

    /// Starts it again after [`PostgresServer::stop_at_once`], and waits until it answers.
    pub fn start_again(&mut self) {
        self.tell("start");
        self.wait_until_ready();
    }

    /// Starts it again after [`PostgresServer::stop_at_once`], without waiting.
    pub fn begin_to_start_again(&mut self) {
        self.tell("start");
    }

    fn tell(&mut self, word: &str) {
        let input = self.guard.stdin.as_mut().expect("it is piped");
        writeln!(input, "{word}").unwrap();
    }

    fn socket_is_open(&self) -> bool {
        let name = std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
            });
        name.is_some_and(|path| std::os::unix::net::UnixStream::connect(path).is_ok())
    }

    fn wait_until_ready(&self) {
        let pid_file = self.folder.join("data/postmaster.pid");
        let began = Instant::now();
        loop {
            // Its eighth line is the state.
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            if text.lines().nth(7).is_some_and(|state| state.trim() == "ready")
                && self.socket_is_open()
            {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "the server does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn wait_for<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn as_user(program: impl AsRef<std::ffi::OsStr>, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

fn init(folder: &Path, owner: Option<(u32, u32)>) {
    let mut init = as_user(program("initdb"), owner);
    init.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]);
    init.args(["--no-sync", "--no-instructions", "-D"])
        .arg(folder.join("data"))
        .current_dir(folder);
    let output = init.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "failed to make a database cluster: {errors}");
}

fn configure(folder: &Path, setup: &Setup, owner: Option<(u32, u32)>) {
    let data = folder.join("data");
    let mut text = String::from("shared_buffers = 16MB\nmax_connections = 150\n");
    text.push_str("autovacuum = off\nmax_wal_size = 256MB\n");
    let listen = if setup.port.is_some() { "127.0.0.1" } else { "" };
    text.push_str(&format!("listen_addresses = '{listen}'\n"));
    if !setup.durable {
        text.push_str("fsync = off\nfull_page_writes = off\n");
    }
    for (name, value) in &setup.settings {
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    std::fs::write(data.join("backout.conf"), text).unwrap();
    let main = data.join("postgresql.conf");
    let mut file = std::fs::OpenOptions::new().append(true).open(main).unwrap();
    writeln!(file, "include 'backout.conf'").unwrap();
    let rules = data.join("pg_hba.conf");
    let known = std::fs::read_to_string(&rules).unwrap();
    let first = format!(
        "local all {LOCKED_USER} scram-sha-256\nhost all {LOCKED_USER} all scram-sha-256\n{known}"
    );
    std::fs::write(&rules, first).unwrap();
    for (name, bytes) in &setup.files {
        let path = data.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group)).unwrap();
        }
    }
    if let Some((user, group)) = owner {
        chown(data.join("backout.conf"), Some(user), Some(group)).unwrap();
    }
}
