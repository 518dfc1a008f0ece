//! A stream of statistics.

use tokio::{sync::mpsc, task::JoinHandle};

use super::{AdminError, Lines};
use crate::wire::{Body, StatsFrame};

/// Frames wait here at most; then the proxy waits, and sends newer ones later. None is needed: counters grow.
const QUEUE: usize = 4;

/// Follows one route; dropping it ends the stream.
#[derive(Debug)]
pub struct Subscription {
    frames: mpsc::Receiver<Result<StatsFrame, AdminError>>,
    reader: JoinHandle<()>,
}

impl Subscription {
    pub(super) fn start(first: StatsFrame, mut lines: Lines, id: u64) -> Self {
        let (send, frames) = mpsc::channel(QUEUE);
        let reader = tokio::spawn(async move {
            let mut next = Ok(first);
            loop {
                let failed = next.is_err();
                if send.send(next).await.is_err() || failed {
                    return;
                }
                next = match lines.next(id).await {
                    Ok(Body::Frame(frame)) => Ok(*frame),
                    Ok(Body::End(_)) => return,
                    Ok(Body::Error(fault)) => Err(AdminError::Refused(fault)),
                    Ok(Body::Ok(_)) => {
                        Err(AdminError::Protocol("an answer came unasked".to_owned()))
                    }
                    Err(error) => Err(error),
                };
            }
        });
        Self { frames, reader }
    }

    /// The next frame; an error is the last thing that comes, none means that the route or the proxy ended in
    /// order. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<StatsFrame, AdminError>> {
        self.frames.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
