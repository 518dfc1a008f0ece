//! The `tcp` probe.

use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fill_for;
use super::http_exchange::{NoAnswer, connect_error};
use super::tries::{sample, with_retries};

/// Connects to `host:port`.
#[derive(Debug, Clone)]
pub struct TcpProbe {
    address: String,
}

impl TcpProbe {
    /// A probe for one address; `{port}` and `{slot}` are filled in.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }
}

async fn attempt(address: &str, budget: Duration) -> Result<Sample, ProbeError> {
    let began = Instant::now();
    let connected = tokio::time::timeout(budget, TcpStream::connect(address)).await;
    let outcome = match connected {
        Ok(Ok(_)) => SampleOutcome::Pass,
        Ok(Err(e)) => match connect_error(&e) {
            NoAnswer::NotReady(why) | NoAnswer::Nonsense(why) => {
                SampleOutcome::NotReady(format!("{address}: {why}"))
            }
            NoAnswer::CouldNotCheck(why) => {
                return Err(ProbeError(format!("failed to check `{address}`: {why}")));
            }
        },
        Err(_) => SampleOutcome::NotReady(format!(
            "{address} did not accept within {} ms",
            budget.as_millis()
        )),
    };
    Ok(sample(outcome, began.elapsed()))
}

#[async_trait]
impl Probe for TcpProbe {
    fn name(&self) -> &'static str {
        "tcp"
    }

    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError> {
        let address = fill_for(&self.address, subject)?;
        if !address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err(ProbeError(format!(
                "failed to check {}: `{address}` is not HOST:PORT",
                subject.unit
            )));
        }
        with_retries(subject, |budget| attempt(&address, budget)).await
    }
}
