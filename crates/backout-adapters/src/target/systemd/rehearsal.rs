//! A drill, as far as it goes without touching what runs; and what becomes of it all when Backout goes.

use backout_core::model::{Release, Severity};
use backout_core::ports::{AdapterError, Farewell, Rehearsal, StepCx};

use super::Side;
use super::files::Turn;

impl Side {
    /// Sends the release to where it will run. On this machine its start copies it in no time to speak of.
    pub(super) async fn prepare(&self, release: &Release, cx: &StepCx) -> Result<(), AdapterError> {
        match &self.host {
            Some(_) => self.lay_out(release, &Turn::of(&self.unit, cx)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Lays the release out where it would be started from, and looks at the unit.
    pub(super) async fn rehearse(
        &self,
        release: &Release,
        cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        let name = &self.place.name;
        let version = release.content.version_of(&self.unit.service);
        let folder = self.lay_out(release, &Turn::of(&self.unit, cx)).await?;
        let mut rehearsal = Rehearsal {
            rehearsed: vec![format!("{version} stands at `{}`, each file whole", folder.display())],
            left_out: vec![format!("{name} was not started with {version}")],
        };
        for check in self.restorable(release).await? {
            match check.status {
                Severity::Error => return Err(AdapterError::permanent(check.message)),
                _ => rehearsal.rehearsed.push(check.message),
            }
        }
        Ok(rehearsal)
    }

    /// The unit, its link and the release behind it need nobody; the note goes, and releases that nobody runs do.
    pub(super) async fn farewell(&self, act: Option<&StepCx>) -> Result<Farewell, AdapterError> {
        let place = &self.place;
        let Some(note) = self.note().await? else { return Ok(Farewell::default()) };
        if self.other_owner(&note).is_some() {
            return Ok(Farewell::default());
        }
        if let Some(cx) = act {
            let turn = Turn::of(&self.unit, cx);
            // Releases go with the copies that they were made from, where the links of all services are known.
            self.files.forget(place, &turn).await?;
        }
        Ok(Farewell {
            removed: vec![
                format!("`{}`", place.note.display()),
                format!("releases in `{}` that do not run", place.releases.display()),
            ],
            stays: vec![format!(
                "{} runs {} behind `{}`, with its variables in `{}`",
                place.name,
                note.version,
                place.link.display(),
                place.variables.display()
            )],
            keeps_copies: false,
        })
    }
}
