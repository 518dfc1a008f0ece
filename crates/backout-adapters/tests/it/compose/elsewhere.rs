//! An engine that is reached over ssh, through a real sshd.

use std::sync::Arc;
use std::time::Duration;

use backout_adapters::host::{SshHost, SshOptions};
use backout_core::ids::{HostName, Slot, Unit};
use backout_core::ports::{AdapterError, ErrorClass, Running, Target, TargetAction};
use backout_testkit::docker::Engine;
use backout_testkit::sshd::SshServers;

use super::bench::{Bench, WEB};

/// A bench whose engine is that of `host0`, which knows it by a link in the home folder of its login.
pub struct Elsewhere {
    pub bench: Bench,
    pub servers: SshServers,
}

impl Elsewhere {
    pub fn with_images() -> Self {
        Self::on(Bench::with_images(false))
    }

    fn on(mut bench: Bench) -> Self {
        let servers = SshServers::start(1);
        let link = servers.home(0).join("docker.sock");
        std::os::unix::fs::symlink(bench.engine.folder().join("socket"), link).unwrap();
        bench.elsewhere = Some((host(&servers), "docker.sock".to_owned()));
        Self { bench, servers }
    }

    /// The error of `parts`, `doctor` and the like.
    async fn refusal(&self) -> AdapterError {
        self.bench.try_release("v1").await.unwrap_err()
    }
}

