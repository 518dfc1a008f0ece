//! The standing controller against strict fakes, on a clock that runs as fast as it can.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::model::{DeploymentStatus, Health, RequestKind, Surface};
use backout_core::ports::{Exit, Holder, Ledger, LedgerError};
use backout_engine::{
    Context, ControlAnswer, EngineError, Fleet, Interrupt, Leave, Ordered, Outcome, ask, deploy,
    down, order_deploy, run_controller,
};
use backout_testkit::ledger::Call;
use backout_testkit::{Fault, fixtures};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::world::{How, World};

struct One(Arc<Context>);

#[async_trait]
impl Fleet for One {
    async fn environments(&mut self, _again: bool) -> Vec<Arc<Context>> {
        vec![self.0.clone()]
    }
}

/// A controller of a world.
struct Running {
    holder: Holder,
    leave: watch::Sender<Leave>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(world: &World) -> Self {
        let mut cx = world.context("controller");
        cx.surface = Surface::Controller;
        let holder = cx.holder.clone();
        let (leave, leaves) = watch::channel(Leave::No);
        let (ledger, me) = (world.ledger.clone(), holder.clone());
        let task = tokio::spawn(async move {
            let mut fleet = One(Arc::new(cx));
            run_controller(&mut fleet, ledger, &me, leaves, &Notify::new(), |_| {}).await;
        });
        // Its first beat.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Self { holder, leave, task }
    }

    async fn leaves(self) {
        self.leave.send(Leave::Soon).unwrap();
        self.task.await.unwrap();
    }

    /// As kill −9 does.
    async fn kill(self, world: &World) {
        self.task.abort();
        let _ = self.task.await;
        world.ledger.kill(&self.holder);
    }
}

impl World {
    async fn order(&self, version: &str) -> Result<Ordered, EngineError> {
        order_deploy(&self.context("deploy"), &World::wish(version)).await
    }

    async fn is_at_rest(&self) -> bool {
        let key = fixtures::key();
        self.ledger.open_operation(&key).await.unwrap().is_none()
            && !self.ledger.lease(&key).await.unwrap().is_some_and(|view| view.alive)
    }

