//! Where PostgreSQL's programs are, and who may run them.

use std::path::PathBuf;

/// A program of PostgreSQL: Debian keeps most of them off the `PATH`.
pub(super) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> =
        glob::glob("/usr/lib/postgresql/*/bin").into_iter().flatten().flatten().collect();
    versions.sort();
    folders.splice(0..0, versions.into_iter().rev());
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not here: `apt-get install postgresql` brings it"))
}

/// Whom to become: PostgreSQL refuses to run as root. `None` if we are somebody else already.
pub(super) fn unprivileged() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    if uid.split_ascii_whitespace().nth(1) != Some("0") {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    };
    Some(of("postgres").or_else(|| of("nobody")).unwrap_or((65_534, 65_534)))
}
