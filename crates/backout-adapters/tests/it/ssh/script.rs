//! The script target on another host.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_adapters::host::Hosts;
use backout_adapters::target::{ScriptTarget, ScriptTargetOptions};
use backout_core::ids::{Slot, Unit};
use backout_core::model::Release;
use backout_core::ports::{
    ErrorClass, GuardState, Observed, Receipt, Revert, Running, StepCx, Target, TargetAction,
};
use backout_testkit::fixtures::{step_cx, version, with_secrets};
use backout_testkit::target_suite::{TargetBench, check_target};

use super::world::{World, remote_unit};
use crate::world::{script_release, script_spec};

/// Writes down what it is told; the running version stands in a file.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
status) cat running 2> /dev/null; exit 0 ;;
stop) rm -f running ;;
*) echo "$BACKOUT_VERSION" > running ;;
esac
echo "$1 $BACKOUT_VERSION from $BACKOUT_FROM_VERSION #$BACKOUT_DEPLOYMENT $BACKOUT_REASON" >> calls
env | sort > env.txt
echo "did $1"
"#;

struct Scripts {
    world: World,
    state: tempfile::TempDir,
}

impl Scripts {
    fn new() -> Self {
        let this = Self { world: World::new(), state: tempfile::tempdir().unwrap() };
        this.world.write("deploy.sh", SCRIPT);
        let path = this.world.folder().join("deploy.sh");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    fn script_target(&self) -> ScriptTarget {
        ScriptTarget::new(ScriptTargetOptions {
            state_dir: self.state.path().to_owned(),
            // Nothing of this folder is used for units of other hosts.
            folder: self.state.path().join("no-such-folder"),
            env: vec![("CALLERS_OWN".into(), "1".into())],
            default: Some(script_spec()),
            side_by_side: false,
            history: None,
        })
        .with_hosts(Hosts::new([self.world.host.clone() as Arc<dyn backout_core::ports::Host>]))
    }

    fn release_of(&self, label: &str) -> Arc<Release> {
        script_release(label, script_spec())
    }

    async fn start(&self, label: &str, number: u64, revert: Option<Revert>) -> Receipt {
        let action = TargetAction::Start {
            unit: remote_unit(0),
            release: self.release_of(label),
            deployment: number,
            restore: false,
            revert,
            batch: None,
        };
        let cx = StepCx {
            from_version: Some(version("v0")),
            ..with_secrets(step_cx(&format!("start-{number}")), &[("TOKEN", "today's")])
        };
        self.script_target().apply(&action, &cx).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn observe(&self, label: &str) -> Observed {
        let release = self.release_of(label);
        self.script_target().observe(&remote_unit(0), Some(&release)).await.unwrap()
    }
}

#[async_trait]
impl TargetBench for Scripts {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.script_target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        Unit { slot, ..remote_unit(0) }
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        self.release_of(version)
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        let spec =
            backout_core::model::ScriptSpec { program: "./nowhere.sh".to_owned(), ..script_spec() };
        Some(script_release("v9", spec))
    }
    fn refuses_occupied(&self) -> bool {
        false
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_on_another_host_obeys_the_suite() {
    check_target(&Scripts::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_there_is_told_what_one_here_is_told() {
    let scripts = Scripts::new();
    assert_eq!(scripts.start("v1", 42, None).await.message, "did deploy");
    let env = scripts.world.read("env.txt");
    let home = format!("HOME={}", scripts.world.servers.home(0).display());
    for line in
        ["BACKOUT_VERSION=v1", "BACKOUT_SERVICE=web", "COMMIT_SHA=v1", "TOKEN=today's", &home]
    {
        assert!(env.lines().any(|other| other == line), "no `{line}` in {env}");
    }
    assert!(!env.contains("CALLERS_OWN"), "this machine's environment stays here");
    let seen = scripts.observe("v1").await;
    assert_eq!((seen.running, seen.version, seen.guard), (Running::Yes, Some(version("v1")), None));
    // It has spoken, so its silence is believed, by the next process too.
    let running = scripts.world.folder().join("running");
    std::fs::rename(&running, scripts.world.folder().join("aside")).unwrap();
    assert_eq!(scripts.observe("v1").await.running, Running::No);
    std::fs::rename(scripts.world.folder().join("aside"), &running).unwrap();
    let release = scripts.release_of("v1");
    let (target, unit) = (scripts.script_target(), remote_unit(0));
    assert_eq!(target.obstacles(&unit, &release).await.unwrap(), Vec::<String>::new());
    let path = scripts.world.folder().join("deploy.sh");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let found = target.obstacles(&unit, &release).await.unwrap();
    assert!(found[0].contains("chmod +x"), "{found:?}");
    std::fs::remove_file(&path).unwrap();
    let found = target.obstacles(&unit, &release).await.unwrap();
    assert!(found[0].contains("on host0"), "{found:?}");
    let elsewhere = Unit { host: super::world::name(9), ..unit };
    let error = target.observe(&elsewhere, Some(&release)).await.unwrap_err();
    assert!(error.class == ErrorClass::Permanent && error.message.contains("`host9`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_release_that_nobody_confirms_is_the_old_one_again() {
    let scripts = Scripts::new();
    scripts.start("v1", 1, None).await;
    let revert = Revert { back_to: Some(scripts.release_of("v1")), within_ms: 600 };
    scripts.start("v2", 2, Some(revert)).await;
    let taken_back = "rollback v1 from v2 #2 not confirmed within 1 s";
    scripts.world.until("taken back", |world| world.read("calls").contains(taken_back)).await;
    let seen = async {
        loop {
            let seen = scripts.observe("v2").await;
            if seen.guard.as_ref().is_some_and(|it| matches!(it.state, GuardState::Reverted(_))) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
    assert_eq!((seen.running, seen.version), (Running::Yes, Some(version("v1"))));
    assert!(seen.tail.unwrap().contains("host0 took deployment 2 back by itself"));
    let confirm = TargetAction::Confirm {
        unit: remote_unit(0),
        release: scripts.release_of("v2"),
        deployment: 2,
    };
    let error = scripts.script_target().apply(&confirm, &step_cx("confirm")).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.message.contains("took it back"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_nobody_confirms_is_stopped_and_a_confirmed_one_stays() {
    let scripts = Scripts::new();
    scripts.start("v1", 1, Some(Revert { back_to: None, within_ms: 600 })).await;
    scripts.world.until("stopped", |world| world.read("calls").contains("stop v1")).await;
    assert!(!scripts.world.has("running"));
    scripts.start("v2", 2, Some(Revert { back_to: None, within_ms: 120_000 })).await;
    let confirm = TargetAction::Confirm {
        unit: remote_unit(0),
        release: scripts.release_of("v2"),
        deployment: 2,
    };
    for _ in 0..2 {
        let receipt = scripts.script_target().apply(&confirm, &step_cx("confirm")).await.unwrap();
        assert_eq!(receipt.warnings, Vec::<String>::new());
    }
    let guard = scripts.observe("v2").await.guard.unwrap();
    assert_eq!((guard.deployment, guard.state), (2, GuardState::Confirmed));
}
