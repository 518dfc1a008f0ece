//! Metrics beside health checks.

use std::collections::BTreeMap;

use backout_core::ids::ServiceName;
use backout_core::model::{
    Measure, MetricsSpec, Policy, RequestsSpec, RouterPolicy, SeriesSpec, Service, Strategy,
};
use backout_judge::{Shape, Worse};

use super::Findings;
use super::target::{braced_words, check_argv};
use crate::config::errors::{Problem, nearest};
use crate::config::node::Position;
use crate::config::raw::{
    At, Entries, Raw, RawMetrics, RawPrometheus, RawRequests, RawSeries, RawWorse,
};
use crate::config::scalar::Ratio;
use crate::registry::check_selector;

/// What is known of a side when it is asked.
const WORDS: &[&str] = &["port", "slot", "version", "release", "deployment"];
/// The judge follows no more.
const MAX_SERIES: usize = 64;

/// Where metrics come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsFrom {
    /// A Prometheus.
    Prometheus {
        /// Its address.
        url: String,
        /// Who asks.
        auth: Auth,
        /// Further certificates.
        ca: Option<String>,
        /// Older samples are no answer, milliseconds.
        max_age_ms: u64,
    },
    /// The text at each side's own address.
    Url {
        /// The address.
        url: String,
        /// Further certificates.
        ca: Option<String>,
    },
    /// The text that a program prints.
    Command(Vec<String>),
}

/// Who asks; secrets by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Nobody needs to know.
    None,
    /// A name, and the secret with the password.
    Basic(String, String),
    /// The secret with the token.
    Bearer(String),
}

/// One source of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsSettings {
    /// Where metrics come from.
    pub from: MetricsFrom,
    /// What is asked for.
    pub asked: MetricsSpec,
}

/// Requests of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticSettings {
    /// What is got.
    pub path: String,
    /// From one to the next, milliseconds.
    pub interval_ms: u64,
}

/// Sources by service.
pub(super) fn metrics(
    raw: &Raw,
    services: &BTreeMap<ServiceName, Service>,
    policy: &Policy,
    secrets: &[String],
    found: &mut Findings,
) -> BTreeMap<ServiceName, Vec<MetricsSettings>> {
    let top = raw.health.as_ref().map(|health| &health.value);
    let mut all = BTreeMap::new();
    for service in services.values() {
        let entries = raw.services.iter().flat_map(|services| &services.value.0);
        let own = entries
            .into_iter()
            .find(|(key, _)| key.value == service.name.as_str())
            .and_then(|(_, own)| own.as_ref()?.health.as_ref())
            .map(|health| &health.value);
        let inherited = top.filter(|_| service.traffic);
        let prometheus = own
            .and_then(|own| own.prometheus.as_ref())
            .or(inherited.and_then(|top| top.prometheus.as_ref()));
        let text = own
            .and_then(|own| own.metrics.as_ref())
            .or(inherited.and_then(|top| top.metrics.as_ref()));
        let maker = Maker { service, policy, secrets };
        let mut sources = Vec::new();
        sources.extend(prometheus.and_then(|written| maker.prometheus(written, found)));
        sources.extend(text.and_then(|written| maker.text(written, found)));
        if let [_, second] = &*requests_at(prometheus, text) {
            let hint = "name the service's requests in one place";
            found.refuse_at(*second, "the requests would be counted twice", hint);
        }
        if !sources.is_empty() {
            all.insert(service.name.clone(), sources);
        }
    }
    all
}

fn requests_at(
    prometheus: Option<&At<RawPrometheus>>,
    text: Option<&At<RawMetrics>>,
) -> Vec<Position> {
    let written = [
        prometheus.and_then(|written| written.value.requests.as_ref()),
        text.and_then(|written| written.value.requests.as_ref()),
    ];
    written.into_iter().flatten().map(|requests| requests.at).collect()
}

/// Requests of our own.
pub(super) fn synthetic(raw: &Raw, found: &mut Findings) -> Option<SyntheticSettings> {
    let written = raw.health.as_ref()?.value.judge.synthetic.as_ref()?;
    let Some(path) = &written.value.path else {
        found.refuse_at(written.at, "`synthetic` has no `path`", "add `path: /ping`");
        return None;
    };
    if !path.value.starts_with('/') || path.value.contains(char::is_whitespace) {
        let message = format!("`{}` is no path", path.value);
        found.refuse_at(path.at, message, "write a path such as `/ping`");
    }
    let interval_ms = written.value.rate.as_ref().map_or(1_000, |rate| rate.value.0);
    if !(20..=3_600_000).contains(&interval_ms) {
        let at = written.value.rate.as_ref().map_or(written.at, |rate| rate.at);
        found.refuse_at(at, "`rate` must be from 1/h to 50/s", "`1/s` is the default");
    }
    Some(SyntheticSettings { path: path.value.clone(), interval_ms })
}

