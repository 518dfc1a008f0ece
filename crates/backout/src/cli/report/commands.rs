//! Exact commands for people to type: with the file, environment and state folder that were used.

use backout_core::ids::EnvironmentName;

use crate::cli::args::Global;

/// Makes commands for one environment.
#[derive(Debug, Clone)]
pub struct Commands {
    flags: String,
}

impl Commands {
    /// For the environment that is shown, with the flags that were given.
    #[must_use]
    pub fn new(global: &Global, environment: &EnvironmentName) -> Self {
        let mut flags = format!(" -e {environment}");
        if let Some(file) = global.file() {
            flags.push_str(&format!(" -f {}", quoted(&file.display().to_string())));
        }
        if let Some(dir) = &global.state_dir {
            flags.push_str(&format!(" --state-dir {}", quoted(&dir.display().to_string())));
        }
        Self { flags }
    }

    /// `backout VERB -e ENV …`; what follows the verb may hold flags of its own.
    #[must_use]
    pub fn command(&self, verb: &str) -> String {
        let (verb, own) = verb
            .split_once(' ')
            .map_or((verb, String::new()), |(verb, own)| (verb, format!(" {own}")));
        format!("backout {verb}{}{own}", self.flags)
    }
}

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("a/b.yaml"), "a/b.yaml");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
