//! Requests of our own, to a side's own address, where users are too few to judge by.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use backout_core::ports::{ProbeSubject, Synthetic, SyntheticOutcome};
use hyper::Uri;

use super::http_exchange::{Asking, NoAnswer, ask};

/// By this a program can tell these requests from those of users.
const HEADER: &str = "x-backout-synthetic";

/// Asks for a path by GET.
#[derive(Debug, Clone)]
pub struct HttpSynthetic {
    path: String,
}

impl HttpSynthetic {
    /// Requests of a path, which begins with `/`.
    #[must_use]
    pub fn new(path: String) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Synthetic for HttpSynthetic {
    async fn request(&self, subject: &ProbeSubject) -> SyntheticOutcome {
        let Some(address) = subject.address else { return SyntheticOutcome::NotSent };
        let Ok(uri) = format!("http://{address}{}", self.path).parse::<Uri>() else {
            return SyntheticOutcome::NotSent;
        };
        let asking = Asking {
            accept: "*/*",
            headers: vec![(HEADER, subject.unit.key.to_string())],
            ..Asking::default()
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(subject.timeout, ask(&uri, &asking)).await;
        let took: Duration = began.elapsed();
        match answer {
            Ok(Ok(answer)) if answer.status.is_server_error() => SyntheticOutcome::Failed,
            Ok(Ok(_)) => SyntheticOutcome::Answered(took),
            Ok(Err(NoAnswer::CouldNotCheck(_))) => SyntheticOutcome::NotSent,
            Ok(Err(NoAnswer::NotReady(_) | NoAnswer::Nonsense(_))) | Err(_) => {
                SyntheticOutcome::Failed
            }
        }
    }
}
