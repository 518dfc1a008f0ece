//! Working trees on two hosts, each a real sshd, of which one goes away.

use std::fs;

use backout_testkit::SshServers;

use super::git_in;
use crate::support::{Ran, World};

struct Trees {
    world: World,
    servers: SshServers,
}

impl Trees {
    /// Each host has a repository `site` of its own; `app.txt` holds the version.
    fn new() -> Self {
        let (world, servers) = (World::bare(), SshServers::start(2));
        for index in 0..2 {
            let tree = servers.home(index).join("site");
            fs::create_dir(&tree).unwrap();
            git_in(&tree, &["init", "--quiet", "--initial-branch=main"]);
            for label in ["v1", "v2"] {
                fs::write(tree.join("app.txt"), label).unwrap();
                git_in(&tree, &["add", "--all"]);
                // The same commits on both.
                let date = "--date=2026-01-01T00:00:00Z";
                git_in(&tree, &["commit", "--quiet", date, "--message", label]);
                git_in(&tree, &["tag", label]);
            }
        }
        world.write(
            "backout.yaml",
            &format!(
                "app: site\ntarget: {{ git: {{ repository: site }} }}\nhosts: [host0, host1]\n\
                 ssh: {{ config: {}, jitter: 0s, connect_timeout: 5s }}\n\
                 health: {{ exec: {{ command: [\"true\"] }} }}\nbake_time: 1s\n",
                servers.config().display()
            ),
        );
        Self { world, servers }
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&[args, &["--local-ledger"]].concat())
    }

    fn apps(&self) -> [String; 2] {
        [0, 1].map(|index| {
            fs::read_to_string(self.servers.home(index).join("site/app.txt")).unwrap_or_default()
        })
    }
}

#[test]
fn a_host_that_is_away_keeps_no_other_from_going_back() {
    let mut trees = Trees::new();
    for version in ["v1", "v2"] {
        trees.run(&["deploy", "--version", version, "--yes"]).expect(0);
    }
    assert_eq!(trees.apps(), ["v2", "v2"]);
    trees.servers.stop(1);
    let ran = trees.run(&["rollback", "--force", "--yes"]).expect(12);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("failed to reach host1"), "{said}");
    assert_eq!(trees.apps(), ["v1", "v2"]);
    trees.servers.start_again(1);
    trees.run(&["recover", "--yes"]).expect(0);
    assert_eq!(trees.apps(), ["v1", "v1"]);
}
