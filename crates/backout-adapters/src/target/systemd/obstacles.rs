//! What is in the way of a start.

use backout_core::model::{PortSpec, Release};
use backout_core::ports::AdapterError;

use super::Side;
use crate::host::procfs;
use crate::systemd::UnitState;

impl Side {
    pub(super) async fn obstacles(&self, release: &Release) -> Result<Vec<String>, AdapterError> {
        let name = &self.place.name;
        let found = self.found(0).await?;
        if let Some(other) = found.note.as_ref().and_then(|note| self.other_owner(note)) {
            return Ok(vec![other]);
        }
        let state = self.state().await?;
        let mut in_the_way: Vec<String> = self.unusable(&state).into_iter().collect();
        if in_the_way.is_empty() {
            in_the_way.extend(self.unfit(&state).await?);
        }
        if let Err(error) = &found.link {
            let hint = error.hint.as_deref().unwrap_or_default();
            in_the_way.push(format!("{}: {hint}", error.message));
        }
        let known = found.note.is_some() || self.adopted(&found).is_some();
        if !known && !state.is_down() && self.names_link(&state).await? {
            in_the_way.push(format!(
                "{name} runs already, and Backout did not start it: `backout adopt` records it as the way back"
            ));
        }
        // What the unit itself holds is free once it is started anew.
        let traffic = release.content.services.get(&self.unit.service).is_some_and(|s| s.traffic);
        let looks = traffic && state.is_down() && self.host.is_none();
        if let Some(PortSpec::Fixed(port)) = self.spec.port.filter(|_| looks) {
            let (owners, unseen) = procfs::listeners(port);
            if let Some(owner) = owners.first() {
                in_the_way.push(format!(
                    "port {port} is taken by process {} (`{}`): stop it, or give another port",
                    owner.pid, owner.name
                ));
            } else if unseen {
                in_the_way.push(format!("port {port} is taken by a process of another user"));
            }
        }
        Ok(in_the_way)
    }

    /// What the unit would have to say and does not.
    pub(super) async fn unfit(&self, state: &UnitState) -> Result<Option<String>, AdapterError> {
        let (name, link) = (&self.place.name, self.place.link.display());
        if !self.names_link(state).await? {
            return Ok(Some(format!(
                "{name} does not run what is behind `{link}`: write it into its file, such as \
                 `ExecStart={link}/{}`",
                self.unit.service
            )));
        }
        let variables = self.place.variables.display().to_string();
        let reads = state.environment_files.contains(&variables);
        if matches!(self.spec.port, Some(PortSpec::Auto)) && !reads {
            return Ok(Some(format!(
                "{name} would not learn its port: write `EnvironmentFile=-{variables}` into its file and let its \
                 program listen on the port in PORT"
            )));
        }
        Ok(None)
    }
}
