//! `backout demo`: a good release, a bad one, and the way back, on real processes and real requests.

mod findings;
mod folder;
mod janitor;
mod load;
mod narrator;
mod service;
mod story;
mod summary;
mod tally;

use std::io::Write as _;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{Format, Global};
use crate::cli::report::json;
use crate::cli::session;
use crate::error::CommandError;
use crate::exit_code;
use folder::DemoFolder;
use janitor::Janitor;
use story::Told;

pub use janitor::run as run_janitor;
pub use service::run as run_service;

/// A demo that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(180);

/// `demo`.
///
/// # Errors
/// When it could not run, or was interrupted. Nothing is left behind either way.
pub async fn run(global: &Global) -> Result<u8, CommandError> {
    let interrupted = interruptions()?;
    let exe = session::this_program()?;
    let folder = DemoFolder::choose()?;
    // Before there is anything to clean up.
    let janitor = Janitor::hire(&exe, &folder.path)?;
    if let Err(error) = folder.make() {
        janitor.dismiss();
        return Err(error);
    }
    introduce(&folder);
    let told = tokio::select! {
        told = in_time(&folder) => told,
        name = interrupted => Err(CommandError::failed(format!("{name}: the demo was stopped and removed"))),
    };
    let cleaned = janitor::clean(&folder.path).await;
    if cleaned.is_ok() {
        janitor.dismiss();
    }
    let told = told?;
    cleaned?;
    Ok(show(global, &told, &exe))
}

async fn in_time(folder: &DemoFolder) -> Result<Told, CommandError> {
    // The kernel's link is right also where the file was replaced by a newer build.
    folder.fill(std::path::Path::new("/proc/self/exe"))?;
    match tokio::time::timeout(LIMIT, story::tell(folder)).await {
        Ok(told) => told,
        Err(_) => Err(CommandError::failed(format!(
            "failed to end within {} s: the demo was stopped and removed",
            LIMIT.as_secs()
        ))),
    }
}

/// Ends with the first signal that asks for an end.
fn interruptions() -> Result<impl Future<Output = &'static str>, CommandError> {
    let listen = |kind: SignalKind| {
        signal(kind).map_err(|e| CommandError::failed(format!("failed to hear signals: {e}")))
    };
    let (mut interrupt, mut terminate, mut hangup) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "terminated",
            _ = hangup.recv() => "the terminal is gone",
        }
    })
}

fn introduce(folder: &DemoFolder) {
    let bold = clap::builder::styling::Style::new().bold();
    let _ = writeln!(
        anstream::stderr(),
        "{bold}Backout demo{bold:#}: a good release, a bad one, and the way back.\n\
         Real processes, real requests: {}/s through {}.\n\
         Everything lies in {} and is removed at the end.",
        load::RATE,
        folder.listen,
        folder.path.display()
    );
}

fn show(global: &Global, told: &Told, exe: &std::path::Path) -> u8 {
    let differences = findings::differences(told);
    match global.format {
        Format::Json => json::print(&summary::document(told, &differences)),
        Format::Table => {
            let mut out = anstream::stdout().lock();
            let _ = out.write_all(summary::picture(told, &differences).as_bytes());
            if differences.is_empty() {
                let _ = out.write_all(summary::next_steps(exe).as_bytes());
            }
            let _ = out.flush();
        }
    }
    if differences.is_empty() { exit_code::OK } else { exit_code::FAILED }
}