struct Maker<'a> {
    service: &'a Service,
    policy: &'a Policy,
    secrets: &'a [String],
}

/// What both kinds of sources are asked for.
struct Asked<'a> {
    at: Position,
    series: Option<&'a Entries<RawSeries>>,
    requests: Option<&'a At<RawRequests>>,
    /// Whether expressions are selectors of a text.
    text: bool,
}

impl Maker<'_> {
    fn prometheus(
        &self,
        written: &At<RawPrometheus>,
        found: &mut Findings,
    ) -> Option<MetricsSettings> {
        let raw = &written.value;
        let Some(url) = &raw.url else {
            let hint = "add `url: http://127.0.0.1:9090`";
            found.refuse_at(written.at, "`prometheus` has no `url`", hint);
            return None;
        };
        check_url(url, found);
        let asked = Asked {
            at: written.at,
            series: raw.series.as_ref(),
            requests: raw.requests.as_ref(),
            text: false,
        };
        let auth = self.auth(raw, found);
        let mut asked = self.asked(&asked, found)?;
        asked.interval_ms = found.positive("interval", raw.interval.as_ref(), 15_000);
        asked.timeout_ms = found.positive("timeout", raw.timeout.as_ref(), 10_000);
        let from = MetricsFrom::Prometheus {
            url: url.value.clone(),
            auth,
            ca: raw.ca.as_ref().map(|ca| ca.value.clone()),
            max_age_ms: found.positive("max_age", raw.max_age.as_ref(), 120_000),
        };
        Some(MetricsSettings { from, asked })
    }

    fn text(&self, written: &At<RawMetrics>, found: &mut Findings) -> Option<MetricsSettings> {
        let raw = &written.value;
        let ca = raw.ca.as_ref().map(|ca| ca.value.clone());
        let from = match (&raw.url, &raw.command) {
            (Some(url), None) => {
                self.check_words(url, found);
                check_url(url, found);
                self.warn_nameless("metrics", &[&url.value], found);
                MetricsFrom::Url { url: url.value.clone(), ca }
            }
            (None, Some(command)) => {
                check_argv(command, "command", found);
                MetricsFrom::Command(command.value.clone())
            }
            (None, None) => {
                let hint = "add `url: \"http://127.0.0.1:{port}/metrics\"`";
                found.refuse_at(written.at, "`metrics` has neither `url` nor `command`", hint);
                return None;
            }
            (Some(_), Some(command)) => {
                let message = "`metrics` has both `url` and `command`";
                found.refuse_at(command.at, message, "leave one of them");
                return None;
            }
        };
        let asked = Asked {
            at: written.at,
            series: raw.series.as_ref(),
            requests: raw.requests.as_ref(),
            text: true,
        };
        let mut asked = self.asked(&asked, found)?;
        asked.interval_ms = found.positive("interval", raw.interval.as_ref(), 5_000);
        asked.timeout_ms = found.positive("timeout", raw.timeout.as_ref(), 10_000);
        Some(MetricsSettings { from, asked })
    }

    fn auth(&self, raw: &RawPrometheus, found: &mut Findings) -> Auth {
        let mut secret = |name: &At<String>| {
            if !self.secrets.contains(&name.value) {
                let message = format!("`{}` is not the name of a secret", name.value);
                let hint = "add it to `secrets:`, and give it a value in the environment";
                found.refuse_at(name.at, message, hint);
            }
            name.value.clone()
        };
        match (&raw.basic_auth, &raw.bearer_token) {
            (None, None) => Auth::None,
            (None, Some(token)) => Auth::Bearer(secret(token)),
            (Some(basic), None) => match (&basic.value.username, &basic.value.password) {
                (Some(username), Some(password)) => Auth::Basic(username.clone(), secret(password)),
                _ => {
                    let hint = "write `basic_auth: { username: NAME, password: NAME_OF_A_SECRET }`";
                    found.refuse_at(basic.at, "`basic_auth` needs a name and a password", hint);
                    Auth::None
                }
            },
            (Some(_), Some(token)) => {
                let message = "there are both `basic_auth` and `bearer_token`";
                found.refuse_at(token.at, message, "leave one of them");
                Auth::None
            }
        }
    }

    fn asked(&self, written: &Asked<'_>, found: &mut Findings) -> Option<MetricsSpec> {
        let entries = written.series.map(|series| series.0.as_slice()).unwrap_or_default();
        if entries.is_empty() && written.requests.is_none() {
            let hint = "add `series: { memory: { value: process_resident_memory_bytes } }`";
            found.refuse_at(written.at, "nothing is asked for: there are no `series`", hint);
            return None;
        }
        if let Some((key, _)) = entries.get(MAX_SERIES) {
            let hint = "leave those by which you would take a release back";
            found.refuse_at(key.at, format!("there are more than {MAX_SERIES} series"), hint);
        }
        let mut series = Vec::new();
        for (key, of) in entries {
            series.extend(self.series(key, of.as_ref(), written.text, found));
        }
        let requests = written.requests.and_then(|of| self.requests(of, written.text, found));
        Some(MetricsSpec { series, requests, interval_ms: 0, timeout_ms: 0 })
    }

    fn requests(
        &self,
        written: &At<RawRequests>,
        text: bool,
        found: &mut Findings,
    ) -> Option<RequestsSpec> {
        if matches!(self.policy.router, RouterPolicy::Builtin { .. }) {
            found.refuse_at(
                written.at,
                "the built-in router counts the requests already",
                "remove `requests`, or make it a `ratio` under `series`",
            );
        }
        let (Some(total), Some(failed)) = (&written.value.total, &written.value.failed) else {
            let hint = "write `requests: { total: COUNTERS, failed: COUNTERS }`";
            found.refuse_at(written.at, "`requests` needs `total` and `failed`", hint);
            return None;
        };
        Some(RequestsSpec {
            total: self.expression("requests", total, text, found),
            failed: self.expression("requests", failed, text, found),
        })
    }

    fn series(
        &self,
        key: &At<String>,
        written: Option<&RawSeries>,
        text: bool,
        found: &mut Findings,
    ) -> Option<SeriesSpec> {
        let name = &key.value;
        let raw = written.cloned().unwrap_or_default();
        let count =
            [raw.value.is_some(), raw.rate.is_some(), raw.ratio.is_some(), raw.latency.is_some()];
        if count.into_iter().filter(|is| *is).count() != 1 {
            let message = format!("`{name}` must be one of `value`, `rate`, `ratio` and `latency`");
            let hint = format!("write `{name}: {{ value: NAME_OF_A_METRIC }}`");
            found.refuse_at(key.at, message, hint);
            return None;
        }
        let measure = self.measure(name, &raw, text, found)?;
        let worse = match raw.worse {
            Some(RawWorse::Lower) => Worse::Lower,
            Some(RawWorse::Higher) | None => Worse::Higher,
        };
        let number =
            |at: &Option<At<crate::config::scalar::Quantity>>| at.as_ref().map(|at| at.value.0);
        let (warn, fail) = (number(&raw.warn), number(&raw.fail));
        let contradicts = warn.zip(fail).is_some_and(|(warn, fail)| match worse {
            Worse::Higher => warn > fail,
            Worse::Lower => warn < fail,
        });
        if contradicts && let Some(at) = &raw.warn {
            let message = format!("`{name}` would fail before it warns");
            found.refuse_at(at.at, message, "give `warn` a value that is reached first");
        }
        let tolerance = raw.tolerance.map_or(0.1, |Ratio(tolerance)| tolerance);
        let shape = shape(name, &raw, found);
        Some(SeriesSpec { name: name.clone(), measure, worse, tolerance, shape, warn, fail })
    }

    fn measure(
        &self,
        name: &str,
        raw: &RawSeries,
        text: bool,
        found: &mut Findings,
    ) -> Option<Measure> {
        if let Some(value) = &raw.value {
            return Some(Measure::Value(self.expression(name, value, text, found)));
        }
        if let Some(rate) = &raw.rate {
            return Some(Measure::Rate(self.expression(name, rate, text, found)));
        }
        if let Some(ratio) = &raw.ratio {
            let (Some(bad), Some(total)) = (&ratio.value.bad, &ratio.value.total) else {
                let hint = "write `ratio: { bad: COUNTERS, total: COUNTERS }`";
                found.refuse_at(ratio.at, "a ratio needs `bad` and `total`", hint);
                return None;
            };
            return Some(Measure::Ratio {
                bad: self.expression(name, bad, text, found),
                total: self.expression(name, total, text, found),
            });
        }
        let latency = raw.latency.as_ref()?;
        let Some(histogram) = &latency.value.histogram else {
            let hint = "write `latency: { histogram: NAME_bucket, quantile: 0.95 }`";
            found.refuse_at(latency.at, "`latency` names no `histogram`", hint);
            return None;
        };
        let quantile = latency.value.quantile.as_ref().map_or(0.95, |quantile| quantile.value.0);
        Some(Measure::Latency {
            histogram: self.expression(name, histogram, text, found),
            quantile,
        })
    }

    fn expression(
        &self,
        name: &str,
        written: &At<String>,
        text: bool,
        found: &mut Findings,
    ) -> String {
        let known = self.check_words(written, found);
        if text && known {
            let filled = WORDS.iter().fold(written.value.clone(), |text, word| {
                text.replace(&format!("{{{word}}}"), "1")
            });
            if let Err(why) = check_selector(&filled) {
                let hint = "write a name, or `name{label=\"value\"}`";
                found.refuse_at(written.at, why, hint);
            }
        } else if !text {
            self.warn_nameless(name, &[&written.value], found);
        }
        written.value.clone()
    }

    fn check_words(&self, written: &At<String>, found: &mut Findings) -> bool {
        for word in braced_words(&written.value) {
            if WORDS.contains(&word) {
                continue;
            }
            let problem = Problem::at(written.at, format!("`{{{word}}}` is not filled in here"));
            found.refuse(problem.hint(match nearest(word, WORDS.iter().copied()) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => {
                    "filled in: {port}, {slot}, {version}, {release} and {deployment}".to_owned()
                }
            }));
            return false;
        }
        true
    }

    /// With two sides beside each other, what names none of them says the same of both.
    fn warn_nameless(&self, name: &str, texts: &[&str], found: &mut Findings) {
        let beside = !matches!(self.policy.strategy, Strategy::Recreate);
        let names = |text: &&str| braced_words(text).any(|word| WORDS.contains(&word));
        if beside && !texts.iter().any(names) {
            found.warnings.push(format!(
                "service `{}`: {name} can't tell old and new apart; use {{slot}}, {{deployment}} or {{version}} in it",
                self.service.name
            ));
        }
    }
}

