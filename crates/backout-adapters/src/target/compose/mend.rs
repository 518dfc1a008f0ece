//! Of a release that should run, only what is down is started.

use backout_core::ids::Slot;
use backout_core::ports::AdapterError;

use super::model::Model;
use super::roll::is_up;
use super::start::Starting;
use super::up::{How, up};
use super::{labels, observe, project};
use crate::docker::Container;

/// A service of which something is down.
pub(super) struct Down {
    name: String,
    /// How many containers it should have; none: nothing of it runs, so that it is made anew.
    total: Option<usize>,
}

impl Starting<'_> {
    /// What is down, where the rest of this release runs; `None`: it is started as a whole.
    pub(super) fn down(
        &self,
        members: &[String],
        model: &Model,
        mut there: Vec<Container>,
    ) -> Option<Vec<Down>> {
        if !self.restore || self.options.beside || self.unit.slot != Slot::A {
            return None;
        }
        let of = |c: &Container, name: &str| c.label(labels::COMPOSE_SERVICE) == Some(name);
        there.retain(|c| members.iter().any(|name| of(c, name)));
        if !there.iter().all(|c| self.is_wanted(c)) || !there.iter().any(is_up) {
            return None;
        }
        let mut down = Vec::new();
        for name in members {
            let own: Vec<&Container> = there.iter().filter(|c| of(c, name)).collect();
            let wanted = usize::try_from(model.scale(name)).unwrap_or(usize::MAX);
            let well = |c: &&Container| is_up(c) || observe::is_done(c);
            let up = own.iter().copied().filter(well).count();
            if up == own.len() && up >= wanted {
                continue;
            }
            let total = (up > 0).then_some(wanted.max(own.len()));
            down.push(Down { name: name.clone(), total });
        }
        Some(down)
    }

    /// Starts what is down. What runs is not touched.
    pub(super) async fn mend(
        &self,
        model: &Model,
        down: &[Down],
        shared: &[String],
    ) -> Result<(), AdapterError> {
        let project = project(self.spec, self.unit.slot);
        if !shared.is_empty() {
            let mut base = model.clone();
            base.keep_only(shared);
            up(self.options, &self.place, &project, &base, How::Start, self.left()).await?;
        }
        for Down { name, total } in down {
            let mut one = model.clone();
            one.keep_only(std::slice::from_ref(name));
            let how = total.map_or(How::Start, |total| How::Beside { total });
            up(self.options, &self.place, &project, &one, how, self.left()).await?;
        }
        Ok(())
    }
}
