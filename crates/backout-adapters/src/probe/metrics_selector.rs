//! Which series of a text are meant: `name{label="value",other=~"pattern"}`, as in PromQL.

use regex_lite::Regex;

use super::metrics_text::{Line, quoted};

#[derive(Debug, Clone)]
enum Wanted {
    Is(String),
    IsNot(String),
    Like(Regex),
    Unlike(Regex),
}

/// A name with conditions on labels.
#[derive(Debug, Clone)]
pub struct Selector {
    name: String,
    labels: Vec<(String, Wanted)>,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find('{').unwrap_or(text.len());
        let name = text[..end].trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.';
        if name.is_empty() || !name.chars().all(valid) {
            return Err(format!(
                "`{text}` does not begin with the name of a metric; functions need `prometheus`"
            ));
        }
        let mut selector = Selector { name: name.to_owned(), labels: Vec::new() };
        let Some(mut rest) = text[end..].strip_prefix('{') else { return Ok(selector) };
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return if after.trim().is_empty() {
                    Ok(selector)
                } else {
                    Err(format!("`{}` follows the closing brace of `{text}`", after.trim()))
                };
            }
            let (label, after) = condition(rest).ok_or_else(|| {
                format!("`{text}` has a condition that is not `label=\"value\"`")
            })??;
            selector.labels.push(label);
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after);
        }
    }

    /// Whether a sample is meant.
    #[must_use]
    pub fn matches(&self, line: &Line) -> bool {
        line.name == self.name
            && self.labels.iter().all(|(label, wanted)| {
                let value = line.label(label);
                match wanted {
                    Wanted::Is(text) => value == text,
                    Wanted::IsNot(text) => value != text,
                    Wanted::Like(pattern) => pattern.is_match(value),
                    Wanted::Unlike(pattern) => !pattern.is_match(value),
                }
            })
    }
}

type Condition<'a> = Result<((String, Wanted), &'a str), String>;

fn condition(rest: &str) -> Option<Condition<'_>> {
    let end = rest.find(['=', '!'])?;
    let label = rest[..end].trim();
    if label.is_empty() || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let operators = ["=~", "!~", "!=", "="];
    let operator = operators.into_iter().find(|operator| rest[end..].starts_with(operator))?;
    let value = rest[end + operator.len()..].trim_start().strip_prefix('"')?;
    let (value, after) = quoted(value)?;
    // PromQL's patterns match the whole value.
    let pattern = || {
        Regex::new(&format!("^(?:{value})$"))
            .map_err(|error| format!("`{value}` is not a pattern: {error}"))
    };
    let wanted = match operator {
        "=" => Ok(Wanted::Is(value)),
        "!=" => Ok(Wanted::IsNot(value)),
        "=~" => pattern().map(Wanted::Like),
        _ => pattern().map(Wanted::Unlike),
    };
    Some(wanted.map(|wanted| ((label.to_owned(), wanted), after)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::metrics_text::read_metrics;
    use super::*;

    fn found(selector: &str, text: &str) -> Vec<f64> {
        let selector = Selector::parse(selector).unwrap();
        let mut values = Vec::new();
        read_metrics(text, |line| {
            if selector.matches(line) {
                values.push(line.value);
            }
        });
        values
    }

    #[test]
    fn conditions_are_those_of_promql() {
        let text =
            "r{code=\"200\",slot=\"a\"} 1\nr{code=\"500\",slot=\"a\"} 2\nr{code=\"503\"} 3\nq 4\n";
        assert_eq!(found("r", text), [1.0, 2.0, 3.0]);
        assert_eq!(found("r{code=~\"5..\"}", text), [2.0, 3.0]);
        assert_eq!(found("r{ code !~ \"5.*\" , slot = \"a\" }", text), [1.0]);
        assert_eq!(found("r{slot=\"\"}", text), [3.0]);
        assert_eq!(found("r{slot!=\"\",code!=\"200\",}", text), [2.0]);
        assert_eq!(found("r{code=~\"50\"}", text), [] as [f64; 0], "patterns match whole values");
        assert_eq!(found("q", text), [4.0]);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "",
            "{}",
            "sum(r)",
            "r{",
            "r{code}",
            "r{code=5}",
            "r{code=\"5}",
            "r{a=~\"(\"}",
            "r{} x",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}\"=!~,\\\\ ().*]{0,60}|\\PC{0,60}") {
            let _ = Selector::parse(&text);
        }
    }
}
