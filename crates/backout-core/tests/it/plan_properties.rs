//! What holds for every plan that the planners make, over generated situations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{ServiceName, Slot};
use backout_core::model::{Release, TargetKind, Trigger};
use backout_core::plan::{
    Action, Live, Plan, Seen, Side, Situation, WatchMode, lint, plan_deploy, plan_down,
    plan_rollback,
};
use backout_core::ports::Running;
use proptest::prelude::*;

use crate::fixtures::{How, Routing, Setup, Shape, context, live, name, release_of, wish};

/// Releases whose services differ in every way that planners must mind.
fn releases(setup: Setup) -> BTreeMap<&'static str, Arc<Release>> {
    let sets: [(&str, &[(&str, bool)]); 5] = [
        ("1", &[("web", true), ("jobs", false)]),
        ("2", &[("web", true)]),
        ("3", &[("web", true), ("jobs", false), ("mail", false)]),
        ("4", &[("web", true), ("api", true), ("jobs", false)]),
        ("5", &[("web", true), ("jobs", true)]),
    ];
    let build = |services: &[(&str, bool)]| {
        services.iter().map(|(n, traffic)| (name(n), setup.service(n, *traffic, &[]))).collect()
    };
    let kept = setup.target != TargetKind::Script;
    sets.iter().map(|(v, services)| (*v, release_of(v, build(services), kept))).collect()
}

fn setups() -> impl Strategy<Value = Setup> {
    let targets = prop_oneof![
        Just(TargetKind::Process),
        Just(TargetKind::Script),
        Just(TargetKind::Compose),
        Just(TargetKind::Git),
        Just(TargetKind::Systemd)
    ];
    let hows = prop_oneof![Just(How::Recreate), Just(How::BlueGreen), Just(How::Canary)];
    (targets, any::<bool>(), hows).prop_map(|(target, routed, how)| {
        let routing = match (target, routed) {
            (_, false) | (TargetKind::Git, _) => Routing::None,
            (TargetKind::Process | TargetKind::Compose | TargetKind::Systemd, true) => {
                Routing::Builtin
            }
            (TargetKind::Script, true) => Routing::Script,
        };
        Setup { target, routing, how, shape: Shape::Web, hosts: 0 }
    })
}

/// A setup, what there is, and the versions that are deployed or gone back to.
#[derive(Clone)]
struct Case {
    setup: Setup,
    situation: Situation,
    version: &'static str,
    left: Option<Live>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} to {}, left {:?}", self.setup.label(), self.version, self.left)?;
        writeln!(f, "live {:?}, weights {:?}", self.situation.live, self.situation.weights)?;
        for (slot, side) in &self.situation.slots {
            let (version, number) = (&side.release.content.version, side.deployment);
            writeln!(f, "{slot}: #{number} {version} {:?} {:?}", side.running, side.services)?;
        }
        Ok(())
    }
}

fn versions() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["1", "2", "3", "4", "5"])
}

fn sides() -> impl Strategy<Value = Option<(&'static str, Running, u8)>> {
    let running = prop::sample::select(vec![Running::Yes, Running::No, Running::Unknown]);
    prop::option::weighted(0.7, (versions(), running, any::<u8>()))
}

