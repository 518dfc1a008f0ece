//! The last words of a unit's containers, for an incident bundle.

use backout_core::ids::Unit;
use backout_core::model::Release;
use backout_core::ports::{AdapterError, NamedText};

use super::{ComposeTargetOptions, labels, observe};
use crate::docker::{Call, Container, said};
use crate::host::Ended;

/// Lines of one container.
const LINES: &str = "5000";

pub(super) async fn evidence(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Release,
    limit_bytes: usize,
) -> Result<Vec<NamedText>, AdapterError> {
    let mut containers = options.docker.containers(&labels::of_unit(unit)).await?;
    containers.extend(observe::foreign(options, unit, Some(release)).await?);
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    containers.dedup_by(|a, b| a.id == b.id);
    let mut texts = Vec::new();
    if !containers.is_empty() {
        let all: Vec<_> = containers.iter().map(state).collect();
        let text = serde_json::to_string_pretty(&all)
            .map_err(|e| AdapterError::permanent(format!("failed to describe containers: {e}")))?;
        texts.push(NamedText { name: "containers.json".to_owned(), text, cut: false });
    }
    for container in &containers {
        let name = container.name.trim_start_matches('/').to_owned();
        let call = Call::look(["logs", "--timestamps", "--tail", LINES, container.id.as_str()]);
        let finished = options.docker.run(call).await?;
        if finished.ended != Ended::Exited(0) {
            let text = format!("its output can't be read: {}", said(&finished));
            texts.push(NamedText { name: format!("{name}.log"), text, cut: false });
            continue;
        }
        for (stream, end) in [(&finished.stdout, "out"), (&finished.stderr, "err")] {
            let text = stream.last_text(limit_bytes);
            if !text.is_empty() {
                let cut = stream.total() > limit_bytes as u64;
                texts.push(NamedText { name: format!("{name}.{end}.log"), text, cut });
            }
        }
    }
    Ok(texts)
}

/// A container without its variables, which may be secrets.
fn state(container: &Container) -> serde_json::Value {
    let state = &container.state;
    serde_json::json!({
        "name": container.name.trim_start_matches('/'), "id": container.id,
        "image": container.image, "reference": container.config.image,
        "service": container.label(labels::COMPOSE_SERVICE),
        "release": container.label(labels::RELEASE), "deployment": container.label(labels::DEPLOYMENT),
        "status": state.status, "exit_code": state.exit_code, "error": state.error,
        "finished_at": state.finished_at, "restarts": container.restart_count,
        "health": state.health.as_ref().map(|health| &health.status),
    })
}
