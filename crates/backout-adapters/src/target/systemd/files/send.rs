//! A release goes over to a host that does not have it: as one packed file, in pieces, unpacked beside its place.

use std::io::{self, Write};
use std::time::Duration;

use backout_core::ports::{AdapterError, HostCommand};
use tokio::sync::mpsc;

use super::manifest::entries;
use super::packed::pack;
use super::remote::{RemoteFiles, word};
use super::texts::UNPACK;
use super::{Layout, Turn};
use crate::target::systemd::folders::{Label, label_of};

/// What goes over in one request, and is held here at once.
const PIECE: usize = 4 << 20;
/// One piece over a slow link.
const PIECE_LIMIT: Duration = Duration::from_secs(300);
const UNPACK_LIMIT: Duration = Duration::from_secs(600);

/// Brings the folder over.
///
/// # Errors
/// As the host says; what was begun beside the folder is made anew by the next try.
pub(super) async fn send(
    files: &RemoteFiles,
    layout: &Layout,
    turn: Option<&Turn>,
) -> Result<(), AdapterError> {
    let name = layout.folder.file_name().unwrap_or_default().to_string_lossy();
    let releases = word(layout.folder.parent().unwrap_or(&layout.folder));
    let (packed, new) = (format!("{releases}/.new-{name}.tar"), format!("{releases}/.new-{name}"));
    // Each is a step of its own: what an older try left at work is ended, and never taken for this one.
    let part = |name: &str| turn.map(|turn| turn.part(name));
    let begin = r#"mkdir -p -- "$1" && rm -f -- "$2""#;
    let room = part("room");
    let args = [releases, packed.clone()];
    files.must("make room for a release", begin, &args, room.as_ref()).await?;
    let (sender, mut pieces) = mpsc::channel(1);
    let kept = layout.kept.clone();
    let packing = tokio::task::spawn_blocking(move || {
        let mut stream = Pieces { held: Vec::new(), sender };
        pack(&entries(&kept)?, &mut stream)?;
        stream.send()
    });
    let mut number = 0_u32;
    while let Some(piece) = pieces.recv().await {
        let words = [
            "dd".to_owned(),
            format!("of={packed}"),
            format!("bs={PIECE}"),
            format!("seek={number}"),
            "conv=notrunc".to_owned(),
        ];
        let command = HostCommand {
            stdin: Some(piece),
            change: part(&format!("piece-{number}")).map(|turn| turn.change()),
            ..HostCommand::look(words, PIECE_LIMIT)
        };
        let output = files.host.run(&command).await?;
        files.succeeded("send a release", output, turn.is_some())?;
        number += 1;
    }
    packing
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e.to_string())))
        .map_err(|e| AdapterError::transient(format!("failed to pack a release: {e}")))?;
    let label = serde_json::to_string(&Label::of(&layout.pieces))
        .map_err(|e| AdapterError::permanent(format!("failed to label a release: {e}")))?;
    let turn = part("unpack");
    let args = [word(&layout.folder), word(&label_of(&layout.folder)), label, packed, new];
    let output = files.run(UNPACK, &args, turn.as_ref(), (None, 16 << 10, UNPACK_LIMIT)).await?;
    files.succeeded("unpack a release", output, turn.is_some()).map(drop)
}

/// Hands on what is written, in pieces of one size.
struct Pieces {
    held: Vec<u8>,
    sender: mpsc::Sender<Vec<u8>>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.held);
        self.sender.blocking_send(piece).map_err(|_| io::Error::other("nobody takes it any more"))
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
