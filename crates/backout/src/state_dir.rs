//! Where state lives: the first rule that is set (`CONFIG`, "State folder").

use std::path::{Path, PathBuf};

/// A folder and the rule that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    /// The folder.
    pub path: PathBuf,
    /// The rule, for people.
    pub rule: &'static str,
}

/// All folders that the rules name, the chosen one first.
///
/// # Errors
/// When no rule is set: no home folder is known.
pub fn candidates(
    flag: Option<&Path>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<StateDir>, String> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let mut found = Vec::new();
    let mut add = |path: PathBuf, rule: &'static str| {
        let path = std::path::absolute(&path).unwrap_or(path);
        if !found.iter().any(|known: &StateDir| known.path == path) {
            found.push(StateDir { path, rule });
        }
    };
    if let Some(path) = flag {
        add(path.to_owned(), "--state-dir");
    }
    if let Some(path) = set("BACKOUT_STATE_DIR") {
        add(path, "BACKOUT_STATE_DIR");
    }
    if let Some(path) = set("XDG_STATE_HOME") {
        add(path.join("backout"), "XDG_STATE_HOME");
    }
    if is_root {
        add(PathBuf::from("/var/lib/backout"), "the default for root");
    }
    if let Some(home) = set("HOME") {
        add(home.join(".local/state/backout"), "the default of this user");
    }
    if found.is_empty() {
        return Err(
            "no state folder is known: set --state-dir, BACKOUT_STATE_DIR or HOME".to_owned()
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_wins_and_the_others_follow() {
        let vars = |name: &str| match name {
            "BACKOUT_STATE_DIR" => Some("/b".to_owned()),
            "XDG_STATE_HOME" => Some("/x".to_owned()),
            "HOME" => Some("/h".to_owned()),
            _ => None,
        };
        let found = candidates(Some(Path::new("/f")), &vars).unwrap();
        let paths: Vec<_> = found.iter().map(|dir| dir.path.to_str().unwrap()).collect();
        assert_eq!(paths[..3], ["/f", "/b", "/x/backout"]);
        assert_eq!(found[0].rule, "--state-dir");
        assert_eq!(paths.last(), Some(&"/h/.local/state/backout"));
        assert!(candidates(None, &|_| None).is_err() || rustix::process::geteuid().is_root());
    }
}
