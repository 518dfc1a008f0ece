//! A release goes over to a host that does not have it: as one packed file, in pieces, unpacked beside its place. What
//! came over before a link broke stays there, and the next try goes on behind it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use backout_core::ids::hex;
use backout_core::ports::{AdapterError, HostCommand};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::manifest::entries;
use super::packed::pack;
use super::remote::{RemoteFiles, SLOW, SMALL, word};
use super::texts::{ROOM, UNPACK};
use super::{Layout, Turn};
use crate::target::systemd::folders::{Label, label_of};

/// What goes over in one request, and is held here at once.
const PIECE: usize = 4 << 20;
/// One piece over a slow link.
const PIECE_LIMIT: Duration = Duration::from_secs(300);

/// Brings the folder over.
///
/// # Errors
/// As the host says; the next try goes on behind the last whole piece.
pub(super) async fn send(
    files: &RemoteFiles,
    layout: &Layout,
    turn: &Turn,
) -> Result<(), AdapterError> {
    let name = layout.folder.file_name().unwrap_or_default().to_string_lossy();
    let releases = word(layout.folder.parent().unwrap_or(&layout.folder));
    // Another service may have the same release to send.
    let new = format!("{releases}/.new-{name}.{}", turn.unit.service);
    let packed = format!("{new}.tar");
    // Each is a step of its own: what an older try left at work is ended, and never taken for this one.
    let room = turn.part("room");
    let args = [releases, packed.clone(), PIECE.to_string()];
    let said = files.run(ROOM, &args, Some(&room), (None, SMALL, SLOW)).await?;
    let said = files.succeeded("make room for a release", said, true)?;
    let ahead = Ahead::read(&String::from_utf8_lossy(&said.stdout));
    let is_over = match ahead {
        Some(ahead) => bring(files, layout, &packed, Some(ahead), turn).await?,
        None => false,
    };
    if !is_over && !bring(files, layout, &packed, None, turn).await? {
        return Err(AdapterError::transient("failed to pack a release: it changed meanwhile"));
    }
    let label = serde_json::to_string(&Label::of(&layout.pieces))
        .map_err(|e| AdapterError::permanent(format!("failed to label a release: {e}")))?;
    let turn = turn.part("unpack");
    let args = [word(&layout.folder), word(&label_of(&layout.folder)), label, packed, new];
    let output = files.run(UNPACK, &args, Some(&turn), (None, SMALL, SLOW)).await?;
    files.succeeded("unpack a release", output, true).map(drop)
}

/// Brings over what is not there; false: what is there is of something else.
async fn bring(
    files: &RemoteFiles,
    layout: &Layout,
    packed: &str,
    ahead: Option<Ahead>,
    turn: &Turn,
) -> Result<bool, AdapterError> {
    let (sender, mut pieces) = mpsc::channel(1);
    let kept = layout.kept.clone();
    let packing = tokio::task::spawn_blocking(move || pack_behind(&kept, ahead, sender));
    while let Some((number, piece)) = pieces.recv().await {
        let words = [
            "dd".to_owned(),
            format!("of={packed}"),
            format!("bs={PIECE}"),
            // What is there from here on is cut off first.
            format!("seek={number}"),
        ];
        let command = HostCommand {
            stdin: Some(piece),
            change: Some(turn.part(&format!("piece-{number}")).change()),
            ..HostCommand::look(words, PIECE_LIMIT)
        };
        let output = files.host.run(&command).await?;
        files.succeeded("send a release", output, true)?;
    }
    let packed = packing.await.unwrap_or_else(|e| Err(io::Error::other(e.to_string())));
    packed.map_err(|e| AdapterError::transient(format!("failed to pack a release: {e}")))
}

/// Whole pieces that are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ahead {
    pieces: u32,
    /// SHA-256 of them all, in hex.
    sum: String,
}

