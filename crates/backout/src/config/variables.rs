//! `${VAR}`, `${VAR:-default}`, and `$${` for a literal `${`.

use super::errors::Problem;
use super::merged::is_env_value;
use super::node::{Node, Value};

/// Where values of variables come from.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpandError {
    /// The variable is not set and has no default.
    Missing(String),
    /// What stands between the braces is no name.
    Syntax(String),
}

/// A piece of a text.
enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, ExpandError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            pieces.push(Piece::Text(&rest[..start - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[start + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..start]));
        let inner = &rest[start + 2..];
        let end =
            inner.find('}').ok_or_else(|| ExpandError::Syntax("`${` without `}`".to_owned()))?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        if !is_name(name) {
            return Err(ExpandError::Syntax(format!("`${{{}}}` names no variable", &inner[..end])));
        }
        pieces.push(Piece::Variable { name, default });
        rest = &inner[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Fills in the variables of a text. As in a shell, an empty variable counts as unset where a default is given.
///
/// # Errors
/// The first variable that is missing, or what is no variable.
pub fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Variable { name, default } => match (lookup(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => return Err(ExpandError::Missing(name.to_owned())),
            },
        }
    }
    Ok(out)
}

/// How a whole tree is expanded.
pub(super) struct Expander<'a> {
    pub lookup: Lookup<'a>,
    /// Names under `secrets:`.
    pub secrets: &'a [String],
    /// What has a missing variable is left out instead of reported.
    pub lenient: bool,
}

impl Expander<'_> {
    /// Fills in every value below `node`. Keys are taken as they are.
    pub fn tree(&self, node: &Node, path: &mut Vec<String>, problems: &mut Vec<Problem>) -> Node {
        let value = match &node.value {
            Value::Null => Value::Null,
            Value::Scalar(text) => return self.scalar(node, text, path, problems),
            Value::List(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.tree(item, path, problems))
                    .filter(|item| !self.lenient || item.value != Value::Null)
                    .collect(),
            ),
            Value::Map(entries) => {
                let mut out = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    path.push(key.text.clone());
                    out.push((key.clone(), self.tree(value, path, problems)));
                    path.pop();
                }
                Value::Map(out)
            }
        };
        Node { at: node.at, value }
    }

    fn scalar(
        &self,
        node: &Node,
        text: &str,
        path: &[String],
        problems: &mut Vec<Problem>,
    ) -> Node {
        let nothing = Node { at: node.at, value: Value::Null };
        if !text.contains("${") {
            return node.clone();
        }
        let secret_env =
            is_env_value(path) && path.last().is_some_and(|key| self.secrets.contains(key));
        if !secret_env && let Some(problem) = self.leak(node, text, path) {
            problems.push(problem);
            return nothing;
        }
        match expand(text, self.lookup) {
            Ok(text) => return Node { at: node.at, value: Value::Scalar(text) },
            // The caller's environment may still have the key itself; what lacks is named later.
            Err(ExpandError::Missing(_)) if secret_env || self.lenient => {}
            Err(ExpandError::Missing(name)) => {
                problems.push(Problem::at(node.at, format!("variable `{name}` is not set")).hint(
                    format!("set it (`export {name}=…`) or give a default: `${{{name}:-default}}`"),
                ))
            }
            Err(ExpandError::Syntax(message)) => problems.push(
                Problem::at(node.at, message)
                    .hint("write `${NAME}` or `${NAME:-default}`, and `$${` for a literal `${`"),
            ),
        }
        nothing
    }

    /// A secret's value may go into a secret environment key only: anything else is recorded with the release.
    fn leak(&self, node: &Node, text: &str, path: &[String]) -> Option<Problem> {
        let names = pieces(text).ok()?;
        let name = names.iter().find_map(|piece| match piece {
            Piece::Variable { name, .. } if self.secrets.iter().any(|secret| secret == name) => {
                Some(*name)
            }
            _ => None,
        })?;
        let key = path.last().map_or("", String::as_str);
        let problem = Problem::at(
            node.at,
            format!("the value of the secret `{name}` would be recorded with the release here"),
        );
        Some(if is_env_value(path) {
            problem.hint(format!("add `{key}` to `secrets` too"))
        } else {
            problem.hint(format!(
                "hand it over in `env`, under a key that stands under `secrets`, such as `{name}`"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes() {
        for (text, wanted) in [
            ("${A}", "alpha"),
            ("x${A}y${A}", "xalphayalpha"),
            ("${B:-beta}", "beta"),
            ("${A:-beta}", "alpha"),
            ("${EMPTY:-beta}", "beta"),
            ("[${EMPTY}]", "[]"),
            ("${B:-}", ""),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$A {version} $", "$A {version} $"),
            ("${DOLLAR}", "${A}"),
        ] {
            assert_eq!(expand(text, &lookup).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn missing_variables_are_named() {
        assert_eq!(expand("${B}", &lookup), Err(ExpandError::Missing("B".to_owned())));
        for text in ["${", "${A", "${}", "${1A}", "${A-b}", "${A B}"] {
            assert!(matches!(expand(text, &lookup), Err(ExpandError::Syntax(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_expands_or_is_refused(text in "[$}{A:\\-xé]{0,20}") {
            let _ = expand(&text, &lookup);
        }

        #[test]
        fn text_without_variables_stays(text in "[^$]{0,20}") {
            prop_assert_eq!(expand(&text, &lookup), Ok(text.clone()));
        }
    }
}
