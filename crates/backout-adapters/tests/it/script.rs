//! The user's script, as it should be and as it should not.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::procfs::ProcessId;
use backout_adapters::target::{ScriptHistory, ScriptTarget};
use backout_core::ids::{Slot, Unit};
use backout_core::model::ScriptSpec;
use backout_core::ports::{AdapterError, ErrorClass, Running, StepCx, Target, TargetAction};
use backout_testkit::fixtures::{step_cx, unit, version, with_secrets};
use rustix::process::Signal;

use crate::world::{World, pid_in, script_release, script_spec, start, start_with, stop, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_told_everything_by_both_sets_of_names() {
    let world = World::new();
    world.script("deploy.sh", r#"env | sort > env.txt; echo "$@" > args.txt; pwd >> args.txt; cat >> args.txt; echo "all good""#);
    let spec = ScriptSpec { args: vec!["--quiet".to_owned()], ..script_spec() };
    let release = script_release("1.4.2", spec);
    let cx = StepCx {
        from_version: Some(version("1.4.1")),
        epoch: 9,
        reason: "it\0 is time".to_owned(),
        ..with_secrets(step_cx("3.start"), &[("TOKEN", "today")])
    };
    let target = world.script_target(false);
    let receipt = start_with(&target, Slot::A, &release, 42, &cx).await.unwrap();
    assert_eq!(receipt.message, "all good");
    let args = world.read("args.txt");
    assert!(args.starts_with("--quiet deploy\n") && args.ends_with("/folder\n"), "{args}");
    let env = world.read("env.txt");
    for line in [
        "BACKOUT_APP=shop",
        "BACKOUT_ENVIRONMENT=production",
        "BACKOUT_SERVICE=web",
        "BACKOUT_VERSION=1.4.2",
        "BACKOUT_FROM_VERSION=1.4.1",
        &format!("BACKOUT_RELEASE={}", release.id),
        "BACKOUT_SLOT=a",
        "BACKOUT_DEPLOYMENT=42",
        "BACKOUT_OPERATION_ID=op_test",
        "BACKOUT_STEP_ID=op_test/3.start",
        "BACKOUT_EPOCH=9",
        "BACKOUT_REASON=it is time",
        "DEPLOYMENT_ID=42",
        "COMMIT_SHA=1.4.2",
        "PREVIOUS_COMMIT=1.4.1",
        "BUILD_ID=op_test",
        "TOKEN=today",
    ] {
        assert!(env.lines().any(|l| l == line), "no `{line}` in {env}");
    }
    assert!(env.contains("CALLERS_OWN=1"), "the caller's environment is there too");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_calls_rollback_with_the_version_to_restore() {
    let world = World::new();
    world.script("deploy.sh", r#"echo "$1 $BACKOUT_VERSION" >> calls"#);
    let target = world.script_target(false);
    let release = script_release("v1", script_spec());
    let action = TargetAction::Start {
        unit: unit(Slot::A),
        release: release.clone(),
        deployment: 3,
        restore: true,
        revert: None,
        batch: None,
    };
    target.apply(&action, &step_cx("1")).await.unwrap();
    stop(&target, Slot::A, &release, 1).await.unwrap();
    assert_eq!(world.read("calls"), "rollback v1\nstop v1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_have_their_meaning() {
    let world = World::new();
    world.script("deploy.sh", r#"echo "some reason" >&2; exit "$(cat code)""#);
    let target = world.script_target(false);
    let release = script_release("v1", script_spec());
    for (code, class) in
        [("75", ErrorClass::Transient), ("64", ErrorClass::Permanent), ("1", ErrorClass::Permanent)]
    {
        world.write("code", code);
        let error = start(&target, Slot::A, &release, 1).await.unwrap_err();
        assert_eq!(error.class, class, "{error}");
        assert!(code == "64" || error.to_string().contains("some reason"), "{error}");
    }
    world.write("code", "64");
    let receipt = stop(&target, Slot::A, &release, 1).await.unwrap();
    assert_eq!(receipt.warnings.len(), 1, "an unknown `stop` is a warning");
    assert_eq!(
        target.observe(&unit(Slot::A), Some(&release)).await.unwrap().running,
        Running::Unknown
    );
    for code in ["75", "1"] {
        world.write("code", code);
        target.observe(&unit(Slot::A), Some(&release)).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_believed_only_from_a_script_that_has_spoken() {
    let world = World::new();
    world.script("deploy.sh", "cat running 2>/dev/null || true");
    let release = script_release("v1", script_spec());
    let target = world.script_target(false);
    let observe = async || target.observe(&unit(Slot::A), Some(&release)).await.unwrap();
    start(&target, Slot::A, &release, 1).await.unwrap();
    assert_eq!(observe().await.running, Running::Unknown);
    world.write("running", "v1\nand more lines\n");
    let seen = observe().await;
    assert_eq!((seen.running, seen.version), (Running::Yes, Some(version("v1"))));
    world.write("running", "\nv1 on the second line does not count\n");
    assert_eq!(observe().await.running, Running::No);
    world.write("running", "something that is no version\n");
    let seen = observe().await;
    assert_eq!((seen.running, seen.version), (Running::Yes, None));
    assert!(seen.tail.unwrap().contains("no version"));
}

/// A ledger in which the script of `shop/production` was adopted.
struct Adopted;

#[async_trait::async_trait]
impl ScriptHistory for Adopted {
    async fn has_reported(&self, asked: &Unit) -> Result<bool, AdapterError> {
        Ok(*asked == unit(Slot::A))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_what_was_never_called_leaves_nothing_and_the_ledger_is_asked() {
    let world = World::new();
    world.script("deploy.sh", "cat running 2>/dev/null || true");
    world.write("running", "v1\n");
    let release = script_release("v1", script_spec());
    let seen = async |history: Option<Arc<dyn ScriptHistory>>| {
        let target = ScriptTarget::new(world.script_options(false, history));
        target.observe(&unit(Slot::A), Some(&release)).await.unwrap().running
    };
    assert_eq!(seen(None).await, Running::Yes);
    assert!(!world.state().join("scripts").exists(), "a look has written something");
    world.write("running", "");
    assert_eq!(seen(None).await, Running::Unknown);
    assert_eq!(seen(Some(Arc::new(Adopted))).await, Running::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_an_error() {
    let world = World::new();
    world.script("deploy.sh", r"printf '\377\376\000\001'");
    let release = script_release("v1", script_spec());
    let target = world.script_target(false);
    let error = target.observe(&unit(Slot::A), Some(&release)).await.unwrap_err();
    assert!(error.to_string().contains("no text"), "{error}");
    let receipt =
        start(&target, Slot::A, &release, 1).await.expect("a deploy may print what it likes");
    assert!(!receipt.message.contains('\u{0}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_cant_be_run_says_what_to_do() {
    let world = World::new();
    let target = world.script_target(false);
    let release = script_release("v1", script_spec());
    let failure = async || start(&target, Slot::A, &release, 1).await.unwrap_err();
    let missing = failure().await;
    assert!(missing.to_string().contains("no such program"), "{missing}");
    assert_eq!(target.obstacles(&unit(Slot::A), &release).await.unwrap().len(), 1);
    let path = world.write("deploy.sh", "#!/bin/sh\n");
    let locked = failure().await;
    assert!(locked.to_string().contains("chmod +x"), "{locked}");
    assert_eq!(target.obstacles(&unit(Slot::A), &release).await.unwrap().len(), 1);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&path, [0x7f, b'E', b'L', b'F', 9, 9]).unwrap();
    let odd = failure().await;
    assert!(odd.to_string().contains("#!"), "{odd}");
    for error in [missing, locked, odd] {
        assert_eq!(error.class, ErrorClass::Permanent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_or_a_signal_is_an_unknown_outcome() {
    let world = World::new();
    world.script("deploy.sh", r#"if [ "$1" = stop ]; then kill -9 $$; fi; echo $$ > pid; echo working; while :; do sleep 0.05; done"#);
    let release = script_release("v1", ScriptSpec { timeout_ms: 700, ..script_spec() });
    let target = world.script_target(false);
    let error = start(&target, Slot::A, &release, 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown);
    assert!(error.to_string().contains("working"), "{error}");
    let pid: u32 = world.read("pid").trim().parse().unwrap();
    until("ended", || ProcessId::of(pid).is_none()).await;
    let error = stop(&target, Slot::A, &release, 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown);
    assert!(error.to_string().contains("signal 9"), "{error}");
    let error = target.observe(&unit(Slot::A), Some(&release)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "asking may be repeated: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_starts_goes_on_and_can_write() {
    let world = World::new();
    let service = "echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; echo still here || exit; echo . > alive; exec sleep 600";
    world.write("service.sh", service);
    world.script("deploy.sh", r#"if [ "$1" = deploy ]; then sh service.sh & fi; echo deployed"#);
    let release = script_release("v1", script_spec());
    let target = world.script_target(false);
    let receipt = start(&target, Slot::A, &release, 1).await.unwrap();
    assert_eq!(receipt.message, "deployed");
    let service = pid_in(&world.folder().join("pid")).await;
    world.write("go", "");
    world.until("writing did not end it", |w| !w.read("alive").is_empty()).await;
    assert!(service.is_alive());
    // A later call with the same step does not end what the earlier one has started.
    start(&target, Slot::A, &release, 1).await.unwrap();
    assert!(service.is_alive());
    assert!(service.signal(Signal::KILL));
    let second = world.read("pid");
    if let Some(second) = second.trim().parse().ok().and_then(ProcessId::of) {
        let _ = second.signal(Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_killed_caller_left_is_ended_before_the_next() {
    let world = World::new();
    let body = r#"echo $$ > "pid-$1"; if [ "$1" = deploy ]; then trap '' TERM; sleep 600 & while :; do sleep 0.05; done; fi"#;
    world.script("deploy.sh", body);
    let release = script_release("v1", script_spec());
    let cx = step_cx("1");
    let target = world.script_target(false);
    let (running, record) = {
        let release = release.clone();
        let running =
            tokio::spawn(async move { start_with(&target, Slot::A, &release, 1, &cx).await });
        let deploy = pid_in(&world.folder().join("pid-deploy")).await;
        let record = world.state().join("scripts/shop/production/web.run.json");
        until("recorded", || record.exists()).await;
        assert!(deploy.is_alive());
        (running, record)
    };
    // As another process would find it, with the first caller unable to clean up.
    let deploy = pid_in(&world.folder().join("pid-deploy")).await;
    assert!(std::fs::read_to_string(record).unwrap().contains(&format!("{}", deploy.pid)));
    let action = TargetAction::Start {
        unit: unit(Slot::A),
        release,
        deployment: 2,
        restore: true,
        revert: None,
        batch: None,
    };
    world.script_target(false).apply(&action, &step_cx("2")).await.unwrap();
    assert!(!deploy.is_alive(), "never two calls at a time");
    let left = tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(left.unwrap_err().class, ErrorClass::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_does_no_harm() {
    let world = World::new();
    world.script("deploy.sh", r"head -c 60000000 /dev/zero | tr '\0' x; echo; echo finished");
    let release = script_release("v1", script_spec());
    let receipt = start(&world.script_target(false), Slot::A, &release, 1).await.unwrap();
    assert_eq!(receipt.message, "finished");
    start(&world.script_target(false), Slot::A, &release, 1).await.unwrap();
    let kept =
        std::fs::metadata(world.state().join("scripts/shop/production/web-a.out")).unwrap().len();
    assert!(kept < 130_000_000, "{kept}");
}
