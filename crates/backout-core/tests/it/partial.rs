//! Some services alone, and the order in which services go back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{ServiceName, Slot, Version};
use backout_core::model::{
    JobSpec, MIXED_RELEASE_FORMAT, Origin, RELEASE_FORMAT, Release, ReleaseContent, Service,
    TargetKind,
};
use backout_core::plan::{Action, Plan, Seen, Situation, lint, plan_deploy, plan_rollback};
use backout_core::ports::Running;

use crate::fixtures::{How, Routing, Setup, Shape, context, live, name, release_of, whole, wish};

const SCRIPT: Setup = Setup {
    target: TargetKind::Script,
    routing: Routing::None,
    how: How::Recreate,
    shape: Shape::Web,
    hosts: 0,
};

fn setup(target: TargetKind, routing: Routing, how: How) -> Setup {
    Setup { target, routing, how, ..SCRIPT }
}

/// `a` to `d`; each needs the earlier ones whose bit is set.
fn shapes() -> impl Iterator<Item = Vec<Vec<&'static str>>> {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    (0..64_u32).map(|bits| {
        let mut next = 0;
        let mut needs = vec![Vec::new(); NAMES.len()];
        for (above, needed) in needs.iter_mut().enumerate() {
            for under in NAMES.iter().take(above) {
                if bits & (1 << next) != 0 {
                    needed.push(*under);
                }
                next += 1;
            }
        }
        needs
    })
}

fn release(setup: Setup, version: &str, needs: &[Vec<&str>]) -> Arc<Release> {
    let names = ["a", "b", "c", "d"].into_iter().zip(needs);
    let service =
        |(text, needs): (&str, &Vec<&str>)| (name(text), setup.service(text, true, needs));
    release_of(version, names.map(service).collect(), false)
}

fn there(setup: Setup, number: u64, release: &Arc<Release>) -> Situation {
    let routed = setup.routing != Routing::None;
    Situation {
        live: Some(live(number, release, Slot::A)),
        slots: BTreeMap::from([(Slot::A, whole(number, release, Running::Yes))]),
        weights: routed.then(|| BTreeMap::from([(Slot::A, 100), (Slot::B, 0)])),
    }
}

/// `release` with these services from `live`.
fn mixed(release: &Release, live: &Release, kept: &[&str]) -> Arc<Release> {
    let origin = |text: &&str| {
        let (release, version) = (live.id.clone(), live.content.version.clone());
        (name(text), Origin { release, version })
    };
    let origins = kept.iter().map(origin).collect();
    let content =
        ReleaseContent { format: MIXED_RELEASE_FORMAT, origins, ..release.content.clone() };
    Arc::new(Release { id: content.id(), content, ..release.clone() })
}

fn names(texts: &[&str]) -> BTreeSet<ServiceName> {
    texts.iter().map(|text| name(text)).collect()
}

/// `stop a in a`, `start b in a`, in order.
fn done(plan: &Plan) -> Vec<String> {
    assert_eq!(lint(plan), Vec::<String>::new());
    let of = |step: &backout_core::plan::Step| match &step.action {
        Action::Start { service, slot, release, .. } => {
            assert_eq!(plan.release.as_ref(), Some(release));
            Some(format!("start {service} in {slot}"))
        }
        Action::Stop { service, slot, .. } => Some(format!("stop {service} in {slot}")),
        _ => None,
    };
    plan.steps.iter().filter_map(of).collect()
}

fn at(steps: &[String], verb: &str, service: &ServiceName) -> Option<usize> {
    steps.iter().position(|step| step.starts_with(&format!("{verb} {service} ")))
}

/// All that one needs, directly or not.
fn needed(release: &Release, service: &ServiceName) -> BTreeSet<ServiceName> {
    let of = &release.content.services[service].depends_on;
    of.iter().flat_map(|under| needed(release, under)).chain(of.iter().cloned()).collect()
}

/// Every shape of four services, every part of them that changed, every part of that which is down.
fn every_way_back(
    setup: Setup,
    check: impl Fn(&Release, &BTreeSet<ServiceName>, &BTreeSet<ServiceName>, &Plan),
) {
    let policy = setup.policy();
    let cx = context(setup, &policy, 3);
    for needs in shapes() {
        let (one, two) = (release(setup, "1", &needs), release(setup, "2", &needs));
        let all: Vec<ServiceName> = one.content.services.keys().cloned().collect();
        for changed in 1..16_usize {
            let of = |bits: usize| -> BTreeSet<ServiceName> {
                let set = all.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
                set.map(|(_, name)| name.clone()).collect()
            };
            for down in (0..16).filter(|down| down & !changed == 0) {
                let (changed, down) = (of(changed), of(down));
                let mut wanted = wish(&one, Some(live(2, &two, Slot::A)));
                let as_wanted = all.iter().filter(|name| !changed.contains(*name)).cloned();
                wanted.seen = Seen { as_wanted: as_wanted.collect(), down: down.clone() };
                let plan = plan_rollback(&cx, &there(setup, 2, &two), &wanted).unwrap();
                check(&one, &changed, &down, &plan);
            }
        }
    }
}

