//! One command under ptrace: its system calls that change something are seen, counted over all of its threads,
//! and can be refused, or be the last thing that it tries.
//!
//! A preloaded library would miss the calls that do not go through the C library (`rustix` makes its own), and
//! `strace -e inject=…:when=N` counts for each thread. Processes that the command starts are not traced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::Command;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A call that changes something, as it is about to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counted from one over the whole process.
    pub nth: usize,
    pub name: &'static str,
    /// What the descriptor is, or the path.
    pub subject: String,
    /// The second path of a rename.
    pub second: String,
    /// Where a write goes; none for one at the end or at the descriptor's own place.
    pub offset: Option<u64>,
    /// What is written, if it is a file.
    pub bytes: Vec<u8>,
}

impl Call {
    /// One that is only known by what was noted of it.
    pub fn named(nth: usize, name: &str, subject: &str) -> Self {
        let names =
            ["write", "pwrite", "truncate", "allocate", "writev", "open", "mkdir", "rename"];
        let others = ["link", "symlink", "fsync", "start"];
        let known = names.into_iter().chain(others).find(|known| *known == name);
        Self {
            nth,
            name: known.unwrap_or("other"),
            subject: subject.to_owned(),
            second: String::new(),
            offset: None,
            bytes: Vec::new(),
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Go,
    /// It is not made, and the whole process ends here.
    Kill,
    /// It is not made, and gives this error.
    Fail(i32),
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// Whoever is asked about each call, and told what it gave.
pub trait Watch {
    /// Before it is made.
    fn about_to(&mut self, call: &Call) -> Fate;
    /// After it was made.
    fn made(&mut self, _call: &Call, _result: i64) {}
}

impl<F: FnMut(&Call) -> Fate> Watch for F {
    fn about_to(&mut self, call: &Call) -> Fate {
        self(call)
    }
}

/// Runs a command to its end.
pub fn trace(command: &Command, watch: &mut (dyn Watch + Send)) -> Ended {
    // A thread of its own: only what it started is waited for there.
    std::thread::scope(|scope| scope.spawn(|| Tracer::start(command).run(watch)).join().unwrap())
}

struct Tracer {
    main: Pid,
    /// After `exec`: before, it is a shell that waits to be traced.
    begun: bool,
    calls: usize,
    /// What each thread is doing.
    open: BTreeMap<Pid, (Call, Fate)>,
}

impl Tracer {
    #[allow(clippy::zombie_processes, reason = "it is waited for by its id: the tracer does")]
    fn start(command: &Command) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let out = command.get_current_dir().unwrap().join("../out");
        let file = |name: &str| {
            let options = fs::OpenOptions::new().create(true).append(true).open(out.join(name));
            options.unwrap()
        };
        shell.stdin(std::process::Stdio::null());
        shell.stdout(file("traced.stdout")).stderr(file("traced.stderr"));
        let child = shell.spawn().unwrap();
        let main = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let stopped = waitpid(main, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(main, options).unwrap();
        kill(main, Signal::SIGCONT).unwrap();
        Self { main, begun: false, calls: 0, open: BTreeMap::new() }
    }

    fn run(mut self, watch: &mut dyn Watch) -> Ended {
        let any = Pid::from_raw(-1);
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(any, Some(flags)).unwrap() {
                WaitStatus::Exited(pid, code) if pid == self.main => {
                    return Ended { code: Some(code), signal: None };
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    return Ended { code: None, signal: Some(signal as i32) };
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.at_call(pid, watch);
                    resume(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, event) => {
                    self.begun |= event == libc::PTRACE_EVENT_EXEC;
                    resume(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)),
                _ => {}
            }
        }
    }

    fn at_call(&mut self, thread: Pid, watch: &mut dyn Watch) {
        // Killed meanwhile by another thread's call: there is nothing to read any more.
        let Ok(mut registers) = ptrace::getregs(thread) else { return };
        let result = registers.rax.cast_signed();
        if result != -i64::from(libc::ENOSYS) || self.open.contains_key(&thread) {
            if let Some((call, fate)) = self.open.remove(&thread) {
                if let Fate::Fail(errno) = fate {
                    registers.rax = (-i64::from(errno)).cast_unsigned();
                    let _ = ptrace::setregs(thread, registers);
                } else {
                    watch.made(&call, result);
                }
            }
            return;
        }
        if !self.begun {
            return;
        }
        let Some(mut call) = describe(self.main, &registers) else { return };
        self.calls += 1;
        call.nth = self.calls;
        let fate = watch.about_to(&call);
        match fate {
            Fate::Go => {}
            Fate::Kill => {
                let _ = kill(self.main, Signal::SIGKILL);
            }
            Fate::Fail(_) => {
                registers.orig_rax = u64::MAX;
                let _ = ptrace::setregs(thread, registers);
            }
        }
        self.open.insert(thread, (call, fate));
    }
}

fn resume(thread: Pid, signal: Option<Signal>) {
    // A thread that was killed meanwhile can't be resumed, and need not be.
    let _ = ptrace::syscall(thread, signal);
}

/// The call in the registers, if it is one of those that change something outside of the process.
fn describe(process: Pid, registers: &libc::user_regs_struct) -> Option<Call> {
    let number = registers.orig_rax.cast_signed();
    let (first, second, third, fourth) =
        (registers.rdi, registers.rsi, registers.rdx, registers.r10);
    let path = |address: u64| read_text(process, address);
    let mut call = Call {
        nth: 0,
        name: "",
        subject: String::new(),
        second: String::new(),
        offset: None,
        bytes: Vec::new(),
    };
    let named = |call: Call, name| Some(Call { name, ..call });
    match number {
        libc::SYS_write
        | libc::SYS_pwrite64
        | libc::SYS_writev
        | libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_ftruncate
        | libc::SYS_fallocate => {
            call.subject = descriptor(process, first)?;
            let is_file = call.subject.starts_with('/');
            if is_file && matches!(number, libc::SYS_write | libc::SYS_pwrite64) {
                call.bytes = read_bytes(process, second, usize::try_from(third).unwrap());
            }
            call.offset = match number {
                libc::SYS_pwrite64 => Some(fourth),
                libc::SYS_ftruncate => Some(second),
                libc::SYS_write => position(process, first),
                _ => None,
            };
            named(call, name_of(number))
        }
        libc::SYS_rename | libc::SYS_link | libc::SYS_symlink => {
            (call.subject, call.second) = (path(first), path(second));
            named(call, name_of(number))
        }
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
            (call.subject, call.second) = (path(second), path(fourth));
            named(call, name_of(number))
        }
        libc::SYS_unlink | libc::SYS_mkdir | libc::SYS_rmdir => {
            call.subject = path(first);
            named(call, name_of(number))
        }
        libc::SYS_unlinkat | libc::SYS_mkdirat => {
            call.subject = path(second);
            named(call, name_of(number))
        }
        libc::SYS_openat if third & OPEN_CHANGES != 0 => {
            call.subject = path(second);
            call.offset = Some(third);
            named(call, "open")
        }
        libc::SYS_clone if first & THREAD == 0 => named(call, "start"),
        libc::SYS_clone3 if read_u64(process, first) & THREAD == 0 => named(call, "start"),
        libc::SYS_vfork | libc::SYS_fork => named(call, "start"),
        _ => None,
    }
}

const THREAD: u64 = 0x0001_0000;
/// Opening with `O_CREAT` or `O_TRUNC`.
const OPEN_CHANGES: u64 = 0o100 | 0o1000;

fn name_of(number: i64) -> &'static str {
    match number {
        libc::SYS_write => "write",
        libc::SYS_pwrite64 => "pwrite",
        libc::SYS_writev => "writev",
        libc::SYS_sendto | libc::SYS_sendmsg => "send",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_ftruncate => "truncate",
        libc::SYS_fallocate => "allocate",
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_link | libc::SYS_linkat => "link",
        libc::SYS_symlink => "symlink",
        libc::SYS_unlink | libc::SYS_unlinkat => "unlink",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
        libc::SYS_rmdir => "rmdir",
        _ => "other",
    }
}

/// What a descriptor is; none for what only wakes threads, and for what people are told.
fn descriptor(process: Pid, number: u64) -> Option<String> {
    if matches!(number, 1 | 2) {
        return None;
    }
    let link = fs::read_link(format!("/proc/{process}/fd/{number}")).ok()?;
    let text = link.to_string_lossy().into_owned();
    (text.starts_with('/') || text.starts_with("socket:")).then_some(text)
}

fn position(process: Pid, number: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let appends = u64::from_str_radix(flags.trim(), 8).ok()? & 0o2000 != 0;
    let position = text.lines().find_map(|line| line.strip_prefix("pos:"))?;
    if appends { None } else { position.trim().parse().ok() }
}

fn read_bytes(process: Pid, address: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = fs::File::open(format!("/proc/{process}/mem")).and_then(|mut memory| {
        memory.seek(SeekFrom::Start(address))?;
        memory.read_exact(&mut bytes)
    });
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

fn read_u64(process: Pid, address: u64) -> u64 {
    read_bytes(process, address, 8).try_into().map_or(0, u64::from_le_bytes)
}

fn read_text(process: Pid, address: u64) -> String {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    let mut at = address;
    while text.len() < 4096 {
        let count = PAGE - at % PAGE;
        let part = read_bytes(process, at, usize::try_from(count).unwrap());
        if part.is_empty() {
            break;
        }
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&part[..end]);
            break;
        }
        text.extend(part);
        at += count;
    }
    String::from_utf8_lossy(&text).into_owned()
}
