//! Progress as lines of the log: sentences, with what they are about in fields.

use backout_core::ids::EnvironmentKey;
use backout_judge::Level;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::events::{Event, StepMark, WatchReading};

/// Writes what happens in an environment, until nobody tells any more.
pub(super) async fn follow(key: EnvironmentKey, mut events: Receiver<Event>) {
    let mut lines = Lines { key, operation: String::new(), watched: None };
    loop {
        match events.recv().await {
            Ok(event) => lines.write(&event),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

struct Lines {
    key: EnvironmentKey,
    operation: String,
    watched: Option<(String, Level)>,
}

impl Lines {
    fn write(&mut self, event: &Event) {
        match event {
            Event::Opened { plan, resumed } => {
                self.operation = plan.operation.to_string();
                self.watched = None;
                let words = super::guard::what(plan);
                let how = if *resumed { "goes on" } else { "begins" };
                tracing::info!(environment = %self.key, operation = %self.operation, "{words} {how}");
            }
            Event::Step { name, subject, mark, message, .. } => {
                self.step(name, subject, *mark, message);
            }
            Event::Watch(reading) => self.watch(reading),
            Event::Failing { trigger, evidence, .. } => tracing::warn!(
                environment = %self.key, operation = %self.operation, trigger = %trigger,
                "it goes back: {}", evidence.join("; ")
            ),
            Event::TrafficSafe { after_ms } => tracing::info!(
                environment = %self.key, operation = %self.operation, after_ms,
                "users are on the good release again"
            ),
            Event::Warning(message) => {
                tracing::warn!(environment = %self.key, operation = %self.operation, "{message}");
            }
            Event::Note(message) => {
                tracing::debug!(environment = %self.key, operation = %self.operation, "{message}");
            }
        }
    }

    fn step(&self, name: &str, subject: &str, mark: StepMark, message: &str) {
        let detail = if message.is_empty() { String::new() } else { format!(": {message}") };
        let (environment, operation) = (&self.key, &self.operation);
        match mark {
            StepMark::Started => {
                tracing::debug!(%environment, %operation, step = name, subject, "the step begins");
            }
            StepMark::Done => {
                tracing::info!(%environment, %operation, step = name, subject, "the step is done{detail}");
            }
            StepMark::Adopted => {
                tracing::info!(%environment, %operation, step = name, subject, "the step was done already");
            }
            StepMark::Failed => {
                tracing::warn!(%environment, %operation, step = name, subject, "the step failed{detail}");
            }
            StepMark::Skipped => {
                tracing::info!(%environment, %operation, step = name, subject, "the step is left out");
            }
        }
    }

    /// A watch is told when its verdict changes.
    fn watch(&mut self, reading: &WatchReading) {
        let now = (reading.step.clone(), reading.verdict.level);
        if self.watched.as_ref() == Some(&now) {
            return;
        }
        let verdict = match reading.verdict.level {
            Level::Healthy => "healthy",
            Level::Warning => "warning",
            Level::Failing => "failing",
            Level::NotEnoughData => "not enough data",
        };
        tracing::info!(
            environment = %self.key, operation = %self.operation, step = %reading.step, verdict,
            "the watch sees: {}", reading.verdict.evidence
        );
        self.watched = Some(now);
    }
}