#[test]
fn what_can_be_stopped_stops_in_reverse_and_starts_in_order() {
    let compose = setup(TargetKind::Compose, Routing::None, How::Recreate);
    every_way_back(compose, |release, changed, down, plan| {
        let steps = done(plan);
        let first_start = steps.iter().position(|step| step.starts_with("start")).unwrap();
        assert!(steps[first_start..].iter().all(|step| step.starts_with("start")), "{steps:?}");
        for name in release.content.services.keys() {
            assert_eq!(at(&steps, "start", name).is_some(), changed.contains(name), "{steps:?}");
            let under = needed(release, name);
            let above_others = under.iter().any(|under| changed.contains(under));
            // Where all of it is down nothing has to stop.
            let runs = changed.contains(name) && !down.contains(name);
            assert_eq!(at(&steps, "stop", name).is_some(), runs && above_others, "{steps:?}");
            for under in under.iter().filter(|under| changed.contains(*under)) {
                if changed.contains(name) {
                    assert!(at(&steps, "start", under) < at(&steps, "start", name), "{steps:?}");
                }
                if let (Some(above), Some(under)) =
                    (at(&steps, "stop", name), at(&steps, "stop", under))
                {
                    assert!(above < under, "{steps:?}");
                }
            }
        }
        assert_eq!(plan.steps[plan.live_at.unwrap()].name, "start");
    });
}

#[test]
fn what_is_replaced_goes_back_in_reverse_but_for_what_is_down() {
    for target in [TargetKind::Script, TargetKind::Git] {
        every_way_back(
            setup(target, Routing::None, How::Recreate),
            |release, changed, down, plan| {
                let steps = done(plan);
                assert_eq!(steps.len(), changed.len(), "{steps:?}");
                for name in changed {
                    for under in
                        needed(release, name).iter().filter(|under| changed.contains(*under))
                    {
                        let (above, below) =
                            (at(&steps, "start", name), at(&steps, "start", under));
                        let all_down = changed.iter().all(|name| down.contains(name));
                        if all_down || down.contains(under) {
                            assert!(below < above, "{steps:?} with {down:?} down");
                        } else {
                            assert!(above < below, "{steps:?} with {down:?} down");
                        }
                    }
                }
            },
        );
    }
}

#[test]
fn programs_in_a_slot_of_their_own_stop_and_start_in_it() {
    for routing in [Routing::None, Routing::Builtin] {
        let process = setup(TargetKind::Process, routing, How::Recreate);
        every_way_back(process, |release, changed, _, plan| {
            let steps = done(plan);
            if changed.len() == release.content.services.len() {
                assert!(steps.iter().any(|step| step.ends_with("in b")), "{steps:?}");
                return;
            }
            assert_eq!(plan.slot, Slot::A);
            let order = release.content.start_order();
            let of = |verb: &str, order: &mut dyn Iterator<Item = &ServiceName>| -> Vec<String> {
                let changed = order.filter(|name| changed.contains(*name));
                changed.map(|name| format!("{verb} {name} in a")).collect()
            };
            let mut wanted = of("stop", &mut order.iter().rev());
            wanted.extend(of("start", &mut order.iter()));
            assert_eq!(steps, wanted);
        });
    }
}

#[test]
fn a_deploy_of_some_touches_nothing_else_in_a_shared_slot() {
    let needs = [vec![], vec!["a"], vec!["b"], vec![]];
    let ways = [
        (setup(TargetKind::Script, Routing::None, How::Recreate), vec!["start b in a"]),
        (setup(TargetKind::Git, Routing::None, How::Recreate), vec!["start b in a"]),
        (setup(TargetKind::Compose, Routing::None, How::Recreate), vec!["start b in a"]),
        (
            setup(TargetKind::Process, Routing::None, How::Recreate),
            vec!["stop b in a", "start b in a"],
        ),
        (
            setup(TargetKind::Process, Routing::Builtin, How::Recreate),
            vec!["stop b in a", "start b in a"],
        ),
    ];
    for (setup, wanted) in ways {
        let (one, two) = (release(setup, "1", &needs), release(setup, "2", &needs));
        let part = mixed(&two, &one, &["a", "c", "d"]);
        let policy = setup.policy();
        let seen = Seen { as_wanted: names(&["a", "c", "d"]), down: BTreeSet::new() };
        let cx = context(setup, &policy, 2);
        let plan = plan_deploy(&cx, &there(setup, 1, &one), &part, false, &seen).unwrap();
        assert_eq!(done(&plan), wanted, "{}", setup.label());
        assert_eq!((plan.slot, plan.services.as_slice()), (Slot::A, [name("b")].as_slice()));
        // One that does not run as it should is started too.
        let seen = Seen { as_wanted: names(&["a", "d"]), down: names(&["c"]) };
        let plan = plan_deploy(&cx, &there(setup, 1, &one), &part, false, &seen).unwrap();
        assert!(done(&plan).contains(&"start c in a".to_owned()), "{}", setup.label());
        assert!(plan.steps.iter().any(|step| step.after.contains("c 1 runs in slot a")));
        assert!(plan.steps.iter().any(|step| step.after.contains("b 2 runs in slot a")));
    }
}

