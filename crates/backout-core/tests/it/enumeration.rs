//! Every journal prefix with every injected fault, and what people may do about it.

use std::collections::BTreeMap;

use backout_core::model::{RequestKind, TargetKind};
use backout_core::saga::Ending;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::fixtures::{How, Routing, Setup, Shape, Start};
use crate::sim::{After, End, Fault, Halt, Mutant, Script, Sim};

/// What a run sets out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// A good release.
    Deploy,
    /// A release that fails its checks.
    DeployBad,
    /// Back to the release before, by hand.
    Rollback,
    /// Back to a release that runs nowhere any more.
    RollbackFar,
    /// Start again what is live.
    Restart,
    Down,
    Adopt,
}

/// One family of runs.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub setup: Setup,
    pub start: Start,
    pub job: Job,
    /// A script that knows `status`; processes always tell.
    pub tells: bool,
}

impl Family {
    pub fn all() -> Vec<Family> {
        let mut all = Vec::new();
        let setups = Setup::legal().into_iter().filter(|s| s.shape == Shape::WebAndWorker);
        for setup in setups {
            for start in Start::ALL.into_iter().filter(|start| start.fits(setup)) {
                let jobs: &[Job] = match start {
                    Start::NothingLive => &[Job::Deploy, Job::DeployBad, Job::Adopt],
                    Start::LiveRuns => {
                        &[Job::Deploy, Job::DeployBad, Job::RollbackFar, Job::Restart, Job::Down]
                    }
                    Start::Adopted => &[Job::Deploy, Job::DeployBad],
                    Start::Leftover => &[Job::Deploy, Job::RollbackFar, Job::Down],
                    Start::Baking => &[Job::Deploy, Job::Rollback, Job::RollbackFar],
                };
                for job in jobs {
                    all.push(Family { setup, start, job: *job, tells: true });
                    if setup.target == TargetKind::Script && start == Start::LiveRuns {
                        all.push(Family { setup, start, job: *job, tells: false });
                    }
                }
            }
        }
        all
    }

    pub fn label(self) -> String {
        let tells = if self.tells { "" } else { " without status" };
        format!("{} {} {:?}{tells}", self.setup.label(), self.start.label(), self.job)
    }

    pub fn sim(self, script: Script, mutant: Option<Mutant>) -> Sim {
        let mut sim = Sim::new(self.setup, self.start);
        sim.exact = script.is_empty();
        sim.script = script;
        sim.mutant = mutant;
        sim.world.tells = self.tells;
        if self.job == Job::DeployBad {
            sim.world.bad.insert(self.setup.release("3").id.clone());
        }
        sim
    }

    fn begin(self, sim: &mut Sim) -> Result<End, Halt> {
        match self.job {
            Job::Deploy | Job::DeployBad => sim.deploy("3"),
            Job::Rollback => sim.rollback_to(1),
            Job::RollbackFar => sim.rollback_to(0),
            Job::Restart => sim.rollback_to(1),
            Job::Down => sim.down(),
            Job::Adopt => sim.adopt("1"),
        }
    }

    /// Runs it, with the next command after each death, until it is left for good.
    pub fn run(self, sim: &mut Sim, after: After) -> Result<End, String> {
        let mut left = self.begin(sim);
        for _ in 0..60 {
            let next = match left {
                Ok(End::Yielded(RequestKind::Supersede)) => sim.supersede("4"),
                Ok(End::Yielded(_)) => take_over(sim, After::Rollback),
                Ok(end) => return Ok(end),
                Err(Halt::Broken(why)) => return Err(why),
                Err(Halt::Crash) => {
                    // What was not durable yet is not known any more.
                    sim.refused.clear();
                    if sim.script.dead_man_fires {
                        sim.world.let_dead_man_fire();
                    }
                    take_over(sim, after)
                }
            };
            left = next;
        }
        Err("it died sixty times".to_owned())
    }
}

/// The next command; where it does not apply, `recover`. After the end there is nothing to do.
fn take_over(sim: &mut Sim, after: After) -> Result<End, Halt> {
    if sim.store.open.is_none() {
        let last = sim.store.plans.last().map(|plan| sim.store.journals[&plan.operation].clone());
        let ending = last.and_then(|entries| entries.last().map(|entry| entry.kind.clone()));
        return match ending {
            Some(backout_core::saga::EntryKind::Ended { ending }) => Ok(End::Over(ending)),
            _ => Err(Halt::Broken("nothing is open, and nothing ended".to_owned())),
        };
    }
    match sim.go_on(after)? {
        Some(end) => Ok(end),
        None => sim.go_on(After::Recover)?.ok_or(Halt::Broken("nothing is open".to_owned())),
    }
}

