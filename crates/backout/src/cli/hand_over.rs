//! A person hands a running operation over to the controller, and is told who has it now.

use std::io::Write as _;
use std::time::Duration;

use backout_engine as engine;
use backout_engine::{EngineError, Interrupt, Outcome, Recovered};
use tokio::time::Instant;

use super::session::{self, Session};
use crate::error::CommandError;

/// A controller takes up what is free well within this.
const LIMIT: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(50);

/// If this run was left to be handed over, waits until somebody has taken it up; else goes on with it here.
///
/// # Errors
/// When the ledger fails meanwhile.
pub async fn settle(session: &Session, mut outcome: Outcome) -> Result<Outcome, CommandError> {
    while matches!(outcome.last(), Outcome::Stopped { .. })
        && matches!(*session.interrupt.borrow(), Interrupt::HandOver { .. })
    {
        if let Some(taker) = taker(session, &outcome).await? {
            say(&format!("handed over to {taker}; `backout status -w` follows it"));
            return Ok(outcome);
        }
        say(&format!("nobody took it up within {} s, so it goes on here", LIMIT.as_secs()));
        session.interrupt.send_replace(Interrupt::None);
        match engine::recover(&session.cx).await {
            Ok(Recovered::Ran(again)) => outcome = *again,
            // It was taken up, and has ended by now.
            Ok(Recovered::NothingOpen { .. }) => return Ok(outcome),
            Err(EngineError::Busy(view)) => {
                say(&format!("handed over to {}", view.holder.label));
                return Ok(outcome);
            }
            Err(error) => return Err(session::engine_error(&error)),
        }
    }
    Ok(outcome)
}

/// Who works on it now; `None` if nobody does in time.
async fn taker(session: &Session, outcome: &Outcome) -> Result<Option<String>, CommandError> {
    let (ledger, key) = (&session.cx.ledger, &session.cx.key);
    let operation = &outcome.last().operation().plan.operation;
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        let lease = ledger.lease(key).await.map_err(|error| session::ledger_error(&error))?;
        if let Some(view) = lease.filter(|view| view.alive) {
            return Ok(Some(view.holder.label));
        }
        let open =
            ledger.open_operation(key).await.map_err(|error| session::ledger_error(&error))?;
        if open.is_none_or(|plan| plan.operation != *operation) {
            return Ok(Some("the controller, which has ended it".to_owned()));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(None)
}

fn say(words: &str) {
    let _ = writeln!(anstream::stderr(), "{words}");
}
