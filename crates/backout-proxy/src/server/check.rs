//! The proxy's own check of a side, before it moves traffic there by itself.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::wire::SideSpec;

const TIMEOUT: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Passes if the side's check path answers 2xx, or its address takes a connection where it has no path.
pub(crate) async fn check(side: Option<&SideSpec>) -> Result<(), String> {
    let side = side.ok_or_else(|| "the stable side is not there".to_owned())?;
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        match timeout(TIMEOUT, once(side.upstream, side.check_path.as_deref())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => last = message,
            Err(_) => {
                last =
                    format!("{} did not answer within {} ms", side.upstream, TIMEOUT.as_millis());
            }
        }
    }
    Err(last)
}

async fn once(address: SocketAddr, path: Option<&str>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let Some(path) = path else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: backout\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    // "HTTP/1.1 200" is all that matters.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.map_err(failed)?;
    match &head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2', b'0'..=b'9', b'0'..=b'9'] => {
            Ok(())
        }
        _ => Err(format!("{address}{path} answered {:?}", String::from_utf8_lossy(&head))),
    }
}
