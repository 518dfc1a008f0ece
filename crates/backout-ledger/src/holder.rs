//! Who this process is, as others will see it in a lease.

use std::io;

use backout_core::ports::Holder;

use crate::surroundings::{boot_id, process_stat};

/// Why this process can't say who it is.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {what} of this process from /proc, which leases need: {source}")]
pub struct HolderError {
    what: &'static str,
    source: io::Error,
}

/// This process as a holder of leases. `person`: a person's rollback or down.
///
/// # Errors
/// When `/proc` is not mounted or not readable.
pub fn holder_for_this_process(activity: &str, person: bool) -> Result<Holder, HolderError> {
    let pid = std::process::id();
    let boot_id = boot_id().map_err(|source| HolderError { what: "the boot", source })?;
    let stat = process_stat(pid)
        .and_then(|stat| stat.ok_or_else(|| io::Error::other("it is not listed")))
        .map_err(|source| HolderError { what: "the start time", source })?;
    Ok(Holder {
        label: format!("{}@{}:{pid}", user(), host()),
        pid,
        pid_start: stat.start,
        boot_id,
        activity: activity.to_owned(),
        person,
        goes_back: person,
    })
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name behind the effective user id: variables may say anything.
fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let known = fs_err::read_to_string("/etc/passwd").ok().and_then(|text| name_of(&text, uid));
    known
        .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid{uid}"))
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::{Liveness, RealSurroundings, Surroundings};

    #[test]
    fn this_process_is_a_living_holder() {
        let holder = holder_for_this_process("deploy", true).unwrap();
        assert!(holder.label.ends_with(&format!(":{}", std::process::id())), "{}", holder.label);
        assert!(holder.label.contains('@') && holder.person && holder.activity == "deploy");
        assert_eq!(RealSurroundings.liveness(&holder), Liveness::Lives);
    }

    #[test]
    fn finds_a_name_by_user_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
