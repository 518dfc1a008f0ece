//! Connections that stand: whoever ends the process closes them, whatever still holds them then.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::link::Link;

static LINKS: Mutex<Vec<Weak<Link>>> = Mutex::new(Vec::new());

/// Notes a connection for as long as somebody holds it.
pub(super) fn remember(link: &Arc<Link>) {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|known| known.strong_count() > 0);
    links.push(Arc::downgrade(link));
}

/// Closes all connections of this process, side by side. A task that is cut off by the end of its runtime may hold one
/// for ever, so that nothing else would.
pub async fn close_connections() {
    let links = std::mem::take(&mut *LINKS.lock().unwrap_or_else(PoisonError::into_inner));
    let links: Vec<Arc<Link>> = links.iter().filter_map(Weak::upgrade).collect();
    futures_util::future::join_all(links.iter().map(|link| link.close())).await;
}
