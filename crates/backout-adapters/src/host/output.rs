//! Files that take the output of a command and of what it leaves running.

use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use super::capture::Captured;
use super::command::{CommandLine, Output, StartError};

/// An output file that grows past this while the command runs is begun anew.
const FILE_CAP: u64 = 16 << 20;

/// The output files of one run, and where its own output begins in them.
pub(crate) struct OutputFiles {
    pub stdout: Sink,
    pub stderr: Sink,
}

pub(crate) enum Sink {
    Pipe,
    /// Reading has a handle, and so a position, of its own: the command shares that of `file`.
    File {
        file: std::fs::File,
        reader: std::fs::File,
        from: u64,
    },
}

impl OutputFiles {
    pub(crate) fn open(line: &CommandLine) -> Result<Self, StartError> {
        let open = |path: &Path| {
            Sink::open(path).map_err(|e| StartError::Other(line.program.display().to_string(), e))
        };
        Ok(match &line.output {
            Output::Pipe => Self { stdout: Sink::Pipe, stderr: Sink::Pipe },
            Output::Files { stdout, stderr } => {
                Self { stdout: open(stdout)?, stderr: open(stderr)? }
            }
        })
    }

    pub(crate) fn keep_short(&mut self) {
        self.stdout.keep_short();
        self.stderr.keep_short();
    }

    pub(crate) fn read_into(&self, stdout: &mut Captured, stderr: &mut Captured, keep: usize) {
        self.stdout.read_into(stdout, keep);
        self.stderr.read_into(stderr, keep);
    }
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        if file.metadata()?.len() > FILE_CAP / 4 {
            file.set_len(0)?;
        }
        let from = file.metadata()?.len();
        Ok(Self::File { file, reader: std::fs::File::open(path)?, from })
    }

    pub(crate) fn stdio(&self, program: &Path) -> Result<Stdio, StartError> {
        match self {
            Self::Pipe => Ok(Stdio::piped()),
            Self::File { file, .. } => file
                .try_clone()
                .map(Stdio::from)
                .map_err(|e| StartError::Other(program.display().to_string(), e)),
        }
    }

    /// Appending writers go on at the new end after a file was cut.
    fn keep_short(&mut self) {
        if let Self::File { file, from, .. } = self
            && file.metadata().is_ok_and(|m| m.len() > FILE_CAP)
            && file.set_len(0).is_ok()
        {
            *from = 0;
        }
    }

    /// Reads both ends of what was written since the file was opened.
    fn read_into(&self, into: &mut Captured, keep: usize) {
        let Self::File { reader, from, .. } = self else { return };
        let keep = keep as u64;
        let end = reader.metadata().map_or(0, |m| m.len());
        let middle = end.saturating_sub(*from).saturating_sub(2 * keep);
        if middle > 0 {
            read_part(reader, *from, keep, into);
            into.skip(middle);
            read_part(reader, end - keep, keep, into);
        } else {
            read_part(reader, *from, end.saturating_sub(*from), into);
        }
    }
}

fn read_part(mut file: &std::fs::File, from: u64, length: u64, into: &mut Captured) {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_ok() && file.take(length).read_to_end(&mut bytes).is_ok()
    {
        into.push(&bytes);
    }
}
