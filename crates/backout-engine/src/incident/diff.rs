//! What differs between the config files of two releases.

use std::collections::BTreeMap;

use backout_core::model::{ConfigFile, FileKind, Release};

use crate::context::Context;

/// Longer files are only said to differ.
const LINES_MAX: usize = 1_500;

/// A text in the form of `diff -u`, secrets masked as the ledger has them.
pub(super) async fn config(cx: &Context, before: &Release, after: &Release) -> String {
    let by_path = |release: &Release| -> BTreeMap<String, ConfigFile> {
        release.content.config.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (old, new) = (by_path(before), by_path(after));
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut out = String::new();
    for path in paths {
        let (was, is) = (old.get(path), new.get(path));
        if was == is {
            continue;
        }
        out.push_str(&format!("--- {} {path}\n", before.content.version));
        out.push_str(&format!("+++ {} {path}\n", after.content.version));
        let mode = |file: Option<&ConfigFile>| {
            file.map_or_else(|| "absent".to_owned(), |file| format!("{:04o}", file.mode & 0o7777))
        };
        if mode(was) != mode(is) {
            out.push_str(&format!("mode {} => {}\n", mode(was), mode(is)));
        }
        let (was, is) = (content(cx, was).await, content(cx, is).await);
        out.push_str(&lines(&was, &is));
    }
    if out.is_empty() { "the config files are the same\n".to_owned() } else { out }
}

async fn content(cx: &Context, file: Option<&ConfigFile>) -> String {
    match file.map(|file| &file.kind) {
        None => String::new(),
        Some(FileKind::Link { target }) => format!("link to {target}\n"),
        Some(FileKind::File { blob, .. }) => match cx.ledger.blob(blob).await {
            Ok(Some(bytes)) => String::from_utf8(bytes)
                .unwrap_or_else(|_| format!("bytes that are no text ({blob})\n"))
                .replace('\u{1}', "~"),
            Ok(None) => "its content is not in the ledger any more\n".to_owned(),
            Err(error) => format!("its content can't be read: {error}\n"),
        },
    }
}

/// Lines that went and lines that came, in order, with what stays left out.
fn lines(was: &str, is: &str) -> String {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    if was.len().max(is.len()) > LINES_MAX {
        return format!("{} lines => {} lines, not compared\n", was.len(), is.len());
    }
    // Length of the longest common subsequence from each pair of places on.
    let width = is.len() + 1;
    let mut common = vec![0_u32; (was.len() + 1) * width];
    for i in (0..was.len()).rev() {
        for j in (0..is.len()).rev() {
            common[i * width + j] = if was[i] == is[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < was.len() || j < is.len() {
        let same = i < was.len() && j < is.len() && was[i] == is[j];
        let goes = j == is.len()
            || (i < was.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]);
        match (same, goes) {
            (true, _) => {
                i += 1;
                j += 1;
            }
            (false, true) => {
                out.push_str(&format!("@{} -{}\n", i + 1, was[i]));
                i += 1;
            }
            (false, false) => {
                out.push_str(&format!("@{} +{}\n", j + 1, is[j]));
                j += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_that_went_and_came() {
        assert_eq!(lines("a\nb\nc\n", "a\nB\nc\nd\n"), "@2 -b\n@2 +B\n@4 +d\n");
        assert_eq!(lines("", "x\n"), "@1 +x\n");
        assert_eq!(lines("x\ny\n", ""), "@1 -x\n@2 -y\n");
        assert_eq!(lines("same\n", "same\n"), "");
        let long = "l\n".repeat(2_000);
        assert!(lines(&long, "").contains("2000 lines => 0 lines"));
    }
}
