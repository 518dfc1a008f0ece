//! The file as a tree in which every key and value knows its place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::errors::Problem;

/// A place in the file. Line and column count characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters to underline, at least 1 when shown.
    pub len: u32,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub at: Position,
    /// The key.
    pub text: String,
}

/// What a value is. Scalars keep their text, so that `1.10` stays `1.10` where a text is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: as if the key were not there.
    Null,
    /// Text, number or boolean.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// The entry of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The entry of a map with its key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.entries().iter().find(|(name, _)| name.text == key).map(|(name, node)| (name, node))
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// In words, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(text) => format!("`{}`", shorten(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// At most 60 characters of the first line.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut out: String = line.chars().take(60).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// Reads YAML. Anchors, aliases and merge keys are resolved; duplicate keys and more than one document refused.
///
/// # Errors
/// The first thing that is no YAML.
pub fn parse(source: &str) -> Result<Node, Problem> {
    // The format is less than ten levels deep; each costs some tens of KiB of stack while it is read.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 20, max_nodes: 50_000, max_events: 200_000 },
    };
    let parsed: Spanned<Parsed> =
        serde_saphyr::from_str_with_options(source, options).map_err(|error| {
            let at = error.location().map(|location| position(&location));
            let hints = at.and_then(|at| unquoted_variable(source, at)).into_iter().collect();
            Problem { message: yaml_message(&error), at, hints }
        })?;
    Ok(parsed.into_node(source))
}

/// `${VAR}` without quotes is the beginning of a map wherever a list or a map may end.
fn unquoted_variable(source: &str, at: Position) -> Option<String> {
    let line = source.lines().nth(at.line.checked_sub(1)? as usize)?;
    let until = line.char_indices().nth(at.column as usize).map_or(line.len(), |(index, _)| index);
    let begin = line.get(..until)?.rfind("${")?;
    let quoted = line[..begin].bytes().filter(|byte| matches!(byte, b'"' | b'\'')).count() % 2 == 1;
    (!quoted).then(|| "write variables in quotes there: `\"${VAR}\"`".to_owned())
}

fn yaml_message(error: &serde_saphyr::Error) -> String {
    let rendered =
        error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let line = rendered.lines().next().unwrap_or_default().trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    if line.contains("limits breached") {
        return "the configuration is too large: aliases and lists make more of it than it may have".to_owned();
    }
    // The place stands in front of the shown line already.
    let line = match line.rfind(" at line ") {
        Some(at) if line[at..].bytes().any(|b| b.is_ascii_digit()) => &line[..at],
        _ => line,
    };
    format!("failed to read YAML: {line}")
}

fn position(location: &Location) -> Position {
    let clamp = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: clamp(location.line()), column: clamp(location.column()), len: 1 }
}

/// What serde sees before places are attached.
enum Parsed {
    Null,
    Text(String),
    /// A number or boolean; its own spelling is taken from the source.
    Typed(String),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(Parsed::Typed(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Parsed, E> {
        Ok(Parsed::Text(value))
    }
    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }
    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Parsed::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Parsed::Map(entries))
    }
}

trait IntoNode {
    fn into_node(self, source: &str) -> Node;
}

impl IntoNode for Spanned<Parsed> {
    fn into_node(self, source: &str) -> Node {
        let mut at = position(&self.referenced);
        let value = match self.value {
            Parsed::Null => Value::Null,
            Parsed::Text(text) => {
                at.len = span_len(&self.referenced, source);
                Value::Scalar(text)
            }
            Parsed::Typed(fallback) => {
                at.len = span_len(&self.referenced, source);
                Value::Scalar(spelling(&self.defined, source).unwrap_or(fallback))
            }
            Parsed::List(items) => {
                Value::List(items.into_iter().map(|item| item.into_node(source)).collect())
            }
            Parsed::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let mut at = position(&key.referenced);
                        at.len = span_len(&key.referenced, source);
                        (Key { at, text: key.value }, value.into_node(source))
                    })
                    .collect(),
            ),
        };
        Node { at, value }
    }
}

fn slice<'a>(location: &Location, source: &'a str) -> Option<&'a str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    source.get(start..start.checked_add(len)?)
}

/// Characters of the first line of what stands there.
fn span_len(location: &Location, source: &str) -> u32 {
    let text = slice(location, source).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim_end();
    u32::try_from(line.chars().count()).unwrap_or(u32::MAX).max(1)
}

/// How a number or boolean is spelled in the source.
fn spelling(location: &Location, source: &str) -> Option<String> {
    let text = slice(location, source)?.trim();
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.starts_with(['!', '&', '*']);
    plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar<'a>(node: &'a Node, path: &[&str]) -> &'a str {
        let mut node = node;
        for key in path {
            node = node.get(key).unwrap_or_else(|| panic!("{key} is missing in {node:?}"));
        }
        match &node.value {
            Value::Scalar(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_spelling() {
        let tree = parse(
            "a: 1.10\nb: 0x10\nc: \"007\"\nd: yes\ne: 1_0\nf: &x 1.50\ng: *x\nü: 2.0\nh: 3.0\n",
        )
        .unwrap();
        for (key, text) in
            [("a", "1.10"), ("b", "0x10"), ("c", "007"), ("d", "yes"), ("f", "1.50"), ("h", "3.0")]
        {
            assert_eq!(scalar(&tree, &[key]), text, "{key}");
        }
        assert_eq!(scalar(&tree, &["g"]), "1.50");
        assert_eq!(scalar(&tree, &["ü"]), "2.0");
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let tree = parse("a:\n  b: 17\n  c: [x, \"yy\"]\n").unwrap();
        let (key, value) = tree.get("a").unwrap().entry("b").unwrap();
        assert_eq!(key.at, Position { line: 2, column: 3, len: 1 });
        assert_eq!(value.at, Position { line: 2, column: 6, len: 2 });
        let Value::List(items) = &tree.get("a").unwrap().get("c").unwrap().value else { panic!() };
        assert_eq!(items[1].at, Position { line: 3, column: 10, len: 4 });
    }

    #[test]
    fn merge_keys_and_aliases_work() {
        let tree = parse("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n").unwrap();
        assert_eq!(scalar(&tree, &["other", "x"]), "1");
        assert_eq!(scalar(&tree, &["other", "y"]), "3");
    }

    #[test]
    fn what_is_no_yaml_has_a_place_too() {
        let problem = parse("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(problem.at.is_some(), "{problem:?}");
        let twice = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(twice.at.map(|at| at.line), Some(2), "{twice:?}");
    }
}
