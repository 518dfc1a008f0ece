//! A release starts in a slot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::ids::{Slot, Unit};
use backout_core::model::{Artifact, ComposeSpec, Release, ReplicaBatch};
use backout_core::ports::{AdapterError, Observed, Receipt, Running, StepCx};

use super::definition::{self, Definition};
use super::model::Model;
use super::observe::Standing;
use super::place::{Given, Place};
use super::up::{How, up};
use super::{
    ComposeTargetOptions, ENGINE_PATIENCE, elsewhere, labels, links, observe, parts, project, stop,
};
use crate::docker::Container;
use crate::host::{free_port, is_free_port};

/// What one start is about.
pub(super) struct Starting<'a> {
    pub options: &'a ComposeTargetOptions,
    pub place: Place,
    pub unit: &'a Unit,
    pub release: &'a Arc<Release>,
    pub spec: &'a ComposeSpec,
    pub deployment: u64,
    /// Going back, or starting again what is down.
    pub restore: bool,
    pub cx: &'a StepCx,
    pub until: Instant,
}

pub(super) async fn start(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Arc<Release>,
    (deployment, restore, batch): (u64, bool, Option<ReplicaBatch>),
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let spec = options.spec(unit, Some(release))?;
    let place = Place::of(options, &unit.key);
    let ready_ms = batch.map_or(0, |batch| batch.ready_ms);
    let limit = Duration::from_millis(spec.timeout_ms + ready_ms).min(cx.timeout);
    let until = Instant::now() + limit;
    let _lock = place.enter(limit / 2).await?;
    let starting = Starting { options, place, unit, release, spec, deployment, restore, cx, until };
    // Each call of `docker` takes its time. Resolving the files asks no engine.
    let patience = ENGINE_PATIENCE.min(limit / 2);
    let engine = async {
        let there = starting.may_start(patience).await?;
        Ok((there, starting.kept_images().await?))
    };
    let (engine, model) = tokio::join!(engine, starting.model());
    let (there, images): (Standing, References) = engine?;
    if let Some(batch) = batch {
        return starting.replace_some(model?, images, batch).await;
    }
    if starting.is_running(&there.seen) {
        return Ok(Receipt { message: "runs already".to_owned(), ..Receipt::default() });
    }
    starting.run(model?, images, there).await
}

/// Our reference to the image of a service of the compose file, and its digest.
pub(super) type References = BTreeMap<String, (String, String)>;

