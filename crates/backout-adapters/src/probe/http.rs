//! The `http` probe.

use std::time::Duration;

use async_trait::async_trait;
use backout_core::model::HttpCheck;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};
use hyper::{StatusCode, Uri};
use tokio::time::Instant;

use super::fill_for;
use super::health_body::read_health_body;
use super::http_exchange::{Answer, Asking, NoAnswer, ask};
use super::tries::{sample, with_retries};

/// Asks a URL.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    check: HttpCheck,
}

impl HttpProbe {
    /// A probe for one check.
    #[must_use]
    pub fn new(check: HttpCheck) -> Self {
        Self { check }
    }

    fn uri(&self, subject: &ProbeSubject) -> Result<Uri, ProbeError> {
        let url = fill_for(&self.check.url, subject)?;
        let bad =
            |why: &str| ProbeError(format!("failed to check {}: `{url}` {why}", subject.unit));
        let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
        match uri.scheme_str() {
            Some("http" | "https") => Ok(uri),
            _ => Err(bad("does not begin with http:// or https://")),
        }
    }

    async fn attempt(&self, uri: &Uri, budget: Duration) -> Result<Sample, ProbeError> {
        let began = Instant::now();
        let answer = tokio::time::timeout(budget, ask(uri, &Asking::default())).await;
        let took = began.elapsed();
        let outcome = match answer {
            Err(_) => SampleOutcome::NotReady(format!(
                "no answer from {uri} within {} ms",
                budget.as_millis()
            )),
            Ok(Err(NoAnswer::NotReady(why))) => SampleOutcome::NotReady(format!("{uri}: {why}")),
            Ok(Err(NoAnswer::Nonsense(why))) => SampleOutcome::Fail(format!("{uri}: {why}")),
            Ok(Err(NoAnswer::CouldNotCheck(why))) => {
                return Err(ProbeError(format!("failed to check {uri}: {why}")));
            }
            Ok(Ok(answer)) => return Ok(self.judge(uri, &answer, took)),
        };
        Ok(sample(outcome, took))
    }

    fn judge(&self, uri: &Uri, answer: &Answer, took: Duration) -> Sample {
        let status = answer.status;
        let required: &[String] =
            if status.is_success() { &self.check.required_fields } else { &[] };
        let body = read_health_body(&answer.body, answer.whole, required);
        let detail = match &body.outcome {
            SampleOutcome::Fail(text) | SampleOutcome::Warn(text) if !status.is_success() => {
                format!(" ({text})")
            }
            _ => String::new(),
        };
        let outcome = if status.is_success() {
            with_subject(body.outcome, uri)
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            SampleOutcome::NotReady(format!("{uri} answered {status}{detail}"))
        } else if status.is_redirection() {
            let to = answer.location.as_deref().unwrap_or("elsewhere");
            SampleOutcome::Fail(format!(
                "{uri} answered {status} and leads to `{to}`; redirects are not followed, give the final URL"
            ))
        } else {
            SampleOutcome::Fail(format!("{uri} answered {status}{detail}"))
        };
        Sample {
            error_rate: body.error_rate,
            availability: body.availability,
            response_time_ms: body.response_time_ms,
            version: body.version,
            timestamp: body.timestamp,
            ..sample(outcome, took)
        }
    }
}

fn with_subject(outcome: SampleOutcome, uri: &Uri) -> SampleOutcome {
    match outcome {
        SampleOutcome::Warn(text) => SampleOutcome::Warn(format!("{uri}: {text}")),
        SampleOutcome::Fail(text) => SampleOutcome::Fail(format!("{uri}: {text}")),
        other => other,
    }
}

#[async_trait]
impl Probe for HttpProbe {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError> {
        let uri = self.uri(subject)?;
        with_retries(subject, |budget| self.attempt(&uri, budget)).await
    }
}
