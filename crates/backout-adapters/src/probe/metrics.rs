//! The `metrics` source: text that a side itself gives, by its own address or by a command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{MetricSource, MetricSubject, Point, Points, ProbeError};
use hyper::Uri;

use super::fill_metric;
use super::http_exchange::{Asking, NoAnswer, ask};
use super::metrics_selector::Selector;
use super::metrics_text::read_metrics;
use super::tls::Trust;
use crate::host::{CommandLine, Ended, Output, run};

/// A longer text is refused rather than read in part.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// The same for a command's output.
const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// More series than this for one expression are an expression that is too wide.
pub(super) const MAX_SERIES: usize = 2_000;
const MESSAGE_BYTES: usize = 200;

/// Where the text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsFrom {
    /// A URL; `{port}` and the other words are filled in.
    Url(String),
    /// A program and its arguments, which prints the text.
    Command(Vec<String>),
}

/// What the source is made from.
#[derive(Debug, Clone)]
pub struct MetricsOptions {
    /// Where the text comes from.
    pub from: MetricsFrom,
    /// For https.
    pub trust: Trust,
    /// Folder of `backout.yaml`.
    pub folder: PathBuf,
    /// Environment of a command.
    pub env: Vec<(OsString, OsString)>,
}

/// Reads the text exposition format.
#[derive(Debug, Clone)]
pub struct MetricsSource {
    options: MetricsOptions,
}

impl MetricsSource {
    /// A source.
    #[must_use]
    pub fn new(options: MetricsOptions) -> Self {
        Self { options }
    }

    async fn text(&self, subject: &MetricSubject) -> Result<Vec<u8>, ProbeError> {
        match &self.options.from {
            MetricsFrom::Url(url) => {
                self.scrape(&fill_metric(url, subject)?, subject.timeout).await
            }
            MetricsFrom::Command(command) => self.printed(command, subject).await,
        }
    }

    async fn scrape(&self, url: &str, timeout: Duration) -> Result<Vec<u8>, ProbeError> {
        let fail = |why: &str| ProbeError(format!("failed to read metrics from {url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| fail("it is no URL"))?;
        let asking = Asking {
            accept: "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4",
            trust: self.options.trust.clone(),
            max_body_bytes: MAX_TEXT_BYTES,
            ..Asking::default()
        };
        let answer = match tokio::time::timeout(timeout, ask(&uri, &asking)).await {
            Err(_) => return Err(fail(&format!("no answer within {} ms", timeout.as_millis()))),
            Ok(Err(
                NoAnswer::NotReady(why) | NoAnswer::Nonsense(why) | NoAnswer::CouldNotCheck(why),
            )) => return Err(fail(&why)),
            Ok(Ok(answer)) => answer,
        };
        if !answer.status.is_success() {
            return Err(fail(&format!("it answered {}", answer.status)));
        }
        if !answer.whole {
            return Err(fail(&format!("it is longer than {} MiB", MAX_TEXT_BYTES >> 20)));
        }
        Ok(answer.body)
    }

    async fn printed(
        &self,
        command: &[String],
        subject: &MetricSubject,
    ) -> Result<Vec<u8>, ProbeError> {
        let words =
            command.iter().map(|word| fill_metric(word, subject)).collect::<Result<Vec<_>, _>>()?;
        let Some((program, args)) = words.split_first() else {
            return Err(ProbeError("failed to read metrics: the command is empty".to_owned()));
        };
        let fail = |why: String| {
            ProbeError(format!("failed to read metrics: `{program}` {why}; could not check"))
        };
        let folder = &self.options.folder;
        let line = CommandLine {
            program: if program.contains('/') { folder.join(program) } else { program.into() },
            args: args.iter().map(OsString::from).collect(),
            env: self.options.env.clone(),
            cwd: folder.clone(),
            stdin: None,
            timeout: subject.timeout,
            end_grace: Duration::from_millis(200),
            keep: MAX_OUTPUT_BYTES,
            output: Output::Pipe,
        };
        let finished = run(line).await.map_err(|error| ProbeError(error.to_string()))?;
        match finished.ended {
            Ended::Exited(0) if finished.stdout.total() as usize <= MAX_OUTPUT_BYTES => {
                Ok(finished.stdout.last_text(MAX_OUTPUT_BYTES).into_bytes())
            }
            Ended::Exited(0) => {
                Err(fail(format!("printed more than {} KiB", MAX_OUTPUT_BYTES >> 10)))
            }
            Ended::Exited(code) => {
                let said = finished.stderr.last_text(MESSAGE_BYTES);
                Err(fail(format!("exited with {code}: {said}")))
            }
            Ended::Signalled(signal) => Err(fail(format!("was ended by signal {signal}"))),
            Ended::TimedOut => {
                Err(fail(format!("did not end within {} ms", subject.timeout.as_millis())))
            }
        }
    }
}

#[async_trait]
impl MetricSource for MetricsSource {
    fn name(&self) -> String {
        match &self.options.from {
            MetricsFrom::Url(url) => format!("metrics {url}"),
            MetricsFrom::Command(command) => format!("metrics of `{}`", command.join(" ")),
        }
    }

    async fn read(
        &self,
        subject: &MetricSubject,
        expressions: &[String],
    ) -> Result<Vec<Points>, ProbeError> {
        let mut selectors = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let filled = fill_metric(expression, subject)?;
            selectors.push(Selector::parse(&filled).map_err(ProbeError)?);
        }
        let text = self.text(subject).await?;
        let text = String::from_utf8_lossy(&text);
        let mut points: Vec<Points> = vec![Points::new(); selectors.len()];
        let read = read_metrics(&text, |line| {
            for (selector, points) in selectors.iter().zip(&mut points) {
                if points.len() <= MAX_SERIES && selector.matches(line) {
                    points.push(Point {
                        series: line.key(),
                        bound: line.label("le").parse().ok(),
                        value: line.value,
                    });
                }
            }
        });
        if read.samples == 0 && (read.others > 0 || text.trim().is_empty()) {
            return Err(ProbeError(format!("failed to read {}: no metrics in it", self.name())));
        }
        for (expression, points) in expressions.iter().zip(&points) {
            if points.len() > MAX_SERIES {
                return Err(ProbeError(format!(
                    "`{expression}` matches more than {MAX_SERIES} series; name fewer by their labels"
                )));
            }
        }
        Ok(points)
    }
}
