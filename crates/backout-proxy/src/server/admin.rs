//! The admin socket: one JSON document a line, from this user or root only.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io::{self, Cursor},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use rustix::{
    net::{RecvFlags, recv},
    process::geteuid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Chain},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{control::Control, subscribe};
use crate::wire::{Body, Command, Fault, LINE_BYTES_MAX, PROTOCOL_VERSION, Request, Response};

const CONNECTIONS_MAX: usize = 64;
/// A command fits into this, as a rule.
const FIRST_BYTES: usize = 8 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// One admin connection's reading half, with what was there before anybody waited for it.
pub(crate) type Reader = BufReader<Chain<Cursor<Vec<u8>>, OwnedReadHalf>>;

/// One admin connection's writing half.
pub(crate) struct Peer {
    write: OwnedWriteHalf,
}

impl Peer {
    /// Writes one answer; a peer that does not read for long is given up.
    pub(crate) async fn say(&mut self, id: u64, body: Body) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Response { v: PROTOCOL_VERSION, id, body })?;
        line.push(b'\n');
        timeout(WRITE_TIMEOUT, self.write.write_all(&line)).await?
    }
}

/// Serves the socket for as long as the proxy runs.
pub(crate) async fn serve(control: Rc<Control>, listener: UnixListener) {
    let open = Rc::new(Cell::new(0_usize));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept an admin connection");
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if !is_allowed(&stream) {
            tracing::warn!("refused an admin connection of another user");
            continue;
        }
        let (control, open) = (control.clone(), open.clone());
        open.set(open.get() + 1);
        begin_at_once(async move {
            if let Err(error) = converse(&control, stream, open.get() > CONNECTIONS_MAX).await {
                tracing::debug!(%error, "an admin connection broke off");
            }
            open.set(open.get() - 1);
        })
        .await;
    }
}

/// Goes as far as it can now, and on in a task of its own: a command must not wait for its turn among requests
/// that are answered by the weights which it changes.
async fn begin_at_once(task: impl Future<Output = ()> + 'static) {
    let mut task = Box::pin(task);
    if poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx).is_pending())).await {
        spawn_local(task);
    }
}

/// What has come already: a fresh connection is told to be readable only when the loop comes round again.
fn here_already(stream: &UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; FIRST_BYTES];
    let came = recv(stream, &mut bytes, RecvFlags::DONTWAIT).map_or(0, |(came, _)| came);
    bytes.truncate(came);
    bytes
}

fn is_allowed(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

async fn converse(control: &Rc<Control>, stream: UnixStream, too_many: bool) -> io::Result<()> {
    let first = here_already(&stream);
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(Cursor::new(first).chain(read));
    let mut peer = Peer { write };
    if too_many {
        return peer.say(0, Body::Error(Fault::Busy)).await;
    }
    loop {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read_line = async { (&mut read).take(limit).read_until(b'\n', &mut line).await };
        match timeout(IDLE_TIMEOUT, read_line).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
        if line.last() != Some(&b'\n') {
            let message = format!("a line must end after at most {LINE_BYTES_MAX} bytes");
            return peer.say(0, Body::Error(Fault::Invalid { message })).await;
        }
        let request = match parse(&line) {
            Ok(request) => request,
            Err((id, fault)) => {
                peer.say(id, Body::Error(fault)).await?;
                continue;
            }
        };
        if let Command::Subscribe { route, interval_ms } = request.command {
            return subscribe::stream(
                control,
                &mut read,
                &mut peer,
                request.id,
                &route,
                interval_ms,
            )
            .await;
        }
        let body = carry_out(control, request.command).await.map_or_else(Body::Error, Body::Ok);
        peer.say(request.id, body).await?;
    }
}

fn parse(line: &[u8]) -> Result<Request, (u64, Fault)> {
    match serde_json::from_slice::<Request>(line) {
        Ok(request) if request.v == PROTOCOL_VERSION => Ok(request),
        Ok(request) => Err((request.id, UNSUPPORTED)),
        Err(error) => Err(refused(line, &error)),
    }
}

const UNSUPPORTED: Fault = Fault::UnsupportedVersion { supported: PROTOCOL_VERSION };

/// What is said to a line that is no request of this version.
fn refused(line: &[u8], error: &serde_json::Error) -> (u64, Fault) {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    let id = value.get("id").and_then(Value::as_u64).unwrap_or(0);
    let is_ours = value.get("v").and_then(Value::as_u64) == Some(u64::from(PROTOCOL_VERSION));
    let message = error.to_string();
    (id, if is_ours || value.is_null() { Fault::Invalid { message } } else { UNSUPPORTED })
}

async fn carry_out(control: &Rc<Control>, command: Command) -> Result<Value, Fault> {
    fn json(value: impl serde::Serialize) -> Result<Value, Fault> {
        serde_json::to_value(value).map_err(|error| Fault::Invalid { message: error.to_string() })
    }
    match command {
        Command::Hello => json(&control.hello),
        Command::List => json(control.list().await),
        Command::Get { route } => json(control.get(&route).await?),
        Command::Put(put) => json(control.put(*put).await?),
        Command::Renew { route, holder, after_ms } => {
            json(control.renew(&route, &holder, after_ms).await?)
        }
        Command::Drain(drain) => json(control.drain(&drain).await?),
        Command::Remove { route, holder } => json(control.remove(&route, &holder).await?),
        Command::Shutdown { only_if_idle } => json(control.shutdown(only_if_idle).await?),
        Command::Subscribe { .. } => json(()),
    }
}

/// Resolves when the peer has closed, whatever else it sends.
pub(crate) async fn closed(read: &mut Reader) {
    let mut scrap = [0_u8; 256];
    while let Ok(1..) = read.read(&mut scrap).await {}
}
