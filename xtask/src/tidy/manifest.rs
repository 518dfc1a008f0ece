//! Rules about the manifest of a crate.

use super::{Source, Violation};

pub(super) fn check(source: &Source) -> Vec<Violation> {
    if !is_of_a_crate(&source.path) {
        return Vec::new();
    }
    match lints_line(&source.text) {
        Ok(()) => Vec::new(),
        Err(line) => vec![Violation {
            path: source.path.clone(),
            line,
            what: "the lints of the workspace are not inherited".to_owned(),
            remedy: "write `[lints]` and below it `workspace = true`",
        }],
    }
}

fn is_of_a_crate(path: &str) -> bool {
    let mut parts = path.split('/').rev();
    parts.next() == Some("Cargo.toml") && parts.next().is_some()
}

/// `Err` holds the line to look at: that of the section, or the first one without a section.
fn lints_line(text: &str) -> Result<(), usize> {
    let mut lines = text.lines().enumerate();
    let Some((section, _)) = lines.find(|(_, line)| line.trim() == "[lints]") else {
        return Err(1);
    };
    lines
        .map(|(_, line)| line.trim())
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
        .then_some(())
        .ok_or(section + 1)
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&source(path, text)).into_iter().map(|v| v.line).collect()
    }

    #[test]
    fn a_crate_without_the_lints_of_the_workspace_is_found() {
        let path = "crates/backout-core/Cargo.toml";
        assert_eq!(lines(path, "[package]\nname = \"a\"\n"), [1]);
        assert_eq!(lines(path, "[package]\n\n[lints]\n[dependencies]\nworkspace = true"), [3]);
        assert_eq!(lines(path, "[lints]\nworkspace = false"), [1]);
        assert_eq!(lines(path, "[package]\n\n[lints]\nworkspace = true\n"), [0; 0]);
    }

    #[test]
    fn the_manifest_of_the_workspace_has_nothing_to_inherit() {
        assert_eq!(lines("Cargo.toml", "[workspace]"), [0; 0]);
    }
}
