//! What may be written in `backout.yaml`. The descriptions end in the JSON Schema that editors show.
//!
//! Nothing is required here: an environment may leave to the top level whatever it likes. What is missing
//! after merging is found on the way to the settings.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::de::AT;
use super::node::Position;
use super::scalar::{Duration, Percent, Ratio};
use super::schema::env_value_schema;

/// A value that knows its place.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// Where it stands.
    pub at: Position,
    /// The value.
    pub value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Place<T> {
            type Value = At<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<At<T>, A::Error> {
                let mut number = || access.next_element::<u32>().map(Option::unwrap_or_default);
                let at = Position { line: number()?, column: number()?, len: number()? };
                let value =
                    access.next_element()?.ok_or_else(|| A::Error::custom("a value is missing"))?;
                Ok(At { at, value })
            }
        }
        deserializer.deserialize_struct(AT, &[], Place(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A map whose keys are the user's names, in the order of the file.
#[derive(Debug, Clone)]
pub struct Entries<T>(pub Vec<(At<String>, Option<T>)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Names(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<Option<T>>();
        json_schema!({"type": "object", "additionalProperties": values})
    }
}

/// A value in a process's environment; numbers and booleans are taken as they are written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(schema_with = "env_value_schema")]
pub struct EnvText(pub String);

/// backout.yaml: how an application is deployed, watched and taken back.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Name of the application: a-z, 0-9 and -, at most 63.
    pub app: Option<At<String>>,
    /// What runs the services.
    pub target: Option<At<RawTarget>>,
    /// The deployable parts; without it there is one, named as the app.
    pub services: Option<At<Entries<RawService>>>,
    /// Named places where it runs, each overriding by key what stands at the top; without it there is one, production.
    pub environments: Option<Entries<Raw>>,
    /// Only within an environment: people must give a reason for a rollback here.
    pub production: Option<bool>,
    /// Where it runs; this version runs on this machine only.
    pub hosts: Option<Vec<At<String>>>,
    /// Globs of config files that are versioned with every release and restored with it.
    pub config: Option<Vec<At<String>>>,
    /// Names of keys whose values are redacted, never recorded, and keep today's value on a rollback.
    pub secrets: Option<Vec<At<String>>>,
    /// How a release replaces another. Default: canary with a router, recreate without.
    pub strategy: Option<At<RawStrategy>>,
    /// What moves traffic. Default: none.
    pub router: Option<At<RawRouter>>,
    /// How a side is ended.
    pub shutdown: RawShutdown,
    /// What is checked, and how it is judged.
    pub health: Option<At<RawHealth>>,
    /// Limits of a deploy.
    pub deploy: RawDeploy,
    /// The watch after 100 %. Default: 30m.
    pub bake_time: Option<Duration>,
    /// Rules of rollbacks.
    pub rollback: RawRollback,
}

/// What runs the services.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawTarget {
    /// Backout supervises the program.
    Process(RawProcess),
    /// A program of yours does the work, called with deploy, rollback, update-traffic, status and stop.
    Script(RawScript),
}

/// A supervised program. `{version} {release} {slot} {port} {artifact} {config}` are filled in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawProcess {
    /// Program and arguments, as a list.
    pub command: Option<At<Vec<String>>>,
    /// Environment of the process beside PATH, HOME, USER, LANG, TZ and BACKOUT_*.
    pub env: Option<Entries<EnvText>>,
    /// Working folder. Default: the folder of backout.yaml.
    pub workdir: Option<String>,
    /// File or folder that is copied per release, or a list of them; `{version}` is filled in.
    pub artifact: Option<At<OneOrMany>>,
    /// Port it listens on: a number, or auto for a free one (built-in router).
    pub port: Option<At<RawPort>>,
    /// Name of the variable that carries the port. Default: PORT.
    pub port_env: Option<At<String>>,
    /// Restarts by the supervisor. Default: at most 5 within 60s.
    pub restart: Option<RawRestart>,
}

/// Your own program.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawScript {
    /// The program, relative to the folder of backout.yaml.
    pub program: Option<At<String>>,
    /// Arguments before the verb.
    pub args: Option<Vec<String>>,
    /// Limit of one call. Default: 10m.
    pub timeout: Option<At<Duration>>,
}

