//! One connection to a host, kept for as long as it holds.
//!
//! It is an `ssh` of ours with a control socket, over which commands get channels of their own. Its own command reads
//! our end of a pipe and nothing else: when this process is gone, however it ended, that command ends, and with it the
//! connection, the process and the socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backout_core::ports::AdapterError;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::SshOptions;
use super::failure::{command_for, not_connected};
use super::folder::ControlFolder;
use super::request::HELPER;
use crate::host::{Captured, signal_group};

/// What a login may print before our own first line.
const MAX_NOISE: usize = 64 << 10;
const KEEP_SAID: usize = 8 << 10;
/// A login with its shell, beyond the time for the connection.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// Between the end of the anchor and that of ssh.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A connection that stands.
pub(super) struct Link {
    session: openssh::Session,
    helper: String,
    dead: watch::Receiver<bool>,
    anchor: Mutex<Option<ChildStdin>>,
    group: u32,
    /// Sockets of the host that are forwarded already, with the sockets here.
    forwards: tokio::sync::Mutex<BTreeMap<String, PathBuf>>,
    folder: ControlFolder,
}

impl Link {
    /// Connects, and brings the helper over if the host does not have it yet.
    pub(super) async fn connect(options: &SshOptions) -> Result<Self, AdapterError> {
        let folder = ControlFolder::make()?;
        let socket = folder.path().join("m");
        let mut child = spawn(options, &socket)?;
        let group = child.id().unwrap_or_default();
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(AdapterError::transient("failed to talk to ssh: it has no pipes"));
        };
        let said = Arc::new(Mutex::new(Captured::new(KEEP_SAID)));
        let stderr = tokio::spawn(listen(stderr, said.clone()));
        let mut stdout = BufReader::new(stdout);
        let limit = options.connect_timeout + LOGIN_PATIENCE;
        let greeted = tokio::time::timeout(limit, greet(&mut stdin, &mut stdout)).await;
        let words = |said: &Mutex<Captured>| {
            said.lock().unwrap_or_else(PoisonError::into_inner).last_text(KEEP_SAID)
        };
        let call = command_for(&options.name, options.config.as_deref());
        let base = match greeted {
            Ok(Some(Greeting::Ready(base))) => base,
            other => {
                drop(stdin);
                let ended = end(&mut child, group, other.is_err()).await;
                let _ = tokio::time::timeout(CLOSE_PATIENCE, stderr).await;
                return Err(refused(options, &call, other.ok().flatten(), &words(&said), ended));
            }
        };
        let (sender, dead) = watch::channel(false);
        tokio::spawn(async move {
            // Nothing more is said there; the pipe must not fill up if something is.
            let mut rest = [0; 4096];
            while let Ok(1..) = stdout.read(&mut rest).await {}
            let _ = child.wait().await;
            let _ = sender.send(true);
        });
        Ok(Self {
            session: openssh::Session::resume_mux(socket.into_boxed_path(), None),
            helper: format!("{base}/lib/{}.sh", helper_hash()),
            dead,
            anchor: Mutex::new(Some(stdin)),
            group,
            forwards: tokio::sync::Mutex::default(),
            folder,
        })
    }

    /// It has ended.
    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Waits until it has ended, for at most so long.
    pub(super) async fn ended_within(&self, patience: Duration) -> bool {
        let mut dead = self.dead.clone();
        let ended = tokio::time::timeout(patience, dead.wait_for(|dead| *dead)).await;
        ended.is_ok()
    }

    /// The session in which channels are opened.
    pub(super) fn session(&self) -> &openssh::Session {
        &self.session
    }

    /// The socket here that leads to a socket of the host.
    pub(super) async fn forward(&self, remote: &str) -> Result<PathBuf, openssh::Error> {
        let mut forwards = self.forwards.lock().await;
        if let Some(path) = forwards.get(remote) {
            return Ok(path.clone());
        }
        let path = self.folder.path().join(format!("f{}", forwards.len()));
        let (from, to) = (path.as_path(), Path::new(remote));
        self.session.request_port_forward(openssh::ForwardType::Local, from, to).await?;
        forwards.insert(remote.to_owned(), path.clone());
        Ok(path)
    }

    /// What a channel runs.
    pub(super) fn command(&self, nonce: &str) -> String {
        format!("exec /bin/sh '{}' {nonce}", self.helper)
    }

    fn let_go(&self) {
        drop(self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Ends it in order.
    pub(super) async fn close(&self) {
        self.let_go();
        if !self.ended_within(Duration::from_secs(1)).await {
            signal_group(self.group, Signal::TERM);
        }
        if !self.ended_within(CLOSE_PATIENCE).await {
            signal_group(self.group, Signal::KILL);
        }
        // Whoever still holds the link, at the end of the process too, holds no folder up.
        self.folder.remove();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.let_go();
        if !self.is_dead() {
            signal_group(self.group, Signal::TERM);
        }
    }
}

fn spawn(options: &SshOptions, socket: &Path) -> Result<Child, AdapterError> {
    let seconds = options.connect_timeout.as_secs().max(1);
    let settings = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        // Nothing is written into the user's folder.
        "UpdateHostKeys=no".to_owned(),
        "ControlPersist=no".to_owned(),
        "ConnectionAttempts=1".to_owned(),
        format!("ConnectTimeout={seconds}"),
        format!("ServerAliveInterval={}", options.alive_interval.as_secs().max(1)),
        format!("ServerAliveCountMax={}", options.alive_count.max(1)),
        "ClearAllForwardings=yes".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ForwardX11=no".to_owned(),
        "PermitLocalCommand=no".to_owned(),
        "RemoteCommand=none".to_owned(),
        "RequestTTY=no".to_owned(),
        "EscapeChar=none".to_owned(),
        // What is forwarded is for this user only, whatever the configuration says.
        "StreamLocalBindMask=0177".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ];
    let mut command = Command::new("ssh");
    if let Some(config) = &options.config {
        command.arg("-F").arg(config);
    }
    command.arg("-M").arg("-S").arg(socket);
    command.args(settings.iter().flat_map(|setting| ["-o", setting]));
    command.args(["--", options.name.as_str(), &bootstrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C at a terminal is for us to understand.
    command.process_group(0);
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            AdapterError::permanent("failed to start `ssh`: no such program on PATH")
                .with_hint("install openssh-client")
        }
        _ => AdapterError::transient(format!("failed to start `ssh`: {error}")),
    })
}

