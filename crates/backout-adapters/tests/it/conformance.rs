//! The suites of the testkit, run on the real adapters.

use std::sync::Arc;

use async_trait::async_trait;
use backout_adapters::probe::{ExecProbe, HttpProbe, ProcessProbe, TcpProbe};
use backout_core::ids::{Slot, Unit};
use backout_core::model::{HttpCheck, PortSpec, ProcessSpec, Release};
use backout_core::ports::{Probe, ProbeSubject, StepCx, Target};
use backout_testkit::fixtures::{process, step_cx, subject, unit};
use backout_testkit::probe_suite::{ProbeBench, check_probe};
use backout_testkit::target_suite::{TargetBench, check_target};

use crate::probes::{Server, answer, closed_port};
use crate::world::{World, process_release, script_release, script_spec, sleeper, start};

struct Processes {
    world: World,
    port: Option<PortSpec>,
}

#[async_trait]
impl TargetBench for Processes {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.world.target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        process_release(version, ProcessSpec { port: self.port, ..sleeper() })
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        Some(process_release("v9", process(["./no-such-program"])))
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_target_obeys_the_suite() {
    check_target(&Processes { world: World::new(), port: Some(PortSpec::Auto) }).await;
    check_target(&Processes { world: World::new(), port: None }).await;
}

struct Scripts {
    world: World,
    side_by_side: bool,
}

#[async_trait]
impl TargetBench for Scripts {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.world.script_target(self.side_by_side))
    }
    fn unit(&self, slot: Slot) -> Unit {
        unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        self.world.script(
            "deploy.sh",
            r#"set -eu
            case "$1" in
                deploy|rollback) echo "$BACKOUT_VERSION" > "running-$BACKOUT_SLOT" ;;
                status) cat "running-$BACKOUT_SLOT" 2>/dev/null || true ;;
                stop) rm -f "running-$BACKOUT_SLOT" ;;
                *) exit 64 ;;
            esac"#,
        );
        script_release(version, script_spec())
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        let spec =
            backout_core::model::ScriptSpec { program: "none.sh".to_owned(), ..script_spec() };
        Some(script_release("v9", spec))
    }
    fn refuses_occupied(&self) -> bool {
        !self.side_by_side
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_target_obeys_the_suite() {
    for side_by_side in [false, true] {
        check_target(&Scripts { world: World::new(), side_by_side }).await;
    }
}

/// Each kind of probe with what it may meet.
struct Probes {
    probe: Arc<dyn Probe>,
    healthy: ProbeSubject,
    bad: Option<ProbeSubject>,
    absent: Option<ProbeSubject>,
    hanging: Option<ProbeSubject>,
}

#[async_trait]
impl ProbeBench for Probes {
    fn probe(&self) -> Arc<dyn Probe> {
        Arc::clone(&self.probe)
    }
    async fn healthy(&self) -> ProbeSubject {
        self.healthy.clone()
    }
    async fn bad(&self) -> Option<ProbeSubject> {
        self.bad.clone()
    }
    async fn absent(&self) -> Option<ProbeSubject> {
        self.absent.clone()
    }
    async fn hanging(&self) -> Option<ProbeSubject> {
        self.hanging.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_probe_obeys_the_suite() {
    let release = process_release("v1", sleeper());
    let good = Server::start(answer("200 OK", r#"{"status":"healthy"}"#)).await;
    let bad = Server::start(answer("500 Internal Server Error", "")).await;
    let silent = Server::silent().await;
    let check =
        HttpCheck { url: "http://127.0.0.1:{port}/health".to_owned(), required_fields: Vec::new() };
    check_probe(&Probes {
        probe: Arc::new(HttpProbe::new(check)),
        healthy: subject(&release, Some(good.address)),
        bad: Some(subject(&release, Some(bad.address))),
        absent: Some(subject(&release, Some(closed_port()))),
        hanging: Some(subject(&release, Some(silent.address))),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tcp_probe_obeys_the_suite() {
    let release = process_release("v1", sleeper());
    let good = Server::silent().await;
    check_probe(&Probes {
        probe: Arc::new(TcpProbe::new("127.0.0.1:{port}")),
        healthy: subject(&release, Some(good.address)),
        bad: None,
        absent: Some(subject(&release, Some(closed_port()))),
        hanging: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exec_probe_obeys_the_suite() {
    let world = World::new();
    world.script(
        "check.sh",
        r#"case "$1" in v1) exit 0 ;; v2) echo broken >&2; exit 3 ;; *) sleep 600 ;; esac"#,
    );
    let command = ["./check.sh", "{version}"].map(str::to_owned).to_vec();
    let of = |label: &str| subject(&process_release(label, sleeper()), None);
    check_probe(&Probes {
        probe: Arc::new(ExecProbe::new(command, world.folder(), std::env::vars_os().collect())),
        healthy: of("v1"),
        bad: Some(of("v2")),
        absent: None,
        hanging: Some(of("v3")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_probe_obeys_the_suite() {
    let world = World::new();
    let target = world.target();
    let (running, other) = (process_release("v1", sleeper()), process_release("v2", sleeper()));
    start(&target, Slot::A, &running, 1).await.unwrap();
    let absent = ProbeSubject { unit: unit(Slot::B), ..subject(&running, None) };
    check_probe(&Probes {
        probe: Arc::new(ProcessProbe::new(Arc::new(target))),
        healthy: subject(&running, None),
        bad: Some(subject(&other, None)),
        absent: Some(absent),
        hanging: None,
    })
    .await;
}