fn cases() -> impl Strategy<Value = Case> {
    let weights =
        prop::sample::select(vec![None, Some(0), Some(10), Some(50), Some(90), Some(100)]);
    let live_slot = prop::sample::select(vec![None, Some(Slot::A), Some(Slot::B)]);
    let parts = (setups(), sides(), sides(), live_slot, weights, versions(), any::<bool>());
    parts.prop_map(|(setup, a, b, live_slot, weight, version, leaves)| {
        let releases = releases(setup);
        let mut slots = BTreeMap::new();
        let given = [(Slot::A, a, 1), (Slot::B, b, 2)];
        for (slot, (version, running, some), number) in
            given.iter().filter_map(|(slot, side, number)| Some((*slot, (*side)?, *number)))
        {
            let release = Arc::clone(&releases[version]);
            let all: Vec<ServiceName> = release.content.services.keys().cloned().collect();
            let picked = all.iter().enumerate().filter(|(i, _)| some >> i & 1 == 1);
            let mut services: BTreeSet<ServiceName> = picked.map(|(_, s)| s.clone()).collect();
            if services.is_empty() {
                services.extend(all);
            }
            let worker = |service: &&ServiceName| !release.content.services[*service].traffic;
            let alone = services.iter().all(|service| worker(&service));
            // A third of the sides have workers that died.
            let died = |service: &&ServiceName| !alone && some % 3 == 0 && worker(service);
            let idle = services.iter().filter(died).cloned().collect();
            slots.insert(
                slot,
                Side {
                    deployment: number,
                    release,
                    running,
                    services,
                    hosts: BTreeMap::new(),
                    idle,
                },
            );
        }
        let made = |slot: Slot| {
            slots.get(&slot).map_or_else(
                || live(if slot == Slot::A { 1 } else { 2 }, &releases["1"], slot),
                |side: &Side| live(side.deployment, &side.release, slot),
            )
        };
        let weights = weight.filter(|_| setup.routing != Routing::None).map(|percent| {
            let one_there = |slot| slots.contains_key(&slot) && !slots.contains_key(&slot.other());
            let percent = match () {
                () if one_there(Slot::A) => 100,
                () if one_there(Slot::B) => 0,
                () => percent,
            };
            BTreeMap::from([(Slot::A, percent), (Slot::B, 100 - percent)])
        });
        let live = live_slot.map(made);
        let left = live.as_ref().filter(|_| leaves).map(|live| made(live.slot.other()));
        Case { setup, situation: Situation { live, slots, weights }, version, left }
    })
}

/// What a plan does to the units, seen without any fault.
struct Walk {
    setup: Setup,
    units: BTreeMap<(Slot, ServiceName), Arc<Release>>,
    weights: Option<BTreeMap<Slot, u8>>,
    ready: BTreeSet<Slot>,
    releases: BTreeMap<&'static str, Arc<Release>>,
    /// A side that serves users may be stopped: nothing could take them.
    downtime: bool,
    /// Both slots held something before.
    ran_twice: bool,
}

impl Walk {
    fn new(case: &Case) -> Self {
        let mut units = BTreeMap::new();
        for (slot, side) in &case.situation.slots {
            for service in side.services.difference(&side.idle) {
                units.insert((*slot, service.clone()), Arc::clone(&side.release));
            }
        }
        let situation = &case.situation;
        let live_there = situation.users_on().is_some_and(|on| situation.slots.contains_key(&on));
        let both_serve = situation.slots.values().all(Side::can_serve);
        let releases = releases(case.setup);
        let weights = case.situation.weights.clone();
        let downtime = !case.setup.side_by_side() || !both_serve || !live_there;
        let (setup, ready, ran_twice) = (case.setup, BTreeSet::new(), situation.slots.len() > 1);
        Self { setup, units, weights, ready, releases, downtime, ran_twice }
    }

    fn release(&self, id: &backout_core::ids::ReleaseId) -> Arc<Release> {
        Arc::clone(self.releases.values().find(|release| release.id == *id).unwrap())
    }

    fn weight(&self, slot: Slot) -> u8 {
        self.weights.as_ref().and_then(|weights| weights.get(&slot)).copied().unwrap_or(0)
    }

    fn is_worker(&self, slot: Slot, service: &ServiceName) -> bool {
        let unit = self.units.get(&(slot, service.clone()));
        unit.is_some_and(|release| !release.content.services[service].traffic)
    }

    fn serves_whole(&self, slot: Slot, release: &Release) -> bool {
        release.content.services.values().filter(|s| s.traffic).all(|service| {
            self.units.get(&(slot, service.name.clone())).is_some_and(|r| r.id == release.id)
        })
    }

