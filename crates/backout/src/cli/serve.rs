//! `backout serve`: the standing controller.

mod fleet;
pub(super) mod log;
mod manager;
mod unit;

use std::io::Write as _;
use std::sync::Arc;

use backout_engine::{Leave, run_controller};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::args::{self, Format, Global};
use super::report::json::print as print_json;
use super::session;
use crate::error::CommandError;
use crate::exit_code;
use crate::registry::holder_for_this_process;
use fleet::Files;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Serve) -> Result<u8, CommandError> {
    if args.print_unit {
        return print_unit(global);
    }
    log::begin(global);
    // Before anything else, so that no signal ends it half-way.
    let (leave, again) = listen()?;
    let (state, ledger) = session::open_ledger(global).await?;
    let failed = |error: &dyn std::fmt::Display| CommandError::failed(error.to_string());
    let holder = holder_for_this_process(fleet::ACTIVITY, false).map_err(|error| failed(&error))?;
    let id = ledger.id().await.map_err(|error| session::ledger_error(&error))?;
    let mut files = Files::new(global, state.clone(), ledger.clone())?;
    files.first_look().await?;
    tracing::info!(
        controller = holder.label, ledger = %id, state_dir = %state.path.display(),
        "the controller stands by"
    );
    let mut told = manager::Told::default();
    run_controller(&mut files, ledger, &holder, leave, &again, |count| told.alive(count)).await;
    tracing::info!(controller = holder.label, "the controller has left");
    Ok(exit_code::OK)
}

/// SIGTERM and SIGINT let it leave, a second one more quickly; SIGHUP reads the files again.
fn listen() -> Result<(watch::Receiver<Leave>, Arc<Notify>), CommandError> {
    let stream = |kind: SignalKind| -> Result<Signal, CommandError> {
        signal(kind)
            .map_err(|error| CommandError::failed(format!("failed to listen for signals: {error}")))
    };
    let (mut term, mut int) = (stream(SignalKind::terminate())?, stream(SignalKind::interrupt())?);
    let mut hangup = stream(SignalKind::hangup())?;
    let (leave, leaves) = watch::channel(Leave::No);
    let again = Arc::new(Notify::new());
    let wakes = again.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = term.recv() => {}
                Some(()) = int.recv() => {}
                Some(()) = hangup.recv() => {
                    tracing::info!("the files are read again");
                    wakes.notify_one();
                    continue;
                }
                else => return,
            }
            let next = if *leave.borrow() == Leave::No { Leave::Soon } else { Leave::Now };
            manager::tell("STOPPING=1");
            tracing::info!(
                "the controller leaves: {}",
                if next == Leave::Soon {
                    "deploys are handed over, a way back is finished"
                } else {
                    "everything is handed over"
                }
            );
            leave.send_replace(next);
        }
    });
    Ok((leaves, again))
}

fn print_unit(global: &Global) -> Result<u8, CommandError> {
    let unit = unit::text(global)?;
    match global.format {
        Format::Json => print_json(&serde_json::json!({ "unit": unit })),
        Format::Table => std::io::stdout()
            .lock()
            .write_all(unit.as_bytes())
            .map_err(|error| CommandError::failed(format!("failed to print the unit: {error}")))?,
    }
    Ok(exit_code::OK)
}
