//! What ssh says when it can't connect, and what that means.

use backout_core::ids::HostName;
use backout_core::ports::AdapterError;

/// What ssh needs to be called with by people, so that it looks where we look.
pub(super) fn command_for(host: &HostName, config: Option<&std::path::Path>) -> String {
    match config {
        Some(config) => format!("ssh -F {} {host}", config.display()),
        None => format!("ssh {host}"),
    }
}

/// A connection that did not come about. Nothing happened on the host.
pub(super) fn not_connected(host: &HostName, call: &str, said: &str) -> AdapterError {
    let last = last_line(said);
    let message = |why: &str| format!("failed to reach {host}: {why}");
    if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let where_ = offending(said).map(|at| format!(" ({at})")).unwrap_or_default();
        return AdapterError::permanent(message(&format!(
            "its host key is another one than the one that is known{where_}"
        )))
        .with_hint(format!(
            "ask whoever runs {host} whether it was set up anew; only then remove the old key (`{}`) and add the new one \
             by `{call}`",
            removal(said).unwrap_or_else(|| format!("ssh-keygen -R {host}"))
        ));
    }
    if said.contains("host key is known for") || said.contains("Host key verification failed") {
        return AdapterError::permanent(message("its host key is not known here")).with_hint(
            format!("`{call}` shows its fingerprint and adds it, once you have compared that"),
        );
    }
    if said.contains("Permission denied") || said.contains("Too many authentication failures") {
        return AdapterError::permanent(message(&last)).with_hint(format!(
            "`{call}` must work without a question: is the agent running (SSH_AUTH_SOCK) and the key added (`ssh-add -l`)?"
        ));
    }
    let wrong_file =
        ["Bad configuration option", "Can't open user config file", "Bad owner or permissions"];
    if wrong_file.iter().any(|words| said.contains(words)) {
        return AdapterError::permanent(message(&last)).with_hint("correct the ssh configuration");
    }
    if said.contains("Could not resolve hostname") && !said.contains("Temporary failure") {
        return AdapterError::permanent(message(&last))
            .with_hint("names under `hosts` are those that ssh knows: correct it, or add a `Host` to the ssh configuration");
    }
    let why = if last.is_empty() { "ssh ended without a word" } else { &last };
    AdapterError::transient(message(why)).with_hint(format!("try `{call}`"))
}

/// Where the key that does not fit any more stands, as ssh names it.
fn offending(said: &str) -> Option<&str> {
    said.lines().find_map(|line| {
        let line = line.trim();
        line.starts_with("Offending ").then(|| line.split_once(" in ").map(|(_, at)| at))?
    })
}

/// The command that ssh itself names for its removal.
fn removal(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).find(|line| line.starts_with("ssh-keygen -f"))?;
    Some(line.to_owned())
}

fn last_line(said: &str) -> String {
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use backout_core::ports::ErrorClass;

    use super::*;

    fn of(said: &str) -> AdapterError {
        not_connected(&HostName::new("web1").unwrap(), "ssh web1", said)
    }

    #[test]
    fn what_again_may_help_is_transient_and_the_rest_is_not() {
        for said in [
            "ssh: connect to host 10.0.0.1 port 22: Connection refused",
            "ssh: connect to host 10.0.0.1 port 22: Connection timed out",
            "kex_exchange_identification: Connection closed by remote host",
            "ssh: Could not resolve hostname web1: Temporary failure in name resolution",
            "",
        ] {
            assert_eq!(of(said).class, ErrorClass::Transient, "{said}");
        }
        for (said, hint) in [
            ("ssh: Could not resolve hostname web1: Name or service not known", "`hosts`"),
            ("root@web1: Permission denied (publickey).", "ssh-add"),
            ("/etc/ssh/x: line 3: Bad configuration option: foo", "configuration"),
            (
                "No ED25519 host key is known for web1 and you have requested strict checking.\nHost key verification failed.",
                "fingerprint",
            ),
        ] {
            let error = of(said);
            assert_eq!(error.class, ErrorClass::Permanent, "{said}");
            assert!(error.hint.as_ref().unwrap().contains(hint), "{error}");
        }
    }

    #[test]
    fn a_changed_key_is_told_from_an_unknown_one() {
        let said = "@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@\n\
                    Offending ED25519 key in /home/me/.ssh/known_hosts:7\n  remove with:\n\
                    \x20 ssh-keygen -f \"/home/me/.ssh/known_hosts\" -R \"web1\"\nHost key verification failed.";
        let error = of(said);
        assert_eq!(error.class, ErrorClass::Permanent);
        assert!(
            error.message.contains("another one") && error.message.contains("known_hosts:7"),
            "{error}"
        );
        assert!(
            error.hint.unwrap().contains("ssh-keygen -f \"/home/me/.ssh/known_hosts\" -R \"web1\"")
        );
    }
}
