//! What is swept: every kind of operation, of every strategy, on a script that counts its calls and on real
//! processes behind the real proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Background, Service, World, Yaml, wait_until};

/// What the application runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A script that replaces in place.
    Script,
    /// A script that moves traffic, too.
    ScriptStages,
    /// Processes behind the built-in proxy.
    Canary,
    BlueGreen,
    Recreate,
    /// A process on a port of its own, without a proxy.
    Alone,
}

/// What happened before the command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Calm,
    /// A deploy of the new version was killed at this instant.
    CutOff(&'static str),
    /// A deploy of the new version holds its first stage, and lives.
    Holding,
}

/// One kind of operation.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    pub target: Target,
    /// Deployed before, one after the other.
    pub live: &'static [&'static str],
    pub before: Before,
    /// The command that is killed.
    pub command: &'static [&'static str],
    /// The command after it, again and again until one lives.
    pub then: &'static [&'static str],
    /// Versions that may be live in the end; `-` for none.
    pub ends: &'static [&'static str],
    /// A version whose build is bad.
    pub bad: bool,
    /// What runs in the end, where nothing is live any more.
    pub goes_on: Option<&'static str>,
}

const DEPLOY: &[&str] = &["deploy", "--version", "v2", "--yes"];
const FIRST: &[&str] = &["deploy", "--version", "v1", "--yes"];
pub const ROLLBACK: &[&str] = &["rollback", "--force", "--yes", "--reason", "swept"];
const RECOVER: &[&str] = &["recover", "--yes"];
const ABORT: &[&str] = &["abort", "--yes"];
const PROMOTE: &[&str] = &["promote"];
const DOWN: &[&str] = &["down", "--yes"];
pub const DRILL: &[&str] = &["drill", "--yes"];
pub const EJECT: &[&str] = &["eject", "--yes"];
const HOLD: &str = "after_intent/hold_50:1";

const fn scene(name: &'static str, target: Target, command: &'static [&'static str]) -> Scene {
    let (live, ends): (&[&str], &[&str]) = (&["v1"], &["v1", "v2"]);
    let before = Before::Calm;
    let then = RECOVER;
    Scene { name, target, live, before, command, then, ends, bad: false, goes_on: None }
}

const fn first(name: &'static str, target: Target) -> Scene {
    Scene { live: &[], ends: &["-", "v1"], ..scene(name, target, FIRST) }
}

const fn bad(name: &'static str, target: Target) -> Scene {
    Scene { bad: true, ends: &["v1"], ..scene(name, target, DEPLOY) }
}

const fn back(name: &'static str, target: Target) -> Scene {
    // Before it had begun, there was nothing to recover.
    Scene { live: &["v1", "v2"], ends: &["v1", "v2"], ..scene(name, target, ROLLBACK) }
}

/// After a kill a person goes back: never forward first.
const fn then_back(name: &'static str, target: Target) -> Scene {
    Scene {
        live: &["v0", "v1"],
        then: ROLLBACK,
        ends: &["v0", "v1"],
        ..scene(name, target, DEPLOY)
    }
}

const fn after(
    name: &'static str,
    target: Target,
    before: Before,
    command: &'static [&'static str],
) -> Scene {
    Scene { before, ..scene(name, target, command) }
}

/// A person's rollback takes over a deploy that lives.
const fn over(name: &'static str, target: Target) -> Scene {
    Scene { before: Before::Holding, command: ROLLBACK, ..then_back(name, target) }
}

/// The way back is rehearsed: what is live stays that.
const fn drill(name: &'static str, target: Target) -> Scene {
    Scene { live: &["v1", "v2"], ends: &["v2"], ..scene(name, target, DRILL) }
}

/// A drill that was cut off, and then a person goes back in earnest.
const fn drill_then_back(name: &'static str, target: Target) -> Scene {
    Scene { live: &["v0", "v1", "v2"], then: ROLLBACK, ends: &["v0", "v1"], ..drill(name, target) }
}

