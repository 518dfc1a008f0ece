//! A disk that is really full: a small one in a mount namespace of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Ran, World, Yaml};

/// The state folder of a world on a small disk. Gone with this.
struct SmallDisk<'a> {
    world: &'a World,
    holder: Child,
}

impl<'a> SmallDisk<'a> {
    fn new(world: &'a World) -> Self {
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

    fn run(&self, args: &[&str]) -> Ran {
        self.world.spawn_command(self.inside(&self.world.command(args))).wait()
    }

    fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes", "--format", "json"])
    }

    /// Uses up all space, or gives it back.
    fn fill(&self, full: bool) {
        let script = if full {
            r#"dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null; dd if=/dev/zero of="$1/filler2" bs=1 2>/dev/null; true"#
        } else {
            r#"rm -f "$1/filler" "$1/filler2""#
        };
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(self.world.state_dir());
        assert!(self.inside(&command).status().unwrap().success());
    }

    fn version(&self) -> String {
        let json = self.run(&["status", "--format", "json"]).expect(0).json();
        json["environments"][0]["version"].as_str().unwrap_or("-").to_owned()
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