impl Ahead {
    /// What [`ROOM`] says.
    fn read(said: &str) -> Option<Self> {
        let mut words = said.split_whitespace();
        let pieces = words.next()?.parse().ok().filter(|count| *count > 0)?;
        Some(Self { pieces, sum: words.next()?.to_owned() })
    }
}

/// Packs, and hands on the pieces behind those that are there; false: those that are there are of something else.
fn pack_behind(
    kept: &[(PathBuf, PathBuf)],
    ahead: Option<Ahead>,
    sender: mpsc::Sender<(u32, Vec<u8>)>,
) -> io::Result<bool> {
    let sum = Sha256::new();
    let mut stream = Pieces { held: Vec::new(), number: 0, sender, ahead, sum, differs: false };
    let packed = pack(&entries(kept)?, &mut stream).and_then(|()| stream.end());
    if stream.differs { Ok(false) } else { packed.map(|()| true) }
}

/// Hands on what is written, in pieces of one size.
struct Pieces {
    held: Vec<u8>,
    number: u32,
    sender: mpsc::Sender<(u32, Vec<u8>)>,
    /// Is there already, and not shown yet to be the same.
    ahead: Option<Ahead>,
    sum: Sha256,
    differs: bool,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let (number, piece) = (self.number, std::mem::take(&mut self.held));
        self.number += 1;
        let Some(ahead) = &self.ahead else {
            return self
                .sender
                .blocking_send((number, piece))
                .map_err(|_| io::Error::other("nobody takes it any more"));
        };
        self.sum.update(&piece);
        if self.number < ahead.pieces {
            return Ok(());
        }
        if hex(&self.sum.finalize_reset()) == ahead.sum {
            self.ahead = None;
            return Ok(());
        }
        self.differs = true;
        Err(io::Error::other("what is there is of something else"))
    }

    /// The last piece, which is not a whole one.
    fn end(&mut self) -> io::Result<()> {
        if self.ahead.is_some() {
            // More is there than belongs to it.
            self.differs = true;
            return Ok(());
        }
        self.send()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the pieces that go over, and all that is there then.
    fn over(kept: &[(PathBuf, PathBuf)], there: &[u8]) -> Option<(Vec<u32>, Vec<u8>)> {
        let whole = there.len() / PIECE;
        let sum = hex(&Sha256::digest(&there[..whole * PIECE]));
        let ahead = Ahead::read(&format!("{whole}\n{sum}  -\n"));
        let (sender, mut pieces) = mpsc::channel(100);
        let mut held = there.to_vec();
        pack_behind(kept, ahead, sender).unwrap().then(|| {
            let mut numbers = Vec::new();
            while let Ok((number, piece)) = pieces.try_recv() {
                held.truncate(number as usize * PIECE);
                held.extend(piece);
                numbers.push(number);
            }
            (numbers, held)
        })
    }

    #[test]
    fn what_is_there_is_not_sent_again_unless_it_is_something_else() {
        let root = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..10_u32 << 20).map(|at| (at % 251) as u8).collect();
        std::fs::write(root.path().join("data"), bytes).unwrap();
        let kept = [(root.path().to_owned(), PathBuf::new())];
        let (numbers, whole) = over(&kept, &[]).unwrap();
        assert_eq!(numbers, [0, 1, 2]);
        for (there, wanted) in [
            (PIECE - 1, vec![0, 1, 2]),
            (PIECE, vec![1, 2]),
            (PIECE + 7, vec![1, 2]),
            (2 * PIECE, vec![2]),
            (whole.len(), vec![2]),
        ] {
            let (numbers, held) = over(&kept, &whole[..there]).unwrap();
            assert_eq!((numbers, held == whole), (wanted, true), "{there}");
        }
        let mut other = whole.clone();
        other[PIECE + 3] ^= 1;
        assert_eq!(over(&kept, &other[..2 * PIECE]), None);
        assert_eq!(over(&kept, &[whole.clone(), whole].concat()), None, "more than there is");
    }
}