/// Backout goes, what runs stays.
const fn eject(name: &'static str, target: Target) -> Scene {
    Scene { ends: &["-", "v1"], goes_on: Some("v1"), ..scene(name, target, EJECT) }
}

/// Whatever an eject has left undone, the next deploy begins afresh over what runs.
const fn eject_then_deploy(name: &'static str, target: Target) -> Scene {
    Scene { then: DEPLOY, ends: &["v2"], goes_on: None, ..eject(name, target) }
}

/// All of them.
pub const SCENES: &[Scene] = &[
    first("script first", Target::Script),
    scene("script deploy", Target::Script, DEPLOY),
    scene("script stages deploy", Target::ScriptStages, DEPLOY),
    bad("script bad", Target::Script),
    bad("script stages bad", Target::ScriptStages),
    back("script rollback", Target::Script),
    back("script stages rollback", Target::ScriptStages),
    then_back("script deploy then rollback", Target::Script),
    then_back("script stages deploy then rollback", Target::ScriptStages),
    after("script stages abort", Target::ScriptStages, Before::CutOff(HOLD), ABORT),
    after("script stages promote", Target::ScriptStages, Before::CutOff(HOLD), PROMOTE),
    over("script stages take-over", Target::ScriptStages),
    Scene { ends: &["-", "v1"], ..scene("script down", Target::ScriptStages, DOWN) },
    first("process first", Target::Canary),
    scene("process canary", Target::Canary, DEPLOY),
    scene("process blue-green", Target::BlueGreen, DEPLOY),
    scene("process recreate", Target::Recreate, DEPLOY),
    bad("process bad", Target::Canary),
    back("process rollback", Target::BlueGreen),
    after(
        "process rollback to warm",
        Target::Canary,
        Before::CutOff("after_intent/bake:1"),
        ROLLBACK,
    ),
    then_back("process deploy then rollback", Target::Canary),
    after("process abort", Target::Canary, Before::CutOff(HOLD), ABORT),
    after("process promote", Target::Canary, Before::CutOff(HOLD), PROMOTE),
    over("process take-over", Target::Canary),
    Scene { ends: &["-", "v1"], ..scene("process down", Target::BlueGreen, DOWN) },
    drill("script drill", Target::Script),
    drill("process drill", Target::BlueGreen),
    drill("process alone drill", Target::Alone),
    drill_then_back("process drill then rollback", Target::BlueGreen),
    eject("script eject", Target::Script),
    eject("process alone eject", Target::Alone),
    eject_then_deploy("script eject then deploy", Target::Script),
    eject_then_deploy("process alone eject then deploy", Target::Alone),
];

/// Notes every call that changes something under its step, keeps per slot what runs, and where traffic goes.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = status ] || echo "$BACKOUT_STEP_ID $1 $2" >> calls
case "$1" in
  deploy|rollback) echo "$BACKOUT_VERSION" > "runs-$BACKOUT_SLOT" ;;
  update-traffic) echo "$2 $BACKOUT_SLOT" >> traffic ;;
  status) cat "runs-$BACKOUT_SLOT" 2>/dev/null; exit 0 ;;
  stop) rm -f "runs-$BACKOUT_SLOT" ;;
  *) exit 64 ;;
esac
"#;

/// A version that is listed in `bad` fails its check.
const CHECK: &str = "#!/bin/sh\n[ -s \"runs-$1\" ] && ! grep -qsxFf bad \"runs-$1\"\n";

/// A file that counts the starts of a real program.
pub const STARTS: &str = "starts";

impl Scene {
    pub fn is_script(&self) -> bool {
        matches!(self.target, Target::Script | Target::ScriptStages)
    }

    /// Users are served all the time: two sides behind the proxy, and something live before.
    pub fn serves_throughout(&self) -> bool {
        matches!(self.target, Target::Canary | Target::BlueGreen)
            && !self.live.is_empty()
            && self.command != DOWN
    }