fn helper_hash() -> String {
    backout_core::ids::hex(&Sha256::digest(HELPER.as_bytes())[..8])
}

/// The command of the connection itself: within single quotes it holds nothing that any login shell would change.
fn bootstrap() -> String {
    let hash = helper_hash();
    format!(
        "exec /bin/sh -c 'umask 077; b=\"$HOME/.local/state/backout-host\"; l=\"$b/lib/{hash}.sh\"; \
         for t in setsid timeout flock dd mkdir mv rm cat head tail wc date sync sleep chmod; do \
         command -v $t > /dev/null || {{ echo \"BACKOUT missing $t\"; exit 0; }}; done; \
         [ -r /proc/self/stat ] || {{ echo \"BACKOUT missing /proc\"; exit 0; }}; \
         mkdir -p \"$b/lib\" \"$b/units\" || {{ echo \"BACKOUT folder $b\"; exit 0; }}; \
         if ! [ -s \"$l\" ]; then echo \"BACKOUT send $b\"; n=; while IFS= read -r n; do \
         [ \"$n\" = \"#end {hash}\" ] && break; printf \"%s\\n\" \"$n\"; done > \"$l.$$\"; \
         [ \"$n\" = \"#end {hash}\" ] && mv -f \"$l.$$\" \"$l\" || {{ rm -f \"$l.$$\"; echo \"BACKOUT folder $b/lib\"; exit 0; }}; fi; \
         echo \"BACKOUT ready $b\"; exec cat > /dev/null'"
    )
}

