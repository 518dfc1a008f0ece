//! Running other programs: argument vectors only, no shell strings.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::paths;

/// A `cargo` call in the checkout, without what an outer `cargo run` left in the environment.
///
/// Several build scripts watch `CARGO_PKG_*` and `CARGO_MANIFEST_*`: inherited values would make
/// them run, and everything above them build, again and again.
pub fn cargo(args: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if is_of_outer_cargo(&name) {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(paths::workspace_root()?)
        .env("CARGO_TARGET_DIR", paths::target_dir()?);
    Ok(command)
}

fn is_of_outer_cargo(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

/// Runs with inherited output; a failing exit is an error that names the command.
pub fn run(mut command: Command) -> Outcome<()> {
    let words = words(&command);
    let status = command.status().map_err(|e| format!("failed to start `{words}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{words}` ended with {status}")) }
}

/// Runs and returns stdout; stderr goes into the error.
pub fn output(mut command: Command) -> Outcome<String> {
    let words = words(&command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("failed to start `{words}`: {e}"))?;
    if !done.status.success() {
        let told = String::from_utf8_lossy(&done.stderr);
        return Err(format!("`{words}` ended with {}:\n{}", done.status, told.trim_end()));
    }
    String::from_utf8(done.stdout).map_err(|e| format!("failed to read what `{words}` said: {e}"))
}

/// Whether the command starts and succeeds; what it says is dropped.
pub fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A `git` call in `dir` that reads no configuration of the user or the machine.
pub fn git(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=backout", "-c", "user.email=backout@localhost"])
        .args(["-c", "safe.directory=*"])
        .args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    command
}

/// The command as a person would type it.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        words.push(' ');
        words.push_str(&argument.to_string_lossy());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_with_its_words_and_stderr() {
        let mut command = Command::new("ls");
        command.arg("/nonexistent-folder");
        let error = output(command).unwrap_err();
        assert!(error.contains("ls /nonexistent-folder"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn variables_of_an_outer_cargo_are_not_handed_on() {
        assert!(is_of_outer_cargo(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(is_of_outer_cargo(OsStr::new("CARGO_PKG_NAME")));
        assert!(!is_of_outer_cargo(OsStr::new("CARGO_HOME")));
        assert!(!is_of_outer_cargo(OsStr::new("CARGO_TARGET_DIR")));
    }
}
