//! The JSON Schema of `backout.yaml`, made from the same types that read it.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::raw::Raw;

/// Values of environment variables: scalars are taken as they are written.
pub(super) fn env_value_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "number", "boolean", "null"]})
}

/// The schema, ready to be printed.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().with_transform(AsWritten).into_generator();
    generator.subschema_for::<Raw>();
    let mut definitions = generator.take_definitions(true);
    let raw = definitions.remove("Raw").unwrap_or_else(|| Raw::json_schema(&mut generator).into());
    let mut top = as_object(raw.clone());
    let mut environment = as_object(raw);
    for (schema, without) in
        [(&mut top, &["production"][..]), (&mut environment, &["app", "environments"][..])]
    {
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            without.iter().for_each(|key| {
                properties.remove(*key);
            });
        }
    }
    environment.insert(
        "description".to_owned(),
        json!("What differs in this environment from the top of the file"),
    );
    definitions.insert("Environment".to_owned(), Value::Object(environment));
    if let Some(Value::Object(properties)) = top.get_mut("properties") {
        properties.insert(
            "environments".to_owned(),
            json!({
                "description": "Named places where it runs, each overriding by key what stands at the top",
                "type": ["object", "null"],
                "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Environment"}, {"type": "null"}]},
            }),
        );
    }
    top.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    top.insert("title".to_owned(), json!("backout.yaml"));
    top.insert("required".to_owned(), json!(["app"]));
    top.insert("$defs".to_owned(), Value::Object(definitions));
    public_names(Value::Object(top))
}

/// The types' own prefix says nothing to people.
fn public_names(value: Value) -> Value {
    let public = |name: &str| name.strip_prefix("Raw").unwrap_or(name).to_owned();
    match value {
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("$ref", Value::String(target)) => match target.rsplit_once('/') {
                        Some((path, name)) => Value::String(format!("{path}/{}", public(name))),
                        None => Value::String(target),
                    },
                    (_, value) => public_names(value),
                };
                (public(&key), value)
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(public_names).collect()),
        other => other,
    }
}

fn as_object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Says what the reader accepts beyond the types: bare names of choices, and variables in place of numbers.
#[derive(Debug, Clone)]
struct AsWritten;

impl Transform for AsWritten {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::Array(choices)) = object.get_mut("oneOf") {
            let names: Vec<Value> = choices.iter().filter_map(bare_name).collect();
            choices.extend(names.into_iter().map(|name| json!({"type": "string", "const": name})));
        }
        object.remove("default");
        object.remove("format");
        let numeric = match object.get("type") {
            Some(Value::String(kind)) => matches!(kind.as_str(), "integer" | "boolean"),
            Some(Value::Array(kinds)) => {
                kinds.iter().any(|kind| kind == "integer" || kind == "boolean")
            }
            _ => false,
        };
        // Environment values name their types themselves, with text among them.
        let text_too = object
            .get("type")
            .and_then(Value::as_array)
            .is_some_and(|kinds| kinds.iter().any(|k| k == "string"));
        if numeric && !text_too {
            let description = object.remove("description");
            let plain = Value::Object(std::mem::take(object));
            object.extend(description.map(|text| ("description".to_owned(), text)));
            let variable = json!({"type": "string", "pattern": "\\$\\{.+\\}"});
            object.insert("anyOf".to_owned(), json!([plain, variable]));
        }
    }
}

/// `canary` of `{"properties": {"canary": …}, "required": ["canary"]}`.
fn bare_name(choice: &Value) -> Option<Value> {
    match choice.get("required")?.as_array()?.as_slice() {
        [name] => Some(name.clone()),
        _ => None,
    }
}
