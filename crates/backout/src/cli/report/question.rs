//! A question that stands open while progress is told: nothing is drawn over it, and it stays the last line.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

static OPEN: Mutex<Option<String>> = Mutex::new(None);

fn open() -> MutexGuard<'static, Option<String>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks, from now on until [`close`]. Asking again shows the question once more.
pub fn ask(question: &str) {
    let mut open = open();
    let _ = write!(anstream::stderr(), "\n{question} ");
    *open = Some(question.to_owned());
}

/// It is answered.
pub fn close() {
    *open() = None;
}

/// Draws what changes all the time, unless that would hide a question.
pub fn draw(drawing: impl FnOnce()) {
    let open = open();
    if open.is_none() {
        drawing();
    }
}

/// Writes a line above the question. False if there is none: nothing was written then.
pub fn write_above(line: &str) -> bool {
    let open = open();
    let Some(question) = open.as_ref() else { return false };
    // Back to the start of the question's line, which the line and then the question take again.
    let _ = std::io::stderr().write_all(b"\r\x1b[2K");
    let _ = write!(anstream::stderr(), "{line}\n{question} ");
    true
}

/// What was asked needs no answer any more: the next line does not begin beside it.
pub fn give_up() {
    if open().take().is_some() {
        let _ = writeln!(anstream::stderr());
    }
}