/// Runs one case to its end and checks it; stuck ones are left in every way.
pub fn case(
    family: Family,
    script: &Script,
    after: After,
    mutant: Option<Mutant>,
) -> Result<Sim, String> {
    let mut sim = family.sim(script.clone(), mutant);
    let tell = |sim: &Sim, why: String| {
        let mut story = format!("{} {after:?} {script:?}: {why}\n", family.label());
        for plan in &sim.store.plans {
            for entry in &sim.store.journals[&plan.operation] {
                let text = format!("{:?}", entry.kind);
                story.push_str(&format!("  {} {}: {text:.150}\n", plan.operation, plan.kind));
            }
            let steps: Vec<_> = plan.steps.iter().map(|s| s.key.as_str()).collect();
            story.push_str(&format!("  {} {steps:?}\n", plan.operation));
        }
        story
    };
    let end = family.run(&mut sim, after).map_err(|why| tell(&sim, why))?;
    // The gate is right to keep users away from a release that was seen to fail.
    let wanted = sim.store.plans.last().and_then(|plan| plan.release.as_ref());
    let target_is_bad = wanted.is_some_and(|release| sim.world.bad.contains(release));
    let may_be_stuck = sim.was_refused || script.always.is_some() || target_is_bad;
    sim.check_end(&end, may_be_stuck).map_err(|why| tell(&sim, why))?;
    if let End::Stuck(_) = end {
        for way_out in [After::Recover, After::Rollback, After::Down, After::Resolve] {
            let mut out = sim.clone();
            leave_stuck(&mut out, way_out)
                .map_err(|why| tell(&out, format!("stuck, then {way_out:?}: {why}")))?;
        }
    }
    Ok(sim)
}

/// Nothing fails any more: every way out of stuck must work.
fn leave_stuck(sim: &mut Sim, way_out: After) -> Result<(), String> {
    let halted = |halt: Halt| match halt {
        Halt::Crash => "a death that nobody asked for".to_owned(),
        Halt::Broken(why) => why,
    };
    sim.script = Script::default();
    sim.world.bad.clear();
    sim.refused.clear();
    let Some(end) = sim.go_on(way_out).map_err(halted)? else { return Ok(()) };
    sim.check_end(&end, false)?;
    if way_out == After::Resolve {
        let end = sim.deploy("4").map_err(halted)?;
        sim.check_end(&end, false).map_err(|why| format!("deployed after it: {why}"))?;
    }
    Ok(())
}

/// How many tries and boundaries a family has without any fault.
pub fn size(family: Family) -> (usize, usize) {
    let sim =
        case(family, &Script::default(), After::Recover, None).unwrap_or_else(|e| panic!("{e}"));
    (sim.tries, sim.boundaries)
}

/// Every script of depth one, with what is done after it.
pub fn scripts(family: Family) -> Vec<(Script, After)> {
    let (tries, boundaries) = size(family);
    let mut all = Vec::new();
    let requests = [
        RequestKind::TakeOver,
        RequestKind::Abort,
        RequestKind::PromoteFull,
        RequestKind::Promote,
        RequestKind::Supersede,
    ];
    for at in 0..tries {
        for fault in Fault::ALL {
            let script = Script { faults: BTreeMap::from([(at, fault)]), ..Script::default() };
            if fault.is_crash() {
                all.extend(After::A_CRASH.map(|after| (script.clone(), after)));
                let fires = Script { dead_man_fires: true, ..script };
                all.push((fires, After::Recover));
            } else {
                all.push((script, After::Recover));
            }
        }
        for kind in requests {
            all.push((Script { request: Some((at, kind)), ..Script::default() }, After::Recover));
        }
    }
    for at in 0..boundaries {
        let script = Script { deaths: [at].into(), ..Script::default() };
        all.extend(After::A_CRASH.map(|after| (script.clone(), after)));
    }
    all.extend(trips(family, boundaries));
    all
}

/// The trip fires at every boundary, under a holder that lives on and under one that dies there.
fn trips(family: Family, boundaries: usize) -> Vec<(Script, After)> {
    let armed = family.setup.routing == Routing::Builtin && family.setup.how == How::Canary;
    let mut all = Vec::new();
    for at in (0..boundaries).filter(|_| armed) {
        let script = Script { trips: Some(at), ..Script::default() };
        let dies = Script { deaths: [at].into(), ..script.clone() };
        all.push((script, After::Recover));
        all.extend(After::A_CRASH.map(|after| (dies.clone(), after)));
        for kind in [RequestKind::Abort, RequestKind::PromoteFull, RequestKind::TakeOver] {
            // Somebody asks for something else in the same moment: before the try that comes next.
            let request = Some((at / 3, kind));
            all.push((Script { trips: Some(at), request, ..Script::default() }, After::Recover));
        }
    }
    all
}

