//! One request over a connection, and its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openssh::{Error, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::link::Link;
use super::request::Request;
use crate::host::Captured;

/// What a login may print before the answer.
const MAX_NOISE: usize = 64 << 10;
/// A call that was told to end has this long.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// The code with which a shell says that there is no such program.
const NOT_FOUND: i32 = 127;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The first line, without the nonce.
    pub line: String,
    /// What followed it.
    pub body: Captured,
    /// What it said beside it.
    pub stderr: Captured,
    /// The code with which the channel ended.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) enum Failed {
    /// No channel was opened: nothing happened.
    NotBegun(String),
    /// The channel ended without an end.
    Lost(String),
}

/// Sends a request and reads its answer, for at most `limit`. Once the other end of `cancelled` is gone, the call is
/// told to end.
pub(super) async fn exchange(
    link: Arc<Link>,
    request: Request,
    keep: usize,
    limit: Duration,
    cancelled: oneshot::Receiver<()>,
) -> Result<Answer, Failed> {
    let began = Instant::now();
    let opened = tokio::time::timeout(limit, async {
        let mut command = link.session().raw_command(link.command(&request.nonce));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().await
    });
    let mut child = match opened.await {
        Ok(Ok(child)) => child,
        Ok(Err(error)) => return Err(Failed::NotBegun(words(&error))),
        Err(_) => return Err(Failed::NotBegun("no channel was opened in time".to_owned())),
    };
    let (stdin, stdout, stderr) =
        (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(Failed::Lost("the channel has no pipes".to_owned()));
    };
    let (mut body, mut said) = (Captured::new(keep), Captured::new(keep));
    let work = async {
        // First to the end of the streams: whoever has heard of the exit is taken to have left, and what is still on its
        // way is thrown away.
        let (line, ()) =
            tokio::join!(read_answer(stdout, &request.nonce, &mut body), pump(stderr, &mut said));
        (child.wait().await, line)
    };
    let (ended, line) = tokio::select! {
        done = tokio::time::timeout(limit, work) => {
            done.map_err(|_| Failed::Lost(format!("no answer within {} s", limit.as_secs())))?
        }
        () = control(stdin, &request, cancelled) => {
            return Err(Failed::Lost("it was told to end".to_owned()));
        }
    };
    let code = match ended {
        Ok(status) => status.code().unwrap_or(-1),
        Err(Error::Remote(_)) => NOT_FOUND,
        Err(_) => return Err(Failed::Lost("the connection broke off".to_owned())),
    };
    let Some(line) = line else {
        let text = said.last_text(400);
        return Err(Failed::Lost(format!(
            "it ended with code {code} and without an answer: {text}"
        )));
    };
    Ok(Answer { line, body, stderr: said, code, took: began.elapsed() })
}

/// Sends the request; then ends it once nobody waits for the answer any more.
async fn control(
    mut stdin: openssh::ChildStdin,
    request: &Request,
    cancelled: oneshot::Receiver<()>,
) {
    let sent = stdin.write_all(&request.bytes()).await.is_ok() && stdin.flush().await.is_ok();
    if !request.stays_open || !sent {
        drop(stdin);
        let _ = cancelled.await;
        return;
    }
    let _ = cancelled.await;
    if stdin.write_all(b"end\n").await.is_ok() && stdin.flush().await.is_ok() {
        tokio::time::sleep(END_PATIENCE).await;
    }
}

/// Reads up to the line that begins with the nonce, and takes what follows as the body.
async fn read_answer(
    mut stream: impl AsyncRead + Unpin,
    nonce: &str,
    body: &mut Captured,
) -> Option<String> {
    let marker = format!("#{nonce} ").into_bytes();
    let (mut before, mut line, mut buffer) = (Vec::new(), None, vec![0; 16 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if line.is_some() {
            body.push(&buffer[..count]);
            continue;
        }
        before.extend_from_slice(&buffer[..count]);
        if let Some((first, rest)) = split_answer(&before, &marker) {
            line = Some(first);
            body.push(&before[rest..]);
            before = Vec::new();
        } else if before.len() > MAX_NOISE {
            return None;
        }
    }
    line
}

/// The answer's first line, and where the rest begins.
fn split_answer(bytes: &[u8], marker: &[u8]) -> Option<(String, usize)> {
    let at = bytes.windows(marker.len()).position(|window| window == marker)?;
    let from = at + marker.len();
    let end = from + bytes[from..].iter().position(|byte| *byte == b'\n')?;
    Some((String::from_utf8_lossy(&bytes[from..end]).into_owned(), end + 1))
}

async fn pump(mut stream: impl AsyncRead + Unpin, into: &mut Captured) {
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        into.push(&buffer[..count]);
    }
}

/// An error with what is behind it.
pub(super) fn words(error: &Error) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_prints_is_not_the_answer() {
        let marker = b"#abc ";
        assert_eq!(split_answer(b"welcome\n#abc yes\nrest", marker), Some(("yes".to_owned(), 17)));
        assert_eq!(split_answer(b"#abc ye", marker), None);
        assert_eq!(split_answer(b"#abd yes\n", marker), None);
    }
}