/// A deployable part of the application, with what differs from the target's settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawService {
    /// Services that must run before it.
    pub depends_on: Option<Vec<At<String>>>,
    /// `none` for a service that serves no requests.
    pub traffic: Option<RawTraffic>,
    /// What is checked for this service.
    pub health: Option<At<RawServiceHealth>>,
    /// Process target: program and arguments, as a list.
    pub command: Option<At<Vec<String>>>,
    /// Process target: environment, merged over the target's.
    pub env: Option<At<Entries<EnvText>>>,
    /// Process target: working folder.
    pub workdir: Option<At<String>>,
    /// Process target: file or folder that is copied per release, or a list of them.
    pub artifact: Option<At<OneOrMany>>,
    /// Process target: port it listens on, or auto.
    pub port: Option<At<RawPort>>,
    /// Process target: name of the variable that carries the port.
    pub port_env: Option<At<String>>,
    /// Process target: restarts by the supervisor.
    pub restart: Option<At<RawRestart>>,
    /// Script target: the program.
    pub program: Option<At<String>>,
    /// Script target: arguments before the verb.
    pub args: Option<At<Vec<String>>>,
    /// Script target: limit of one call.
    pub timeout: Option<At<Duration>>,
}

/// Whether requests go to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawTraffic {
    /// It serves no requests; it stops before its new version starts, so that no job runs twice.
    None,
}

/// Bounded restarts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRestart {
    /// At most this many restarts …
    pub max: Option<u32>,
    /// … within this span.
    pub within: Option<At<Duration>>,
}

/// How a release replaces another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawStrategy {
    /// The old release stops, the new one starts.
    Recreate,
    /// The new release starts beside the old one and gets all traffic at once.
    BlueGreen(RawBlueGreen),
    /// The new release gets traffic in stages.
    Canary(RawCanary),
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

/// What moves traffic.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawRouter {
    /// Nothing does.
    None,
    /// The built-in proxy.
    Builtin(RawBuiltin),
    /// The script target's update-traffic.
    Script,
}

/// The built-in proxy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBuiltin {
    /// Where it listens: an address and a port, such as 0.0.0.0:80.
    pub listen: Option<At<String>>,
    /// Without a sign from the watcher for this long, traffic returns to the stable side by itself. Default: 15s.
    pub dead_man: Option<At<Duration>>,
}

/// How a side is ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawShutdown {
    /// Wait for requests in flight at most this long. Default: 30s.
    pub drain: Option<Duration>,
    /// Between SIGTERM and SIGKILL. Default: 30s.
    pub grace: Option<Duration>,
}

/// Limits of a deploy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDeploy {
    /// Time for the work itself; holds and bake do not count. Past it the deploy is taken back. Default: 30m.
    pub timeout: Option<At<Duration>>,
}

/// Rules of rollbacks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRollback {
    /// A failing verdict takes the release back by itself. Default: true.
    pub automatic: Option<bool>,
    /// Failing verdict to healthy again; past it, page again and keep going. Default: 2m.
    pub deadline: Option<At<Duration>>,
    /// Time for the work itself, 5m to 60m; past it the operation is stuck. Default: 15m.
    pub timeout: Option<At<Duration>>,
    /// Stable releases whose readiness is kept intact. Default: 5.
    pub keep: Option<At<u32>>,
}

/// What is checked, and how it is judged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHealth {
    /// A URL answers well.
    pub http: Option<At<RawHttp>>,
    /// A port accepts connections.
    pub tcp: Option<At<RawTcp>>,
    /// A command exits 0.
    pub exec: Option<At<RawExec>>,
    /// The schedule while a release goes out and bakes; no retries then.
    pub during_rollout: Option<RawDuringRollout>,
    /// Fixed limits.
    pub thresholds: RawThresholds,
    /// Failing checks in a row that fail a release. Default: 3 within 60s.
    pub consecutive_failures: RawConsecutiveFailures,
    /// Passing checks in a row that make a side healthy. Default: 3.
    pub consecutive_passes: Option<At<u32>>,
    /// Exits before the first passing check that fail a release. Default: 3.
    pub startup_failures: Option<At<u32>>,
    /// Past it a release whose checks never passed has failed to start. Default: 60s.
    pub startup_timeout: Option<At<Duration>>,
    /// The spans over which checks and requests are judged.
    pub windows: RawWindows,
    /// How a canary is compared with the release beside it.
    pub judge: RawJudge,
}

