//! The suites of the testkit, on the real engine.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{Slot, Unit};
use backout_core::model::{Release, TargetSpec};
use backout_core::ports::{StepCx, Target};
use backout_testkit::target_suite::{TargetBench, check_target};

use super::bench::Bench;
use super::elsewhere::Elsewhere;

struct Containers(Bench);

#[async_trait]
impl TargetBench for Containers {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.0.target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        self.0.unit("web", slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        self.0.release(version).await
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        // Its image is not there any more.
        let good = self.0.release("v1").await;
        let mut content = good.content.clone();
        content.artifacts[0].digest = format!("image:sha256:{}", "0".repeat(64));
        assert!(matches!(content.services.values().next().unwrap().target, TargetSpec::Compose(_)));
        Some(backout_testkit::fixtures::release_of(content))
    }
    fn cx(&self, step: &str) -> StepCx {
        self.0.cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_target_obeys_the_suite() {
    check_target(&Containers(Bench::with_images(false))).await;
    check_target(&Containers(Bench::with_images(true))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_another_host_it_obeys_the_suite_too() {
    let Elsewhere { bench, servers: _running } = Elsewhere::with_images();
    check_target(&Containers(bench)).await;
}
