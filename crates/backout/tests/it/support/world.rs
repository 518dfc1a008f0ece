//! The world of one test.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use serde_json::Value;

use super::background::{Background, Ran};
use super::http::{self, Answer, Load};
use super::processes::{self, Process};
use super::pty::Terminal;
use super::service::{Service, write_program};
use super::wait_for;
use super::yaml::Yaml;

/// The binary under test: the one just built, or a copy of it that nobody builds anew during a long sweep.
pub fn backout() -> PathBuf {
    std::env::var_os("BACKOUT_UNDER_TEST")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_backout")), PathBuf::from)
}

/// A folder with `backout.yaml` and a program, a state folder, and a port. Dropped, it stops what it started.
pub struct World {
    temp: tempfile::TempDir,
    /// The port that users ask.
    pub listen: u16,
    commands: AtomicU32,
    variables: Mutex<Vec<(String, String)>>,
}

impl World {
    /// With this configuration, and a good build of the program.
    pub fn new(yaml: &Yaml) -> Self {
        let world = Self::bare();
        world.configure(yaml);
        world.build(Service::default());
        world
    }

    /// Without any file.
    pub fn bare() -> Self {
        let temp = tempfile::Builder::new().prefix("backout.it.").tempdir().unwrap();
        for folder in ["shop", "home", "bin", "out"] {
            fs::create_dir(temp.path().join(folder)).unwrap();
        }
        // Its words name the temporary folder, so that what is left can be found.
        symlink(backout(), temp.path().join("bin/backout")).unwrap();
        let (commands, variables) = (AtomicU32::new(0), Mutex::default());
        Self { temp, listen: free_port(), commands, variables }
    }

