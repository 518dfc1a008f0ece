//! The shipped examples load, and agree with the schema that editors use.

use serde_json::Value;

use super::super::{Wanted, schema};
use super::loading::load_with;

/// The documented examples.
pub(super) fn valid() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_example_loads_in_all_its_environments() {
    let examples = valid();
    assert!(examples.len() >= 4);
    for source in examples {
        let environments: &[Option<&str>] = if source.contains("environments:") {
            &[Some("staging"), Some("production")]
        } else {
            &[None]
        };
        for environment in environments {
            let wanted = Wanted { environment: *environment, strategy: None };
            load_with(&source, wanted, &[]).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn every_example_fits_the_schema() {
    let schema = schema();
    for source in valid() {
        let value: Value = serde_saphyr::from_str(&source).unwrap();
        let mut wrong = Vec::new();
        conform(&schema, &schema, &value, "", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}\n{source}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema = schema();
    for source in [
        "app: 5\nhelth: {}",
        "target: compose",
        "app: shop\nbake_time: 5 minutes",
        "bake_time: 5m",
        "app: x\nstrategy: {rollout: {}}",
        "app: x\nproduction: true",
    ] {
        let value: Value = serde_saphyr::from_str(source).unwrap();
        let mut wrong = Vec::new();
        conform(&schema, &schema, &value, "", &mut wrong);
        assert!(!wrong.is_empty(), "{source}");
    }
}

/// The part of JSON Schema that ours uses; anything else in it fails the test.
fn conform(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            wrong.push(format!("{at}: not allowed"));
        }
        return;
    };
    for (rule, wanted) in rules {
        match rule.as_str() {
            "$defs" | "$schema" | "title" | "description" => {}
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                conform(root, &root["$defs"][name], value, at, wrong);
            }
            "anyOf" | "oneOf" => {
                let choices = wanted.as_array().unwrap().iter();
                let count = choices.filter(|schema| fits(root, schema, value)).count();
                if count == 0 || (rule == "oneOf" && count > 1) {
                    wrong.push(format!("{at}: fits {count} of the choices"));
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    conform(root, wanted, item, at, wrong);
                }
            }
            "properties" | "additionalProperties" => {
                let properties = rules.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    let known = properties.and_then(|properties| properties.get(key));
                    let at = format!("{at}/{key}");
                    match (rule.as_str(), known) {
                        ("properties", Some(schema)) => conform(root, schema, value, &at, wrong),
                        ("additionalProperties", None) => conform(root, wanted, value, &at, wrong),
                        _ => {}
                    }
                }
            }
            rule if !simple(rule, wanted, value) => {
                wrong.push(format!("{at}: {value} breaks {rule} {wanted}"))
            }
            _ => {}
        }
    }
}

fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut wrong = Vec::new();
    conform(root, schema, value, "", &mut wrong);
    wrong.is_empty()
}

/// Rules that look at one value only.
fn simple(rule: &str, wanted: &Value, value: &Value) -> bool {
    let is_a = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unexpected type {other}"),
    };
    match rule {
        "type" => wanted.as_array().map_or_else(|| is_a(wanted), |kinds| kinds.iter().any(is_a)),
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
        "pattern" => {
            value.as_str().is_none_or(|text| matches_pattern(wanted.as_str().unwrap(), text))
        }
        "required" => {
            let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
            !value.is_object() || wanted.as_array().unwrap().iter().all(has)
        }
        other => panic!("unexpected rule {other}"),
    }
}

/// The patterns of the schema are alternatives of simple classes; the readers' own parsers decide what they mean.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    if text.contains("${") {
        return true;
    }
    let number =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if pattern.contains("KiB") {
        crate::config::scalar::parse_quantity(text).is_ok()
    } else if pattern.contains("[smh]") {
        crate::config::scalar::parse_rate(text).is_ok()
    } else if pattern.contains("(ms|s|m|h|d)") {
        super::super::parse_duration_ms(text).is_ok()
    } else if pattern.contains("%?$") {
        number(text.trim_end_matches('%'))
    } else if pattern.contains("%$") {
        text.strip_suffix('%').is_some_and(number)
    } else {
        assert!(
            pattern.contains("auto") || pattern == "\\$\\{.+\\}",
            "unexpected pattern {pattern}"
        );
        text == "auto" && pattern.contains("auto")
    }
}
