//! A disk that is really full: a small one in a mount namespace of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Background, Ran, World, Yaml, wait_until};

/// The state folder of a world on a small disk. Gone with this.
pub(crate) struct SmallDisk<'a> {
    world: &'a World,
    holder: Child,
}

impl<'a> SmallDisk<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        std::fs::create_dir(world.state_dir()).unwrap();
        let script =
            r#"mount -t tmpfs -o size=26m,mode=0700 none "$1" && echo ready && exec sleep 600"#;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(world.state_dir())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) is needed to make a small disk");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "needs user namespaces");
        Self { world, holder }
    }

    /// A command where the small disk is.
    fn inside(&self, argv: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--mount", "--target"]);
        command.arg(self.holder.id().to_string());
        command.arg(format!("--wd={}", self.world.folder().display()));
        command.arg("--").arg(argv.get_program()).args(argv.get_args());
        for (key, value) in argv.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.spawn(args).wait()
    }

    pub(crate) fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes", "--format", "json"])
    }

    /// Uses up all space, or gives it back.
    pub(crate) fn fill(&self, full: bool) {
        let script = if full {
            r#"dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null; dd if=/dev/zero of="$1/filler2" bs=1 2>/dev/null; true"#
        } else {
            r#"rm -f "$1/filler" "$1/filler2""#
        };
        self.shell(script, "");
    }

    /// Uses up all space but so much.
    fn leave(&self, kib: u32) {
        let script =
            r#"dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null; truncate -s "-${2}K" "$1/filler""#;
        self.shell(script, &kib.to_string());
    }

    fn shell(&self, script: &str, argument: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(self.world.state_dir()).arg(argument);
        assert!(self.inside(&command).status().unwrap().success());
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Background {
        self.world.spawn_command(self.inside(&self.world.command(args)))
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).expect(0).json()["environments"][0].clone()
    }

    fn version(&self) -> String {
        self.status()["version"].as_str().unwrap_or("-").to_owned()
    }

    pub(crate) fn wait_for_step(&self, step: &str) {
        wait_until(step, || self.status()["operation"]["step"] == step);
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--yes"]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_deploy_is_refused_and_a_rollback_still_works() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    disk.deploy("v2").expect(0);
    disk.fill(true);
    let ran = disk.deploy("v3");
    assert!(matches!(ran.code, Some(1 | 4)), "{ran:?}");
    assert!(ran.stderr.contains("full") || ran.stderr.contains("space"), "{}", ran.stderr);
    world.expect_serving("v2");
    assert_eq!(disk.version(), "v2", "reading needs no space");
    let ran = disk.run(&["rollback", "--force", "--yes"]).expect(0);
    assert!(ran.stderr.contains("full"), "{}", ran.stderr);
    world.expect_serving("v1");
    assert_eq!(disk.version(), "v1");
    disk.fill(false);
    disk.deploy("v4").expect(0);
    world.expect_serving("v4");
    assert_eq!(world.running(), ["v4"]);
}

#[test]
fn nothing_begins_on_a_disk_that_was_full_before() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.fill(true);
    let ran = disk.deploy("v1").expect(1).says("no space left");
    ran.says(&world.state_dir().display().to_string());
    assert!(world.processes().is_empty(), "{:?}", world.processes());
    disk.fill(false);
    disk.deploy("v1").expect(0);
    world.expect_serving("v1");
}

#[test]
fn a_warm_side_is_gone_back_to_on_a_full_disk() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    world.configure(&Yaml::blue_green().bake("10m"));
    let deploy = disk.spawn(&["deploy", "--version", "v2", "--yes"]);
    disk.wait_for_step("bake");
    world.expect_serving("v2");
    disk.fill(true);
    // Its watcher may still run, or may have had to give up: either way a person gets back.
    disk.run(&["rollback", "--force", "--yes"]).expect(0);
    world.expect_serving("v1");
    assert_ne!(deploy.wait().code, Some(0));
    disk.fill(false);
    assert_eq!(disk.status()["operation"], Value::Null);
    assert_eq!((disk.version().as_str(), world.running()), ("v1", vec!["v1".to_owned()]));
}

