//! Files of another host: each call is one command there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{AdapterError, Host, HostCommand, HostEnded, HostOutput};

use super::manifest::{entries, is_listed, sums};
use super::send::send;
use super::texts::{BEGIN, COMPARE, KEEP, LABELS, LEAVE, LOOK, NOTE, READ, REMOVE, TIDY};
use super::{Definition, Files, Held, Layout, LinkAfter, Point, Seen, Turn};
use crate::target::systemd::blocking;
use crate::target::systemd::folders::{Label, is_needed};
use crate::target::systemd::link::{temporary, text_for, whole};
use crate::target::systemd::place::{Place, no_link};

const QUICK: Duration = Duration::from_secs(60);
/// Reading a large release there takes its time.
pub(super) const SLOW: Duration = Duration::from_secs(600);
pub(super) const SMALL: usize = 256 << 10;
/// Listings of large folders.
const LARGE: usize = 64 << 20;
/// The code for a folder that is not there.
pub(super) const MISSING: i32 = 3;
/// The code for a tool that is not there, or can't do what it must.
const LACKS: i32 = 4;
/// The code with which a shell says that there is no such program.
const NOT_FOUND: i32 = 127;

/// Another host's.
pub(in super::super) struct RemoteFiles {
    pub host: Arc<dyn Host>,
}

impl RemoteFiles {
    /// Runs a text of ours there, whatever its exit code.
    pub(super) async fn run(
        &self,
        text: &str,
        args: &[String],
        turn: Option<&Turn>,
        (stdin, keep, limit): (Option<Vec<u8>>, usize, Duration),
    ) -> Result<HostOutput, AdapterError> {
        let words = ["sh", "-c", text, "sh"].into_iter().chain(args.iter().map(String::as_str));
        let command = HostCommand {
            stdin,
            keep,
            change: turn.map(Turn::change),
            ..HostCommand::look(words, limit)
        };
        self.host.run(&command).await
    }

    /// The same, which must succeed.
    pub(super) async fn must(
        &self,
        doing: &str,
        text: &str,
        args: &[String],
        turn: Option<&Turn>,
    ) -> Result<HostOutput, AdapterError> {
        let output = self.run(text, args, turn, (None, SMALL, QUICK)).await?;
        self.succeeded(doing, output, turn.is_some())
    }

    /// Writes what the way back of a guarded start puts into its places.
    pub(in super::super) async fn keep_back(
        &self,
        place: &Place,
        note: Vec<u8>,
        variables: String,
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        let (kept_note, kept_variables) = place.back();
        let args = [word(&kept_note), text(&note), word(&kept_variables), variables];
        let turn = turn.part("back");
        self.must("keep what a way back needs", KEEP, &args, Some(&turn)).await.map(drop)
    }

    pub(super) fn succeeded(
        &self,
        doing: &str,
        output: HostOutput,
        changes: bool,
    ) -> Result<HostOutput, AdapterError> {
        let failed = |why: &str| format!("failed to {doing} on {}: {why}", self.host.name());
        let said = crate::host::printable(&output.stderr);
        let said: String = said.trim().chars().take(400).collect();
        Err(match output.ended {
            HostEnded::Exited(0) if !output.cut => return Ok(output),
            HostEnded::Exited(0) => AdapterError::permanent(failed("it is too much at once")),
            HostEnded::Exited(code) if code == NOT_FOUND || is_unknown_option(&said) => {
                self.lacks(doing, &format!("a tool, or an option of it: {said}"))
            }
            // What is written may be written again.
            HostEnded::Exited(_) => AdapterError::transient(failed(&said))
                .with_hint("the login must own the folder of the link there, and have room in it"),
            _ if changes => AdapterError::unknown(failed("it was ended in the middle")),
            _ => AdapterError::transient(failed("it was ended in the middle")),
        })
    }

    fn lacks(&self, doing: &str, what: &str) -> AdapterError {
        let host = self.host.name();
        AdapterError::permanent(format!("failed to {doing} on {host}: {host} lacks {what}"))
            .with_hint("install coreutils, findutils and tar there, or busybox 1.34 or later")
    }
}

