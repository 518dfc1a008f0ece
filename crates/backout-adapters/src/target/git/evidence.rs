//! What a working tree tells of itself, for an incident bundle.

use backout_core::ports::{AdapterError, NamedText};

use crate::git::Git;

pub(super) async fn evidence(
    git: &Git,
    limit_bytes: usize,
) -> Result<Vec<NamedText>, AdapterError> {
    let mut texts = Vec::new();
    let asked: [(&str, &[&str]); 2] = [
        ("commits", &["log", "-5", "--stat", "--no-color", "--date=iso-strict"]),
        ("working-tree", &["status", "--short", "--branch", "--no-renames"]),
    ];
    for (name, args) in asked {
        let mut text = git.look(args).await?;
        let mut end = limit_bytes.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        texts.push(NamedText { name: format!("{name}.txt"), text, cut: false });
    }
    Ok(texts)
}
