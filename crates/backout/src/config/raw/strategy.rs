//! `strategy`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::written::At;
use crate::config::scalar::Duration;

/// How a release replaces another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawStrategy {
    /// The old release stops, the new one starts.
    Recreate,
    /// Some at a time: host after host, or on one host container after container.
    Rolling(RawRolling),
    /// The new release starts beside the old one and gets all traffic at once.
    BlueGreen(RawBlueGreen),
    /// The new release gets traffic in stages.
    Canary(RawCanary),
}

/// Rolling settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRolling {
    /// Hosts, or on one host containers of a service, replaced together: a count, or a percentage of all. Default: 1.
    pub batch: Option<At<RawBatch>>,
    /// How long a batch that passes stands before the next one begins. Default: 0s.
    pub pause: Option<Duration>,
}

/// A count of hosts, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawBatch {
    /// So many.
    Count(u32),
    /// This percentage.
    Percent(u8),
}

impl<'de> Deserialize<'de> for RawBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let batch = match text.trim().strip_suffix('%') {
            Some(_) => parse_weight::<D::Error>(&text).ok().map(RawBatch::Percent),
            None => text.trim().parse().ok().filter(|count| *count > 0).map(RawBatch::Count),
        };
        batch.ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a batch; write a number of hosts, such as `2`, or a percentage, such as `25%`"
            ))
        })
    }
}

impl JsonSchema for RawBatch {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Batch".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": "^[0-9]+%?$|\\$\\{.+\\}"}
        ]})
    }
}

/// Blue-green settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBlueGreen {
    /// How long the old side stays at least after the switch; it always stays through bake.
    pub keep_old: Option<Duration>,
}

/// Canary settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawCanary {
    /// Rising percentages; 100 is added if it lacks. Default: 10, 25, 50 held for 10m, 100.
    pub stages: Option<At<Vec<At<RawStage>>>>,
    /// A stage is left after this long with a healthy verdict. Default: 5m.
    pub hold: Option<At<Duration>>,
    /// A stage may be left from here on once the new side is shown to be no worse. Default: hold.
    pub hold_min: Option<At<Duration>>,
    /// Not enough data extends a stage to this. Default: 1h.
    pub hold_max: Option<At<Duration>>,
    /// What happens then. Default: pause.
    pub on_no_data: Option<RawOnNoData>,
    /// Whether a client stays on the side that it was drawn to, by a cookie; sessions are then compared, not requests.
    /// Built-in router only. Default: false.
    pub sticky: Option<At<bool>>,
}

/// What happens when a stage never gets enough data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawOnNoData {
    /// Stay, and say so loudly.
    Pause,
    /// Go on.
    Promote,
    /// Take it back.
    Rollback,
}

/// A stage: a percentage, or a map with its own hold.
#[derive(Debug, Clone, Default)]
pub struct RawStage {
    /// Percent to the new side.
    pub weight: Option<u8>,
    /// Its own hold.
    pub hold: Option<At<Duration>>,
    /// Its own earliest end.
    pub hold_min: Option<At<Duration>>,
    /// Its own latest end.
    pub hold_max: Option<At<Duration>>,
}

/// A stage with its own times.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawStageMap {
    /// Percent to the new side, 1 to 100.
    weight: Option<Weight>,
    /// A stage is left after this long with a healthy verdict.
    hold: Option<At<Duration>>,
    /// It may be left from here on once the new side is shown to be no worse.
    hold_min: Option<At<Duration>>,
    /// Not enough data extends it to this.
    hold_max: Option<At<Duration>>,
}

#[derive(Debug, Clone, Copy)]
struct Weight(u8);

fn parse_weight<E: Error>(text: &str) -> Result<u8, E> {
    let number = text.trim().strip_suffix('%').unwrap_or(text.trim());
    number.parse().ok().filter(|weight| (1..=100).contains(weight)).ok_or_else(|| {
        E::custom(format!("`{text}` is not a weight; write a whole percentage from 1 to 100"))
    })
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_weight(&String::deserialize(deserializer)?).map(Weight)
    }
}

impl JsonSchema for Weight {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 100},
            {"type": "string", "pattern": "^[0-9]{1,3}%?$|\\$\\{.+\\}"}
        ]})
    }
}

impl<'de> Deserialize<'de> for RawStage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Stage;
        impl<'de> Visitor<'de> for Stage {
            type Value = RawStage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage, or a map with `weight`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawStage, E> {
                Ok(RawStage { weight: Some(parse_weight(text)?), ..RawStage::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<RawStage, A::Error> {
                let stage = RawStageMap::deserialize(MapAccessDeserializer::new(access))?;
                let weight = stage.weight.map(|weight| weight.0);
                Ok(RawStage {
                    weight,
                    hold: stage.hold,
                    hold_min: stage.hold_min,
                    hold_max: stage.hold_max,
                })
            }
        }
        deserializer.deserialize_any(Stage)
    }
}

impl JsonSchema for RawStage {
    fn schema_name() -> Cow<'static, str> {
        "Stage".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let weight = generator.subschema_for::<Weight>();
        let map = generator.subschema_for::<RawStageMap>();
        json_schema!({"anyOf": [weight, map]})
    }
}
