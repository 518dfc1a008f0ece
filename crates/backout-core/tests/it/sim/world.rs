//! The model world: units, route and config, and what must never be seen in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{HostName, ReleaseId, ServiceName, Slot};
use backout_core::model::{EnvironmentRecord, Release, ReplicaBatch};
use backout_core::plan::{Live, Side, Situation, TrafficStep};
use backout_core::ports::{ErrorClass, Running};

use super::effects::Refused;
use crate::fixtures::{Routing, Setup, Start};

/// A service in a slot on a host.
pub type Place = (Slot, ServiceName, HostName);

/// In the place of a release where instances are of more than one.
fn several() -> ReleaseId {
    ReleaseId::new("several").unwrap()
}

/// What is outside of Backout.
#[derive(Debug, Clone)]
pub struct World {
    pub setup: Setup,
    /// Every release there is.
    pub releases: BTreeMap<ReleaseId, Arc<Release>>,
    /// What runs.
    pub units: BTreeMap<Place, ReleaseId>,
    /// How many instances of each release, where they are of more than one.
    pub some: BTreeMap<Place, BTreeMap<ReleaseId, u32>>,
    /// Percent by slot.
    pub route: Option<BTreeMap<Slot, u8>>,
    /// The side that gets all if nobody renews the deadline.
    pub dead_man: Option<Slot>,
    /// A deadline ran out that nobody adopted yet; whether it moved traffic.
    pub fired: Option<bool>,
    /// The side that gets all as soon as the other one's errors are beyond doubt.
    pub trip: Option<Slot>,
    /// A trip fired that nobody adopted yet; whether it moved traffic.
    pub tripped: Option<bool>,
    /// Whose config files are on disk.
    pub config: ReleaseId,
    /// Releases that fail their checks.
    pub bad: BTreeSet<ReleaseId>,
    /// How often each effect happened.
    pub applied: BTreeMap<String, u32>,
    /// What must never be seen.
    pub violations: Vec<String>,
    /// The target can say what runs.
    pub tells: bool,
    /// Old and new are never there at once, so users are without service for a moment.
    pub downtime: bool,
}

impl World {
    /// The world in which an operation begins.
    pub fn new(setup: Setup, start: Start) -> Self {
        let mut releases: BTreeMap<ReleaseId, Arc<Release>> = ["0", "1", "2", "3", "4"]
            .iter()
            .map(|version| setup.release(version))
            .map(|release| (release.id.clone(), release))
            .collect();
        releases.insert(several(), setup.release("0"));
        let situation = start.situation(setup);
        let mut units = BTreeMap::new();
        for (slot, side) in &situation.slots {
            for service in &side.services {
                for host in side.hosts_of(service) {
                    units.insert((*slot, service.clone(), host), side.release.id.clone());
                }
            }
        }
        Self {
            setup,
            releases,
            units,
            some: BTreeMap::new(),
            route: situation.weights,
            dead_man: None,
            fired: None,
            trip: None,
            tripped: None,
            config: setup.release("1").id.clone(),
            bad: BTreeSet::new(),
            applied: BTreeMap::new(),
            violations: Vec::new(),
            tells: true,
            downtime: !setup.side_by_side(),
        }
    }

    pub fn release(&self, id: &ReleaseId) -> &Arc<Release> {
        &self.releases[id]
    }

    fn see(&mut self, violation: String) {
        self.violations.push(violation);
    }

    fn serving(release: &Release) -> impl Iterator<Item = &ServiceName> {
        release.content.services.values().filter(|s| s.traffic).map(|s| &s.name)
    }

    /// Whether all of a release (or all that serves of it) runs in a slot.
    pub fn runs(&self, slot: Slot, release: &ReleaseId, serving_only: bool) -> bool {
        self.runs_on(&self.setup.host_names(), slot, release, serving_only)
    }