    fn take(&mut self, plan: &Plan, index: usize) -> Result<(), String> {
        match &plan.steps[index].action {
            Action::Start { service, slot, release, .. } => {
                let release = self.release(release);
                let worker = !release.content.services[service].traffic;
                if worker && self.is_worker(slot.other(), service) {
                    return Err(format!("{service} would run twice"));
                }
                let twice = self.units.keys().any(|(other, _)| *other != *slot);
                if self.setup.how == How::Recreate && twice && !self.ran_twice {
                    return Err(format!("recreate starts {service} beside what runs"));
                }
                self.units.insert((*slot, service.clone()), release);
            }
            Action::Stop { service, slot, .. } => {
                let runs = self.units.contains_key(&(*slot, service.clone()));
                let serving = runs && !self.is_worker(*slot, service);
                if serving && self.weight(*slot) > 0 && !self.downtime {
                    return Err(format!("{service} is stopped in {slot} under its users"));
                }
                self.units.remove(&(*slot, service.clone()));
            }
            Action::SetTraffic(traffic) => {
                let rest = traffic.rest.map_or(0, |_| 100 - traffic.percent);
                let sum = traffic.percent + rest;
                let all_gone = sum == 0 && plan.kind == backout_core::model::OperationKind::Down;
                if sum != 100 && !all_gone {
                    return Err(format!("weights sum to {sum}"));
                }
                let mut weights = BTreeMap::from([(traffic.side, traffic.percent)]);
                weights.extend(traffic.rest.map(|slot| (slot, 100 - traffic.percent)));
                for (slot, weight) in &weights {
                    self.may_get(plan, index, *slot, *weight)?;
                }
                self.weights = Some(weights);
            }
            Action::RemoveRoute => self.weights = None,
            Action::Watch { mode, side, .. } => {
                let proves = matches!(mode, WatchMode::Ready { .. } | WatchMode::Verify { .. });
                if proves && !self.units.keys().any(|(slot, _)| slot == side) {
                    return Err(format!("{side} is watched, and nothing runs there"));
                }
                self.ready.insert(*side);
            }
            _ => {}
        }
        Ok(())
    }

    fn may_get(&self, plan: &Plan, index: usize, slot: Slot, weight: u8) -> Result<(), String> {
        if weight <= self.weight(slot) || weight == 0 {
            return Ok(());
        }
        if !self.units.keys().any(|(s, _)| *s == slot) {
            return Err(format!("{slot} gets {weight} %, and nothing runs there"));
        }
        if slot == plan.slot {
            let release = self.release(plan.release.as_ref().unwrap());
            if !self.serves_whole(slot, &release) {
                return Err(format!("{slot} gets {weight} % before all of it was started"));
            }
            let started = plan.steps[..index].iter().any(
                |step| matches!(&step.action, Action::Start { service, slot: s, .. } if *s == slot && release.content.services[service].traffic),
            );
            if started && !self.ready.contains(&slot) {
                return Err(format!("{slot} gets {weight} % before it is ready"));
            }
        }
        Ok(())
    }

    /// Runs through a plan and checks where it ends.
    fn run(mut self, plan: &Plan) -> Result<(), String> {
        for index in 0..plan.steps.len() {
            self.take(plan, index).map_err(|why| format!("{}: {why}", plan.steps[index].key))?;
        }
        let mut wanted = BTreeMap::new();
        if let Some(release) = &plan.release {
            let release = self.release(release);
            for service in release.content.services.keys() {
                wanted.insert((plan.slot, service.clone()), Arc::clone(&release));
            }
        }
        let shown = |units: &BTreeMap<(Slot, ServiceName), Arc<Release>>| {
            let units = units.iter();
            units.map(|((s, n), r)| format!("{n}#{s} {}", r.content.version)).collect::<Vec<_>>()
        };
        if shown(&self.units) != shown(&wanted) {
            return Err(format!("left {:?}, wanted {:?}", shown(&self.units), shown(&wanted)));
        }
        let routed = self.setup.routing != Routing::None && plan.release.is_some();
        if routed && self.weight(plan.slot) != 100 {
            return Err(format!("users are at {:?}", self.weights));
        }
        Ok(())
    }
}

