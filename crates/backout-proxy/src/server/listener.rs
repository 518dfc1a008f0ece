//! Listening sockets: one per route, shared by all workers, so that its port can belong to nobody else.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};

use super::{route::LocalRoute, worker::Worker};
use crate::wire::Fault;

const BACKLOG: i32 = 1024;
/// After an error that concerns no single connection (out of descriptors), and while the proxy is full.
const PAUSE: Duration = Duration::from_millis(20);

/// Binds without SO_REUSEPORT: with it a second proxy could quietly take half of the traffic.
pub(crate) fn bind(address: SocketAddr) -> Result<StdListener, Fault> {
    listen(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Fault::PortInUse { addr: address },
        _ => Fault::BindFailed { addr: address, message: error.to_string() },
    })
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind although old connections are in TIME_WAIT; two listeners still exclude each other.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop` is dropped, and then what the kernel has already queued.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    route: Rc<LocalRoute>,
    listener: TcpListener,
    mut stop: oneshot::Receiver<()>,
) {
    loop {
        let is_full = worker.workers.is_full();
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            () = sleep(PAUSE), if is_full => continue,
            accepted = listener.accept(), if !is_full => accepted,
        };
        match accepted {
            Ok((stream, peer)) => worker.place(&route, stream, peer),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(route = route.shared.key, %error, "failed to accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
    poll_fn(|cx| {
        while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(cx) {
            worker.place(&route, stream, peer);
        }
        Poll::Ready(())
    })
    .await;
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