    /// The same on some hosts.
    pub fn runs_on(
        &self,
        hosts: &[HostName],
        slot: Slot,
        release: &ReleaseId,
        serving_only: bool,
    ) -> bool {
        let release = Arc::clone(self.release(release));
        let there = |service: &ServiceName| {
            let on = |host: &HostName| self.units.get(&(slot, service.clone(), host.clone()));
            hosts.iter().all(|host| on(host) == Some(&release.id))
        };
        if serving_only {
            Self::serving(&release).all(there)
        } else {
            release.content.services.keys().all(there)
        }
    }

    pub fn weight(&self, slot: Slot) -> u8 {
        self.route.as_ref().and_then(|route| route.get(&slot)).copied().unwrap_or(0)
    }

    pub fn start(&mut self, (slot, service, host): Place, id: &ReleaseId) {
        let release = Arc::clone(self.release(id));
        let worker = !release.content.services[&service].traffic;
        let other = (slot.other(), service.clone(), host.clone());
        if worker && self.units.contains_key(&other) {
            self.see(format!("{service} runs twice"));
        }
        let alone = self.setup.routing == Routing::None;
        if alone && self.units.contains_key(&other) {
            self.see(format!("{service} is started beside itself on the same port"));
        }
        let place = (slot, service, host);
        self.some.remove(&place);
        self.units.insert(place, id.clone());
    }

    /// Some instances begin; once they are well others end.
    pub fn start_some(
        &mut self,
        place: &Place,
        id: &ReleaseId,
        batch: ReplicaBatch,
        restore: bool,
    ) -> Result<(), Refused> {
        let all = self.setup.instances().unwrap_or(1);
        let whole = self.units.get(place).filter(|id| **id != several()).cloned();
        let mut counts = self.some.remove(place).unwrap_or_default();
        counts.extend(whole.map(|id| (id, all)));
        let (there, before) = (counts.values().sum::<u32>(), self.well(&counts));
        let own = counts.get(id).copied().unwrap_or(0);
        let begin = batch.upto.saturating_sub(own);
        // What somebody left half-done is in the way: that which is not well goes first.
        let there =
            there - self.end_some(&mut counts, id, (there + begin).saturating_sub(batch.most));
        if there + begin > batch.most {
            self.see(format!("{} instances at once, of {}", there + begin, batch.most));
        }
        counts.insert(id.clone(), own + begin);
        let bad = self.bad.contains(id) && !restore;
        if !bad {
            let surplus = (there + begin).saturating_sub(batch.upto + batch.keep);
            self.end_some(&mut counts, id, surplus);
        }
        if self.well(&counts) < before.min(all) {
            self.see(format!("{counts:?} of {all} instances are well, and {before} were"));
        }
        let is = match counts.len() {
            1 => counts.keys().next().cloned().unwrap_or_else(several),
            _ => several(),
        };
        if is == several() {
            self.some.insert(place.clone(), counts);
        }
        self.units.insert(place.clone(), is);
        if bad {
            Err((ErrorClass::Permanent, "it does not become ready".to_owned()))
        } else {
            Ok(())
        }
    }

    fn well(&self, counts: &BTreeMap<ReleaseId, u32>) -> u32 {
        counts.iter().filter(|(id, _)| !self.bad.contains(*id)).map(|(_, count)| count).sum()
    }

    /// Ends so many that are of another release, first those that are not well. Returns how many there were.
    fn end_some(&self, counts: &mut BTreeMap<ReleaseId, u32>, but: &ReleaseId, many: u32) -> u32 {
        let mut left = many;
        for bad_ones in [true, false] {
            let others = counts.iter_mut().filter(|(id, _)| *id != but);
            for (_, count) in others.filter(|(id, _)| self.bad.contains(*id) == bad_ones) {
                let less = left.min(*count);
                (*count, left) = (*count - less, left - less);
            }
        }
        counts.retain(|_, count| *count > 0);
        many - left
    }

    pub fn stop(&mut self, unit: &Place) {
        let (slot, service, _) = unit;
        let served = self
            .units
            .get(unit)
            .is_some_and(|id| self.releases[id].content.services[service].traffic);
        let weight = self.weight(*slot);
        if served && weight > 0 && !self.downtime {
            self.see(format!("{service} is stopped in {slot} under {weight} % of the users"));
        }
        self.units.remove(unit);
        self.some.remove(unit);
    }