/// Whether a tool, such as an old busybox's, can't be told what it was told.
fn is_unknown_option(said: &str) -> bool {
    ["unrecognized option", "invalid option", "unrecognized:"].iter().any(|it| said.contains(it))
}

pub(super) fn word(path: &Path) -> String {
    path.display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The next field up to a zero byte.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], AdapterError> {
    let at = rest.iter().position(|byte| *byte == 0).ok_or_else(cut_short)?;
    let (field, after) = (&rest[..at], &rest[at + 1..]);
    *rest = after;
    Ok(field)
}

fn cut_short() -> AdapterError {
    AdapterError::transient("failed to understand what a host said: it is cut short")
}

#[async_trait]
impl Files for RemoteFiles {
    fn is_known(&self, _place: &Place) -> bool {
        // Whoever takes the turn there leaves nothing beside the link.
        true
    }

    async fn enter(
        &self,
        _place: &Place,
        turn: &Turn,
        patience: Duration,
    ) -> Result<Held, AdapterError> {
        // The host ends what an older step of ours has at work, and lets in no older lease.
        let turn = Turn { revert: None, ..turn.clone() };
        let output = self.run("exit 0", &[], Some(&turn), (None, SMALL, patience)).await?;
        self.succeeded("take the turn", output, false)?;
        Ok(Held { _lock: None })
    }

    async fn look(&self, place: &Place, pid: u32) -> Result<Seen, AdapterError> {
        let args = [word(&place.link), word(&place.note), pid.to_string()];
        let output = self.must("look beside the link", LOOK, &args, None).await?;
        let mut rest = output.stdout.as_slice();
        let (kind, leads) = (field(&mut rest)?, field(&mut rest)?);
        let program = Some(PathBuf::from(text(field(&mut rest)?))).filter(|it| it.is_absolute());
        let link = match kind {
            b"link" => Ok(Some(whole(&place.link, Path::new(&text(leads))))),
            b"none" => Ok(None),
            _ => {
                let message = format!("failed to use `{}`: it is no link", place.link.display());
                Err(no_link(&io::Error::new(io::ErrorKind::AlreadyExists, message)))
            }
        };
        let has_note = field(&mut rest)? == b"note";
        Ok(Seen { note: has_note.then(|| rest.to_vec()), link, program })
    }

    async fn begin(&self, place: &Place, point: Point, turn: &Turn) -> Result<(), AdapterError> {
        let to = point.to.as_ref().map(|to| word(&text_for(&place.link, to))).unwrap_or_default();
        let args = [
            word(&place.link),
            to,
            word(&temporary(&place.link)),
            word(&place.note),
            text(&point.note),
            word(&place.variables),
            point.variables,
        ];
        self.must("switch the link", BEGIN, &args, Some(turn)).await.map(drop)
    }

    async fn note(&self, place: &Place, note: Vec<u8>, turn: &Turn) -> Result<(), AdapterError> {
        let args = [word(&place.note), text(&note)];
        self.must("note what runs", NOTE, &args, Some(turn)).await.map(drop)
    }

    async fn leave(
        &self,
        place: &Place,
        after: &LinkAfter,
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        let (how, to) = match after {
            LinkAfter::Stays => ("stays", String::new()),
            LinkAfter::Back(to) => ("back", word(&text_for(&place.link, to))),
            LinkAfter::Removed => ("removed", String::new()),
        };
        let (link, new) = (word(&place.link), word(&temporary(&place.link)));
        let args = [link, how.to_owned(), to, new, word(&place.variables), word(&place.note)];
        self.must("leave the link", LEAVE, &args, Some(turn)).await.map(drop)
    }

