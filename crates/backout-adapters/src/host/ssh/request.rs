//! What is sent to the helper on a host: lines of shell in which every text is quoted by us.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::ports::{AdapterError, HostChange, HostCommand, HostRevert, Secret};

/// The helper as it is sent to hosts.
pub(super) const HELPER: &str = include_str!("remote.sh");

/// One request, and what follows it on the helper's input.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Names the answer.
    pub nonce: String,
    /// Lines of shell.
    pub text: String,
    /// What the command reads.
    pub input: Vec<u8>,
    /// The input stays open: a word on it ends the command.
    pub stays_open: bool,
}

/// Between single quotes nothing means anything to a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whole seconds, at least one: what every `timeout` understands.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)).try_into().unwrap_or(u64::MAX)
}

fn nonce() -> Result<String, AdapterError> {
    let mut bytes = [0_u8; 12];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| AdapterError::transient(format!("failed to draw a random number: {e}")))?;
    Ok(backout_core::ids::hex(&bytes))
}

impl Request {
    fn new(verb: &str, home: &str) -> Result<Self, AdapterError> {
        let nonce = nonce()?;
        let text = format!("verb={verb}\nhome={}\n", quoted(home));
        Ok(Self { nonce, text, input: Vec::new(), stays_open: false })
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name}={}", quoted(value));
    }

    fn number(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.text, "{name}={value}");
    }

    fn unit(&mut self, unit: &Unit) {
        self.set("unit", &format!("{}/{}", unit.key.app, unit.key.environment));
        self.set("service", unit.service.as_str());
    }

    fn exports(
        &mut self,
        function: &str,
        env: &BTreeMap<String, Secret>,
    ) -> Result<(), AdapterError> {
        let _ = writeln!(self.text, "{function}() {{\n:");
        for (name, value) in env {
            if !is_identifier(name) {
                return Err(AdapterError::permanent(format!(
                    "failed to hand `{name}` over: a shell on another host can't have a variable of that name"
                ))
                .with_hint("use letters, digits and _ in the names of secrets"));
            }
            let value = quoted(text_of(name, value.expose())?);
            let _ = writeln!(self.text, "export {name}={value}");
        }
        self.text.push_str("}\n");
        Ok(())
    }

    fn command(home: &str, verb: &str, command: &HostCommand) -> Result<Self, AdapterError> {
        let mut this = Self::new(verb, home)?;
        this.set("folder", text_of("folder", command.folder.as_deref().unwrap_or_default())?);
        this.number("limit", seconds(command.timeout));
        this.number("keep", command.keep as u64);
        this.input = command.stdin.clone().unwrap_or_default();
        this.number("bytes", this.input.len() as u64);
        this.exports("export_call", &command.env)?;
        this.text.push_str("set --");
        if command.argv.is_empty() {
            return Err(AdapterError::permanent("failed to run a command that has no program"));
        }
        for word in &command.argv {
            let _ = write!(this.text, " {}", quoted(text_of("argument", word)?));
        }
        this.text.push('\n');
        Ok(this)
    }

    /// A command that only looks.
    pub(super) fn look(home: &str, command: &HostCommand) -> Result<Self, AdapterError> {
        Self::command(home, "look", command)
    }

    /// A command that changes something.
    pub(super) fn change(
        home: &str,
        command: &HostCommand,
        change: &HostChange,
    ) -> Result<Self, AdapterError> {
        let mut this = Self::command(home, "change", command)?;
        this.stays_open = true;
        this.unit(&change.unit);
        this.set("step", one_line("step", &change.step)?);
        this.number("epoch", change.epoch);
        if let Some(revert) = &change.revert {
            this.revert(revert)?;
        }
        Ok(this)
    }

    fn revert(&mut self, revert: &HostRevert) -> Result<(), AdapterError> {
        self.number("guard", revert.deployment);
        let within = u64::try_from(revert.within.as_millis()).unwrap_or(u64::MAX);
        self.number("guard_within", within.max(1));
        self.number("guard_limit", seconds(revert.timeout));
        self.set("guard_folder", text_of("folder", revert.folder.as_deref().unwrap_or_default())?);
        self.exports("export_back", &revert.env)?;
        self.text.push_str("back_words() { \"$@\"");
        for command in &revert.commands {
            let _ = write!(self.text, " {}", command.len());
            for word in command {
                let _ = write!(self.text, " {}", quoted(text_of("argument", word)?));
            }
        }
        self.text.push_str("; }\n");
        Ok(())
    }

    /// A file.
    pub(super) fn write(
        home: &str,
        path: &str,
        bytes: &[u8],
        mode: u32,
    ) -> Result<Self, AdapterError> {
        let mut this = Self::new("write", home)?;
        this.set("path", text_of("path", path)?);
        let _ = writeln!(this.text, "mode={:o}", mode & 0o7777);
        this.number("bytes", bytes.len() as u64);
        this.input = bytes.to_vec();
        Ok(this)
    }

    /// What a file holds, up to a limit.
    pub(super) fn read(home: &str, path: &str, limit: u64) -> Result<Self, AdapterError> {
        let mut this = Self::new("read", home)?;
        this.set("path", text_of("path", path)?);
        this.number("bytes", limit);
        Ok(this)
    }

    /// Whether there is something at a path.
    pub(super) fn exists(home: &str, path: &str) -> Result<Self, AdapterError> {
        let mut this = Self::new("exists", home)?;
        this.set("path", text_of("path", path)?);
        Ok(this)
    }

    /// A question about a unit: `at_work`, `guard` or `confirm`.
    pub(super) fn about(verb: &str, unit: &Unit, deployment: u64) -> Result<Self, AdapterError> {
        let mut this = Self::new(verb, "")?;
        this.unit(unit);
        this.number("deployment", deployment);
        Ok(this)
    }

    /// The end of what the changing calls of a service have written.
    pub(super) fn last_words(unit: &Unit, limit: usize) -> Result<Self, AdapterError> {
        let mut this = Self::new("last_words", "")?;
        this.unit(unit);
        this.number("bytes", limit as u64);
        Ok(this)
    }

    /// What goes over before the input.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}#{}\n", self.text, self.nonce).into_bytes();
        bytes.extend_from_slice(&self.input);
        bytes
    }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn text_of<'a>(what: &str, text: &'a str) -> Result<&'a str, AdapterError> {
    if text.contains('\0') {
        let message = format!("failed to hand `{what}` over: it holds a zero byte");
        return Err(AdapterError::permanent(message));
    }
    Ok(text)
}

fn one_line<'a>(what: &str, text: &'a str) -> Result<&'a str, AdapterError> {
    if text.is_empty() || text.contains(char::is_control) {
        let message = format!("failed to hand the {what} over: it is not one line");
        return Err(AdapterError::permanent(message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_closed_around_quotes() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_a_shell_can_not_hold_is_refused() {
        let mut command = HostCommand::look(["a", "b\0c"], Duration::from_millis(1));
        assert!(Request::look("", &command).is_err());
        command.argv.pop();
        assert!(Request::look("", &command).unwrap().text.contains("limit=1\n"));
        command.env.insert("no-name".to_owned(), Secret::new(String::new()));
        assert!(Request::look("", &command).unwrap_err().message.contains("no-name"));
    }
}
