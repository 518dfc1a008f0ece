//! Signals and Ctrl-C while an operation runs.

use std::io::{BufRead as _, Write as _};

use backout_engine::Interrupt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::report::confirm::is_person;

/// Listens from now on. Ctrl-C on a terminal asks; every other signal speaks for itself.
pub fn listen(interrupt: watch::Sender<Interrupt>, asks: bool) {
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
            if !asks || !is_person() {
                let _ = interrupt.send(Interrupt::Signal);
                continue;
            }
            let answer = tokio::task::spawn_blocking(ask).await.unwrap_or(Interrupt::None);
            if answer != Interrupt::None {
                let _ = interrupt.send(answer);
            }
        }
    });
}

fn ask() -> Interrupt {
    let _ = write!(anstream::stderr(), "\nabort and take it back, or keep watching? [a/K] ");
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        // The terminal is gone: as a signal without one.
        Ok(0) | Err(_) => Interrupt::Signal,
        Ok(_) if matches!(line.trim(), "a" | "A" | "abort") => Interrupt::Abort,
        Ok(_) => Interrupt::None,
    }
}
