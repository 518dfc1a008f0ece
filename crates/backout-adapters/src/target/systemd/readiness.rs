//! What going back to a release needs of its unit.

use backout_core::ids::HostName;
use backout_core::model::{ReadinessCheck, Release, Severity};
use backout_core::ports::AdapterError;

use super::{Side, definition};

const UNCHANGED: &str = "unit_files_unchanged";
const ON_HOST: &str = "release_on_host";

impl Side {
    pub(super) async fn restorable(
        &self,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        let mut checks = vec![self.unit_files(release).await?];
        if let Some(host) = &self.host {
            checks.push(self.folder_there(release, host.name()).await?);
        }
        Ok(checks)
    }

    /// Whether the release still lies where the unit would run it.
    async fn folder_there(
        &self,
        release: &Release,
        host: &HostName,
    ) -> Result<ReadinessCheck, AdapterError> {
        let version = release.content.version_of(&self.unit.service);
        let folder = self.layout(release)?.folder;
        let shown = folder.display();
        let (status, message) = match self.files.has_folder(&folder).await? {
            true => (Severity::Pass, format!("{version} lies on {host} in `{shown}`")),
            false => (
                Severity::Warning,
                format!("{version} is not on {host} any more: it would be sent there first"),
            ),
        };
        Ok(ReadinessCheck { name: ON_HOST.to_owned(), status, message })
    }

    async fn unit_files(&self, release: &Release) -> Result<ReadinessCheck, AdapterError> {
        let found = |status, message: String| {
            Ok(ReadinessCheck { name: UNCHANGED.to_owned(), status, message })
        };
        let state = self.state().await?;
        let name = &self.place.name;
        if let Some(why) = self.unusable(&state) {
            return found(Severity::Error, why);
        }
        let version = release.content.version_of(&self.unit.service);
        let is_warm = self.note().await?.is_some_and(|note| {
            note.finished && note.release == *release.runs_as(&self.unit.service) && state.is_up()
        });
        if self.options.beside && is_warm {
            return found(Severity::Pass, format!("{name} still runs {version} as it was started"));
        }
        let mut now = Vec::new();
        for slot in definition::slots(&self.spec, self.options.beside) {
            let side = self.in_slot(slot);
            let state = if slot == self.unit.slot { state.clone() } else { side.state().await? };
            now.extend(side.files_of(&state).await?);
        }
        now.sort();
        now.dedup();
        let recorded = self.recorded_here();
        if self.host.is_some() && recorded.is_empty() && !now.is_empty() {
            let words = format!(
                "{name} was not looked at when {version} was made: its files are taken as they are"
            );
            return found(Severity::Warning, words);
        }
        let changes = definition::difference(&recorded, &now);
        if !changes.is_empty() {
            return found(
                Severity::Error,
                format!(
                    "going back would run {version} under another {name} than its own: {}; put the old text back, or \
                     keep the unit's files beside backout.yaml, where they come back with each release",
                    changes.join(", ")
                ),
            );
        }
        let count = state.files.len();
        let words = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        found(
            Severity::Pass,
            format!("{name} is defined by {words}, as it was or restored with it"),
        )
    }
}
