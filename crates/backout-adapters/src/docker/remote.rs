//! The engine of another host: its socket, forwarded over the one connection to that host.
//!
//! The command that runs is the one of this machine, and so are its configuration and its logins to registries. Only
//! where it finds the engine is ours to say, for that one child.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::ports::{
    AdapterError, ErrorClass, Host, HostChange, HostCommand, HostEnded, StepCx,
};
use tokio::sync::Mutex;

/// Looks at the host, beside the calls of the command.
const LOOK: Duration = Duration::from_secs(30);

/// Variables that would lead the command to another engine.
const LEADING: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
];

/// Prints a word and the socket: what is written in `backout.yaml`, else what the login's `DOCKER_HOST` names, else the
/// usual one, else the one of a rootless engine.
const FIND: &str = r#"s=$1
if [ -z "$s" ]; then case ${DOCKER_HOST-} in unix:///*) s=${DOCKER_HOST#unix://} ;; esac; fi
if [ -z "$s" ]; then
    s=/var/run/docker.sock r=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock
    if [ ! -w "$s" ] && [ -S "$r" ]; then s=$r; fi
fi
case $s in /*) ;; *) s=$HOME/$s ;; esac
if [ ! -e "$s" ]; then w=missing; elif [ ! -S "$s" ]; then w=other; elif [ ! -w "$s" ]; then w=denied; else w=ready; fi
printf '%s %s\n' "$w" "$s""#;

/// What the command that changes something is about.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    unit: Unit,
    step: String,
    epoch: u64,
}

impl Fence {
    pub(super) fn of(unit: &Unit, cx: &StepCx) -> Self {
        Self { unit: unit.clone(), step: format!("{}/docker", cx.step_id), epoch: cx.epoch }
    }
}

/// Another host, and where its engine listens.
pub(super) struct Remote {
    pub(super) host: Arc<dyn Host>,
    /// As written; empty: wherever it is.
    wanted: String,
    found: Mutex<Option<String>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the engine of {}", self.host.name())
    }
}

impl Remote {
    pub(super) fn new(host: Arc<dyn Host>, wanted: Option<String>) -> Self {
        Self { host, wanted: wanted.unwrap_or_default(), found: Mutex::default() }
    }

    /// The socket here that leads to the engine there.
    pub(super) async fn socket(&self) -> Result<PathBuf, AdapterError> {
        let mut found = self.found.lock().await;
        let there = match found.as_ref() {
            Some(there) => there.clone(),
            None => found.insert(self.find().await?).clone(),
        };
        drop(found);
        self.host.forward_socket(&there).await
    }

    async fn find(&self) -> Result<String, AdapterError> {
        let name = self.host.name();
        let command = HostCommand::look(["sh", "-c", FIND, "sh", &self.wanted], LOOK);
        let output = self.host.run(&command).await?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let Some((word, path)) =
            said.split_once(' ').filter(|_| output.ended == HostEnded::Exited(0))
        else {
            let message = format!("failed to find Docker on {name}: `{said}`");
            return Err(AdapterError::transient(message));
        };
        let hint = "name the socket of its Docker Engine with `ssh.docker_socket`";
        match word {
            "ready" => Ok(path.to_owned()),
            // It comes with the daemon.
            "missing" => Err(AdapterError::transient(format!(
                "failed to reach Docker on {name}: {}, there is no socket `{path}`",
                super::NOT_RUNNING
            ))
            .with_hint(format!("start the Docker daemon there, or {hint}"))),
            "denied" => Err(AdapterError::permanent(format!(
                "failed to use Docker on {name}: the login may not use `{path}`"
            ))
            .with_hint(format!("make the login a member of the group docker there, or {hint}"))),
            _ => Err(AdapterError::permanent(format!(
                "failed to use Docker on {name}: `{path}` is not a socket"
            ))
            .with_hint(hint)),
        }
    }

    /// The caller's variables, but for those that lead elsewhere.
    pub(super) fn env(own: &[(OsString, OsString)], socket: &Path) -> Vec<(OsString, OsString)> {
        let leads = |name: &OsString| LEADING.iter().any(|leading| name == leading);
        let kept = own.iter().filter(|(name, _)| !leads(name)).cloned();
        let mut address = OsString::from("unix://");
        address.push(socket);
        kept.chain([("DOCKER_HOST".into(), address)]).collect()
    }

    /// Refused by the host where somebody with a newer lease has worked on the environment.
    pub(super) async fn require(&self, fence: &Fence) -> Result<(), AdapterError> {
        let change = HostChange {
            unit: fence.unit.clone(),
            step: fence.step.clone(),
            epoch: fence.epoch,
            revert: None,
        };
        let command = HostCommand { change: Some(change), ..HostCommand::look(["true"], LOOK) };
        match self.host.run(&command).await {
            Ok(_) => Ok(()),
            // Nothing hangs on this call itself.
            Err(error) if error.class == ErrorClass::Unknown => {
                Err(AdapterError { class: ErrorClass::Transient, ..error })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the connection has held all the time since `socket` was given: what the command said is the engine's
    /// word only then.
    pub(super) async fn held(&self, socket: &Path) -> Result<(), String> {
        let now = match self.host.exists("/").await {
            Ok(_) => self.socket().await,
            Err(error) => Err(error),
        };
        match now {
            Ok(now) if now == socket => Ok(()),
            Ok(_) => Err("the connection broke off".to_owned()),
            Err(error) => Err(error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_callers_leads_to_another_engine() {
        let of = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let own = [
            of("PATH", "/bin"),
            of("DOCKER_HOST", "tcp://elsewhere"),
            of("DOCKER_CONTEXT", "other"),
            of("DOCKER_TLS_VERIFY", "1"),
            of("DOCKER_CONFIG", "/logins"),
        ];
        let env = Remote::env(&own, Path::new("/run/x/f0"));
        let expected = [
            of("PATH", "/bin"),
            of("DOCKER_CONFIG", "/logins"),
            of("DOCKER_HOST", "unix:///run/x/f0"),
        ];
        assert_eq!(env, expected);
    }

    /// What a host with these variables would say.
    fn find(wanted: &str, env: &[(&str, &Path)]) -> String {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", FIND, "sh", wanted]);
        command.env_remove("DOCKER_HOST").env_remove("XDG_RUNTIME_DIR");
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let said = command.output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_socket_is_the_written_one_else_the_logins_else_the_usual_one() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(place("docker.sock")).unwrap();
        std::fs::write(place("file"), "").unwrap();
        let (home, login) =
            (("HOME", folder.path()), format!("unix://{}", place("gone").display()));
        let login = ("DOCKER_HOST", Path::new(&login));
        let is = |word: &str, name: &str| format!("{word} {}", place(name).display());
        assert_eq!(find("docker.sock", &[home, login]), is("ready", "docker.sock"));
        assert_eq!(find(place("file").to_str().unwrap(), &[home, login]), is("other", "file"));
        assert_eq!(find("", &[home, login]), is("missing", "gone"));
        let usual = Path::new("/var/run/docker.sock");
        let rootless = find("", &[home, ("XDG_RUNTIME_DIR", folder.path())]);
        match usual.exists() {
            true => assert_eq!(rootless, format!("ready {}", usual.display())),
            false => assert_eq!(rootless, is("ready", "docker.sock")),
        }
        let tcp = ("DOCKER_HOST", Path::new("tcp://elsewhere:2375"));
        assert_eq!(find("", &[home, tcp, ("XDG_RUNTIME_DIR", folder.path())]), rootless);
    }
}
