//! Traffic moved by a script.

use std::collections::BTreeMap;

use backout_adapters::router::{ScriptRouter, ScriptRouterOptions};
use backout_core::ids::{LedgerId, Slot};
use backout_core::ports::{ErrorClass, Router, RouterSide, StepCx, TrafficChange};
use backout_testkit::fixtures::{key, ledger, step_cx, version, web};

use crate::world::{World, script_release, script_spec};

fn router(world: &World, ledger: LedgerId) -> ScriptRouter {
    ScriptRouter::new(ScriptRouterOptions {
        state_dir: world.state(),
        folder: world.folder(),
        env: std::env::vars_os().collect(),
        spec: script_spec(),
        key: key(),
        service: web(),
        ledger,
    })
}

fn change(percent: u8, stage: &str) -> TrafficChange {
    let side = |label: &str, deployment| RouterSide {
        address: None,
        deployment,
        release: script_release(label, script_spec()).id.clone(),
        version: version(label),
        check_path: None,
    };
    TrafficChange {
        sides: BTreeMap::from([(Slot::A, side("v1", 1)), (Slot::B, side("v2", 2))]),
        weights: BTreeMap::from([(Slot::A, 100 - percent), (Slot::B, percent)]),
        new_side: Slot::B,
        stage: stage.to_owned(),
        dead_man: None,
        trip: None,
        cut: false,
        acknowledge_fired: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_changes_are_remembered_for_everybody() {
    let world = World::new();
    world.script(
        "deploy.sh",
        r#"echo "$@ $BACKOUT_VERSION $BACKOUT_SLOT $BACKOUT_DEPLOYMENT" >> calls"#,
    );
    let first = router(&world, ledger("here"));
    assert_eq!(first.read().await.unwrap(), None);
    first.ensure(&step_cx("0")).await.unwrap();
    first.apply(&change(10, "10"), &step_cx("1")).await.unwrap();
    first.apply(&change(0, "rollback"), &step_cx("2")).await.unwrap();
    assert_eq!(
        world.read("calls"),
        "update-traffic 10 10 v2 b 2\nupdate-traffic 0 rollback v2 b 2\n"
    );
    let traffic = router(&world, ledger("here")).read().await.unwrap().unwrap();
    assert_eq!(traffic.weights, change(0, "").weights);
    assert_eq!(traffic.sides, change(0, "").sides);
    assert!(!first.has_dead_man() && first.frames().await.unwrap().is_none());
    first.remove(1).await.unwrap();
    assert_eq!(first.read().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_is_unknown_is_not_remembered() {
    let world = World::new();
    world.script(
        "deploy.sh",
        r#"if [ -e code ]; then exit "$(cat code)"; fi; if [ -e die ]; then kill -9 $$; fi"#,
    );
    let router = router(&world, ledger("here"));
    router.apply(&change(10, "10"), &step_cx("1")).await.unwrap();
    for (code, class) in
        [("1", ErrorClass::Permanent), ("75", ErrorClass::Transient), ("64", ErrorClass::Permanent)]
    {
        world.write("code", code);
        assert_eq!(router.apply(&change(50, "50"), &step_cx("2")).await.unwrap_err().class, class);
    }
    std::fs::remove_file(world.folder().join("code")).unwrap();
    world.write("die", "");
    assert_eq!(
        router.apply(&change(50, "50"), &step_cx("2")).await.unwrap_err().class,
        ErrorClass::Unknown
    );
    assert_eq!(router.read().await.unwrap().unwrap().weights[&Slot::B], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_epochs_and_other_ledgers_are_refused() {
    let world = World::new();
    world.script("deploy.sh", "echo called >> calls");
    router(&world, ledger("here"))
        .apply(&change(10, "10"), &StepCx { epoch: 5, ..step_cx("1") })
        .await
        .unwrap();
    let stale = router(&world, ledger("here"))
        .apply(&change(50, "50"), &StepCx { epoch: 4, ..step_cx("2") })
        .await;
    assert_eq!(stale.unwrap_err().class, ErrorClass::Permanent);
    let foreign = router(&world, ledger("there"));
    let refused =
        foreign.apply(&change(50, "50"), &StepCx { epoch: 9, ..step_cx("2") }).await.unwrap_err();
    assert!(
        refused.class == ErrorClass::Permanent && refused.to_string().contains("led_here"),
        "{refused}"
    );
    foreign.remove(9).await.unwrap_err();
    assert_eq!(world.read("calls").lines().count(), 1);
}
