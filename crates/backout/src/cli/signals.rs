//! Signals and Ctrl-C while an operation runs.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::EnvironmentKey;
use backout_core::ports::Ledger;
use backout_engine::{Interrupt, controller_of};
use tokio::signal::unix::{SignalKind, signal};

use super::report::confirm::is_person;
use super::report::question;
use super::session::Session;

/// The question does not wait longer for the ledger.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Listens from now on. Ctrl-C on a terminal asks; every other signal speaks for itself.
pub fn listen(session: &Session) {
    let interrupt = session.interrupt.clone();
    let (ledger, key) = (session.cx.ledger.clone(), session.cx.key.clone());
    for kind in [SignalKind::terminate(), SignalKind::hangup()] {
        let interrupt = interrupt.clone();
        if let Ok(mut stream) = signal(kind) {
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    let _ = interrupt.send(Interrupt::Signal);
                }
            });
        }
    }
    let Ok(mut stream) = signal(SignalKind::interrupt()) else { return };
    tokio::spawn(async move {
        while stream.recv().await.is_some() {
            if !is_person() {
                let _ = interrupt.send(Interrupt::Signal);
                continue;
            }
            let controller = controller(&ledger, &key).await;
            let question = question(controller.as_deref());
            question::ask(&question);
            let mut answer = tokio::task::spawn_blocking(move || answer(controller.is_some()));
            let answer = loop {
                tokio::select! {
                    answer = &mut answer => break answer.unwrap_or(Interrupt::None),
                    // Whoever presses it again may not have seen the question, and is asked no second one.
                    _ = stream.recv() => question::ask(&question),
                }
            };
            question::close();
            if answer != Interrupt::None {
                let _ = interrupt.send(answer);
            }
        }
    });
}

/// The living controller of this environment.
async fn controller(ledger: &Arc<dyn Ledger>, key: &EnvironmentKey) -> Option<String> {
    let looked = tokio::time::timeout(LOOK_LIMIT, controller_of(ledger.as_ref(), key)).await;
    Some(looked.ok()?.ok()??.holder.label)
}

fn question(controller: Option<&str>) -> String {
    match controller {
        None => "abort and take it back, or keep watching? [a/K]".to_owned(),
        Some(who) => {
            format!("abort and take it back, keep watching, or hand over to {who}? [a/K/h]")
        }
    }
}

fn answer(controller: bool) -> Interrupt {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        // The terminal is gone: as a signal without one.
        Ok(0) | Err(_) => Interrupt::Signal,
        Ok(_) if matches!(line.trim(), "a" | "A" | "abort") => Interrupt::Abort,
        Ok(_) if controller && matches!(line.trim(), "h" | "H" | "hand over") => {
            Interrupt::HandOver { rollbacks: true }
        }
        Ok(_) => Interrupt::None,
    }
}
