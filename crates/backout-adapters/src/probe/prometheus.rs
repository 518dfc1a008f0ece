//! The `prometheus` source: PromQL over its HTTP API, instant for readings and over a range for the past.

use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{MetricSource, MetricSubject, Point, Points, ProbeError, Secret};
use base64::Engine as _;
use hyper::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Deserialize;

use super::fill_metric;
use super::http_exchange::{Asking, NoAnswer, ask};
use super::metrics::MAX_SERIES;
use super::metrics_selector::Selector;
use super::metrics_text::series_key;
use super::tls::Trust;

/// A longer answer is refused.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(30);
const HOUR_S: i64 = 3_600;

/// How we say who we are. Secrets come by name from the caller.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nobody asks.
    None,
    /// Name and password.
    Basic(String, Secret),
    /// A token.
    Bearer(Secret),
    /// A secret that has no value: its name.
    Missing(String),
}

/// What the source is made from.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// Its address, as a browser would have it.
    pub url: String,
    /// Who we are.
    pub credentials: Credentials,
    /// For https.
    pub trust: Trust,
    /// Samples older than this are no answer.
    pub max_age: Duration,
}

/// Asks a Prometheus, or what speaks like it.
#[derive(Debug, Clone)]
pub struct PrometheusSource {
    options: PrometheusOptions,
}

#[derive(Deserialize)]
struct Reply {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "snake_case")]
enum Data {
    Vector(Vec<Series>),
    Matrix(Vec<Series>),
    Scalar((f64, String)),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: std::collections::BTreeMap<String, String>,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Series {
    fn point(&self, value: &str) -> Point {
        let labels = self.metric.iter().map(|(key, value)| (&**key, &**value));
        Point {
            series: series_key("", labels),
            bound: self.metric.get("le").and_then(|bound| bound.parse().ok()),
            value: value.parse().unwrap_or(f64::NAN),
        }
    }
}

impl PrometheusSource {
    /// A source.
    #[must_use]
    pub fn new(options: PrometheusOptions) -> Self {
        Self { options }
    }

    fn fail(&self, why: impl std::fmt::Display) -> ProbeError {
        ProbeError(format!("failed to ask Prometheus at {}: {why}", self.options.url))
    }

    fn authorization(&self) -> Result<Option<String>, ProbeError> {
        Ok(match &self.options.credentials {
            Credentials::None => None,
            Credentials::Basic(user, password) => {
                let both = format!("{user}:{}", password.expose());
                let text = base64::engine::general_purpose::STANDARD.encode(both);
                Some(format!("Basic {text}"))
            }
            Credentials::Bearer(token) => Some(format!("Bearer {}", token.expose())),
            Credentials::Missing(name) => {
                return Err(
                    self.fail(format!("the secret {name} has no value; set it in the environment"))
                );
            }
        })
    }

    async fn ask(
        &self,
        what: &str,
        fields: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Data, ProbeError> {
        let url = format!("{}/api/v1/{what}", self.options.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|_| self.fail("that is no URL"))?;
        let asking = Asking {
            accept: "application/json",
            authorization: self.authorization()?,
            form: Some(form(fields)),
            headers: Vec::new(),
            trust: self.options.trust.clone(),
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        let answer = match tokio::time::timeout(timeout, ask(&uri, &asking)).await {
            Err(_) => {
                return Err(self.fail(format!("no answer within {} ms", timeout.as_millis())));
            }
            Ok(Err(
                NoAnswer::NotReady(why) | NoAnswer::Nonsense(why) | NoAnswer::CouldNotCheck(why),
            )) => return Err(self.fail(why)),
            Ok(Ok(answer)) => answer,
        };
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.fail(format!(
                "it answered {}; check `basic_auth` or `bearer_token`",
                answer.status
            )));
        }
        if !answer.whole {
            return Err(
                self.fail(format!("its answer is longer than {} MiB", MAX_ANSWER_BYTES >> 20))
            );
        }
        let reply: Reply = serde_json::from_slice(&answer.body).map_err(|_| {
            self.fail(format!(
                "it answered {} with something that is no Prometheus answer",
                answer.status
            ))
        })?;
        match (reply.status.as_str(), reply.data) {
            ("success", Some(data)) => Ok(data),
            _ => {
                let query: String =
                    fields.first().map_or("", |(_, query)| query).chars().take(200).collect();
                let why: String = reply.error.unwrap_or_default().chars().take(300).collect();
                Err(self.fail(format!("it refused `{query}`: {why}")))
            }
        }
    }