fn sound(case: &Case, plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert_eq!(lint(plan), Vec::<String>::new());
    let steps: Vec<_> = plan.steps.iter().map(|s| (&s.key, &s.after)).collect();
    Walk::new(case)
        .run(plan)
        .map_err(|why| TestCaseError::fail(format!("{why}\n{steps:#?}\n{case:#?}")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_deploy_is_sound(case in cases(), restore: bool) {
        let policy = case.setup.policy();
        let release = Arc::clone(&releases(case.setup)[case.version]);
        let cx = context(case.setup, &policy, 9);
        let plan = plan_deploy(&cx, &case.situation, &release, restore, &Seen::default()).unwrap();
        sound(&case, &plan)?;
        prop_assert!(plan.live_at.is_some());
        if let (Some(on), false) = (case.situation.users_on(), case.setup.in_place()) {
            prop_assert_ne!(on, plan.slot, "the slot with users is never the new one");
        }
    }

    #[test]
    fn every_rollback_reaches_its_target(case in cases()) {
        let policy = case.setup.policy();
        let release = Arc::clone(&releases(case.setup)[case.version]);
        let cx = context(case.setup, &policy, 9);
        let wish = wish(&release, case.left.clone());
        let plan = plan_rollback(&cx, &case.situation, &wish).unwrap();
        sound(&case, &plan)?;
        prop_assert!(!plan.can_be_taken_back(), "a rollback is never rolled back by itself");
    }

    #[test]
    fn down_leaves_nothing(case in cases()) {
        let policy = case.setup.policy();
        let cx = context(case.setup, &policy, 9);
        let words = case.left.clone().map(|left| (left, Trigger::Manual, Vec::new(), true));
        let plan = plan_down(&cx, &case.situation, words);
        sound(&case, &plan)?;
    }

    #[test]
    fn a_digest_tells_contents_and_nothing_else(case in cases(), other in versions()) {
        let policy = case.setup.policy();
        let all = releases(case.setup);
        let plan = |version: &str, operation: u64| {
            let mut cx = context(case.setup, &policy, 9);
            cx.operation = context(case.setup, &policy, operation).operation;
            cx.now = crate::fixtures::at(i64::try_from(operation).unwrap());
            plan_deploy(&cx, &case.situation, &all[version], false, &Seen::default()).unwrap()
        };
        let first = plan(case.version, 9);
        prop_assert_eq!(first.digest(), plan(case.version, 10).digest());
        let text = serde_json::to_string(&first).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap().digest(), first.digest());
        prop_assert_eq!(case.version == other, first.digest() == plan(other, 9).digest());
        for index in 0..first.steps.len() {
            let mut shorter = first.clone();
            shorter.steps.remove(index);
            prop_assert_ne!(shorter.digest(), first.digest());
        }
        let changes: [fn(&mut Plan); 4] = [
            |plan| plan.overrides.push("policy".to_owned()),
            |plan| plan.forced = !plan.forced,
            |plan| plan.automatic_rollback = !plan.automatic_rollback,
            |plan| plan.work_timeout_ms += 1,
        ];
        for change in changes {
            let mut changed = first.clone();
            change(&mut changed);
            prop_assert_ne!(changed.digest(), first.digest());
        }
    }
}

#[test]
fn a_way_back_that_can_not_fit_is_refused() {
    for setup in Setup::legal() {
        let mut policy = setup.policy();
        let release = setup.release("1");
        let calls_ms = if setup.target == TargetKind::Process { 0 } else { 60_000 };
        let services = u64::try_from(release.content.services.len()).unwrap();
        let worst_ms = 30_000 + 30_000 + 60_000 + services * calls_ms;
        policy.rollback.timeout_ms = worst_ms;
        let fits = plan_deploy(
            &context(setup, &policy, 1),
            &Situation::default(),
            &release,
            false,
            &Seen::default(),
        );
        assert!(fits.is_ok(), "{}: {worst_ms} ms is just enough", setup.label());
        policy.rollback.timeout_ms = worst_ms - 1;
        let refused = plan_deploy(
            &context(setup, &policy, 1),
            &Situation::default(),
            &release,
            false,
            &Seen::default(),
        );
        let refusal = refused.unwrap_err();
        assert!(refusal.message.contains("rollback.timeout"), "{refusal}");
        assert!(refusal.hint.unwrap().contains("raise rollback.timeout"));
    }
}

#[test]
fn a_rollback_to_nothing_is_refused() {
    let setup = Setup::legal()[0];
    let policy = setup.policy();
    let empty = release_of("0", BTreeMap::new(), false);
    let cx = context(setup, &policy, 9);
    let refusal = plan_rollback(&cx, &Situation::default(), &wish(&empty, None)).unwrap_err();
    assert!(refusal.message.contains("no service"), "{refusal}");
}