/// What is known of a metric's values.
fn shape(name: &str, raw: &RawSeries, found: &mut Findings) -> Shape {
    if let (Some(_), Some(sigma)) = (&raw.bounds, &raw.sigma) {
        let message = format!("`{name}` has both `bounds` and `sigma`");
        found.refuse_at(sigma.at, message, "leave the one that you are sure of");
    }
    if let Some(bounds) = &raw.bounds {
        let (min, max) = (
            bounds.value.min.as_ref().map(|min| min.0),
            bounds.value.max.as_ref().map(|max| max.0),
        );
        return match min.zip(max) {
            Some((min, max)) if min < max => Shape::Bounded { min, max },
            _ => {
                let hint = "write `bounds: { min: 0, max: 1 }`";
                found.refuse_at(bounds.at, "`bounds` needs a `min` and a larger `max`", hint);
                Shape::Any
            }
        };
    }
    match &raw.sigma {
        Some(sigma) if sigma.value.0 > 0.0 => Shape::SubGaussian { sigma: sigma.value.0 },
        Some(sigma) => {
            found.refuse_at(sigma.at, "`sigma` must be above 0", "measure it, or leave it out");
            Shape::Any
        }
        None => Shape::Any,
    }
}

fn check_url(url: &At<String>, found: &mut Findings) {
    let filled = WORDS
        .iter()
        .fold(url.value.clone(), |text, word| text.replace(&format!("{{{word}}}"), "1"));
    let valid = filled.parse::<hyper::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    });
    if !valid {
        let message = format!("`{}` is not an http address", url.value);
        found.refuse_at(url.at, message, "write it as `http://127.0.0.1:9090`");
    } else if filled.contains('@') {
        let hint = "use `basic_auth` and a secret";
        found.refuse_at(url.at, "a password does not belong into an address", hint);
    }
}