/// What the host says first.
#[derive(Debug)]
enum Greeting {
    /// It has the helper, below this folder.
    Ready(String),
    /// Something is missing there.
    Missing(String),
    /// A folder can't be used.
    Folder(String),
}

async fn greet(stdin: &mut ChildStdin, stdout: &mut BufReader<ChildStdout>) -> Option<Greeting> {
    let mut noise = 0;
    loop {
        let mut line = Vec::new();
        let read = stdout.take(MAX_NOISE as u64).read_until(b'\n', &mut line).await.ok()?;
        noise += read;
        if read == 0 || noise > MAX_NOISE {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        let Some((word, rest)) =
            line.trim_end().strip_prefix("BACKOUT ").and_then(|words| words.split_once(' '))
        else {
            continue;
        };
        match word {
            "ready" if is_plain(rest) => return Some(Greeting::Ready(rest.to_owned())),
            "send" => {
                let text = format!("{HELPER}\n#end {}\n", helper_hash());
                stdin.write_all(text.as_bytes()).await.ok()?;
                stdin.flush().await.ok()?;
            }
            "missing" => return Some(Greeting::Missing(rest.to_owned())),
            _ => return Some(Greeting::Folder(rest.to_owned())),
        }
    }
}

/// A path that every login shell leaves as it is between single quotes.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['\'', '\\', '!']) && !path.contains(char::is_control)
}

async fn listen(mut stderr: tokio::process::ChildStderr, said: Arc<Mutex<Captured>>) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut bytes).await {
        said.lock().unwrap_or_else(PoisonError::into_inner).push(&bytes[..n]);
    }
}

/// Ends an ssh that did not get us in; whether it had ended by itself with its own code for a failed connection.
async fn end(child: &mut Child, group: u32, hangs: bool) -> bool {
    if hangs {
        signal_group(group, Signal::TERM);
    }
    if let Ok(Ok(status)) = tokio::time::timeout(CLOSE_PATIENCE, child.wait()).await {
        return status.code() == Some(255);
    }
    signal_group(group, Signal::KILL);
    let _ = tokio::time::timeout(CLOSE_PATIENCE, child.wait()).await;
    false
}

fn refused(
    options: &SshOptions,
    call: &str,
    greeting: Option<Greeting>,
    said: &str,
    by_ssh: bool,
) -> AdapterError {
    let name = &options.name;
    match greeting {
        Some(Greeting::Missing(what)) => AdapterError::permanent(format!(
            "failed to use {name}: it has no `{what}`"
        ))
        .with_hint("a host needs Linux with setsid and flock (util-linux) and timeout (coreutils), or busybox"),
        Some(Greeting::Folder(what) | Greeting::Ready(what)) => AdapterError::permanent(format!(
            "failed to use {name}: the folder `{what}` can't be used there: {}",
            crate::host::printable(said.as_bytes())
        ))
        .with_hint("the login needs a home folder that it may write to"),
        None if by_ssh || !said.is_empty() => not_connected(name, call, said),
        None => AdapterError::transient(format!(
            "failed to reach {name}: it did not let us in within {} s",
            (options.connect_timeout + LOGIN_PATIENCE).as_secs()
        ))
        .with_hint(format!("`{call} true` must end by itself and print nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_login_shell_sees_anything_special_in_the_bootstrap() {
        let command = bootstrap();
        let inner = command.strip_prefix("exec /bin/sh -c '").unwrap().strip_suffix('\'').unwrap();
        assert!(!inner.contains(['\'', '\n']), "{inner}");
        // csh has a history even between single quotes; a backslash before anything but n or itself is left by fish.
        assert!(
            !inner.replace("! [", "").contains('!') && !inner.replace("\\n", "").contains('\\')
        );
        assert!(!HELPER.lines().any(|line| line.starts_with("#end ")));
    }
}
