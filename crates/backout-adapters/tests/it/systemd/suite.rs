//! The suites of the testkit, on the real systemd.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{Slot, Unit};
use backout_core::model::Release;
use backout_core::ports::{StepCx, Target};
use backout_testkit::target_suite::{TargetBench, check_target};

use super::bench::Bench;

struct Units(Bench);

#[async_trait]
impl TargetBench for Units {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.0.target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        self.0.unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        self.0.release(version).await
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        // What was kept of it is not there any more.
        let mut content = self.0.release("v1").await.content.clone();
        content.artifacts[0].digest = format!("sha256:{}", "0".repeat(64));
        Some(backout_testkit::fixtures::release_of(content))
    }
    fn cx(&self, step: &str) -> StepCx {
        self.0.cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systemd_target_obeys_the_suite() {
    check_target(&Units(Bench::new(false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systemd_target_on_another_host_obeys_the_suite() {
    check_target(&Units(Bench::there("Restart=always\nRestartSec=100ms\n"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systemd_target_with_two_sides_obeys_the_suite() {
    check_target(&Units(Bench::new(true))).await;
}
