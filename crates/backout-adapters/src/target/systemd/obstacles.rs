//! What is in the way of a start.

use backout_core::model::{PortSpec, Release};
use backout_core::ports::AdapterError;

use super::{Side, link};
use crate::host::procfs;
use crate::systemd::UnitState;

impl Side {
    pub(super) async fn obstacles(&self, release: &Release) -> Result<Vec<String>, AdapterError> {
        let name = &self.place.name;
        let note = self.note()?;
        if let Some(other) = note.as_ref().and_then(|note| self.other_owner(note)) {
            return Ok(vec![other]);
        }
        let state = self.state().await?;
        let mut found: Vec<String> = self.unusable(&state).into_iter().collect();
        if found.is_empty() {
            found.extend(self.unfit(&state));
        }
        if let Err(error) = link::target(&self.place.link) {
            found.push(format!(
                "{error}: move the folder away and put a link in its place, such as `mv current first && ln -s first current`"
            ));
        }
        let known = note.is_some() || self.adopted().is_some();
        if !known && !state.is_down() && self.names_link(&state) {
            found.push(format!(
                "{name} runs already, and Backout did not start it: `backout adopt` records it as the way back"
            ));
        }
        // What the unit itself holds is free once it is started anew.
        let traffic = release.content.services.get(&self.unit.service).is_some_and(|s| s.traffic);
        if let Some(PortSpec::Fixed(port)) = self.spec.port.filter(|_| traffic && state.is_down()) {
            let (owners, unseen) = procfs::listeners(port);
            if let Some(owner) = owners.first() {
                found.push(format!(
                    "port {port} is taken by process {} (`{}`): stop it, or give another port",
                    owner.pid, owner.name
                ));
            } else if unseen {
                found.push(format!("port {port} is taken by a process of another user"));
            }
        }
        Ok(found)
    }

    /// What the unit would have to say and does not.
    pub(super) fn unfit(&self, state: &UnitState) -> Option<String> {
        let (name, link) = (&self.place.name, self.place.link.display());
        if !self.names_link(state) {
            return Some(format!(
                "{name} does not run what is behind `{link}`: write it into its file, such as \
                 `ExecStart={link}/{}`",
                self.unit.service
            ));
        }
        let variables = self.place.variables.display().to_string();
        let reads = state.environment_files.contains(&variables);
        if matches!(self.spec.port, Some(PortSpec::Auto)) && !reads {
            return Some(format!(
                "{name} would not learn its port: write `EnvironmentFile=-{variables}` into its file and let its \
                 program listen on the port in PORT"
            ));
        }
        None
    }
}