    fn yaml(&self) -> String {
        let stages = match self.target {
            Target::ScriptStages => {
                "router: script\nstrategy: { canary: { stages: [50], hold: 100ms, hold_max: 1s, on_no_data: promote } }\n"
            }
            _ => "",
        };
        format!(
            r#"app: shop
target: {{ script: {{ program: ./deploy.sh, timeout: 20s }} }}
health:
  exec: {{ command: [./check.sh, "{{slot}}"], timeout: 8s }}
  during_rollout: {{ interval: 50ms }}
  consecutive_passes: 2
  startup_timeout: 40s
bake_time: 100ms
{stages}"#
        )
    }

    fn processes(&self) -> Yaml {
        let yaml = match self.target {
            Target::BlueGreen => Yaml::blue_green(),
            Target::Recreate => Yaml::recreate(),
            Target::Alone => Yaml {
                router: String::new(),
                process: "artifact: app, port: LISTEN".to_owned(),
                ..Yaml::recreate()
            },
            _ => Yaml {
                strategy:
                    "{ canary: { stages: [50], hold: 200ms, hold_max: 3s, on_no_data: promote } }"
                        .to_owned(),
                ..Yaml::default()
            },
        };
        Yaml { bake: "200ms".to_owned(), ..yaml }
    }

    /// A world in which the command is about to be given.
    pub fn prepared(&self) -> World {
        let world = World::bare();
        if self.is_script() {
            world.script("deploy.sh", SCRIPT);
            world.script("check.sh", CHECK);
            world.write("bad", "");
            world.write("backout.yaml", &self.yaml());
        } else {
            world.configure(&self.processes());
            world.build(self.program(false));
        }
        for version in self.live {
            world.deployed(version);
        }
        if self.bad && self.is_script() {
            world.write("bad", "v2\n");
        } else if self.bad {
            world.build(self.program(true));
        }
        if let Before::CutOff(at) = self.before {
            world.run_killed(DEPLOY, at);
        }
        world
    }

    fn program(&self, bad: bool) -> Service<'static> {
        let flags = if bad { "--health-unhealthy" } else { "" };
        Service { flags, before: "echo \"$1\" >> starts", ..Service::default() }
    }

    /// The same world as another one that stands still: only files, so it can be copied.
    pub fn copied(&self, template: &World) -> World {
        let world = World::bare();
        for (from, to) in
            [(template.folder(), world.folder()), (template.state_dir(), world.state_dir())]
        {
            if from.exists() {
                copy(&from, &to);
            }
        }
        world
    }

    /// Whoever works while the command comes.
    pub fn beside(&self, world: &World) -> Option<Background> {
        if self.before != Before::Holding {
            return None;
        }
        let yaml = world.read("backout.yaml");
        let long = yaml.replace("hold: 100ms", "hold: 10m").replace("hold: 200ms", "hold: 10m");
        let long =
            long.replace("hold_max: 1s", "hold_max: 20m").replace("hold_max: 3s", "hold_max: 20m");
        world.write("backout.yaml", &long);
        let deploy = world.spawn(DEPLOY);
        wait_until("the hold", || world.status()["operation"]["step"] == "hold_50");
        world.write("backout.yaml", &yaml);
        Some(deploy)
    }
}

/// Ends whoever works beside, at once.
pub fn kill(beside: Option<Background>) {
    if let Some(mut beside) = beside {
        if beside.runs() {
            beside.signal(Signal::KILL);
        }
        beside.wait();
    }
}

/// A folder with modes and times.
pub fn copy(from: &Path, to: &Path) {
    for _ in 0..20 {
        let source = from.join(".");
        if Command::new("cp").arg("-a").arg(source).arg(to).status().unwrap().success() {
            return;
        }
        // A script that is still at work there removed a file meanwhile.
        for entry in fs::read_dir(to).unwrap() {
            let path = entry.unwrap().path();
            let gone =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.unwrap();
        }
    }
    panic!("failed to copy {}", from.display());
}

/// The scene of this name.
pub fn scene_of(name: &str) -> Scene {
    *SCENES.iter().find(|scene| scene.name == name).unwrap()
}