impl Starting<'_> {
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))
    }

    fn is_running(&self, seen: &Observed) -> bool {
        seen.running == Running::Yes
            && seen.release.as_ref() == Some(&self.release.id)
            && seen.deployment == Some(self.deployment)
    }

    /// Whether the slot is free for this release: nobody else's, and empty where nothing replaces in place. What stands
    /// there.
    async fn may_start(&self, patience: Duration) -> Result<Standing, AdapterError> {
        let (options, unit) = (self.options, self.unit);
        let there = observe::standing(options, self.spec, unit, self.release, patience).await?;
        let others = |c: &&Container| labels::owner(c).is_some() && !labels::is_of(c, &unit.key);
        if let Some(other) = there.in_project.iter().find(others) {
            return Err(belongs_to_other(other, &project(self.spec, unit.slot)));
        }
        let other = there.seen.release.as_ref().is_some_and(|id| *id != self.release.id);
        if options.beside && there.seen.running == Running::Yes && other {
            return Err(AdapterError::permanent(format!(
                "failed to start {unit}: another release runs there"
            )));
        }
        Ok(there)
    }

    async fn run(
        &self,
        model: Model,
        images: References,
        there: Standing,
    ) -> Result<Receipt, AdapterError> {
        let (options, spec) = (self.options, self.spec);
        let members = self.members(&model)?;
        let shared = parts::shared(&model, &self.release.content.services, &members);
        let (first, own) = (project(spec, Slot::A), project(spec, self.unit.slot));
        let images = self.references(members.iter().chain(&shared), images).await?;
        let (mut together, port) = self.prepare(&model, &images, &members, &shared)?;
        if let Some(down) = self.down(&members, &model, there.in_project) {
            self.mend(&together, &down, &shared).await?;
        } else if own == first {
            together.keep_only(&members.iter().chain(&shared).cloned().collect::<Vec<_>>());
            up(options, &self.place, &own, &together, How::Start, self.left()).await?;
        } else {
            links::make_volumes(options, &together, &first).await?;
            if !shared.is_empty() {
                let mut base = together.clone();
                base.keep_only(&shared);
                up(options, &self.place, &first, &base, How::Start, self.left()).await?;
            }
            together.keep_only(&members);
            together.move_beside(&own);
            if !shared.is_empty() {
                up(options, &self.place, &own, &together, How::Create, self.left()).await?;
                links::connect_shared(options, &first, &own, &shared).await?;
            }
            up(options, &self.place, &own, &together, How::Start, self.left()).await?;
        }
        self.remove_former(&members, there.labelled).await?;
        let at = port.map(|port| format!(" at 127.0.0.1:{port}")).unwrap_or_default();
        let message = format!("{} of project {own} started{at}", members.join(", "));
        Ok(Receipt { message, ..Receipt::default() })
    }

    /// The release's own files, resolved.
    pub(super) async fn model(&self) -> Result<Model, AdapterError> {
        let copies = self.place.definitions(self.unit).join(self.release.id.as_str());
        let (options, release) = (self.options, self.release);
        let secrets = &self.cx.secrets;
        definition::lay_out(&copies, &release.content.config, options.blobs.as_ref(), secrets)
            .await?;
        let version = &release.content.version;
        let definition =
            Definition { folder: &copies, spec: self.spec, key: &self.unit.key, version };
        let mut model = definition::resolve(&options.docker, &definition, secrets).await?;
        elsewhere::check_resolved(options, &model, self.spec, &model.names())?;
        model.repoint(&copies, &options.folder);
        Ok(model)
    }

    fn is_job(&self) -> bool {
        let service = self.release.content.services.get(&self.unit.service);
        service.is_some_and(|service| service.job.is_some())
    }

    pub(super) fn members(&self, model: &Model) -> Result<Vec<String>, AdapterError> {
        let members = self.spec.services.clone();
        match members.iter().find(|name| model.service(name).is_none()) {
            None if !members.is_empty() => Ok(members),
            missing => Err(AdapterError::permanent(format!(
                "failed to start {}: {} has no service `{}`",
                self.unit,
                self.spec.files.join(", "),
                missing.map_or(self.unit.service.as_str(), String::as_str)
            ))),
        }
    }

    /// The image of a service of the compose file.
    fn artifact(&self, name: &str) -> Option<&Artifact> {
        let prefix = format!("{name}=");
        self.release.content.artifacts.iter().find(|a| a.path.starts_with(&prefix))
    }

    /// Our references to the images of this unit that are in the engine. Only looks.
    async fn kept_images(&self) -> Result<References, AdapterError> {
        let mut kept = References::new();
        for name in &self.spec.services {
            let Some(artifact) = self.artifact(name) else { continue };
            if let Some(reference) = self.options.images.kept(&artifact.digest).await? {
                kept.insert(name.clone(), (reference, artifact.digest.clone()));
            }
        }
        Ok(kept)
    }

    /// Our reference to each service's image, which is in the engine by then; `known`: those that are there already.
    pub(super) async fn references(
        &self,
        names: impl Iterator<Item = &String>,
        known: References,
    ) -> Result<References, AdapterError> {
        let mut all = known;
        for name in names {
            if all.contains_key(name) {
                continue;
            }
            let artifact = self.artifact(name).ok_or_else(|| {
                AdapterError::permanent(format!(
                    "failed to start {}: the release has no image for service {name}",
                    self.unit
                ))
            })?;
            let reference = self.options.images.present(&artifact.path, &artifact.digest).await?;
            all.insert(name.clone(), (reference, artifact.digest.clone()));
        }
        Ok(all)
    }

    /// Pinned images, labels, and the port behind the router.
    pub(super) fn prepare(
        &self,
        model: &Model,
        images: &References,
        members: &[String],
        shared: &[String],
    ) -> Result<(Model, Option<u16>), AdapterError> {
        let mut model = model.clone();
        let (options, unit) = (self.options, self.unit);
        let jobs = model.jobs();
        for name in members.iter().chain(shared) {
            if let Some((reference, digest)) = images.get(name) {
                model.pin(name, reference);
                model.label(name, &[(labels::IMAGE, digest.clone())]);
            }
            let is_job = members.contains(name) && self.is_job();
            if is_job {
                model.restart_never(name);
            }
            if is_job || jobs.contains(name) {
                model.label(name, &[(labels::JOB, "true".to_owned())]);
            }
            let all = if members.contains(name) {
                labels::of_start(unit, self.release, self.deployment, members, &options.ledger)
            } else {
                labels::of_environment(&unit.key, &options.ledger)
            };
            model.label(name, &all);
        }
        let port = self.expose(&mut model, members)?;
        Ok((model, port))
    }

    /// Behind the router each slot has a port of its own; without one the file's own ports stay.
    fn expose(&self, model: &mut Model, members: &[String]) -> Result<Option<u16>, AdapterError> {
        let traffic =
            self.release.content.services.get(&self.unit.service).is_some_and(|s| s.traffic);
        let serving = members.iter().find(|name| !model.ports(name).is_empty()).or(members.first());
        let Some(name) = serving.filter(|_| traffic).cloned() else { return Ok(None) };
        let ports = model.ports(&name);
        let Some(target) = self.spec.port.or(ports.first().map(|port| port.target)) else {
            return Ok(None);
        };
        let is_target = |port: &&super::model::Published| port.target == target;
        let protocol = ports.iter().find(is_target).map_or("tcp", |port| port.protocol.as_str());
        model.label(&name, &[(labels::PORT, format!("{target}/{protocol}"))]);
        if !self.options.beside {
            return Ok(ports.iter().find(is_target).and_then(|port| port.host));
        }
        let given = self.place.given(self.unit).filter(|given| {
            given.release == self.release.id && given.deployment == self.deployment
        });
        // One that came here before has its port already, and may hold it.
        let port = match given {
            Some(given) => given.port,
            None => {
                let port =
                    free_port(&self.place.taken(self.unit)).map_err(AdapterError::transient)?;
                self.place.remember(
                    self.unit,
                    &Given::new(self.release.id.clone(), self.deployment, port),
                )?;
                port
            }
        };
        model.publish(&name, target, port);
        Ok(Some(port))
    }

    /// Ends what an older release had in this unit and this one has not, and forgets its copies. `all`: the containers
    /// with the unit's labels; nobody else makes or ends any while this starts.
    pub(super) async fn remove_former(
        &self,
        members: &[String],
        all: Vec<Container>,
    ) -> Result<(), AdapterError> {
        let is_member = |c: &Container| {
            c.label(labels::COMPOSE_SERVICE).is_some_and(|name| members.iter().any(|m| m == name))
        };
        let former: Vec<Container> = all.into_iter().filter(|c| !is_member(c)).collect();
        stop::end(self.options, &former, stop::DEFAULT_GRACE_MS).await?;
        let definitions = self.place.definitions(self.unit);
        for entry in std::fs::read_dir(&definitions).into_iter().flatten().flatten() {
            if entry.file_name() != self.release.id.as_str() {
                let _ = crate::artifact::remove_tree(&entry.path());
            }
        }
        Ok(())
    }
}

pub(super) fn belongs_to_other(container: &Container, project: &str) -> AdapterError {
    let (app, environment) = labels::owner(container).unwrap_or_default();
    AdapterError::permanent(format!(
        "failed to use compose project {project}: it belongs to {app}/{environment}"
    ))
    .with_hint("give each environment a project of its own with target.compose.project")
}

/// Whether a port of the file is taken by something that is none of this unit's.
pub(super) fn is_taken(port: u16) -> bool {
    !is_free_port(port)
}
