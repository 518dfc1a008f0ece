//! The proxy process: one per state folder, independent of whoever started it.
//!
//! Each *worker* has its own thread, runtime, connections and pools. The first one works on the caller's thread,
//! beside the *control* tasks (admin socket, dead-men, trips, files): under load that loop is awake, where a thread
//! of its own would have to be woken and wait for a processor while users meet the old weights. What may block there
//! (files) runs elsewhere. A route's table is replaced as a whole and found by workers through a generation number,
//! so that a change is in force for every request that begins after it.

mod admin;
mod body;
mod check;
mod commands;
mod connection;
mod control;
mod dead_man;
mod endpoints;
mod exchange;
mod forward;
mod headers;
mod limits;
mod listener;
mod persist;
mod pool;
mod reply;
mod route;
mod session_log;
mod socket;
mod start;
mod stats;
mod sticky;
mod subscribe;
mod trial;
mod trip;
mod upgrade;
mod validate;
mod weights;
mod worker;

use std::{io, path::PathBuf, rc::Rc};

use thiserror::Error;
use tokio::{
    net::UnixListener,
    runtime::{Builder, LocalOptions},
    signal::unix::{SignalKind, signal},
    task::spawn_local,
    time::{Instant, sleep},
};

pub use persist::LoadError;

use control::Control;
use start::Home;

/// How the proxy runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder, `<state>/proxy`; created where it is missing.
    pub dir: PathBuf,
    /// Stop once the last route was removed, or where none came within a minute.
    pub exit_when_idle: bool,
}

/// Why the proxy does not run.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Another process serves this folder.
    #[error("failed to start the proxy: another one already runs in {dir} (pid {pid}); use that one", dir = dir.display())]
    AlreadyRunning {
        /// The folder.
        dir: PathBuf,
        /// Its process id, as it wrote it; 0 if unknown.
        pid: u32,
    },
    /// The routes of an earlier run can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refuses something.
    #[error("failed to {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl ProxyError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }
}

/// Runs the proxy until SIGTERM, SIGINT or an admin's shutdown, and then until what is in flight has ended.
///
/// # Errors
///
/// [`ProxyError`], before any request was served.
pub fn run(options: Options) -> Result<(), ProxyError> {
    let home = Home::claim(&options.dir)?;
    let boot_id = dead_man::boot_id().map_err(ProxyError::io("read the id of this boot"))?;
    let stored = persist::load(&options.dir, &boot_id)?;
    let descriptors = start::raise_descriptor_limit();
    let hello = start::hello().map_err(ProxyError::io("draw a random id"))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(ProxyError::io("start the runtime"))?;
    let connections_max = descriptors.saturating_sub(limits::DESCRIPTORS_RESERVED) / 2;
    let (workers, orders) =
        worker::Workers::start(usize::try_from(connections_max).unwrap_or(usize::MAX))
            .map_err(ProxyError::io("start the workers"))?;
    let control = Rc::new(Control::new(options.dir, hello, boot_id, workers.clone()));
    let result = runtime.block_on(async {
        spawn_local(worker::work(0, workers, orders));
        let listener = home.listen()?;
        control.restore(stored).await;
        serve(&control, listener, options.exit_when_idle).await
    });
    control.workers.stop();
    home.leave();
    result
}

async fn serve(
    control: &Rc<Control>,
    listener: UnixListener,
    exit_when_idle: bool,
) -> Result<(), ProxyError> {
    let catch = |kind| signal(kind).map_err(ProxyError::io("catch signals"));
    let (mut terminate, mut interrupt) =
        (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    // The terminal that it was started from may close.
    let _hangup = catch(SignalKind::hangup())?;
    let admin = spawn_local(admin::serve(control.clone(), listener));
    spawn_local(dead_man::watch(control.clone()));
    spawn_local(control.clone().housekeeping(exit_when_idle));
    let mut stopping = control.stopping.subscribe();
    tracing::info!(pid = control.hello.pid, instance = control.hello.instance, "the proxy serves");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    control.stop();
    admin.abort();
    for record in control.records.lock().await.values_mut() {
        record.listener = None;
        control.workers.close(record.route.id);
    }
    let deadline = Instant::now() + limits::STOP_TIMEOUT;
    // The workers are told by a message; the lame time outlasts that.
    sleep(limits::LAME_TIME).await;
    while control.workers.connections() > 0 && Instant::now() < deadline {
        sleep(limits::SWEEP).await;
    }
    tracing::info!(broken_off = control.workers.connections(), "the proxy stops");
    Ok(())
}
