//! A command on a terminal of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{PATIENCE, wait_until};

/// A terminal with a command in its foreground.
pub struct Terminal {
    child: Child,
    master: Option<Arc<File>>,
    reader: Option<JoinHandle<()>>,
    closed: Arc<AtomicBool>,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts the command as leader of a session of its own whose terminal this is.
    pub fn run(command: &Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // `setsid --ctty` makes standard input the terminal that signals come from.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.current_dir(command.get_current_dir().unwrap());
        let open = || {
            let slave = File::options().read(true).write(true).open(&name).unwrap();
            Stdio::from(OwnedFd::from(slave))
        };
        wrapped.stdin(open()).stdout(open()).stderr(open());
        let child = wrapped.spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let closed = Arc::new(AtomicBool::new(false));
        let master = Arc::new(File::from(master));
        let reader = {
            let (master, seen, closed) = (master.clone(), seen.clone(), closed.clone());
            std::thread::spawn(move || read(&master, &seen, &closed))
        };
        Self { child, master: Some(master), reader: Some(reader), closed, seen }
    }

    /// Closes it as a person closes the window.
    pub fn close(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.master = None;
    }

    /// All that it shows.
    pub fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it shows these words.
    #[track_caller]
    pub fn wait_to_show(&self, words: &str) {
        wait_until(&format!("{words:?} on the terminal"), || self.seen().contains(words));
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        let mut master: &File = self.master.as_ref().unwrap();
        master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the command's end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.seen());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.close();
    }
}

/// Collects what it shows; ends once nobody has it open any more, or it is closed.
fn read(mut master: &File, seen: &Mutex<String>, closed: &AtomicBool) {
    let mut bytes = [0; 4096];
    let period = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !closed.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut fds, Some(&period)).unwrap() == 0 {
            continue;
        }
        let Ok(count @ 1..) = master.read(&mut bytes) else { return };
        seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}