    pub fn set_traffic(&mut self, traffic: &TrafficStep, armed: bool) {
        let mut route = BTreeMap::from([(traffic.side, traffic.percent)]);
        route.extend(traffic.rest.map(|rest| (rest, 100 - traffic.percent)));
        let sum: u8 = route.values().sum();
        if sum != 100 && sum != 0 {
            self.see(format!("weights sum to {sum}"));
        }
        for (slot, weight) in route.iter().filter(|(_, weight)| **weight > 0) {
            let ids: Vec<&ReleaseId> =
                self.units.iter().filter(|((s, ..), _)| s == slot).map(|(_, id)| id).collect();
            let whole = ids.first().is_some_and(|id| self.runs(*slot, id, true));
            let bad = ids.iter().any(|id| self.bad.contains(*id));
            let before = self.weight(*slot);
            if !whole {
                self.violations.push(format!("{weight} % go to {slot}, which does not run"));
            } else if bad && *weight > before && traffic.gate {
                self.violations.push(format!("{weight} % go to {slot}, which fails its checks"));
            }
        }
        self.route = Some(route);
        self.dead_man = traffic.rest.filter(|_| armed && traffic.dead_man);
        self.trip = traffic.rest.filter(|_| armed && traffic.trip.is_some());
        (self.fired, self.tripped) = (None, None);
    }

    /// Nobody renews the deadline: the router acts by itself.
    pub fn let_dead_man_fire(&mut self) {
        let Some(stable) = self.dead_man.take() else { return };
        self.fired = self.moved_by_itself(stable);
    }

    /// The errors of the side on trial are beyond doubt: the router acts by itself. False: none is armed.
    pub fn let_trip_fire(&mut self) -> bool {
        let Some(stable) = self.trip.take() else { return false };
        self.tripped = self.moved_by_itself(stable);
        if self.tripped == Some(true) {
            self.dead_man = None;
        }
        self.tripped.is_some()
    }

    /// Moves traffic to a side if that is well; none where there is no split.
    fn moved_by_itself(&mut self, stable: Slot) -> Option<bool> {
        if self.weight(stable) == 0 || self.weight(stable) == 100 {
            return None;
        }
        let id =
            self.units.iter().find(|((slot, ..), _)| *slot == stable).map(|(_, id)| id.clone());
        let moved = id.is_some_and(|id| self.runs(stable, &id, true) && !self.bad.contains(&id));
        if moved {
            self.route = Some(BTreeMap::from([(stable, 100), (stable.other(), 0)]));
        }
        Some(moved)
    }

    /// As the engine observes it for the planners.
    pub fn situation(&self, environment: &EnvironmentRecord, live: Option<Live>) -> Situation {
        let sides = environment.slots.iter().map(|(slot, record)| {
            let there = |service: &ServiceName| {
                let on = |host| self.units.get(&(*slot, service.clone(), host));
                record.hosts_of(service).into_iter().all(|host| on(host) == Some(&record.release))
            };
            let release = Arc::clone(self.release(&record.release));
            let worker = |service: &&ServiceName| !release.content.services[*service].traffic;
            let alone = record.services.iter().all(|service| worker(&service));
            let spare = |service: &&ServiceName| self.tells && !alone && worker(service);
            let idle = record.services.iter().filter(spare).filter(|service| !there(service));
            let idle: BTreeSet<ServiceName> = idle.cloned().collect();
            let busy = |service: &ServiceName| idle.contains(service) || there(service);
            let running = match record.services.iter().all(busy) {
                _ if !self.tells => record.believed(Running::Unknown),
                true => Running::Yes,
                false => Running::No,
            };
            let side = Side {
                deployment: record.deployment,
                release: Arc::clone(&release),
                running,
                services: record.services.clone(),
                hosts: record.hosts.clone(),
                idle,
            };
            (*slot, side)
        });
        Situation { live, slots: sides.collect(), weights: self.route.clone() }
    }
}
