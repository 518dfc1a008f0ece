//! Turns the tree into the raw types, and every mismatch into a problem with a place.

mod fault;

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use fault::{DeError, Fault};

use super::errors::Problem;
use super::node::{Key, Node, Position, Value};

/// The struct name by which [`super::raw::At`] asks for its place.
pub(super) const AT: &str = "$at";

/// Reads a typed value from the tree.
///
/// # Errors
/// The first mismatch.
pub(super) fn from_node<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Problem> {
    T::deserialize(NodeDe { node, key: None }).map_err(DeError::into_problem)
}

/// One node. `key` is what leads to it, so that a key without a useful place below can be shown.
#[derive(Clone, Copy)]
struct NodeDe<'de> {
    node: &'de Node,
    key: Option<&'de Key>,
}

impl<'de> NodeDe<'de> {
    fn at(&self) -> Position {
        match (&self.node.value, self.key) {
            (Value::Scalar(_), _) | (_, None) => self.node.at,
            (_, Some(key)) => key.at,
        }
    }

    fn mismatch(&self, wanted: &dyn fmt::Display) -> DeError {
        let subject = self.key.map_or_else(String::new, |key| format!("`{}` ", key.text));
        let message = format!("{subject}must be {wanted}, not {}", self.node.describe());
        DeError { fault: Fault::Message(message), at: Some(self.at()), hint: None }
    }

    fn text(&self, wanted: &dyn fmt::Display) -> Result<&'de str, DeError> {
        match &self.node.value {
            Value::Scalar(text) => Ok(text),
            _ => Err(self.mismatch(wanted)),
        }
    }

    fn number<T: std::str::FromStr>(&self, wanted: &str) -> Result<T, DeError> {
        let text = self.text(&wanted)?;
        text.trim().parse().map_err(|_| self.mismatch(&wanted))
    }
}

/// What serde's visitors say they expect, as a wish.
struct Wanted<'a>(&'a dyn de::Expected);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.as_str() {
            "a string" => f.write_str("a text"),
            "a sequence" => f.write_str("a list"),
            text if text.starts_with("struct ") => f.write_str("a map"),
            text => f.write_str(text),
        }
    }
}

macro_rules! unsigned {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            let wanted = if <$type>::MAX as u64 > u64::from(u32::MAX) {
                "a whole number".to_owned()
            } else {
                format!("a whole number from 0 to {}", <$type>::MAX)
            };
            let number: $type = self.number(&wanted)?;
            visitor.$visit(number).map_err(|error: DeError| error.at(self.at()))
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDe<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let at = self.at();
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(ListAccess { items: items.iter() }),
            Value::Map(entries) => {
                visitor.visit_map(EntryAccess { entries: entries.iter(), value: None })
            }
        }
        .map_err(|error: DeError| error.at(at))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.text(&"true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.mismatch(&"true or false")),
        }
    }

    unsigned!(deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64);

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let text = self.text(&Wanted(&visitor))?;
        visitor.visit_borrowed_str(text).map_err(|error: DeError| error.at(self.at()))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let items: &[Node] = match &self.node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                let mut error = self.mismatch(&"a list");
                error.hint =
                    Some("write it as `[first, second]`, or one item a line, each after `- `");
                return Err(error);
            }
        };
        let at = self.at();
        visitor.visit_seq(ListAccess { items: items.iter() }).map_err(|error: DeError| error.at(at))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let entries: &[(Key, Node)] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => return Err(self.mismatch(&"a map")),
        };
        let at = self.at();
        visitor
            .visit_map(EntryAccess { entries: entries.iter(), value: None })
            .map_err(|error: DeError| error.at(at))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if name == AT {
            return visitor.visit_seq(PlaceAccess {
                place: place(self.at()),
                next: 0,
                value: self,
            });
        }
        self.deserialize_map(visitor).map_err(|error| error.inside(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let choice = match &self.node.value {
            Value::Scalar(text) => Choice { word: text, at: self.node.at, content: None },
            Value::Map(entries) if entries.len() == 1 => {
                let (key, node) = &entries[0];
                Choice {
                    word: &key.text,
                    at: key.at,
                    content: Some(NodeDe { node, key: Some(key) }),
                }
            }
            Value::Map(entries) if entries.len() > 1 => {
                let names: Vec<_> =
                    entries.iter().map(|(key, _)| format!("`{}`", key.text)).collect();
                let message =
                    format!("only one choice may stand here, not {}", names.join(" and "));
                return Err(DeError {
                    fault: Fault::Message(message),
                    at: Some(entries[1].0.at),
                    hint: None,
                });
            }
            _ => return Err(self.mismatch(&"a name, or a map with one name")),
        };
        let at = choice.at;
        visitor.visit_enum(choice).map_err(|error: DeError| error.at(at).inside(name))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// A key: a text that may be asked for its place.
#[derive(Clone, Copy)]
struct KeyDe<'de>(&'de Key);

impl<'de> Deserializer<'de> for KeyDe<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_borrowed_str(&self.0.text)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if name != AT {
            return self.deserialize_any(visitor);
        }
        visitor.visit_seq(PlaceAccess { place: place(self.0.at), next: 0, value: self })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn place(at: Position) -> [u32; 3] {
    [at.line, at.column, at.len]
}

/// Hands a place and then the value to [`super::raw::At`].
struct PlaceAccess<D> {
    place: [u32; 3],
    next: usize,
    value: D,
}

impl<'de, D: Deserializer<'de, Error = DeError> + Copy> SeqAccess<'de> for PlaceAccess<D> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        let index = self.next;
        self.next += 1;
        match self.place.get(index) {
            Some(number) => seed.deserialize(number.into_deserializer()).map(Some),
            None => seed.deserialize(self.value).map(Some),
        }
    }
}

struct ListAccess<'de> {
    items: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for ListAccess<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        // Items are shown where they stand, not where the list's key stands.
        seed.deserialize(NodeDe { node, key: None }).map(Some).map_err(|error| error.at(node.at))
    }
}

struct EntryAccess<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for EntryAccess<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        seed.deserialize(KeyDe(&entry.0)).map(Some).map_err(|error: DeError| error.at(entry.0.at))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let value = NodeDe { node, key: Some(key) };
        seed.deserialize(value).map_err(|error| error.at(value.at()))
    }
}

/// `name`, or `name: {…}`.
struct Choice<'de> {
    word: &'de str,
    at: Position,
    content: Option<NodeDe<'de>>,
}

static NOTHING: Node = Node { at: Position { line: 0, column: 0, len: 0 }, value: Value::Null };

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = DeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), DeError> {
        let value = seed
            .deserialize(IntoDeserializer::<DeError>::into_deserializer(self.word))
            .map_err(|error: DeError| error.at(self.at))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        match self.content.map(|content| &content.node.value) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Map(entries)) if entries.is_empty() => Ok(()),
            Some(_) => {
                let message = format!("`{}` takes no settings", self.word);
                Err(DeError { fault: Fault::Message(message), at: Some(self.at), hint: None })
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DeError> {
        let content = self.content.unwrap_or(NodeDe { node: &NOTHING, key: None });
        seed.deserialize(content).map_err(|error| error.at(self.at))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, DeError> {
        Err(de::Error::custom("no choice is a list"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let content = self.content.unwrap_or(NodeDe { node: &NOTHING, key: None });
        content.deserialize_map(visitor).map_err(|error| error.at(self.at))
    }
}
