//! The program that tests deploy: a small script around the hidden web service of the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// How one build of the program behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Service<'a> {
    /// Further flags of the web service.
    pub flags: &'a str,
    /// The version it claims to be, if not the one that it is started as.
    pub claims: Option<&'a str>,
    /// Shell commands before the service starts.
    pub before: &'a str,
}

impl Service<'_> {
    /// Writes this build over the last one.
    pub fn write(&self, path: &Path, program: &Path) {
        let version = self.claims.unwrap_or("$1");
        let Self { flags, before, .. } = self;
        let text = format!(
            "#!/bin/sh\n{before}\nexec {} demo-service --version \"{version}\" {flags}\n",
            program.display()
        );
        write_program(path, &text);
    }
}

/// Writes an executable; a running one keeps its old bytes.
pub fn write_program(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&fresh, path).unwrap();
}