/// Scripts in which one step goes wrong twenty times in a row.
pub fn stubborn(family: Family) -> Vec<Script> {
    let sim =
        case(family, &Script::default(), After::Recover, None).unwrap_or_else(|e| panic!("{e}"));
    let keys = sim.store.plans.iter().flat_map(|plan| plan.steps.iter().map(|s| s.key.clone()));
    let keys: std::collections::BTreeSet<String> = keys.collect();
    let faults = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Permanent);
    let script = |(key, fault)| Script { always: Some((key, fault, 20)), ..Script::default() };
    let pairs = faults.flat_map(|fault| keys.iter().map(move |key| (key.clone(), fault)));
    pairs.map(script).collect()
}

fn every_prefix_with_every_fault(target: TargetKind, at_least: usize) {
    let mut failed = Vec::new();
    let mut cases = 0;
    for family in Family::all().into_iter().filter(|family| family.setup.target == target) {
        for (script, after) in scripts(family) {
            cases += 1;
            if let Err(why) = case(family, &script, after, None) {
                failed.push(why);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {cases} failed, as {}", failed.len(), failed[0]);
    assert!(cases > at_least, "only {cases} cases");
}

#[test]
fn every_prefix_with_every_fault_of_processes() {
    every_prefix_with_every_fault(TargetKind::Process, 15_000);
}

#[test]
fn every_prefix_with_every_fault_of_scripts() {
    every_prefix_with_every_fault(TargetKind::Script, 10_000);
}

/// With automatic rollback off a failing verdict leaves everything as it is, for people to go on from.
#[test]
fn what_is_left_failing_can_be_left() {
    let deploys = Family::all().into_iter().filter(|family| family.job == Job::Deploy);
    // Beside what was adopted nothing is routed yet, and nothing of ours could be gone back to.
    let starts = [Start::LiveRuns, Start::Leftover, Start::Baking];
    for family in deploys.filter(|family| starts.contains(&family.start)) {
        for at in 0..size(family).0 {
            let faults = BTreeMap::from([(at, Fault::Permanent)]);
            let mut sim = family.sim(Script { faults, ..Script::default() }, None);
            sim.policy.rollback.automatic = false;
            let end = family.run(&mut sim, After::Recover).unwrap_or_else(|why| panic!("{why}"));
            if !matches!(end, End::Over(Ending::FailedLive { .. })) {
                continue;
            }
            let was_live = sim.store.plans[0].from.clone().unwrap();
            sim.script = Script::default();
            sim.policy.rollback.automatic = true;
            let mut deployed = sim.clone();
            let tell = |why| format!("{} at {at}: {why:?}", family.label());
            let end = deployed.deploy("4").map_err(tell).unwrap();
            deployed.check_end(&end, false).map_err(|why| tell(Halt::Broken(why))).unwrap();
            if sim.store.environment.live == Some(was_live.number) {
                continue;
            }
            let end = sim.rollback().map_err(tell).unwrap();
            sim.check_end(&end, false).map_err(|why| tell(Halt::Broken(why))).unwrap();
            let wanted = family.start != Start::Baking;
            let back = sim.live_row().unwrap().release == was_live.release;
            assert_eq!(back, wanted, "{}: it goes to what was live and stable", family.label());
        }
    }
}

#[test]
fn twenty_faults_in_one_step_end_somewhere() {
    for family in Family::all() {
        for script in stubborn(family) {
            case(family, &script, After::Recover, None).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

#[test]
fn twenty_deaths_between_steps_lose_nothing() {
    for family in Family::all() {
        let (_, boundaries) = size(family);
        for at in 0..boundaries {
            let script = Script { deaths: (at..at + 20).collect(), ..Script::default() };
            let mut sim = family.sim(script, None);
            let end = family.run(&mut sim, After::Recover).unwrap_or_else(|why| panic!("{why}"));
            sim.check_end(&end, true).unwrap_or_else(|why| panic!("{}: {why}", family.label()));
        }
    }
}

/// Two things go wrong: what kind, and how far into the run.
fn two_faults() -> impl Strategy<Value = (usize, [(usize, usize); 2], bool, usize, bool)> {
    let one = (0_usize..60, 0..Fault::ALL.len());
    let after = 0..After::A_CRASH.len();
    (0..Family::all().len(), [one.clone(), one], any::<bool>(), after, any::<bool>())
}

/// One sample, the same on every machine; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` draw a larger or another one.
fn sample() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_261_121),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig {
        cases: asked.cases.max(3_000),
        failure_persistence: None,
        rng_seed: seed,
        ..asked
    }
}

proptest! {
    #![proptest_config(sample())]

    #[test]
    fn two_faults_end_well((family, faults, dies, after, fires) in two_faults()) {
        let family = Family::all()[family];
        let mut script = Script { dead_man_fires: fires, ..Script::default() };
        for (at, fault) in faults {
            script.faults.insert(at, Fault::ALL[fault]);
        }
        if dies {
            script.deaths.insert(faults[0].0 * 2 + faults[1].1);
        }
        case(family, &script, After::A_CRASH[after], None).map_err(TestCaseError::fail)?;
    }
}
