//! A plan that was made before the claim is run only where nobody was at work in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use backout_core::ids::Unit;
use backout_core::model::Service;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample};
use backout_engine::{ProbePlan, Probes, rollback};
use backout_testkit::FakeProbe;
use tokio::sync::Notify;

use crate::world::{How, World};

/// The first check takes until it is let go.
#[derive(Clone)]
struct Slow {
    probe: FakeProbe,
    is_first: Arc<AtomicBool>,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Slow {
    fn new(probe: &FakeProbe) -> Self {
        let is_first = Arc::new(AtomicBool::new(true));
        Self { probe: probe.clone(), is_first, begun: Arc::default(), go_on: Arc::default() }
    }
}

#[async_trait]
impl Probe for Slow {
    fn name(&self) -> &str {
        self.probe.name()
    }

    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError> {
        if self.is_first.swap(false, Ordering::SeqCst) {
            self.begun.notify_one();
            self.go_on.notified().await;
        }
        self.probe.check(subject).await
    }
}

impl Probes for Slow {
    fn for_unit(&self, _unit: &Unit, service: &Service) -> Vec<ProbePlan> {
        let schedule = *service.health.probes[0].schedule();
        vec![ProbePlan { probe: Arc::new(self.clone()), schedule, names_a_side: true }]
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_was_at_work_before_the_claim_is_seen() {
    for how in How::ALL {
        let world = World::new(how).await;
        world.deploy("v1").await.unwrap();
        world.deploy("v2").await.unwrap();
        let slow = Slow::new(&world.probe);
        let mut cx = world.context("rollback");
        cx.probes = Arc::new(slow.clone());
        let wishes = World::back();
        let (back, ()) = tokio::join!(rollback(&cx, &wishes), async {
            slow.begun.notified().await;
            world.deploy("v3").await.unwrap();
            slow.go_on.notify_one();
        });
        back.unwrap();
        let row = world.row(4).await;
        assert_eq!((row.from_number, row.version.as_str()), (Some(3), "v2"), "{how:?}");
        assert_eq!(world.running(), ["v2"], "{how:?}");
        world.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_was_all_is_looked_at_once() {
    for how in How::ALL {
        let world = World::new(how).await;
        world.deploy("v1").await.unwrap();
        world.deploy("v2").await.unwrap();
        let before = world.probe.checked().len();
        world.rollback().await.unwrap();
        let checked = world.probe.checked();
        let of_left = checked[before..].iter().filter(|check| check.version.as_str() == "v2");
        let of_left: Vec<_> = of_left.map(|check| check.unit.to_string()).collect();
        let units: BTreeSet<_> = of_left.iter().collect();
        assert!(!units.is_empty(), "{how:?}: whether what is left looks healthy");
        assert_eq!(of_left.len(), units.len(), "{how:?}: {of_left:?}");
        assert_eq!(world.running(), ["v1"], "{how:?}");
        world.assert_clean();
    }
}
