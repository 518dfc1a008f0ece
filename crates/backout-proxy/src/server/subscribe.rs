//! The stream of statistics: at each interval, and at once when a failure is counted or something moves.

use std::{collections::BTreeMap, io, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    admin::{self, Peer, Reader},
    control::Control,
    route::Side,
    session_log::Place,
};
use crate::wire::{Body, Fault, Sessions, SideName};

const INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=60_000;
/// Frames come at most this often.
const GAP: Duration = Duration::from_millis(10);

/// Up to where a subscriber was told of sessions, by deployment; none before its first frame.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<BTreeMap<(SideName, u64), Place>>);

impl Told {
    /// What is new of a side since the last frame. What was before the first one is not told.
    pub(crate) fn sessions(&mut self, name: SideName, side: &Side) -> Sessions {
        let known = self.0.as_mut().map(|told| {
            let place = told.entry((name, side.spec.deployment)).or_default();
            side.counters.sessions_since(place)
        });
        match known {
            Some(seen) => Sessions { lost: seen.is_none(), seen: seen.unwrap_or_default() },
            None => Sessions::default(),
        }
    }

    /// After a frame: sides that are gone are forgotten, and after the first one the new ones are told of whole.
    pub(crate) fn frame_ended<'a>(&mut self, sides: impl Iterator<Item = (SideName, &'a Side)>) {
        let mut before = self.0.take();
        let now = sides.map(|(name, side)| {
            let key = (name, side.spec.deployment);
            let known = before.as_mut().and_then(|before| before.remove(&key));
            (key, known.unwrap_or_else(|| side.counters.sessions_end()))
        });
        self.0 = Some(now.collect());
    }
}

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
    let mut told = Told::default();
    loop {
        news.mark_unchanged();
        let Some(frame) = control.frame(route.id, key, &mut told).await else {
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
