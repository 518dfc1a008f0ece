//! The files that a side is made of, where its unit is: on this machine, or on another host.

mod local;
mod manifest;
mod packed;
mod remote;
mod send;
mod texts;
#[cfg(test)]
mod there_tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::Unit;
use backout_core::ports::{AdapterError, HostChange, HostRevert, StepCx};

use super::pieces::Piece;
use super::place::Place;
use crate::host::FileLock;

pub(super) use local::LocalFiles;
pub(super) use remote::RemoteFiles;

/// What stands at a side's place.
#[derive(Debug)]
pub(super) struct Seen {
    /// The note, as it is written.
    pub note: Option<Vec<u8>>,
    /// Where the link leads to, as a whole path; an error: something else stands there.
    pub link: Result<Option<PathBuf>, AdapterError>,
    /// The program of the process that was asked for.
    pub program: Option<PathBuf>,
}

/// What a start writes before the unit is started.
pub(super) struct Point {
    pub note: Vec<u8>,
    pub variables: String,
    /// Where the link leads to from now on; `None`: it does already.
    pub to: Option<PathBuf>,
}

/// What becomes of the link when a side is left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinkAfter {
    /// It stays as it is.
    Stays,
    /// It leads there again.
    Back(PathBuf),
    /// It goes.
    Removed,
}

/// A file by which a unit is defined.
pub(super) struct Definition {
    pub bytes: Vec<u8>,
    /// It lies in the app's own folder, and so comes back with a release.
    pub own: bool,
}

/// A release as it is to be laid out.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub pieces: Vec<Piece>,
    /// The kept copies of the pieces, each with its place in the folder.
    pub kept: Vec<(PathBuf, PathBuf)>,
    pub folder: PathBuf,
}

/// For whom a change is made: a host lets nobody do it whose lease is over.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub unit: Unit,
    pub step: String,
    pub epoch: u64,
    /// Armed with the change.
    pub revert: Option<HostRevert>,
}

impl Turn {
    pub(super) fn of(unit: &Unit, cx: &StepCx) -> Self {
        Self { unit: unit.clone(), step: cx.step_id.clone(), epoch: cx.epoch, revert: None }
    }

    /// A part of the step that nothing is taken for but itself.
    pub(super) fn part(&self, name: &str) -> Self {
        Self { step: format!("{}/{name}", self.step), revert: None, ..self.clone() }
    }

    pub(super) fn change(&self) -> HostChange {
        HostChange {
            unit: self.unit.clone(),
            step: self.step.clone(),
            epoch: self.epoch,
            revert: self.revert.clone(),
        }
    }
}

/// Nobody else of ours changes the side while this is there.
pub(super) struct Held {
    _lock: Option<FileLock>,
}

/// The files of one side. What is written is there whole after a power cut, or not at all.
#[async_trait]
pub(super) trait Files: Send + Sync {
    /// Whether taking the turn leaves no trace where nothing of ours was before.
    fn is_known(&self, place: &Place) -> bool;

    /// Takes the turn: no other change of this side is at work then.
    async fn enter(
        &self,
        place: &Place,
        turn: &Turn,
        patience: Duration,
    ) -> Result<Held, AdapterError>;

    /// Looks at the place, and at a process (0: at none).
    async fn look(&self, place: &Place, pid: u32) -> Result<Seen, AdapterError>;

    /// Writes note and variables, and lets the link lead to the release.
    async fn begin(&self, place: &Place, point: Point, turn: &Turn) -> Result<(), AdapterError>;

    /// Replaces the note.
    async fn note(&self, place: &Place, note: Vec<u8>, turn: &Turn) -> Result<(), AdapterError>;

    /// Leaves the place: the link as said, without variables and note.
    async fn leave(
        &self,
        place: &Place,
        after: &LinkAfter,
        turn: &Turn,
    ) -> Result<(), AdapterError>;

    /// Forgets the note, and what else is only ours.
    async fn forget(&self, place: &Place, turn: &Turn) -> Result<(), AdapterError>;

    /// Files of the manager's; `None`: it is not there.
    async fn definitions(&self, paths: &[String]) -> Result<Vec<Option<Definition>>, AdapterError>;

    /// Whether the folder holds exactly the kept bytes. What a program has written beside them does not count.
    async fn is_whole(&self, layout: &Layout) -> Result<bool, AdapterError>;

    /// Makes the folder hold them. The kept copies are known to be good.
    async fn lay_out(&self, layout: &Layout, turn: &Turn) -> Result<(), AdapterError>;

    /// Whether the folder is there at all.
    async fn has_folder(&self, folder: &Path) -> Result<bool, AdapterError>;

    /// Removes folders of ours that hold anything but what is in `keep`, and none to which a link leads. All places have
    /// their releases in one folder.
    async fn prune(
        &self,
        places: &[Place],
        keep: &[String],
        turn: &Turn,
    ) -> Result<(), AdapterError>;
}