/// What is checked for one service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawServiceHealth {
    /// A URL answers well.
    pub http: Option<At<RawHttp>>,
    /// A port accepts connections.
    pub tcp: Option<At<RawTcp>>,
    /// A command exits 0.
    pub exec: Option<At<RawExec>>,
    /// The schedule while a release goes out and bakes; no retries then.
    pub during_rollout: Option<RawDuringRollout>,
}

/// The schedule while a release goes out and bakes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDuringRollout {
    /// From one check to the next. Default: 1s.
    pub interval: Option<At<Duration>>,
    /// Wait before the first check. Default: 0s.
    pub initial_delay: Option<At<Duration>>,
}

macro_rules! probe {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Steady state: from one check to the next. Default: 30s.
            pub interval: Option<At<Duration>>,
            /// One check, retries included. Default: 10s.
            pub timeout: Option<At<Duration>>,
            /// Steady state: tries after the first. Default: 3.
            pub retries: Option<At<u32>>,
            /// Steady state: wait before the first check. Default: 30s.
            pub initial_delay: Option<At<Duration>>,
        }
    };
}

probe!(/** A URL that is asked. */ RawHttp {
    /** The address, such as `http://127.0.0.1:{port}/health`. */
    url: Option<At<String>>,
    /** Fields that the JSON body must have. Default: none. */
    required_fields: Option<Vec<String>>,
});
probe!(/** A port that is connected to. */ RawTcp {
    /** Host and port, such as `127.0.0.1:{port}`. */
    address: Option<At<String>>,
});
probe!(/** A command that is run. */ RawExec {
    /** Program and arguments, as a list. */
    command: Option<At<Vec<String>>>,
});

/// Fixed limits, inclusive.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawThresholds {
    /// Failed requests. Default: warn 3%, fail 5%.
    pub error_rate: RawLimit<Percent>,
    /// Passed checks; lower is worse. Default: warn 99.5%, fail 99%.
    pub availability: RawLimit<Percent>,
    /// Response times. Default: warn 1500ms, fail 2s.
    pub response_time: RawLimit<Duration>,
    /// Ratios over fewer samples are not judged. Default: 20.
    pub minimum_samples: Option<At<u32>>,
}

/// A limit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLimit<T> {
    /// From here on it is a warning.
    pub warn: Option<At<T>>,
    /// From here on it is a failure.
    pub fail: Option<At<T>>,
}

impl<T> Default for RawLimit<T> {
    fn default() -> Self {
        Self { warn: None, fail: None }
    }
}

/// Failing checks in a row.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConsecutiveFailures {
    /// This many …
    pub count: Option<At<u32>>,
    /// … at most this far apart.
    pub within: Option<At<Duration>>,
}

/// The spans over which checks and requests are judged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawWindows {
    /// Drives verdicts. Default: 5m.
    pub short: Option<At<Duration>>,
    /// Drives verdicts while baking. Default: 30m.
    pub medium: Option<At<Duration>>,
    /// Only warns. Default: 24h.
    pub long: Option<At<Duration>>,
}

/// How a canary is compared with the release beside it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawJudge {
    /// The highest probability with which a harmless release is taken back. Default: 0.01.
    pub false_rollback_probability: Option<At<Ratio>>,
    /// An error rate up to which errors are no reason. Default: 0.1%.
    pub harmless_error_rate: Option<At<Ratio>>,
    /// A slowdown that is no reason. Default: 10%.
    pub harmless_latency_increase: Option<At<Ratio>>,
    /// Comparisons are muted for this long. Default: 0s.
    pub warm_up: Option<Duration>,
    /// Comparisons of latency are muted for this long. Default: 30s.
    pub latency_warm_up: Option<Duration>,
}

/// A text, or a list of texts.
#[derive(Debug, Clone)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = access.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

/// `auto`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPort {
    /// A free one.
    Auto,
    /// This one.
    Fixed(u16),
}

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.trim() {
            "auto" => Ok(RawPort::Auto),
            number => {
                number.parse().ok().filter(|port| *port != 0).map(RawPort::Fixed).ok_or_else(|| {
                    D::Error::custom(format!(
                        "`{text}` is not a port; write a number from 1 to 65535, or auto"
                    ))
                })
            }
        }
    }
}

impl JsonSchema for RawPort {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^auto$|^[0-9]{1,5}$|\\$\\{.+\\}"}
        ]})
    }
}
