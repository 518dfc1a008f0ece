//! A script on several hosts, each a real sshd with a home folder of its own.

use std::fs;

use backout_testkit::SshServers;
use serde_json::Value;

use super::{Background, Ran, Services, World, write_program};

/// Notes every call; keeps what runs, of each service where there are several. `fail-VERB` and `hang-VERB` in its
/// folder make a verb fail or wait, `fail-VERB-SERVICE` only of that service.
const SCRIPT: &str = r#"#!/bin/sh
s="$BACKOUT_SERVICE" of=""
[ "$s" = shop ] || of="-$s"
echo "$1${of:+ $s} $BACKOUT_VERSION" >> calls
[ "$1" = status ] || { echo "$1 of $s $BACKOUT_VERSION on $PWD"; echo "$1 of $s says this to stderr" >&2; }
[ -e "hang-$1" ] && sleep 60
[ -e "fail-$1" ] && exit "$(cat "fail-$1")"
[ -e "fail-$1-$s" ] && exit "$(cat "fail-$1-$s")"
case "$1" in
  deploy|rollback) echo "$BACKOUT_VERSION" > "runs$of" ;;
  status) cat "runs$of" 2>/dev/null; exit 0 ;;
  stop) rm -f "runs$of" ;;
  *) exit 64 ;;
esac
"#;

/// Hosts `host0`, `host1` and so on, and a world that deploys to them.
pub struct Fleet {
    pub servers: SshServers,
    pub world: World,
    pub count: usize,
    services: Vec<(String, String)>,
}

impl Fleet {
    /// One service, `shop`; `more` are top-level lines of `backout.yaml`, `ssh` further keys under `ssh`.
    pub fn new(count: usize, more: &str, ssh: &str) -> Self {
        Self::of(count, &[], more, ssh)
    }

    /// With these services.
    pub fn of(count: usize, services: &[(&str, &str)], more: &str, ssh: &str) -> Self {
        let servers = SshServers::start(count);
        let world = World::bare();
        // Where control sockets of this world are.
        let sockets = world.root().join("run");
        fs::create_dir(&sockets).unwrap();
        world.set("XDG_RUNTIME_DIR", &sockets.display().to_string());
        for index in 0..count {
            let folder = servers.home(index).join("shop");
            fs::create_dir(&folder).unwrap();
            write_program(&folder.join("deploy.sh"), SCRIPT);
        }
        let owned = |(name, keys): &(&str, &str)| ((*name).to_owned(), (*keys).to_owned());
        let services = services.iter().map(owned).collect();
        let this = Self { servers, world, count, services };
        this.configure(more, ssh);
        this
    }

    /// The check runs here and looks into the home folder of its host: a version with `bad` in it fails.
    pub fn configure(&self, more: &str, ssh: &str) {
        let homes = self.servers.home(0).parent().unwrap().display().to_string();
        self.world.script(
            "check.sh",
            &format!(
                "#!/bin/sh\nof=\"-$BACKOUT_SERVICE\"\n[ \"$BACKOUT_SERVICE\" = shop ] && of=\"\"\n\
                 ! grep -q bad \"{homes}/home${{2#host}}/shop/runs$of\"\n"
            ),
        );
        let hosts: Vec<String> = (0..self.count).map(|index| format!("host{index}")).collect();
        let mut yaml = Services::on("{ script: { program: ./deploy.sh, timeout: 20s } }")
            .health(r#"exec: { command: [./check.sh, "{slot}", "{host}"], timeout: 8s }"#)
            .extra(&format!("hosts: [{}]", hosts.join(", ")))
            .extra(&format!(
                "ssh: {{ config: {}, folder: shop, jitter: 0s, connect_timeout: 5s{ssh} }}",
                self.servers.config().display()
            ))
            .extra(more);
        for (name, keys) in &self.services {
            yaml = yaml.and(name, keys);
        }
        self.world.write("backout.yaml", &yaml.text());
    }

    /// `backout ARGS --local-ledger`.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&[args, &["--local-ledger"]].concat())
    }

    #[track_caller]
    pub fn deploy(&self, version: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--yes"])
    }

    /// `deploy --service SERVICE`.
    #[track_caller]
    pub fn deploy_alone(&self, version: &str, service: &str) -> Ran {
        self.run(&["deploy", "--version", version, "--service", service, "--yes"])
    }

    pub fn deploying(&self, version: &str) -> Background {
        self.world.spawn(&["deploy", "--version", version, "--yes", "--local-ledger"])
    }

    pub fn file(&self, index: usize, name: &str) -> String {
        fs::read_to_string(self.servers.home(index).join("shop").join(name)).unwrap_or_default()
    }

    pub fn put(&self, index: usize, name: &str, text: &str) {
        fs::write(self.servers.home(index).join("shop").join(name), text).unwrap();
    }

    pub fn remove(&self, index: usize, name: &str) {
        fs::remove_file(self.servers.home(index).join("shop").join(name)).unwrap();
    }

    /// What runs, host by host.
    pub fn runs(&self) -> Vec<String> {
        (0..self.count).map(|index| self.file(index, "runs").trim().to_owned()).collect()
    }

    /// What runs of one of several services, host by host.
    pub fn runs_of(&self, service: &str) -> Vec<String> {
        let file = format!("runs-{service}");
        (0..self.count).map(|index| self.file(index, &file).trim().to_owned()).collect()
    }

    /// What changed something on a host.
    pub fn changes(&self, index: usize) -> Vec<String> {
        let calls = self.file(index, "calls");
        calls.lines().filter(|call| !call.starts_with("status")).map(str::to_owned).collect()
    }

    /// Host and health of each service on each host.
    pub fn services(&self) -> Vec<(String, String)> {
        let status = self.world.status();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let rows = status["services"].as_array().unwrap().iter();
        rows.map(|row| (text(row, "host"), text(row, "health"))).collect()
    }

    /// Folders of control sockets that are there now.
    pub fn socket_folders(&self) -> Vec<String> {
        let names = fs::read_dir(self.world.root().join("run")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
