//! What every target must do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{Slot, Unit};
use backout_core::model::Release;
use backout_core::ports::{ErrorClass, Observed, Running, StepCx, Target, TargetAction};

/// A target where nothing runs yet.
#[async_trait]
pub trait TargetBench: Send + Sync {
    /// The target.
    fn target(&self) -> Arc<dyn Target>;
    /// A unit it can use.
    fn unit(&self, slot: Slot) -> Unit;
    /// A release that starts and goes on running.
    async fn release(&self, version: &str) -> Arc<Release>;
    /// A release that can't be started; `None` if there is no such thing here.
    async fn impossible(&self) -> Option<Arc<Release>>;
    /// A start where another release runs is refused, unless it replaces. A script decides that by itself.
    fn refuses_occupied(&self) -> bool {
        true
    }
    /// A context for a step.
    fn cx(&self, step: &str) -> StepCx;
}

/// Runs the whole suite.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_target(bench: &dyn TargetBench) {
    nothing_is_observed_as_nothing(bench).await;
    starting_twice_is_one_start(bench).await;
    another_release_replaces_or_is_refused(bench).await;
    slots_are_apart(bench).await;
    stopping_twice_is_one_stop(bench).await;
    what_runs_can_be_restored(bench).await;
    the_impossible_is_permanent(bench).await;
}

async fn apply_start(
    bench: &dyn TargetBench,
    slot: Slot,
    release: &Arc<Release>,
    number: u64,
    step: &str,
) -> Result<(), ErrorClass> {
    let action = TargetAction::Start {
        unit: bench.unit(slot),
        release: Arc::clone(release),
        deployment: number,
        restore: false,
        revert: None,
        batch: None,
    };
    bench.target().apply(&action, &bench.cx(step)).await.map(|_| ()).map_err(|e| e.class)
}

async fn stop(bench: &dyn TargetBench, slot: Slot, release: &Arc<Release>, step: &str) {
    let action =
        TargetAction::Stop { unit: bench.unit(slot), release: Arc::clone(release), grace_ms: 2000 };
    bench.target().apply(&action, &bench.cx(step)).await.expect("stopped");
}

/// What is observed once it no longer changes by itself.
async fn observe(bench: &dyn TargetBench, slot: Slot, release: &Release) -> Observed {
    let observed =
        bench.target().observe(&bench.unit(slot), Some(release)).await.expect("observed");
    assert!(observed.tail.as_ref().is_none_or(|tail| tail.len() <= 2048), "the tail is bounded");
    observed
}

fn is_version(observed: &Observed, version: &str) -> bool {
    observed.running == Running::Yes
        && observed.version.as_ref().is_none_or(|v| v.as_str() == version)
}

async fn nothing_is_observed_as_nothing(bench: &dyn TargetBench) {
    let release = bench.release("v1").await;
    let observed = observe(bench, Slot::A, &release).await;
    assert_ne!(observed.running, Running::Yes, "{observed:?}");
    assert_eq!(observed.pid, None);
    let obstacles = bench.target().obstacles(&bench.unit(Slot::A), &release).await.expect("asked");
    assert!(obstacles.is_empty(), "{obstacles:?}");
    stop(bench, Slot::A, &release, "stop-nothing").await;
}

async fn starting_twice_is_one_start(bench: &dyn TargetBench) {
    let release = bench.release("v1").await;
    apply_start(bench, Slot::A, &release, 1, "start-1").await.expect("started");
    let first = observe(bench, Slot::A, &release).await;
    assert!(is_version(&first, "v1"), "{first:?}");
    if let Some(deployment) = first.deployment {
        assert_eq!((deployment, first.release.as_ref()), (1, Some(&release.id)));
    }
    apply_start(bench, Slot::A, &release, 1, "start-1").await.expect("started again");
    let second = observe(bench, Slot::A, &release).await;
    assert_eq!(first.pid, second.pid, "it is the same process");
    assert_eq!(first.marker, second.marker);
}

async fn another_release_replaces_or_is_refused(bench: &dyn TargetBench) {
    if !bench.refuses_occupied() {
        return;
    }
    let (old, new) = (bench.release("v1").await, bench.release("v2").await);
    let replaces = bench.target().capabilities().replaces_in_place;
    let result = apply_start(bench, Slot::A, &new, 2, "start-2").await;
    if replaces {
        result.expect("replaced");
        let now = observe(bench, Slot::A, &new).await;
        assert!(is_version(&now, "v2"), "{now:?}");
        apply_start(bench, Slot::A, &old, 3, "start-3").await.expect("replaced back");
    } else {
        assert_eq!(result, Err(ErrorClass::Permanent), "another release runs there");
    }
    let now = observe(bench, Slot::A, &old).await;
    assert!(is_version(&now, "v1"), "{now:?}");
}

async fn slots_are_apart(bench: &dyn TargetBench) {
    if !bench.target().capabilities().side_by_side {
        return;
    }
    let (old, new) = (bench.release("v1").await, bench.release("v2").await);
    apply_start(bench, Slot::B, &new, 2, "start-b").await.expect("started beside");
    let (a, b) = (observe(bench, Slot::A, &old).await, observe(bench, Slot::B, &new).await);
    assert!(is_version(&a, "v1") && is_version(&b, "v2"), "{a:?} {b:?}");
    assert!(a.address.is_none() || a.address != b.address, "each side has its own address");
    assert!(a.pid.is_none() || a.pid != b.pid, "each side has its own process");
    stop(bench, Slot::B, &new, "stop-b").await;
    let (a, b) = (observe(bench, Slot::A, &old).await, observe(bench, Slot::B, &new).await);
    assert!(is_version(&a, "v1"), "the other side goes on: {a:?}");
    assert_ne!(b.running, Running::Yes, "{b:?}");
}

async fn stopping_twice_is_one_stop(bench: &dyn TargetBench) {
    let release = bench.release("v1").await;
    stop(bench, Slot::A, &release, "stop-a").await;
    let observed = observe(bench, Slot::A, &release).await;
    assert_ne!(observed.running, Running::Yes, "{observed:?}");
    assert_eq!(observed.marker, None, "what is stopped is nobody's");
    stop(bench, Slot::A, &release, "stop-a").await;
}

async fn what_runs_can_be_restored(bench: &dyn TargetBench) {
    let release = bench.release("v1").await;
    let action = TargetAction::Start {
        unit: bench.unit(Slot::A),
        release: Arc::clone(&release),
        deployment: 4,
        restore: true,
        revert: None,
        batch: None,
    };
    bench.target().apply(&action, &bench.cx("restore")).await.expect("restored");
    let observed = observe(bench, Slot::A, &release).await;
    assert!(is_version(&observed, "v1"), "{observed:?}");
    stop(bench, Slot::A, &release, "stop-restored").await;
}

async fn the_impossible_is_permanent(bench: &dyn TargetBench) {
    let Some(release) = bench.impossible().await else { return };
    // Bounded: what can't be started is told at once, not after long patience.
    let started = tokio::time::timeout(
        Duration::from_secs(20),
        apply_start(bench, Slot::A, &release, 9, "impossible"),
    );
    assert_eq!(started.await.expect("an answer"), Err(ErrorClass::Permanent));
    let observed = bench.target().observe(&bench.unit(Slot::A), Some(&release)).await;
    assert!(observed.is_err() || observed.is_ok_and(|o| o.running != Running::Yes), "nothing runs");
}
