//! Some containers of a service are replaced while the others go on.
//!
//! Compose makes the new ones beside the old ones, as it does for `--scale`, so that they are its own in every label.
//! What is there is counted each time: whoever comes after one that was killed does what is missing, and nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backout_core::model::ReplicaBatch;
use backout_core::ports::{AdapterError, ErrorClass, Receipt};
use jiff::Timestamp;

use super::model::Model;
use super::start::{References, Starting};
use super::up::{How, up};
use super::{labels, observe, parts, project, stop};
use crate::artifact::IMAGE_SCHEME;
use crate::docker::Container;

/// One without a health check is ready when it was seen running for so long, without an end.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at what has to become ready.
const POLL: Duration = Duration::from_millis(300);
/// As often one may be started again until it counts as failed.
const RESTARTS: u32 = 3;
/// Without a health check, one that has run so long needs no further proof.
const PROVEN_S: i64 = 60;
/// Rounds of making room and making containers.
const ROUNDS: u32 = 4;

/// The containers of a service, by what they run.
struct Counted {
    wanted: Vec<Container>,
    others: Vec<Container>,
}

/// How one container does.
enum Fitness {
    Ready,
    /// It may become ready.
    Starting,
    /// It runs without a check of its own.
    Unproven,
    Failed(String),
}

