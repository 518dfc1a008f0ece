//! The text exposition format of Prometheus, read tolerantly: OpenMetrics too, and lines that are neither are
//! passed over. Never panics, whatever the bytes.

use std::hash::{DefaultHasher, Hash, Hasher};

/// More labels than this are no series of anybody's.
const MAX_LABELS: usize = 64;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name of the metric.
    pub name: String,
    /// Labels as written.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

impl Line {
    /// Value of a label; one that is absent is empty, as in PromQL.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A number that stands for name and labels, without the bucket's bound.
    #[must_use]
    pub fn key(&self) -> u64 {
        series_key(&self.name, self.labels.iter().map(|(key, value)| (&**key, &**value)))
    }
}

/// A number that stands for a name and its labels in any order, without `le`.
pub(super) fn series_key<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut labels: Vec<_> = labels.filter(|(key, _)| *key != "le").collect();
    labels.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (name, labels).hash(&mut hasher);
    hasher.finish()
}

/// What a text comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Samples found.
    pub samples: usize,
    /// Lines that are none.
    pub others: usize,
}

/// Shows each sample of a text to `visit`.
pub fn read_metrics(text: &str, mut visit: impl FnMut(&Line)) -> Read {
    let mut read = Read::default();
    for line in text.lines() {
        let line = line.trim();
        if line == "# EOF" {
            break;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match sample(line) {
            Some(line) => {
                read.samples += 1;
                visit(&line);
            }
            None => read.others += 1,
        }
    }
    read
}

/// `name{labels} value [timestamp] [# exemplar]`, a quoted name within the braces, or a bare number.
fn sample(line: &str) -> Option<Line> {
    if let Ok(value) = line.parse() {
        return Some(Line { name: "value".to_owned(), labels: Vec::new(), value });
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let mut name = line[..end].to_owned();
    let rest = line[end..].trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside, &mut name)?,
        None => (Vec::new(), rest),
    };
    // Within the braces, quoted, it may hold anything.
    let named = if line.starts_with('{') { !name.is_empty() } else { is_name(&name) };
    if !named {
        return None;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Line { name, labels, value })
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

type Labels<'a> = (Vec<(String, String)>, &'a str);

/// Labels up to the closing brace, and what follows it.
fn labels<'a>(mut rest: &'a str, name: &mut String) -> Option<Labels<'a>> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        if labels.len() >= MAX_LABELS {
            return None;
        }
        let key;
        if let Some(inside) = rest.strip_prefix('"') {
            (key, rest) = quoted(inside)?;
            rest = rest.trim_start();
            if !rest.starts_with('=') {
                (*name, rest) = (key, comma(rest)?);
                continue;
            }
        } else {
            let end = rest.find('=')?;
            key = rest[..end].trim().to_owned();
            rest = &rest[end..];
        }
        let value = rest.strip_prefix('=')?.trim_start().strip_prefix('"')?;
        let (value, after) = quoted(value)?;
        labels.push((key, value));
        rest = comma(after)?;
    }
}

/// What follows a comma, or stands before the closing brace.
fn comma(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    match rest.strip_prefix(',') {
        Some(after) => Some(after),
        None => rest.starts_with('}').then_some(rest),
    }
}

/// A text up to its closing quote, and what follows.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> (Vec<Line>, Read) {
        let mut lines = Vec::new();
        let read = read_metrics(text, |line| lines.push(line.clone()));
        (lines, read)
    }

    #[test]
    fn both_formats_are_read_and_the_rest_is_passed_over() {
        let text = concat!(
            "# HELP http_requests_total All.\n# TYPE http_requests_total counter\n",
            "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n",
            "http_requests_total { code = \"5\\\"0\\n0\\\\\", } 3\r\n",
            "process_resident_memory_bytes 2.5e+07\n",
            "bucket{le=\"+Inf\"} 9 # {trace_id=\"KOO5S4vxi0o\"} 0.67\n",
            "nothing NaN\nmuch +Inf\n{\"my.metric\",a=\"b\"} 4\n42\n",
            "<html>\nname{open=\"x} 1\nname{a=b} 1\nname\n1name 2\n# EOF\nafter 1\n",
        );
        let (lines, read) = lines(text);
        assert_eq!(read, Read { samples: 8, others: 5 });
        assert_eq!((lines[0].label("code"), lines[0].value), ("200", 1027.0));
        assert_eq!(lines[1].label("code"), "5\"0\n0\\");
        assert_eq!(lines[2].value, 2.5e7);
        assert_eq!(lines[3].label("le"), "+Inf");
        assert!(lines[4].value.is_nan() && lines[5].value == f64::INFINITY);
        assert_eq!((&*lines[6].name, lines[6].label("a")), ("my.metric", "b"));
        assert_eq!((&*lines[7].name, lines[7].value), ("value", 42.0));
    }

    #[test]
    fn a_key_stands_for_the_labels_in_any_order_and_for_all_buckets() {
        let key = |text: &str| lines(text).0[0].key();
        assert_eq!(key("a{x=\"1\",y=\"2\"} 1"), key("a{y=\"2\",x=\"1\",le=\"5\"} 7"));
        assert_ne!(key("a{x=\"1\"} 1"), key("a{x=\"2\"} 1"));
        assert_ne!(key("a{x=\"1\"} 1"), key("b{x=\"1\"} 1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-z_{}\",=\\\\ #\n0-9.eE+-]{0,200}|\\PC{0,120}") {
            let (lines, read) = lines(&text);
            prop_assert_eq!(lines.len(), read.samples);
        }

        #[test]
        fn what_is_written_is_read_back(
            name in "[a-z_:][a-z0-9_:]{0,12}",
            labels in proptest::collection::btree_map("[a-z_]{1,8}", "\\PC{0,10}", 0..4),
            value in proptest::num::f64::NORMAL,
        ) {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let inside: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
            let (lines, _) = lines(&format!("{name}{{{}}} {value:e}", inside.join(",")));
            prop_assert_eq!(lines.len(), 1);
            prop_assert_eq!(&lines[0].name, &name);
            prop_assert_eq!(lines[0].value, value);
            let read: std::collections::BTreeMap<_, _> = lines[0].labels.iter().cloned().collect();
            prop_assert_eq!(read, labels);
        }
    }
}