#[test]
fn a_deploy_of_some_beside_the_old_side_starts_a_whole_side() {
    for how in [How::Canary, How::BlueGreen] {
        let setup = setup(TargetKind::Process, Routing::Builtin, how);
        let needs = [vec![], vec!["a"], vec![], vec![]];
        let (one, two) = (release(setup, "1", &needs), release(setup, "2", &needs));
        let part = mixed(&two, &one, &["a", "c", "d"]);
        let policy = setup.policy();
        let seen = Seen { as_wanted: names(&["a", "c", "d"]), down: BTreeSet::new() };
        let situation = there(setup, 1, &one);
        let plan =
            plan_deploy(&context(setup, &policy, 2), &situation, &part, false, &seen).unwrap();
        let steps = done(&plan);
        let started: Vec<&String> = steps.iter().filter(|step| step.starts_with("start")).collect();
        assert_eq!(started, ["start a in b", "start b in b", "start c in b", "start d in b"]);
        // The old side is whole until the pivot is behind.
        assert_eq!(at(&steps, "stop", &name("a")), Some(7));
    }
}

#[test]
fn config_files_go_back_with_the_whole_app_only() {
    for setup in Setup::legal() {
        let (one, two) = (setup.release("1"), setup.release("2"));
        let policy = setup.policy();
        let cx = context(setup, &policy, 3);
        let mut wanted = wish(&one, Some(live(2, &two, Slot::A)));
        let restores = |plan: Plan| {
            plan.steps.iter().any(|step| matches!(step.action, Action::RestoreConfig { .. }))
        };
        let situation = there(setup, 2, &two);
        assert!(restores(plan_rollback(&cx, &situation, &wanted).unwrap()), "{}", setup.label());
        wanted.services = vec![name("web")];
        let plan = plan_rollback(&cx, &situation, &wanted).unwrap();
        assert_eq!(plan.services, [name("web")]);
        assert!(!restores(plan), "{}", setup.label());
    }
}

#[test]
fn a_circle_is_named_in_its_order() {
    let service = |text: &str, needs: &[&str]| (name(text), SCRIPT.service(text, true, needs));
    let circle = |services: Vec<(ServiceName, backout_core::model::Service)>| {
        let release = release_of("1", services.into_iter().collect(), false);
        let circle = release.content.circle();
        circle.map(|names| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(circle(vec![service("a", &[]), service("b", &["a", "gone"])]), None);
    let round = circle(vec![
        service("a", &["b"]),
        service("b", &["c"]),
        service("c", &["d"]),
        service("d", &["b", "e"]),
        service("e", &[]),
    ]);
    assert_eq!(round.unwrap(), ["b", "c", "d", "b"]);
    assert_eq!(circle(vec![service("a", &["a"])]).unwrap(), ["a", "a"]);
}

#[test]
fn releases_of_older_ledgers_read_as_before() {
    let release = SCRIPT.release("1");
    let mut json = serde_json::to_value(&release.content).unwrap();
    assert!(json.get("origins").is_none(), "a whole release is written as it always was");
    assert_eq!(json["format"], RELEASE_FORMAT);
    json.as_object_mut().unwrap().remove("config");
    let read: ReleaseContent = serde_json::from_value(json).unwrap();
    assert!(read.origins.is_empty());
    assert_eq!(read.version_of(&name("web")).as_str(), "1");

    let part = mixed(&SCRIPT.release("2"), &release, &["web"]);
    let text = serde_json::to_string(&part.content).unwrap();
    let read: ReleaseContent = serde_json::from_str(&text).unwrap();
    assert_eq!(read, part.content);
    assert_eq!(read.id(), part.id);
    assert_eq!(read.version_of(&name("web")), &Version::new("1").unwrap());
    assert_eq!(part.runs_as(&name("web")), &release.id);
    assert_eq!(read.own_services(), []);
}

#[test]
fn a_job_of_a_service_that_stays_is_not_run_again_beside_it() {
    let beside = setup(TargetKind::Process, Routing::Builtin, How::BlueGreen);
    let policy = beside.policy();
    let release = |version: &str| {
        let job = JobSpec { timeout_ms: 60_000, on_rollback: false };
        let job = Service { job: Some(job), ..beside.service("b", false, &[]) };
        let services = [(name("a"), beside.service("a", true, &["b"])), (name("b"), job)];
        release_of(version, services.into(), false)
    };
    let (one, two) = (release("1"), release("2"));
    let started = |release: &Arc<Release>| {
        let (cx, now) = (context(beside, &policy, 2), there(beside, 1, &one));
        let plan = plan_deploy(&cx, &now, release, false, &Seen::default()).unwrap();
        done(&plan).into_iter().filter(|step| step.starts_with("start")).collect::<Vec<_>>()
    };
    assert_eq!(started(&two), ["start b in b", "start a in b"]);
    assert_eq!(started(&mixed(&two, &one, &["b"])), ["start a in b"]);
    // What is named runs, and what stays is started beside it all the same: the new side is whole.
    assert_eq!(started(&mixed(&two, &one, &["a"])), ["start b in b", "start a in b"]);
}
