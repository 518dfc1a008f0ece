//! Takes the values of secrets out of texts.

use std::collections::BTreeSet;

/// Stands in the place of a value.
pub(super) const REDACTED: &str = "[redacted]";
/// Shorter values would take half of a text away: they are looked for as whole words only.
const SHORT: usize = 4;
/// A line of a value of several lines counts by itself from this length on.
const LINE: usize = 8;

/// Values and names of secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct Redactor {
    /// Longest first, so that a value inside of another does not leave half of it.
    values: Vec<String>,
    names: Vec<String>,
}

impl Redactor {
    pub fn new(values: impl IntoIterator<Item = String>, names: &[String]) -> Self {
        let mut all = BTreeSet::new();
        for value in values {
            let bare = value.trim().trim_matches(['"', '\'']).to_owned();
            for form in [value, bare] {
                let quoted = serde_json::to_string(&form).unwrap_or_default();
                all.insert(quoted.trim_matches('"').to_owned());
                all.insert(percent_encoded(&form));
                all.extend(form.lines().map(str::to_owned).filter(|line| line.len() >= LINE));
                all.insert(form);
            }
        }
        let mut values: Vec<String> = all.into_iter().filter(|value| !value.is_empty()).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values, names: names.to_vec() }
    }

    /// The longest value, bytes.
    fn longest(&self) -> usize {
        self.values.first().map_or(0, String::len)
    }

    /// A text without values, and without what stands behind the name of a secret. Where the beginning is missing
    /// the first line may be half a value: it goes.
    pub fn text(&self, text: &str, cut: bool) -> String {
        let mut text = if cut { self.without_first_line(text).to_owned() } else { text.to_owned() };
        for value in &self.values {
            text = if value.len() < SHORT {
                replace_words(&text, value)
            } else {
                text.replace(value.as_str(), REDACTED)
            };
        }
        for name in &self.names {
            text = redact_named(&text, name);
        }
        text
    }

    fn without_first_line<'a>(&self, text: &'a str) -> &'a str {
        if let Some((_, rest)) = text.split_once('\n') {
            return rest;
        }
        let from = (self.longest().min(text.len())..=text.len())
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(text.len());
        &text[from..]
    }

    /// The same for every text inside of a document.
    pub fn value(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.text(text, false),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            serde_json::Value::Object(fields) => {
                fields.iter_mut().for_each(|(_, field)| self.value(field));
            }
            _ => {}
        }
    }
}

fn percent_encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&format!("{byte:02X}"));
        }
        out
    })
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn replace_words(text: &str, value: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        let inside = is_word(before.chars().next_back().or(out.chars().next_back()))
            || is_word(after.chars().next());
        out.push_str(before);
        out.push_str(if inside { value } else { REDACTED });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `NAME=value`, `NAME: value`, `"NAME":"value"`: the value up to its end, whatever it is.
fn redact_named(text: &str, name: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let inside = is_word(rest[..at].chars().next_back().or(out.chars().next_back()));
        let end = at + name.len();
        out.push_str(&rest[..end]);
        rest = &rest[end..];
        if inside {
            continue;
        }
        let sign = rest.trim_start_matches(['"', '\'', '\\', ' ', '\t']);
        let Some(value) = sign.strip_prefix(['=', ':']) else { continue };
        let value = value.trim_start_matches([' ', '\t']);
        let quote =
            value.trim_start_matches('\\').chars().next().filter(|c| matches!(c, '"' | '\''));
        let (start, ends): (usize, &[char]) = match quote {
            Some('"') => (value.find('"').map_or(0, |at| at + 1), &['"', '\n', '\\']),
            Some(_) => (value.find('\'').map_or(0, |at| at + 1), &['\'', '\n']),
            None => (0, &[' ', '\t', '\n', ',', ';', '&', '"', '\'', '}', ')', ']']),
        };
        let length = value[start..].find(ends).unwrap_or(value.len() - start);
        if length == 0 {
            continue;
        }
        let value_at = rest.len() - value.len() + start;
        out.push_str(&rest[..value_at]);
        out.push_str(REDACTED);
        rest = &rest[value_at + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let values = ["s3cr&t value", "\"quoted-one\"", "x7", "BEGIN KEY\nline-of-a-key\nEND KEY!"];
        Redactor::new(values.map(str::to_owned), &["API_KEY".to_owned()])
    }

    #[test]
    fn values_go_in_every_form() {
        let all = redactor();
        for line in [
            "token s3cr&t value sent",
            "GET /?k=s3cr%26t%20value",
            "using quoted-one now",
            "pass x7, again (x7)",
            "line-of-a-key",
            "{\"k\":\"BEGIN KEY\\nline-of-a-key\\nEND KEY!\"}",
        ] {
            let text = all.text(line, false);
            for secret in ["s3cr", "quoted-one", " x7", "(x7", "line-of"] {
                assert!(!text.contains(secret), "{line} => {text}");
            }
            assert!(text.contains(REDACTED), "{line} => {text}");
        }
        assert_eq!(all.text("x70 and ax7", false), "x70 and ax7");
    }

    #[test]
    fn what_stands_behind_a_name_goes_although_it_is_not_known() {
        let all = redactor();
        for (line, safe) in [
            ("API_KEY=older, next", "API_KEY=[redacted], next"),
            ("{\"API_KEY\":\"older one\",\"b\":1}", "{\"API_KEY\":\"[redacted]\",\"b\":1}"),
            ("API_KEY: 'older one' rest", "API_KEY: '[redacted]' rest"),
            ("NO_API_KEY=kept", "NO_API_KEY=kept"),
            ("API_KEY is not set", "API_KEY is not set"),
            ("API_KEY=", "API_KEY="),
        ] {
            assert_eq!(all.text(line, false), safe);
        }
    }

    #[test]
    fn half_a_value_at_a_cut_goes() {
        let all = redactor();
        assert_eq!(all.text("t value\nnext line", true), "next line");
        assert!(!all.text("t value", true).contains("value"));
        assert_eq!(all.text("", true), "");
    }

    #[test]
    fn documents_stay_documents() {
        let mut value = serde_json::json!({"n": 7, "list": ["s3cr&t value"], "t": {"u": "x7"}});
        redactor().value(&mut value);
        assert_eq!(value, serde_json::json!({"n": 7, "list": [REDACTED], "t": {"u": REDACTED}}));
    }
}