    fn check_width(&self, query: &str, found: usize) -> Result<(), ProbeError> {
        if found > MAX_SERIES {
            return Err(self.fail(format!(
                "`{query}` gives {found} series; name fewer by their labels, or add them up"
            )));
        }
        Ok(())
    }

    async fn instant(&self, query: &str, timeout: Duration) -> Result<Points, ProbeError> {
        let max_age = format!("{}s", self.options.max_age.as_secs().max(1));
        let fresh_only = fresh_only(query, &max_age);
        let fields = [("query", &*fresh_only), ("lookback_delta", &*max_age)];
        let now_s = Timestamp::now().as_millisecond() as f64 / 1_000.0;
        let oldest_s = now_s - (self.options.max_age + SKEW).as_secs_f64();
        let fresh = |(at_s, _): &(f64, String)| *at_s >= oldest_s;
        match self.ask("query", &fields, timeout).await? {
            Data::Vector(series) => {
                self.check_width(query, series.len())?;
                let fresh = |series: &&Series| series.value.as_ref().is_some_and(fresh);
                let stale = series.iter().find(|series| !fresh(series));
                if let Some((at_s, _)) = stale.and_then(|series| series.value.as_ref()) {
                    let age_s = now_s - at_s;
                    return Err(self.fail(format!("its newest sample is {age_s:.0} s old")));
                }
                let point =
                    |series: &Series| series.value.as_ref().map(|(_, value)| series.point(value));
                Ok(series.iter().filter_map(point).collect())
            }
            Data::Scalar(value) if fresh(&value) => {
                let value = value.1.parse().unwrap_or(f64::NAN);
                Ok(vec![Point { series: 0, bound: None, value }])
            }
            Data::Scalar(_) => Err(self.fail("its answer is old")),
            Data::Matrix(_) | Data::String(_) => {
                Err(self.fail(format!("`{query}` does not give a number now; remove the range")))
            }
        }
    }
}

/// Servers show what they scraped up to five minutes ago as if it was now. Newer ones can be told otherwise; of a
/// plain selector any one leaves out what is older.
fn fresh_only(query: &str, max_age: &str) -> String {
    match Selector::parse(query) {
        Ok(_) => format!("last_over_time({query}[{max_age}]) and {query}"),
        Err(_) => query.to_owned(),
    }
}

/// A form as browsers post it.
fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                // Writing to a string can't fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[async_trait]
impl MetricSource for PrometheusSource {
    fn name(&self) -> String {
        format!("prometheus {}", self.options.url)
    }

    async fn read(
        &self,
        subject: &MetricSubject,
        expressions: &[String],
    ) -> Result<Vec<Points>, ProbeError> {
        let end = tokio::time::Instant::now() + subject.timeout;
        let mut all = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let query = fill_metric(expression, subject)?;
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            all.push(self.instant(&query, left).await?);
        }
        Ok(all)
    }

    async fn past(
        &self,
        subject: &MetricSubject,
        expressions: &[String],
        hours: u32,
    ) -> Result<Option<Vec<Vec<(Timestamp, Point)>>>, ProbeError> {
        let end_s = Timestamp::now().as_second();
        let (start, end) = ((end_s - i64::from(hours) * HOUR_S).to_string(), end_s.to_string());
        let mut all = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let query = fill_metric(expression, subject)?;
            let fields = [("query", &*query), ("start", &*start), ("end", &*end), ("step", "3600")];
            let Data::Matrix(series) = self.ask("query_range", &fields, subject.timeout).await?
            else {
                return Err(self.fail(format!("`{query}` gives no numbers over time")));
            };
            self.check_width(&query, series.len())?;
            let mut points = Vec::new();
            for series in &series {
                for (at_s, value) in &series.values {
                    let at = Timestamp::from_second(*at_s as i64);
                    points.extend(at.ok().map(|at| (at, series.point(value))));
                }
            }
            points.sort_by_key(|(at, _)| *at);
            all.push(points);
        }
        Ok(Some(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_escaped() {
        assert_eq!(
            form(&[("query", "a{b=\"c d\"}"), ("x", "1")]),
            "query=a%7Bb%3D%22c%20d%22%7D&x=1"
        );
    }
}