    async fn wait_for_rest(&self) {
        for _ in 0..6_000 {
            if self.is_at_rest().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it never came to rest");
    }

    async fn step(&self) -> Option<String> {
        let plan = self.ledger.open_operation(&fixtures::key()).await.unwrap()?;
        let entries = self.ledger.entries(&plan.operation).await.unwrap();
        let state = backout_core::saga::fold(&plan, &entries).unwrap();
        state.current().map(|step| plan.steps[step].name.clone())
    }

    async fn wait_for_step(&self, step: &str) {
        for _ in 0..6_000 {
            if self.step().await.as_deref() == Some(step) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never came to {step}");
    }

    fn puts(&self, what: &'static str) -> usize {
        self.ledger.calls().iter().filter(|call| **call == Call::Put(what)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_killed_deploy_left_is_dealt_with() {
    for how in How::ALL {
        for after_ms in (0..11_000).step_by(450) {
            let world = World::new(how).await;
            world.deploy("v1").await.unwrap();
            let cx = world.context("deploy");
            let wish = World::wish("v2");
            let limit = Duration::from_millis(after_ms);
            let ended = tokio::time::timeout(limit, deploy(&cx, &wish)).await.is_ok();
            world.ledger.kill(&cx.holder);
            let controller = Running::start(&world).await;
            world.wait_for_rest().await;
            let (running, serving) = (world.running(), world.serving());
            assert_eq!(running.len(), 1, "{how:?} after {after_ms} ms: {running:?}");
            assert_eq!(serving.as_ref(), running.first(), "{how:?} after {after_ms} ms");
            let row = world.row(if world.history().await.len() > 1 { 2 } else { 1 }).await;
            let done = matches!(
                row.status,
                DeploymentStatus::Stable | DeploymentStatus::RolledBack | DeploymentStatus::Failed
            );
            assert!(done, "{how:?} after {after_ms} ms: {row:?}");
            assert!(!ended || row.status == DeploymentStatus::Stable);
            controller.leaves().await;
            world.assert_clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_killed_controller_left_is_dealt_with_by_the_next() {
    for how in How::ALL {
        for after_ms in (0..11_000).step_by(450) {
            let world = World::new(how).await;
            world.deploy("v1").await.unwrap();
            let first = Running::start(&world).await;
            let limit = Duration::from_millis(after_ms);
            let ordered = tokio::time::timeout(limit, async {
                world.order("v2").await.unwrap();
                std::future::pending::<()>().await;
            });
            assert!(ordered.await.is_err());
            first.kill(&world).await;
            let second = Running::start(&world).await;
            // An order that was not begun is begun now; one that was, goes on: each once.
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            world.wait_for_rest().await;
            let versions: Vec<String> =
                world.history().await.iter().map(|row| row.version.to_string()).collect();
            let twos = versions.iter().filter(|version| *version == "v2").count();
            assert!(twos <= 1, "{how:?} after {after_ms} ms: {versions:?}");
            assert_eq!(world.running().len(), 1, "{how:?} after {after_ms} ms");
            assert_eq!(world.serving().as_ref(), world.running().first());
            assert!(world.ledger.orders(None).await.unwrap().is_empty());
            second.leaves().await;
            world.assert_clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_begun_once_by_one_of_two() {
    for how in How::ALL {
        let world = World::new(how).await;
        let (first, second) = (Running::start(&world).await, Running::start(&world).await);
        for version in ["v1", "v2", "v3"] {
            let ordered = world.order(version).await.unwrap();
            assert_eq!(ordered.controller, first.holder.label, "{how:?}: the first one leads");
            world.wait_for_rest().await;
        }
        let history = world.history().await;
        assert_eq!(history.len(), 3, "{how:?}: {history:?}");
        assert!(history.iter().all(|row| row.status == DeploymentStatus::Stable));
        assert!(
            history
                .iter()
                .all(|row| row.surface == Surface::Cli && row.requested_by.starts_with("ann@host"))
        );
        first.kill(&world).await;
        let ordered = world.order("v4").await.unwrap();
        assert_eq!(ordered.controller, second.holder.label);
        world.wait_for_rest().await;
        assert_eq!(world.running(), ["v4"]);
        second.leaves().await;
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn orders_are_refused_with_the_controllers_words() {
    let world = World::new(How::Canary).await;
    let refused = world.order("v1").await.unwrap_err();
    assert!(refused.to_string().contains("no controller runs"), "{refused}");
    let controller = Running::start(&world).await;
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.order("v2").await.unwrap();
    world.wait_for_step("hold_10").await;
    let busy = world.order("v3").await.unwrap_err();
    assert!(matches!(busy, EngineError::Busy(_)), "{busy}");
    world.wait_for_rest().await;
    // Other rules, or another folder, than the controller has read.
    let mut cx = world.context("deploy");
    cx.policy.bake_ms += 1;
    let refused = order_deploy(&cx, &World::wish("v3")).await.unwrap_err();
    assert!(refused.to_string().contains("other settings"), "{refused}");
    let mut cx = world.context("deploy");
    cx.folder = "/elsewhere".to_owned();
    let refused = order_deploy(&cx, &World::wish("v3")).await.unwrap_err();
    assert!(refused.to_string().contains("not from /elsewhere"), "{refused}");
    // Another strategy is the order's own.
    let mut cx = world.context("deploy");
    cx.policy.strategy = backout_core::model::Strategy::BlueGreen { keep_old_ms: 0 };
    let ordered = order_deploy(&cx, &World::wish("v3")).await.unwrap();
    world.wait_for_rest().await;
    let plan = world.ledger.operation(&ordered.operation).await.unwrap().unwrap();
    assert_eq!(plan.strategy, "blue_green");
    controller.leaves().await;
    assert!(world.order("v4").await.is_err(), "one that has left takes nothing");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nobody_takes_is_withdrawn() {
    let world = World::new(How::Canary).await;
    let controller = Running::start(&world).await;
    // It beats, but does not work: as one that hangs.
    controller.task.abort();
    let refused = world.order("v1").await.unwrap_err();
    assert!(refused.to_string().contains("withdrawn"), "{refused}");
    assert!(world.ledger.orders(None).await.unwrap().is_empty());
    let _second = Running::start(&world).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.history().await.is_empty(), "it is not begun behind anybody's back");
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_supersedes_what_this_controller_bakes() {
    let world = World::new(How::BlueGreen).await;
    let controller = Running::start(&world).await;
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.order("v2").await.unwrap();
    world.wait_for_step("bake").await;
    world.order("v3").await.unwrap();
    assert_eq!(world.row(2).await.status, DeploymentStatus::Superseded);
    world.wait_for_rest().await;
    assert_eq!(world.running(), ["v3"]);
    controller.leaves().await;
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_person_takes_over_and_requests_are_answered() {
    let world = World::new(How::Canary).await;
    let (first, second) = (Running::start(&world).await, Running::start(&world).await);
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.order("v2").await.unwrap();
    world.wait_for_step("hold_10").await;
    for kind in [RequestKind::Pause, RequestKind::Resume, RequestKind::Promote] {
        let began = tokio::time::Instant::now();
        let answer = ask(&world.context(kind.as_str()), kind, None).await.unwrap();
        assert!(matches!(answer, ControlAnswer::Accepted(_)), "{kind:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{kind:?} took {:?}", began.elapsed());
    }
    world.wait_for_step("hold_50").await;
    let outcome = world.rollback().await.unwrap();
    assert!(matches!(outcome, Outcome::Ended { .. }), "no controller came in between");
    assert_eq!(world.serving().as_deref(), Some("v1"));
    assert_eq!(world.row(2).await.status, DeploymentStatus::RolledBack);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.history().await.len(), 3);
    first.leaves().await;
    second.leaves().await;
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn who_leaves_hands_over_and_the_next_one_goes_on_forward() {
    // Also before the new side is proven ready, where an interrupted deploy goes back.
    for (how, step) in [
        (How::Canary, "await_ready"),
        (How::Canary, "hold_10"),
        (How::Canary, "bake"),
        (How::BlueGreen, "await_ready"),
        (How::Recreate, "bake"),
    ] {
        let world = World::new(how).await;
        let first = Running::start(&world).await;
        world.order("v1").await.unwrap();
        world.wait_for_rest().await;
        world.order("v2").await.unwrap();
        world.wait_for_step(step).await;
        first.leaves().await;
        assert!(!world.ledger.lease(&fixtures::key()).await.unwrap().unwrap().alive);
        assert!(world.ledger.controllers().await.unwrap().iter().all(|view| !view.alive));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let second = Running::start(&world).await;
        if step == "hold_10" {
            let before = world.router.faults().calls_of("renew");
            tokio::time::sleep(Duration::from_millis(1_900)).await;
            assert!(world.router.faults().calls_of("renew") > before, "the dead-man is renewed");
        }
        world.wait_for_rest().await;
        assert_eq!(world.row(2).await.status, DeploymentStatus::Stable, "{how:?} at {step}");
        assert_eq!(world.running(), ["v2"]);
        second.leaves().await;
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_back_is_finished_before_it_leaves() {
    let world = World::new(How::Recreate).await;
    let controller = Running::start(&world).await;
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.is_bad("v2");
    world.order("v2").await.unwrap();
    while world.history().await.len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    controller.leaves().await;
    assert!(world.is_at_rest().await);
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(world.row(3).await.surface, Surface::Controller);
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_of_a_command_hands_over_as_well() {
    let world = World::new(How::Canary).await;
    world.deploy("v1").await.unwrap();
    let controller = Running::start(&world).await;
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (stopped, ()) = tokio::join!(deploy(&cx, &wish), async {
        world.wait_for_step("hold_10").await;
        world.interrupt.send(Interrupt::HandOver { rollbacks: true }).unwrap();
    });
    let Outcome::Stopped { operation } = stopped.unwrap() else { panic!("it goes on") };
    assert!(operation.state.handed_over);
    world.wait_for_rest().await;
    assert_eq!(world.row(2).await.status, DeploymentStatus::Stable);
    controller.leaves().await;
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn what_is_stuck_is_left_to_people() {
    let world = World::new(How::Recreate).await;
    let controller = Running::start(&world).await;
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.is_bad("v2");
    let starts = world.target.faults().calls_of("start");
    world.target.faults().fail("start", starts + 2, Fault::Permanent);
    world.order("v2").await.unwrap();
    while world.history().await.first().map(|row| row.status) != Some(DeploymentStatus::Stuck) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let commits = world.ledger.commits();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.ledger.commits(), commits, "nothing is tried behind anybody's back");
    assert!(!world.ledger.lease(&fixtures::key()).await.unwrap().unwrap().alive);
    world.target.faults().clear();
    ask(&world.context("retry"), RequestKind::Retry, None).await.unwrap();
    assert_eq!(world.running(), ["v1"]);
    controller.leaves().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_is_asked_less_and_less() {
    let world = World::new(How::Canary).await;
    let controller = Running::start(&world).await;
    world.order("v1").await.unwrap();
    world.wait_for_rest().await;
    world.order("v2").await.unwrap();
    world.wait_for_step("hold_10").await;
    world.ledger.set_down(Some(LedgerError::Unavailable("gone".to_owned())));
    // The lease is lost with its term, so nothing further is begun.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let weights = world.router.weights();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.router.weights(), weights);
    world.ledger.advance_ms(660_000);
    world.ledger.set_down(None);
    let before = tokio::time::Instant::now();
    world.wait_for_rest().await;
    assert!(
        before.elapsed() < Duration::from_secs(60),
        "it came back after {:?}",
        before.elapsed()
    );
    assert_eq!(world.running().len(), 1);
    assert_eq!(world.serving().as_ref(), world.running().first());
    controller.leaves().await;
    world.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn health_and_readiness_stay_fresh_by_one_of_two() {
    let world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    world.deploy("v2").await.unwrap();
    let (first, second) = (Running::start(&world).await, Running::start(&world).await);
    let (health, readiness) = (world.puts("health"), world.puts("readiness"));
    tokio::time::sleep(Duration::from_secs(300)).await;
    // Every 30 s by the schedule of the check, and every 60 s.
    let (health, readiness) = (world.puts("health") - health, world.puts("readiness") - readiness);
    assert!((9..=11).contains(&health), "{health}");
    assert!((4..=6).contains(&readiness), "{readiness}");
    world.is_bad("v2");
    tokio::time::sleep(Duration::from_secs(31)).await;
    let kept = world.ledger.health(&fixtures::key()).await.unwrap().unwrap();
    assert_eq!(kept.overall, Health::Failing);
    assert_eq!(world.live().await, Some(2), "what was stable is a person's to take back");
    first.kill(&world).await;
    let before = world.puts("health");
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert!(world.puts("health") >= before + 2, "the other one does it now");
    second.leaves().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_bakes_alone_is_settled() {
    let world = World::new(How::BlueGreen).await;
    world.deploy("v1").await.unwrap();
    world.is_bad("v3");
    let cx = world.context("deploy");
    let wish = World::wish("v2");
    let (first, second) = tokio::join!(deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        world.deploy("v3").await
    });
    first.unwrap();
    second.unwrap();
    assert_eq!(world.row(4).await.status, DeploymentStatus::Baking);
    let controller = Running::start(&world).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.row(4).await.status, DeploymentStatus::Stable);
    controller.leaves().await;
}

#[tokio::test(start_paused = true)]
async fn what_should_run_is_started_again_some_times_and_never_after_down() {
    let world = World::new(How::Recreate).await;
    world.deploy("v1").await.unwrap();
    let controller = Running::start(&world).await;
    world.target.reboot();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.running(), ["v1"], "started again");
    // One that never stays up is not started for ever.
    for _ in 0..200 {
        for unit in world.target.running_units() {
            let exit = Exit { code: Some(1), signal: None, at: jiff::Timestamp::UNIX_EPOCH };
            world.target.crash(&unit, exit, false);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let starts = world.history().await.len();
    assert!((4..=6).contains(&starts), "{starts}");
    down(&world.context("down"), None).await.unwrap();
    let rows = world.history().await.len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(world.running().is_empty());
    assert_eq!(world.history().await.len(), rows);
    controller.leaves().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_ordered_is_not_pruned_before_it_begins() {
    let world = World::new(How::BlueGreen).await;
    let cx = world.context("deploy");
    let wish = World::wish("v1");
    let controller = Running::start(&world).await;
    // It beats, but does not work: the order waits, with other bytes than what is deployed meanwhile.
    controller.task.abort();
    world.artifacts.put("bin/web", b"ordered", true);
    let kept_before = world.artifacts.kept();
    let (refused, ()) = tokio::join!(order_deploy(&cx, &wish), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ordered = world.artifacts.kept();
        assert!(ordered.len() > kept_before.len(), "it is copied as it is ordered");
        world.artifacts.put("bin/web", b"another", true);
        world.deploy("v2").await.unwrap();
        assert!(ordered.iter().all(|digest| world.artifacts.kept().contains(digest)));
    });
    assert!(refused.is_err(), "nobody took it");
    world.deploy("v3").await.unwrap();
    world.assert_clean();
}

/// A service manager that is told takes it for ready, and whoever waits for that orders at once.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_it_lives_before_the_ledger_knows_of_it() {
    let world = World::new(How::ALL[0]).await;
    world.deploy("v1").await.unwrap();
    let mut cx = world.context("controller");
    cx.surface = Surface::Controller;
    let (leave, leaves) = watch::channel(Leave::No);
    let (told, mut heard) = watch::channel(0);
    let (ledger, me) = (world.ledger.clone(), cx.holder.clone());
    world.ledger.set_down(Some(LedgerError::Unavailable("gone fishing".to_owned())));
    let task = tokio::spawn(async move {
        let mut fleet = One(Arc::new(cx));
        let alive = |count| {
            told.send_replace(count);
        };
        run_controller(&mut fleet, ledger, &me, leaves, &Notify::new(), alive).await;
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(*heard.borrow(), 0, "nothing could be ordered yet");
    world.ledger.set_down(None);
    heard.wait_for(|count| *count == 1).await.unwrap();
    world.order("v2").await.unwrap();
    leave.send(Leave::Soon).unwrap();
    task.await.unwrap();
}
