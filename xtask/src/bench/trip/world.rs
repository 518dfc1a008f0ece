//! One environment of the real binary: a folder, a state folder, a port, and commands in it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::service::Fails;
use crate::Outcome;
use crate::bench::process::free_address;

/// Where the proxy writes how long it took to be durable, after `after_us=`.
const LOG: &str = "state/proxy/proxy.log";

/// What differs between runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setting {
    /// How long the stage at 10 % lasts.
    pub(super) hold_s: u32,
    /// A Prometheus is configured, and does not answer.
    pub(super) dead_metrics: bool,
}

pub(super) struct World {
    folder: PathBuf,
    backout: PathBuf,
    pub(super) address: SocketAddr,
    setting: Setting,
}

impl World {
    pub(super) fn create(folder: PathBuf, backout: &Path, setting: Setting) -> Outcome<Self> {
        fs::create_dir_all(&folder)
            .map_err(|e| format!("failed to create {}: {e}", folder.display()))?;
        Ok(Self { folder, backout: backout.to_owned(), address: free_address()?, setting })
    }

    /// Deploys a version that fails like this; its exit code.
    pub(super) fn deploy(&self, version: &str, fails: Fails) -> Outcome<i32> {
        self.configure(fails)?;
        let output = self.run(&["deploy", "--version", version, "--yes"])?;
        output.status.code().ok_or_else(|| "the deploy was ended by a signal".to_owned())
    }

    /// As above; anything but a stable release is an error.
    pub(super) fn deploy_good(&self, version: &str, fails: Fails) -> Outcome<()> {
        self.configure(fails)?;
        let output = self.run(&["deploy", "--version", version, "--yes"])?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{version} did not become stable: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// Through which door the newest way back came: `proxy` for the trip.
    pub(super) fn surface(&self) -> Outcome<String> {
        let output = self.run(&["history", "--format", "json"])?;
        let rows: Value = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("failed to read the history: {e}"))?;
        Ok(rows[0]["surface"].as_str().unwrap_or("-").to_owned())
    }

    /// Milliseconds from the trip in memory to the trip on disk, if one fired.
    pub(super) fn durable_after_ms(&self) -> Option<f64> {
        let log = fs::read_to_string(self.folder.join(LOG)).ok()?;
        let (_, after) = log.rsplit_once("after_us=")?;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<f64>().ok().map(|us| us / 1000.0)
    }

    fn configure(&self, fails: Fails) -> Outcome<()> {
        let program = std::env::current_exe().map_err(|e| format!("failed to find myself: {e}"))?;
        let Setting { hold_s, dead_metrics } = self.setting;
        let metrics = match dead_metrics {
            true => {
                "  prometheus: { url: \"http://127.0.0.1:1\", interval: 1s, timeout: 1s, \
                 series: { queue: { value: 'queue{slot=\"{slot}\"}' } } }\n"
            }
            false => "",
        };
        let text = format!(
            "app: shop\n\
             target: {{ process: {{ command: [{program}, bench-release, \"{{port}}\", \
             \"{{version}}\", \"{fails}\"], port: auto }} }}\n\
             router: {{ builtin: {{ listen: \"{listen}\" }} }}\n\
             strategy: {{ canary: {{ stages: [10], hold: {hold_s}s, hold_max: {hold_max}s, \
             on_no_data: promote }} }}\n\
             health:\n  http: {{ url: \"http://127.0.0.1:{{port}}/health\" }}\n{metrics}\
             bake_time: 5s\n",
            program = program.display(),
            fails = fails.word(),
            listen = self.address,
            hold_max = hold_s + 10,
        );
        let path = self.folder.join("backout.yaml");
        fs::write(&path, text).map_err(|e| format!("failed to write {}: {e}", path.display()))
    }

    fn run(&self, args: &[&str]) -> Outcome<Output> {
        let mut command = Command::new(&self.backout);
        command.args(["--state-dir", "state"]).args(args);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.output().map_err(|e| format!("failed to run backout {}: {e}", args.join(" ")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        match self.run(&["down", "--yes"]) {
            Ok(output) if output.status.success() => {}
            _ => eprintln!("failed to stop what runs in {}", self.folder.display()),
        }
    }
}