#[test]
fn a_canary_on_a_disk_that_fills_up_is_taken_back_by_a_person() {
    let world = World::new(&Yaml::default());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    world.configure(&Yaml::long_hold());
    let deploy = disk.spawn(&["deploy", "--version", "v2", "--yes"]);
    disk.wait_for_step("hold_50");
    disk.fill(true);
    disk.run(&["rollback", "--yes"]).expect(0);
    world.expect_serving("v1");
    assert_ne!(deploy.wait().code, Some(0));
    disk.fill(false);
    let status = disk.status();
    assert_eq!((&status["version"], &status["operation"]), (&"v1".into(), &Value::Null));
    assert_eq!(world.running(), ["v1"]);
}

/// Enough to open the ledger and to claim, and too little to end: as with nothing left, the reserve is used.
#[test]
fn a_rollback_works_with_hardly_any_room() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    for (left, version) in [(48, "v2"), (160, "v3")] {
        disk.deploy(version).expect(0);
        disk.leave(left);
        disk.run(&["rollback", "--force", "--yes"]).expect(0);
        world.expect_serving("v1");
        assert_eq!(disk.version(), "v1", "{left} KiB");
        disk.fill(false);
    }
}

#[test]
fn an_abort_works_on_a_full_disk() {
    let world = World::new(&Yaml::default());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    world.configure(&Yaml::long_hold());
    let deploy = disk.spawn(&["deploy", "--version", "v2", "--yes"]);
    disk.wait_for_step("hold_50");
    disk.fill(true);
    disk.run(&["abort", "--yes"]).expect(0);
    deploy.wait();
    world.expect_serving("v1");
    disk.fill(false);
    let status = disk.status();
    assert_eq!((&status["version"], &status["operation"]), (&"v1".into(), &Value::Null));
    assert_eq!(world.running(), ["v1"]);
}

/// Cut off in the middle of going back, then the disk is full: `recover` may use the reserve as `rollback` may.
#[test]
fn a_rollback_that_was_cut_off_is_finished_on_a_full_disk() {
    for boundary in ["before_effect/shift_traffic:1", "after_effect/shift_traffic:1"] {
        let world = World::new(&Yaml::blue_green());
        let disk = SmallDisk::new(&world);
        disk.deploy("v1").expect(0);
        disk.deploy("v2").expect(0);
        let mut rollback = world.command(&["rollback", "--force", "--yes"]);
        rollback.env("BACKOUT_KILL_AT", boundary);
        let ran = world.spawn_command(disk.inside(&rollback)).wait();
        assert_eq!(ran.signal, Some(9), "{ran:?}");
        disk.fill(true);
        disk.run(&["recover", "--yes"]).expect(0);
        world.expect_serving("v1");
        disk.fill(false);
        assert_eq!(
            (disk.status()["operation"].clone(), disk.version()),
            (Value::Null, "v1".to_owned())
        );
    }
}

/// Nobody is there: what watches takes it back, with the space that is reserved for that.
#[test]
fn a_release_that_goes_bad_on_a_full_disk_is_taken_back() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    world.configure(&Yaml::blue_green().bake("10m").impatient());
    let deploy = disk.spawn(&["deploy", "--version", "v2", "--yes"]);
    disk.wait_for_step("bake");
    world.expect_serving("v2");
    disk.fill(true);
    // It hangs, as programs do.
    world.program_of("v2").signal(rustix::process::Signal::STOP);
    deploy.wait().expect(10);
    world.expect_serving("v1");
    disk.fill(false);
    assert_eq!(
        (disk.status()["operation"].clone(), disk.version()),
        (Value::Null, "v1".to_owned())
    );
}
