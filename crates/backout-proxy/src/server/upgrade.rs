//! Upgraded connections (WebSocket and the like): bytes both ways until an end, or until cut.

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use super::{
    connection::{ConnState, Phase},
    exchange::Exchange,
    socket::{ClientIo, UpstreamIo},
};

const BUFFER_BYTES: usize = 8 * 1024;

/// The release's half of a tunnel that waits for the client's half.
pub(crate) struct Tunnel {
    pub(crate) upstream: UpstreamIo,
    /// What the release sent right after its 101.
    pub(crate) early: Bytes,
    pub(crate) exchange: Exchange,
}

/// Passes bytes until both sides are done, one breaks off, or the side is cut. None of it is an error.
pub(crate) async fn run(state: &ConnState, mut client: ClientIo, early: Bytes, tunnel: Tunnel) {
    let Tunnel { mut upstream, early: from_release, mut exchange } = tunnel;
    state.enter(Phase::Tunnel);
    let copied = async {
        client.write_all(&from_release).await?;
        upstream.write_all(&early).await?;
        copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await
    };
    let mut copied = pin!(copied);
    poll_fn(|cx| {
        if state.must_close() {
            return Poll::Ready(());
        }
        copied.as_mut().poll(cx).map(|_| ())
    })
    .await;
    exchange.ended();
}