    /// Folder of `backout.yaml`.
    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("shop")
    }

    /// The temporary folder that holds everything.
    pub fn root(&self) -> &Path {
        self.temp.path()
    }

    /// State folder.
    pub fn state_dir(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    /// The binary by a path inside of this world.
    pub fn program(&self) -> PathBuf {
        self.temp.path().join("bin/backout")
    }

    /// Writes `backout.yaml`.
    pub fn configure(&self, yaml: &Yaml) {
        self.write("backout.yaml", &yaml.text(self.listen));
    }

    /// Writes a build of the program over the last one.
    pub fn build(&self, service: Service<'_>) {
        service.write(&self.folder().join("app"), &self.program());
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a shell script.
    pub fn script(&self, name: &str, text: &str) {
        write_program(&self.folder().join(name), text);
    }

    /// Reads a file; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).unwrap_or_default()
    }

    /// A command of this world: its folder, its state folder, an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(backout());
        command
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.temp.path().join("home"))
            .env("TERM", "xterm")
            .envs(self.variables.lock().unwrap().iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Sets a variable for all commands from now on.
    pub fn set(&self, name: &str, value: &str) {
        self.variables.lock().unwrap().push((name.to_owned(), value.to_owned()));
    }

    /// Starts a command made by [`Self::command`].
    pub fn spawn_command(&self, mut command: Command) -> Background {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.temp.path().join(format!("out/{number}.{kind}"));
        let (stdout, stderr) = (path("stdout"), path("stderr"));
        command.stdout(fs::File::create(&stdout).unwrap());
        command.stderr(fs::File::create(&stderr).unwrap());
        let args: Vec<String> =
            command.get_args().skip(2).map(|arg| arg.to_string_lossy().into_owned()).collect();
        let child = command.spawn().unwrap();
        Background { args: args.join(" "), child: Some(child), stdout, stderr }
    }

    /// Starts `backout ARGS`.
    pub fn spawn(&self, args: &[&str]) -> Background {
        self.spawn_command(self.command(args))
    }

    /// Runs `backout ARGS` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.spawn(args).wait()
    }

    /// Runs `backout ARGS` with further variables.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        self.spawn_command(command).wait()
    }

    /// Runs `backout ARGS`, which ends itself with SIGKILL at a boundary such as `after_intent/start:1`.
    #[track_caller]
    pub fn run_killed(&self, args: &[&str], at: &str) -> Ran {
        let ran = self.run_with(args, &[("BACKOUT_KILL_AT", at)]);
        assert_eq!(
            ran.signal,
            Some(9),
            "`backout {}` never came to {at}: {:?}\n{}",
            ran.args,
            ran.code,
            ran.stderr
        );
        ran
    }

    /// Starts `backout ARGS` on a terminal.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::run(&self.command(args))
    }

    /// `deploy --version V --yes --format json`.
    #[track_caller]
    pub fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes", "--format", "json"])
    }

    /// Deploys a good version that must become stable.
    #[track_caller]
    pub fn deployed(&self, version: &str) {
        self.deploy(version).expect(0);
    }

    /// The same in the background.
    pub fn deploying(&self, version: &str) -> Background {
        self.spawn(&["deploy", "--version", version, "--yes", "--format", "json"])
    }

    /// `rollback --yes --format json ARGS`.
    #[track_caller]
    pub fn rollback(&self, args: &[&str]) -> Ran {
        let all: Vec<&str> = ["rollback", "--yes", "--format", "json"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        self.run(&all)
    }

    /// The one environment of `status --format json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).expect(0).json()["environments"][0].clone()
    }

    /// `history --format json`, newest first.
    #[track_caller]
    pub fn history(&self) -> Vec<Value> {
        let json = self.run(&["history", "--format", "json"]).expect(0).json();
        json.as_array().unwrap().clone()
    }

    /// History in short: `#2 v2 rolled_back rejected`, newest first.
    #[track_caller]
    pub fn story(&self) -> Vec<String> {
        let row = |row: &Value| {
            let rejected = if row["rejected"] == true { " rejected" } else { "" };
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            format!(
                "#{} {} {} {}{rejected}",
                row["number"],
                text("kind"),
                text("version"),
                text("status")
            )
        };
        self.history().iter().map(row).collect()
    }

    /// The row of one deployment.
    #[track_caller]
    pub fn row(&self, number: u64) -> Value {
        self.history().into_iter().find(|row| row["number"] == number).unwrap()
    }

    /// Asks once as a user does.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        http::get(self.listen, path)
    }

    /// Versions that answer users, over some requests; `-` for an error.
    pub fn serving(&self) -> BTreeSet<String> {
        (0..12)
            .map(|_| match self.get("/") {
                Ok(answer) if answer.status == 200 => answer.body,
                _ => "-".to_owned(),
            })
            .collect()
    }

    /// Fails the test unless this version alone answers users.
    #[track_caller]
    pub fn expect_serving(&self, version: &str) {
        assert_eq!(self.serving(), BTreeSet::from([version.to_owned()]));
    }

    /// Users begin to ask.
    pub fn load(&self) -> Load {
        Load::on(self.listen)
    }

    /// Processes of this world.
    pub fn processes(&self) -> Vec<Process> {
        processes::of(self.temp.path())
    }

    /// Versions whose programs run, sorted, one for each process.
    pub fn running(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .processes()
            .iter()
            .filter(|process| process.has("demo-service"))
            .filter_map(|process| process.after("--version").map(str::to_owned))
            .collect();
        found.sort();
        found
    }

    /// Fails the test unless nothing runs. A proxy without routes ends within a second or two.
    #[track_caller]
    pub fn expect_nothing_running(&self) {
        wait_for("the end of the last process", || self.processes().is_empty().then_some(()));
    }

    /// The program of a version.
    #[track_caller]
    pub fn program_of(&self, version: &str) -> Process {
        wait_for(&format!("a program of {version}"), || {
            self.processes().into_iter().find(|process| {
                process.has("demo-service") && process.after("--version") == Some(version)
            })
        })
    }

    /// Supervisors.
    pub fn supervisors(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.has("supervise")).collect()
    }

    /// Proxies.
    pub fn proxies(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.has("proxy")).collect()
    }

    /// Ends everything at once, as a power cut does.
    pub fn end_all(&self) {
        processes::end_all(self.temp.path());
    }

    /// Waits until the open operation is at this step.
    #[track_caller]
    pub fn wait_for_step(&self, step: &str) {
        wait_for(&format!("step {step}"), || {
            (self.status()["operation"]["step"] == step).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.state_dir().exists() && self.folder().join("backout.yaml").exists() {
            let mut down = self.command(&["down", "--yes"]);
            down.stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(mut child) = down.spawn() {
                for _ in 0..1_000 {
                    if !matches!(child.try_wait(), Ok(None)) {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        processes::end_all(self.temp.path());
    }
}

/// A port that nothing listens on, outside of the range that the system takes ports from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin far from each other.
    // Below the ports that services are given, so that one is not taken between its choice and its use.
    let first = 12_000 + u16::try_from(std::process::id() * 151 % 6_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
