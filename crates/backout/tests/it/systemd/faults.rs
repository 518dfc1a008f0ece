//! After each fault users are on a good release, the ledger is true, and the message is clear.

use super::Shop;
use crate::support::Service;

#[test]
fn what_is_wrong_beforehand_changes_nothing() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    let pid = shop.machine.property(&shop.unit(""), "MainPID");
    std::fs::remove_file(shop.world.folder().join("app")).unwrap();
    shop.world.deploy("v2").expect(1).says("failed to read artifact `app`");
    shop.build(Service::default());
    let good = shop.text(false, "Restart=always\nRestartSec=100ms\n");
    shop.machine.install(&shop.file(false), "[Service]\nExecStart=\n");
    shop.world.deploy("v2").expect(1).says(&shop.file(false));
    shop.machine.install(&shop.file(false), &good);
    shop.expect_serving("v1");
    assert_eq!(shop.machine.property(&shop.unit(""), "MainPID"), pid);
    assert_eq!(shop.world.story(), ["#1 deploy v1 stable"]);
}

#[test]
fn a_release_that_dies_again_and_again_is_taken_back() {
    // Restarted without an end, and given up by systemd itself.
    for limit in ["StartLimitIntervalSec=0\n", "StartLimitIntervalSec=600\nStartLimitBurst=3\n"] {
        let shop = Shop::with(false, &format!("Restart=always\nRestartSec=50ms\n[Unit]\n{limit}"));
        shop.world.deployed("v1");
        shop.build(Service { before: "echo out of memory >&2; exit 9", ..Service::default() });
        let ran = shop.world.deploy("v2").expect(10);
        assert_eq!(ran.json()["rollback"]["status"], "completed", "{}", ran.stderr);
        shop.expect_serving("v1");
        assert_eq!(shop.state(""), "active");
        assert_eq!(shop.world.story()[1], "#2 deploy v2 rolled_back rejected", "{limit}");
    }
}

#[test]
fn a_unit_that_never_becomes_active_is_taken_back() {
    let shop = Shop::with(true, "Type=notify\nNotifyAccess=all\nTimeoutStartSec=3s\n");
    let ready = Service { before: "systemd-notify --ready", ..Service::default() };
    shop.build(ready);
    shop.world.deployed("v1");
    shop.build(Service { before: "sleep 3000", ..Service::default() });
    let load = shop.world.load();
    shop.world.deploy("v2").expect(10);
    shop.expect_serving("v1");
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users met {tally:?}");
    assert_eq!((shop.state("a"), shop.state("b")), ("active".to_owned(), "inactive".to_owned()));
    assert_eq!(shop.world.story()[1], "#2 deploy v2 rolled_back rejected");
}

#[test]
fn a_unit_that_was_changed_since_stands_in_readiness_and_holds_an_unasked_way_back_up() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    shop.build(Service { before: "# another build", ..Service::default() });
    shop.world.deployed("v2");
    shop.install(false, "Restart=always\nRestartSec=100ms\nNice=3\n");
    let status = shop.world.run(&["status", "--check", "--format", "json"]).expect(0).json();
    let readiness = &status["environments"][0]["rollback_readiness"];
    assert_eq!(readiness["ready"], false, "{readiness:#}");
    let checks = readiness["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["name"] == "unit_files_unchanged").unwrap();
    assert_eq!(check["status"], "error");
    assert!(check["message"].as_str().unwrap().contains("was changed"), "{check:#}");
    let ran = shop.world.rollback(&["--force"]).expect(4);
    assert!(ran.stderr.contains("unit_files_unchanged"), "{}", ran.stderr);
    shop.expect_serving("v2");
    shop.world.rollback(&["--force", "--override", "unit_files_unchanged"]).expect(0);
    shop.expect_serving("v1");
}

#[test]
fn a_unit_that_is_changed_while_a_release_bakes_holds_no_automatic_way_back_up() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    shop.build(Service { flags: "--exit-after-ms 2500", ..Service::default() });
    let yaml = shop.world.read("backout.yaml").replace("bake_time: 1s", "bake_time: 1m");
    let yaml =
        yaml.replace("consecutive_passes: 2", "consecutive_passes: 2\n  startup_failures: 1");
    shop.world.write("backout.yaml", &yaml);
    let deploying = shop.world.deploying("v2");
    shop.world.wait_for_step("bake");
    shop.install(false, "Restart=no\nNice=3\n");
    deploying.wait().expect(10);
    shop.expect_serving("v1");
}

#[test]
fn a_command_that_is_killed_during_the_start_converges() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    for at in ["after_intent/start:1", "after_effect/start:1"] {
        let build = format!("# a build for {at}");
        shop.build(Service { before: &build, ..Service::default() });
        shop.world.run_killed(&["deploy", "--version", "v2", "--yes"], at);
        let ran = shop.world.run(&["recover", "--yes", "--format", "json"]);
        assert!(matches!(ran.code, Some(0 | 10)), "{:?} {}", ran.code, ran.stderr);
        let live = shop.world.status()["version"].as_str().unwrap().to_owned();
        shop.expect_serving(&live);
        shop.world.deployed("v1");
        shop.expect_serving("v1");
    }
}

#[test]
fn a_folder_that_can_not_be_written_leaves_users_where_they_are() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    let pid = shop.machine.property(&shop.unit(""), "MainPID");
    let releases = shop.world.folder().join("releases");
    let mount = |args: &[&str]| {
        let mut command = std::process::Command::new("mount");
        assert!(command.args(args).arg(&releases).status().unwrap().success(), "{args:?}");
    };
    mount(&["--bind", &releases.display().to_string()]);
    mount(&["-o", "remount,ro,bind"]);
    shop.build(Service { before: "# another build", ..Service::default() });
    let ran = shop.world.deploy("v2");
    let unmounted = std::process::Command::new("umount").arg(&releases).status().unwrap();
    assert!(unmounted.success());
    assert!(matches!(ran.code, Some(1 | 10)), "{:?} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("ead-only file system"), "{}", ran.stderr);
    shop.expect_serving("v1");
    assert_eq!(shop.machine.property(&shop.unit(""), "MainPID"), pid, "it was never stopped");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
}
