//! The stream of statistics: at each interval, and at once when a failure is counted or something moves.

use std::{io, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    admin::{self, Peer, Reader},
    control::Control,
};
use crate::wire::{Body, Fault};

const INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=60_000;
/// Frames come at most this often.
const GAP: Duration = Duration::from_millis(10);

/// Tells a subscriber until it closes, the route ends or the proxy stops.
pub(crate) async fn stream(
    control: &Rc<Control>,
    read: &mut Reader,
    peer: &mut Peer,
    id: u64,
    key: &str,
    interval_ms: u64,
) -> io::Result<()> {
    if !INTERVAL_MS.contains(&interval_ms) {
        let message = format!(
            "interval_ms must lie between {} and {}",
            INTERVAL_MS.start(),
            INTERVAL_MS.end()
        );
        return peer.say(id, Body::Error(Fault::Invalid { message })).await;
    }
    let interval = Duration::from_millis(interval_ms);
    let found = control.records.lock().await.get(key).map(|record| record.route.clone());
    let Some(route) = found else {
        return peer.say(id, Body::Error(Fault::NoSuchRoute { route: key.to_owned() })).await;
    };
    let mut news = route.news.subscribe();
    let mut stopping = control.stopping.subscribe();
    loop {
        news.mark_unchanged();
        let Some(frame) = control.frame(route.id, key).await else {
            return peer.say(id, Body::End("the route was removed".to_owned())).await;
        };
        if *stopping.borrow_and_update() {
            return peer.say(id, Body::End("the proxy is stopping".to_owned())).await;
        }
        peer.say(id, Body::Frame(Box::new(frame))).await?;
        let said = Instant::now();
        tokio::select! {
            () = admin::closed(read) => return Ok(()),
            _ = stopping.changed() => {}
            () = sleep_until(said + interval) => {}
            _ = news.changed() => sleep_until(said + GAP).await,
        }
    }
}
