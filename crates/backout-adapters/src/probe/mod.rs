//! Health checks. *Could not check* is an error; *checked and bad* is a sample.

mod exec;
mod health_body;
mod http;
mod http_exchange;
mod process;
mod tcp;
mod tries;

pub use exec::ExecProbe;
pub use health_body::{HealthBody, read_health_body};
pub use http::HttpProbe;
pub use process::ProcessProbe;
pub use tcp::TcpProbe;

use backout_core::ports::{ProbeError, ProbeSubject};

use crate::target::process::{Values, fill};

/// Fills `{port} {slot} {version} {release}` in for a subject.
fn fill_for(text: &str, subject: &ProbeSubject) -> Result<String, ProbeError> {
    let values = Values {
        version: Some(subject.version.to_string()),
        release: Some(subject.release.to_string()),
        slot: Some(subject.unit.slot.to_string()),
        port: subject.address.map(|a| a.port()),
        ..Values::default()
    };
    fill(text, &values).map_err(|what| {
        ProbeError(format!(
            "failed to check {}: `{text}` asks for {{{what}}}, and it is not known",
            subject.unit
        ))
    })
}