    async fn forget(&self, place: &Place, turn: &Turn) -> Result<(), AdapterError> {
        let (turn, (note, variables)) = (turn.part("forget"), place.back());
        let going = [word(&place.note), word(&note), word(&variables)];
        self.must("forget what runs", r#"rm -f -- "$@""#, &going, Some(&turn)).await.map(drop)
    }

    async fn definitions(&self, paths: &[String]) -> Result<Vec<Option<Definition>>, AdapterError> {
        let output = self.run(READ, paths, None, (None, LARGE, QUICK)).await?;
        let output = self.succeeded("read the unit's files", output, false)?;
        let (mut rest, mut found) = (output.stdout.as_slice(), Vec::new());
        for _ in paths {
            let size = field(&mut rest)?;
            if size == b"-" {
                found.push(None);
                continue;
            }
            let size = text(size).parse::<usize>().ok().filter(|size| *size <= rest.len());
            let (bytes, after) = rest.split_at(size.ok_or_else(cut_short)?);
            rest = after;
            // What lies beside backout.yaml lies on another machine.
            found.push(Some(Definition { bytes: bytes.to_vec(), own: false }));
        }
        Ok(found)
    }

    async fn is_whole(&self, layout: &Layout) -> Result<bool, AdapterError> {
        let kept = layout.kept.clone();
        let (entries, sums) = blocking(move || {
            let entries = entries(&kept).map_err(|e| {
                AdapterError::permanent(format!("failed to read a kept artifact: {e}"))
            })?;
            let sums = sums(&entries);
            Ok((entries, sums))
        })
        .await?;
        let args = [word(&layout.folder), sums.odd.to_string(), sums.plain.to_string()];
        let output = self.run(COMPARE, &args, None, (Some(sums.lines), LARGE, SLOW)).await?;
        let doing = "compare the release's files";
        match output.ended {
            HostEnded::Exited(0) if !output.cut => Ok(is_listed(&entries, &output.stdout)),
            HostEnded::Exited(1 | MISSING) => Ok(false),
            HostEnded::Exited(LACKS) => {
                Err(self.lacks(doing, &crate::host::printable(&output.stderr)))
            }
            _ => self.succeeded(doing, output, false).map(|_| false),
        }
    }

    async fn lay_out(&self, layout: &Layout, turn: &Turn) -> Result<(), AdapterError> {
        send(self, layout, turn).await?;
        if self.is_whole(layout).await? {
            return Ok(());
        }
        Err(AdapterError::permanent(format!(
            "failed to lay `{}` out on {}: something in it can't be replaced",
            layout.folder.display(),
            self.host.name()
        ))
        .with_hint("move that folder away: the next try makes it anew"))
    }

    async fn has_folder(&self, folder: &Path) -> Result<bool, AdapterError> {
        self.host.exists(&word(folder)).await
    }

    async fn prune(
        &self,
        places: &[Place],
        keep: &[String],
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        let Some(releases) = places.first().map(|place| &place.releases) else { return Ok(()) };
        let links: Vec<String> = places.iter().map(|place| word(&place.link)).collect();
        let args: Vec<String> = std::iter::once(word(releases)).chain(links.clone()).collect();
        let output = self.run(LABELS, &args, None, (None, LARGE, QUICK)).await?;
        if output.ended == HostEnded::Exited(MISSING) {
            return Ok(());
        }
        let output = self.succeeded("look at the releases", output, false)?;
        let mut rest = output.stdout.as_slice();
        let mut used = Vec::new();
        for place in places {
            used.push(whole(&place.link, Path::new(&text(field(&mut rest)?))));
        }
        while !rest.is_empty() {
            let (name, label) = (text(field(&mut rest)?), field(&mut rest)?);
            let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name else { continue };
            let needed = is_needed(serde_json::from_slice::<Label>(label), keep);
            if needed || used.contains(&releases.join(name)) {
                continue;
            }
            let args = [vec![word(releases), name.to_owned()], links.clone()].concat();
            let turn = turn.part(&format!("remove-{name}"));
            let output = self.run(REMOVE, &args, Some(&turn), (None, SMALL, SLOW)).await?;
            self.succeeded("remove a release", output, true)?;
        }
        let back = places.iter().flat_map(|place| <[_; 2]>::from(place.back()));
        let args: Vec<String> =
            std::iter::once(word(releases)).chain(back.map(|path| word(&path))).collect();
        let turn = turn.part("tidy");
        self.must("tidy the releases up", TIDY, &args, Some(&turn)).await.map(drop)
    }
}