fn host(servers: &SshServers) -> Arc<SshHost> {
    Arc::new(SshHost::new(SshOptions {
        config: Some(servers.config()),
        connect_timeout: Duration::from_secs(20),
        alive_interval: Duration::from_secs(10),
        alive_count: 6,
        ..SshOptions::new(HostName::new("host0").unwrap())
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_there_is_seen_and_an_older_holder_does_nothing() {
    let it = Elsewhere::with_images();
    let bench = &it.bench;
    let (v1, v2) = (bench.release("v1").await, bench.release("v2").await);
    bench.start(Slot::A, &v1, 1).await.unwrap();
    let seen = bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    assert_eq!(seen.release, Some(v1.id.clone()));
    // They would mean something else here.
    assert_eq!((seen.address, seen.pid), (None, None));
    assert_eq!(it.servers.connections(0), 1, "one connection, whatever is asked");
    // Somebody with a newer lease was there.
    let mut cx = bench.cx("newer");
    cx.epoch += 1;
    let unit = bench.unit("web", Slot::A);
    let start = |release: &Arc<_>, deployment| TargetAction::Start {
        unit: unit.clone(),
        release: Arc::clone(release),
        deployment,
        restore: false,
        revert: None,
        batch: None,
    };
    bench.target().apply(&start(&v2, 2), &cx).await.unwrap_or_else(|e| panic!("{e}"));
    let before = bench.containers(&bench.project());
    let older = bench.target().apply(&start(&v1, 3), &bench.cx("older")).await.unwrap_err();
    assert!(
        older.class == ErrorClass::Permanent && older.message.contains("newer lease"),
        "{older}"
    );
    let stop = TargetAction::Stop { unit: unit.clone(), release: v2.clone(), grace_ms: 0 };
    let older = bench.target().apply(&stop, &bench.cx("older stop")).await.unwrap_err();
    assert!(older.message.contains("newer lease"), "{older}");
    assert_eq!(bench.containers(&bench.project()), before);
    assert_eq!(bench.observe(Slot::A, &v2).await.release, Some(v2.id.clone()));
    // Who asks for a host that is not one of them is told so.
    let gone = Unit { host: HostName::new("host9").unwrap(), ..unit };
    let error = bench.target().observe(&gone, Some(&v2)).await.unwrap_err();
    assert!(error.message.contains("`host9` does not stand under `hosts`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_in_the_middle_of_a_start_is_unknown_and_the_start_is_repeated() {
    let it = Elsewhere::with_images();
    let bench = &it.bench;
    let gate = it.servers.home(0).join("gate");
    std::fs::create_dir(&gate).unwrap();
    std::fs::write(gate.join("hold"), "").unwrap();
    // A path of the host itself may be mounted: it is there.
    let waits = format!(
        "{WEB}    depends_on: {{first: {{condition: service_completed_successfully}}}}\n  first:\n    \
         image: ${{IMAGE}}:${{TAG}}\n    init: true\n    \
         command: [/bin/busybox, sh, -c, \"while [ -e /gate/hold ]; do sleep 0.1; done\"]\n    \
         volumes: [\"{}:/gate\"]\n",
        gate.display()
    );
    bench.write("compose.yaml", &waits);
    let v1 = bench.release("v1").await;
    let cut = async {
        let running = ["ps", "-q", "--filter", "status=running", "--filter"];
        let label = format!("label=com.docker.compose.project={}", bench.project());
        while bench.engine.expect(&[&running[..], &[&label]].concat()).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        it.servers.kill_sessions(0);
    };
    let (started, ()) = tokio::join!(bench.start(Slot::A, &v1, 1), cut);
    let error = started.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    assert!(error.message.contains("docker compose up` went on host0"), "{error}");
    // It is looked at over a new connection; what has not begun is no such release.
    let seen = bench.observe(Slot::A, &v1).await;
    assert_ne!(seen.running, Running::Yes, "{seen:?}");
    std::fs::remove_file(gate.join("hold")).unwrap();
    bench.start(Slot::A, &v1, 1).await.unwrap_or_else(|e| panic!("{e}"));
    bench.until(Slot::A, &v1, |seen| seen.running == Running::Yes).await;
    bench.stop(Slot::A, &v1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_told_apart() {
    let mut it = Elsewhere::with_images();
    let v1 = it.bench.release("v1").await;
    let unit = it.bench.unit("web", Slot::A);
    // A port of that host.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    it.bench.write(".env", &format!("PORT={port}\n"));
    let obstacles = it.bench.target().obstacles(&unit, &v1).await.unwrap();
    assert!(
        obstacles.len() == 1
            && obstacles[0].contains(&format!("port {port} of web is taken on host0")),
        "{obstacles:?}"
    );
    it.bench.write(".env", "");
    // No socket, a socket that nobody may be led to, no host.
    let named = |socket: &str| (host(&it.servers) as Arc<_>, socket.to_owned());
    let mut other = it.bench.elsewhere.replace(named("gone.sock"));
    let error = it.bench.target().observe(&unit, Some(&v1)).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Transient
            && error.message.contains("Docker on host0")
            && error.message.contains("gone.sock"),
        "{error}"
    );
    std::fs::write(it.servers.home(0).join("file"), "").unwrap();
    it.bench.elsewhere = Some(named("file"));
    let error = it.bench.target().observe(&unit, Some(&v1)).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.message.contains("is not a socket"),
        "{error}"
    );
    let authorized = it.servers.config().with_file_name("authorized");
    let key = std::fs::read_to_string(&authorized).unwrap();
    std::fs::write(&authorized, format!("no-port-forwarding {key}")).unwrap();
    it.bench.elsewhere = Some(named("docker.sock"));
    let error = it.bench.target().observe(&unit, Some(&v1)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(error.hint.as_ref().unwrap().contains("permit forwarding"), "{error}");
    std::fs::write(&authorized, key).unwrap();
    it.servers.stop(0);
    it.bench.elsewhere = other.take();
    let error = it.bench.target().observe(&unit, Some(&v1)).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Transient
            && error.message.contains("failed to reach host0")
            && !error.to_string().contains("daemon"),
        "a host that can't be reached is not Docker's fault: {error}"
    );
    it.servers.start_again(0);
    it.bench.observe(Slot::A, &v1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_this_machine_are_refused_before_anything_is_changed() {
    let it = Elsewhere::on(Bench::new(false));
    for (more, words) in [
        ("    volumes: [\"./data:/data\"]\n", "web mounts `./data` of this machine"),
        ("    volumes: [\"../data:/data\"]\n", "web mounts `../data` of this machine"),
        ("    volumes: [\"~/data:/data\"]\n", "web mounts `~/data` of this machine"),
        ("    volumes: [{type: bind, source: data, target: /data}]\n", "web mounts `"),
        ("    configs: [c]\nconfigs: {c: {file: ./c.conf}}\n", "web mounts `./c.conf`"),
        ("    secrets: [s]\nsecrets: {s: {file: s.txt}}\n", "`secrets.s"),
        ("    build: .\n", "push its image to a registry"),
    ] {
        it.bench.write("compose.yaml", &format!("{WEB}{more}"));
        let error = it.refusal().await;
        let text = format!("{error} {}", error.hint.clone().unwrap_or_default());
        assert!(error.class == ErrorClass::Permanent || more.contains("build"), "{more}: {text}");
        assert!(text.replace("secrets.s its", "`secrets.s").contains(words), "{more}: {text}");
    }
    assert!(it.bench.containers(&it.bench.project()).is_empty());
    let images = Engine::shared().expect(&["image", "ls", "-q", &format!("{}/web", it.bench.app)]);
    assert_eq!(images, "");
}