impl Starting<'_> {
    /// Brings the containers of the release up to `batch.upto`, and ends others once those are ready.
    pub(super) async fn replace_some(
        &self,
        model: Model,
        images: References,
        batch: ReplicaBatch,
    ) -> Result<Receipt, AdapterError> {
        let members = self.members(&model)?;
        let [name] = members.as_slice() else {
            return Err(AdapterError::permanent(format!(
                "failed to replace some containers of {}: it is more than one service, {}",
                self.unit,
                members.join(", ")
            )));
        };
        let shared = parts::shared(&model, &self.release.content.services, &members);
        let images = self.references(members.iter().chain(&shared), images).await?;
        let (together, _) = self.prepare(&model, &images, &members, &shared)?;
        let first = self.counted(name).await?.wanted.is_empty();
        if first && !shared.is_empty() {
            let mut base = together.clone();
            base.keep_only(&shared);
            let project = project(self.spec, self.unit.slot);
            up(self.options, &self.place, &project, &base, How::Start, self.left()).await?;
        }
        let mut one = together;
        one.keep_only(&members);
        let made = self.make(name, &one, batch).await;
        // Of a range of ports the engine takes another one the next time.
        made.map_err(|error| match one.published(name).is_empty() {
            false if is_taken(&error) => AdapterError { class: ErrorClass::Transient, ..error },
            _ => error,
        })?;
        self.await_ready(name, batch).await?;
        let (own, others) = self.end_surplus(name, batch).await?;
        if others == 0 {
            let all = observe::labelled(self.options, self.unit).await?;
            self.remove_former(&members, all).await?;
        }
        let version = &self.release.content.version;
        let message = match others {
            0 => format!("{own} of {name} run {version}"),
            others => format!("{own} of {name} run {version}, beside {others} others"),
        };
        Ok(Receipt { message, ..Receipt::default() })
    }

    async fn counted(&self, name: &str) -> Result<Counted, AdapterError> {
        let mut all = observe::of_project(self.options, self.spec, self.unit.slot).await?;
        all.retain(|c| c.label(labels::COMPOSE_SERVICE) == Some(name));
        let (wanted, others) = all.into_iter().partition(|c| self.is_wanted(c));
        Ok(Counted { wanted, others })
    }

    /// Going back, one that was never touched is as good as a new one, also if somebody else has made it.
    pub(super) fn is_wanted(&self, container: &Container) -> bool {
        if labels::owner(container).is_none() {
            return self.restore && observe::has_image_of(container, self.release, self.unit);
        }
        let same_image = container
            .label(labels::IMAGE)
            .is_some_and(|image| image == format!("{IMAGE_SCHEME}{}", container.image));
        labels::is_of(container, &self.unit.key)
            && container.label(labels::RELEASE) == Some(self.release.id.as_str())
            && same_image
            && (self.restore || self.has_made(container))
    }

    fn has_made(&self, container: &Container) -> bool {
        container.label(labels::DEPLOYMENT) == Some(self.deployment.to_string().as_str())
    }

    /// Makes and starts what is missing, and never more than there is room for.
    async fn make(
        &self,
        name: &str,
        model: &Model,
        batch: ReplicaBatch,
    ) -> Result<(), AdapterError> {
        for _ in 0..ROUNDS {
            let Counted { wanted, mut others } = self.counted(name).await?;
            // Compose starts whatever it finds stopped: what has ended goes before that.
            let over = take_if(&mut others, |c| !c.is_running() && c.state.status != "restarting");
            stop::end(self.options, &over, stop::DEFAULT_GRACE_MS).await?;
            let running = wanted.iter().filter(|c| is_up(c)).count();
            let missing = size(batch.upto).saturating_sub(wanted.len());
            if missing == 0 && running == wanted.len() {
                return Ok(());
            }
            let room = size(batch.most).saturating_sub(wanted.len() + others.len());
            if missing > room {
                let surplus = others.len().saturating_sub(size(batch.keep));
                let in_the_way = worst_first(others.clone(), surplus.min(missing - room));
                if !in_the_way.is_empty() {
                    stop::end(self.options, &in_the_way, stop::DEFAULT_GRACE_MS).await?;
                    continue;
                }
            }
            let total = wanted.len() + others.len() + missing.min(room);
            let how = How::Beside { total };
            let project = project(self.spec, self.unit.slot);
            return up(self.options, &self.place, &project, model, how, self.left()).await;
        }
        Err(AdapterError::unknown(format!("failed to make room for containers of {name}")))
    }

    /// Waits until all containers of the release are ready.
    async fn await_ready(&self, name: &str, batch: ReplicaBatch) -> Result<(), AdapterError> {
        let limit = Duration::from_millis(batch.ready_ms);
        let end = Instant::now() + limit.min(self.left());
        let mut since: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            let wanted = self.counted(name).await?.wanted;
            let mut waits = Vec::new();
            let mut ready = 0;
            for container in &wanted {
                // Each start of it begins a new time.
                let run = format!("{} {}", container.id, container.state.started_at);
                let why = match fitness(container) {
                    Fitness::Ready => None,
                    Fitness::Unproven => {
                        let since = *since.entry(run).or_insert_with(Instant::now);
                        (since.elapsed() < SETTLE).then(|| "runs, but not for long".to_owned())
                    }
                    Fitness::Starting => Some(words(container)),
                    // It was so before, and waiting for it helps nobody.
                    Fitness::Failed(_) if self.restore && !self.has_made(container) => None,
                    // It waited for others, as for a database that came up, and its own check passes since.
                    Fitness::Failed(_) if self.restore && is_healthy(container) => None,
                    Fitness::Failed(why) if self.restore => Some(why),
                    Fitness::Failed(why) => return Err(self.failed(container, &why)),
                };
                match why {
                    None => ready += 1,
                    Some(why) => waits.push((container, why)),
                }
            }
            if ready >= size(batch.upto) {
                return Ok(());
            }
            if Instant::now() >= end {
                let late = format!("not ready after {} s", limit.as_secs());
                let Some((container, why)) = waits.first() else {
                    return Err(AdapterError::unknown(format!(
                        "failed to find {} containers of {name}: {ready} are there",
                        batch.upto
                    )));
                };
                return Err(self.failed(container, &format!("{late}: {why}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Forward, this release is bad. Going back, what is left stays until another try finds this one well.
    fn failed(&self, container: &Container, why: &str) -> AdapterError {
        let message = format!("failed to start {}: {why}", container.name.trim_start_matches('/'));
        match self.restore {
            true => AdapterError::transient(message),
            false => AdapterError::permanent(message),
        }
    }

    /// Ends what is more than there should be. Returns how many there are then, of the release and of others.
    async fn end_surplus(
        &self,
        name: &str,
        batch: ReplicaBatch,
    ) -> Result<(usize, usize), AdapterError> {
        let Counted { wanted, others } = self.counted(name).await?;
        let (own, beside) = (wanted.len(), others.len());
        let surplus = (own + beside).saturating_sub(size(batch.upto) + size(batch.keep));
        let of_others = surplus.max(beside.saturating_sub(size(batch.keep))).min(beside);
        let of_own = surplus.saturating_sub(of_others).min(own.saturating_sub(size(batch.upto)));
        let ended = [worst_first(others, of_others), worst_first(wanted, of_own)].concat();
        stop::end(self.options, &ended, stop::DEFAULT_GRACE_MS).await?;
        Ok((own - of_own, beside - of_others))
    }
}

fn is_taken(error: &AdapterError) -> bool {
    let taken = ["port is already allocated", "address already in use"];
    taken.iter().any(|words| error.message.contains(words))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn is_up(container: &Container) -> bool {
    container.is_running() || container.state.status == "restarting"
}

fn take_if(all: &mut Vec<Container>, is: impl Fn(&Container) -> bool) -> Vec<Container> {
    let (taken, left) = std::mem::take(all).into_iter().partition(is);
    *all = left;
    taken
}

/// So many of them, those first that do least, then those that were made first.
fn worst_first(mut all: Vec<Container>, many: usize) -> Vec<Container> {
    let rank = |c: &Container| match fitness(c) {
        Fitness::Failed(_) => 0,
        Fitness::Starting => 1,
        Fitness::Unproven | Fitness::Ready => 2,
    };
    all.sort_by_key(|c| (rank(c), labels::number(c)));
    all.truncate(many);
    all
}

fn fitness(container: &Container) -> Fitness {
    let health = container.state.health.as_ref().map(|health| health.status.as_str());
    match (container.state.status.as_str(), health) {
        _ if container.is_given_up() || container.restart_count >= RESTARTS => {
            Fitness::Failed(words(container))
        }
        ("running", Some("healthy")) => Fitness::Ready,
        ("running", Some("unhealthy")) => Fitness::Failed("it is unhealthy".to_owned()),
        ("running", Some("starting")) => Fitness::Starting,
        ("running", _) if runs_long(container) => Fitness::Ready,
        ("running", _) => Fitness::Unproven,
        _ => Fitness::Starting,
    }
}

/// Whether it runs, and its own check passes now.
fn is_healthy(container: &Container) -> bool {
    let state = &container.state;
    state.status == "running" && state.health.as_ref().is_some_and(|it| it.status == "healthy")
}

fn runs_long(container: &Container) -> bool {
    let since = container.state.started_at.parse::<Timestamp>().ok();
    since.is_some_and(|since| Timestamp::now().as_second() - since.as_second() >= PROVEN_S)
}

fn words(container: &Container) -> String {
    let state = &container.state;
    let restarts = match container.restart_count {
        0 => String::new(),
        many => format!(", started again {many} times"),
    };
    match (state.status.as_str(), &state.health) {
        ("running", Some(health)) => format!("its health is {}{restarts}", health.status),
        ("running", None) => format!("it runs{restarts}"),
        (status, _) => format!("it is {status} with code {}{restarts}", state.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(status: &str, health: Option<&str>, restarts: u32) -> Container {
        let health = health.map(|status| serde_json::json!({ "Status": status }));
        let value = serde_json::json!([{
            "Id": "1", "RestartCount": restarts, "Config": {},
            "State": { "Status": status, "ExitCode": 0, "Health": health },
            "HostConfig": { "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 } },
        }]);
        crate::docker::read(value.to_string().as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn only_its_own_passing_check_outweighs_that_it_was_started_again_and_again() {
        for (status, health, healthy) in [
            ("running", Some("healthy"), true),
            ("running", Some("starting"), false),
            ("running", None, false),
            ("restarting", Some("healthy"), false),
        ] {
            let container = container(status, health, RESTARTS);
            assert!(matches!(fitness(&container), Fitness::Failed(_)), "{status} {health:?}");
            assert_eq!(is_healthy(&container), healthy, "{status} {health:?}");
        }
        assert!(matches!(fitness(&container("running", Some("healthy"), 2)), Fitness::Ready));
    }
}
