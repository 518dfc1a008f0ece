//! A proxy process, upstreams and clients.

pub mod client;
pub mod upstream;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use backout_proxy::{
    client::AdminClient,
    wire::{
        DeadManArm, Holder, Owner, PutArgs, RouteState, SideName, SideSpec, SideStats, StatsFrame,
        Weights,
    },
};
use tempfile::TempDir;

pub const ROUTE: &str = "shop/production/web";
/// For what must happen, however slow the machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    target.join("examples").join("proxy")
}

/// A proxy in its own process, killed when dropped.
pub struct Proxy {
    pub dir: PathBuf,
    pub admin: AdminClient,
    child: Child,
    home: Option<TempDir>,
}

impl Proxy {
    pub async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("proxy");
        Self::start_in(dir, Some(home)).await
    }

    pub async fn start_in(dir: PathBuf, home: Option<TempDir>) -> Self {
        Self::start_with(dir, home, &[]).await
    }

    pub async fn start_with(dir: PathBuf, home: Option<TempDir>, flags: &[&str]) -> Self {
        let child = Command::new(program())
            .arg(&dir)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the example `proxy` is built together with the tests");
        let started = Instant::now();
        let admin = loop {
            match AdminClient::connect(&dir).await {
                Ok(admin) if admin.greeting().pid == child.id() => break admin,
                Ok(other) => panic!("another proxy answers: {:?}", other.greeting()),
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Self { dir, admin, child, home }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub async fn exited(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the proxy does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// kill −9, then a new process in the same folder.
    pub async fn restart(mut self) -> Self {
        self.kill();
        self.restart_dead().await
    }

    /// A new process in the folder of one that has ended.
    pub async fn restart_dead(mut self) -> Self {
        let home = self.home.take();
        Self::start_in(self.dir.clone(), home).await
    }

    /// Puts a route and returns its address.
    pub async fn put(&self, put: PutArgs) -> SocketAddr {
        self.admin.put(put).await.unwrap().bound.unwrap()
    }

    pub async fn frame(&self) -> StatsFrame {
        let mut frames = self.admin.subscribe(ROUTE, Duration::from_millis(50)).await.unwrap();
        frames.next().await.unwrap().unwrap()
    }

    pub async fn side(&self, side: SideName) -> SideStats {
        self.frame().await.sides[&side].clone()
    }

    /// Waits for a state of the route.
    pub async fn route_when(&self, wanted: impl Fn(&RouteState) -> bool) -> RouteState {
        let started = Instant::now();
        loop {
            let state = self.admin.get(ROUTE).await.unwrap();
            if wanted(&state) {
                return state;
            }
            assert!(started.elapsed() < PATIENCE, "{state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a state of a side.
    pub async fn side_when(
        &self,
        side: SideName,
        wanted: impl Fn(&SideStats) -> bool,
    ) -> SideStats {
        let mut frames = self.admin.subscribe(ROUTE, Duration::from_millis(20)).await.unwrap();
        let started = Instant::now();
        loop {
            let stats = frames.next().await.unwrap().unwrap().sides[&side].clone();
            if wanted(&stats) {
                return stats;
            }
            assert!(started.elapsed() < PATIENCE, "{stats:?}");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn holder(epoch: u64) -> Holder {
    Holder { ledger: Some("ledger-1".to_owned()), epoch }
}

pub fn weights(a: u8, b: u8) -> Weights {
    Weights::from([(SideName::A, a), (SideName::B, b)])
}

pub fn side(upstream: SocketAddr, deployment: u64) -> SideSpec {
    SideSpec {
        upstream,
        deployment,
        release: format!("rel-{deployment}"),
        version: format!("1.0.{deployment}"),
        check_path: None,
    }
}

/// A put with one side or two, all weight on a.
pub fn put(a: SocketAddr, b: Option<SocketAddr>) -> PutArgs {
    let mut sides = BTreeMap::from([(SideName::A, side(a, 1))]);
    if let Some(b) = b {
        sides.insert(SideName::B, side(b, 2));
    }
    PutArgs {
        route: ROUTE.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        owner: Owner {
            ledger: "ledger-1".to_owned(),
            app: "shop".to_owned(),
            environment: "production".to_owned(),
        },
        epoch: 1,
        sides,
        weights: weights(100, 0),
        dead_man: None,
        trip: None,
        take_over: false,
        acknowledge_fired: false,
        rescue: false,
        sticky: false,
        response_timeout_ms: None,
    }
}

pub fn split(a: SocketAddr, b: SocketAddr, percent: u8) -> PutArgs {
    PutArgs { weights: weights(100 - percent, percent), ..put(a, Some(b)) }
}

pub fn armed(put: PutArgs, after_ms: u64) -> PutArgs {
    PutArgs { dead_man: Some(DeadManArm { stable: SideName::A, after_ms }), ..put }
}
