//! What going back to a release needs of its unit.

use backout_core::model::{ReadinessCheck, Release, Severity};
use backout_core::ports::AdapterError;

use super::{Side, definition};

const UNCHANGED: &str = "unit_files_unchanged";

impl Side {
    pub(super) async fn restorable(
        &self,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        let found = |status, message: String| {
            Ok(vec![ReadinessCheck { name: UNCHANGED.to_owned(), status, message }])
        };
        let state = self.state().await?;
        let name = &self.place.name;
        if let Some(why) = self.unusable(&state) {
            return found(Severity::Error, why);
        }
        let version = release.content.version_of(&self.unit.service);
        let is_warm = self.note()?.is_some_and(|note| {
            note.finished && note.release == *release.runs_as(&self.unit.service) && state.is_up()
        });
        if self.options.beside && is_warm {
            return found(Severity::Pass, format!("{name} still runs {version} as it was started"));
        }
        let mut now = Vec::new();
        for slot in definition::slots(&self.spec, self.options.beside) {
            let side = self.in_slot(slot);
            let state = if slot == self.unit.slot { state.clone() } else { side.state().await? };
            now.extend(side.files_of(&state)?);
        }
        now.sort();
        now.dedup();
        let changes = definition::difference(&self.spec.files, &now);
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
