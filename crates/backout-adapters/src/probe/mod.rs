//! Health checks. *Could not check* is an error; *checked and bad* is a sample.

mod exec;
mod health_body;
mod http;
mod http_exchange;
mod metrics;
mod metrics_selector;
mod metrics_text;
mod process;
mod prometheus;
mod synthetic;
mod tcp;
mod tls;
mod tries;

pub use exec::ExecProbe;
pub use health_body::{HealthBody, read_health_body};
pub use http::HttpProbe;
pub use metrics::{MetricsFrom, MetricsOptions, MetricsSource};
pub use metrics_selector::Selector;
pub use metrics_text::{Line, Read, read_metrics};
pub use process::ProcessProbe;
pub use prometheus::{Credentials, PrometheusOptions, PrometheusSource};
pub use synthetic::HttpSynthetic;
pub use tcp::TcpProbe;
pub use tls::Trust;

use backout_core::ports::{MetricSubject, ProbeError, ProbeSubject};

use crate::target::process::{Values, fill};

/// Fills `{host} {port} {slot} {version} {release}` in for a subject.
fn fill_for(text: &str, subject: &ProbeSubject) -> Result<String, ProbeError> {
    let values = Values {
        version: Some(subject.version.to_string()),
        release: Some(subject.release.to_string()),
        slot: Some(subject.unit.slot.to_string()),
        port: subject.address.map(|a| a.port()),
        ..Values::default()
    };
    // A login before the name is for ssh alone.
    let host = subject.unit.host.as_str();
    let host = if subject.unit.host.is_local() { "127.0.0.1" } else { host };
    let text = text.replace("{host}", host.rsplit_once('@').map_or(host, |(_, name)| name));
    fill(&text, &values).map_err(|what| {
        ProbeError(format!(
            "failed to check {}: `{text}` asks for {{{what}}}, and it is not known",
            subject.unit
        ))
    })
}

/// Fills `{deployment}` in too, beside what a check knows.
fn fill_metric(text: &str, subject: &MetricSubject) -> Result<String, ProbeError> {
    let text = text.replace("{deployment}", &subject.deployment.to_string());
    fill_for(
        &text,
        &ProbeSubject {
            unit: subject.unit.clone(),
            address: subject.address,
            version: subject.version.clone(),
            release: subject.release.clone(),
            timeout: subject.timeout,
            retries: 0,
        },
    )
}
