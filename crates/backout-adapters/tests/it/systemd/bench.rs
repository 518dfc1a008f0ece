//! An app's folder, a state folder, and units of this test's own in the shared system.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use backout_adapters::artifact::FileArtifacts;
use backout_adapters::host::{Hosts, SshHost, SshOptions};
use backout_adapters::target::systemd::SystemdArtifacts;
use backout_adapters::target::{SystemdTarget, SystemdTargetOptions};
use backout_core::ids::{
    AppName, EnvironmentKey, EnvironmentName, HostName, ServiceName, Slot, Unit, Version,
};
use backout_core::model::{
    HealthSpec, PortSpec, RELEASE_FORMAT, ReadinessCheck, Release, ReleaseContent, Service,
    SystemdBus, SystemdSpec, TargetSpec,
};
use backout_core::ports::{
    AdapterError, ArtifactStore, Host, Observed, PartsOf, Receipt, StepCx, Target, TargetAction,
};
use backout_testkit::SshServers;
use backout_testkit::fixtures::{ledger, release_of, step_cx};
use backout_testkit::systemd::Machine;

use crate::world::PATIENCE;

/// One app with one service.
pub struct Bench {
    pub machine: Arc<Machine>,
    temp: tempfile::TempDir,
    pub app: String,
    pub environment: String,
    pub ledger: String,
    pub bus: String,
    pub beside: bool,
    pub spec: SystemdSpec,
    /// The unit is on another host.
    pub there: Option<There>,
}

/// A host that is reached by ssh, whose system is the machine.
pub struct There {
    pub servers: SshServers,
    pub host: Arc<SshHost>,
}

impl Bench {
    /// A plain unit, or a template with two sides; with a program `serve` in `v1` and `v2`.
    pub fn new(beside: bool) -> Self {
        Self::with(beside, "Restart=always\nRestartSec=100ms\n")
    }

    /// The same with other lines in the unit's section of the service.
    pub fn with(beside: bool, lines: &str) -> Self {
        Self::on(Machine::shared(), beside, lines)
    }

    /// The same on a system of its own.
    pub fn on(machine: Arc<Machine>, beside: bool, lines: &str) -> Self {
        Self::of(machine, beside, lines, None)
    }

    /// A plain unit of another host.
    pub fn there(lines: &str) -> Self {
        let machine = Machine::shared();
        let servers = SshServers::inside(vec![Arc::clone(&machine)]);
        std::fs::create_dir(servers.home(0).join("app")).unwrap();
        let host = Arc::new(host(&servers));
        Self::of(machine, false, lines, Some(There { servers, host }))
    }

    fn of(machine: Arc<Machine>, beside: bool, lines: &str, there: Option<There>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = tempfile::Builder::new().prefix("backout.units.").tempdir().unwrap();
        let app = format!("shop{}x{number}", std::process::id());
        let (unit, current) = match beside {
            true => (format!("{app}@{{slot}}.service"), "run/current-{slot}"),
            false => (format!("{app}.service"), "run/current"),
        };
        let spec = SystemdSpec {
            unit,
            artifact: vec!["build/{version}".to_owned()],
            current: current.to_owned(),
            releases: "run/releases".to_owned(),
            port: beside.then_some(PortSpec::Auto),
            bus: SystemdBus::Address(machine.address()),
            root: there.is_none().then(|| machine.root().display().to_string()),
            timeout_ms: 60_000,
            files: Vec::new(),
        };
        let bench = Self {
            bus: machine.address(),
            machine,
            temp,
            app,
            environment: "production".to_owned(),
            ledger: "tests".to_owned(),
            beside,
            spec,
            there,
        };
        for version in ["v1", "v2"] {
            bench.program(version, &format!("echo serving {version}\nexec sleep 3000"));
        }
        bench.machine.install(&bench.file(), &bench.text(lines));
        bench
    }

    /// Writes a version's program.
    pub fn program(&self, version: &str, script: &str) {
        let folder = self.folder().join("build").join(version);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("serve");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Name of the unit's file.
    pub fn file(&self) -> String {
        self.spec.unit.replace("{slot}", "")
    }

    pub fn text(&self, lines: &str) -> String {
        let link = self.link(Slot::A).display().to_string();
        let link = if self.beside { link.replace("current-a", "current-%i") } else { link };
        format!(
            "[Unit]\nDescription=A shop\n[Service]\nExecStart={link}/serve\nEnvironmentFile=-{link}.env\n{lines}"
        )
    }

    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("shop")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    /// Where the paths of the definition are.
    pub fn base(&self) -> PathBuf {
        match &self.there {
            Some(there) => there.servers.home(0).join("app"),
            None => self.folder(),
        }
    }

    pub fn link(&self, slot: Slot) -> PathBuf {
        self.base().join(self.spec.current.replace("{slot}", slot.as_str()))
    }

    /// Name of the unit in a slot.
    pub fn name(&self, slot: Slot) -> String {
        self.spec.unit.replace("{slot}", slot.as_str())
    }

    pub fn key(&self) -> EnvironmentKey {
        EnvironmentKey {
            app: AppName::new(self.app.as_str()).unwrap(),
            environment: EnvironmentName::new(self.environment.as_str()).unwrap(),
        }
    }

    pub fn unit(&self, slot: Slot) -> Unit {
        let host = self.there.as_ref().map(|there| there.host.name().clone());
        let host = host.unwrap_or_else(HostName::local);
        Unit { key: self.key(), service: web(), host, slot }
    }

    pub fn service(&self) -> Service {
        Service {
            name: web(),
            depends_on: Default::default(),
            traffic: true,
            health: HealthSpec::default(),
            job: None,
            target: TargetSpec::Systemd(SystemdSpec {
                bus: match &self.there {
                    Some(_) => SystemdBus::System,
                    None => SystemdBus::Address(self.bus.clone()),
                },
                ..self.spec.clone()
            }),
        }
    }

    pub fn files(&self) -> Arc<FileArtifacts> {
        Arc::new(FileArtifacts::new(self.folder(), &self.state_dir()))
    }

    pub fn artifacts(&self) -> SystemdArtifacts {
        let service = self.service();
        let services = [&service].into_iter();
        SystemdArtifacts::new(self.files(), &self.folder(), &self.key(), services)
            .with_hosts(self.hosts())
    }

    fn hosts(&self) -> Hosts {
        let there = self.there.as_ref();
        Hosts::new(there.map(|there| Arc::clone(&there.host) as Arc<dyn Host>))
    }

    pub fn target(&self) -> SystemdTarget {
        let target = SystemdTarget::new(SystemdTargetOptions {
            state_dir: self.state_dir(),
            folder: self.folder(),
            key: self.key(),
            ledger: ledger(&self.ledger),
            artifacts: self.files(),
            services: BTreeMap::from([(web(), self.service())]),
            beside: self.beside,
        });
        target.with_hosts(self.hosts(), self.there.is_none())
    }

    pub fn cx(&self, step: &str) -> StepCx {
        StepCx { timeout: 2 * PATIENCE, ..step_cx(step) }
    }

    /// Makes a release of what is on disk and pins it, as a deploy does.
    pub async fn make(&self, version: &str, of: PartsOf<'_>) -> Result<Arc<Release>, AdapterError> {
        let version = Version::new(version).unwrap();
        let mut service = self.service();
        let parts = self.target().parts(&self.unit(Slot::A), &mut service, &version, of).await?;
        let artifacts = parts.expect("it names them");
        for artifact in &artifacts {
            self.artifacts().pin(&artifact.path, &artifact.digest).await?;
        }
        Ok(release_of(ReleaseContent {
            format: RELEASE_FORMAT,
            app: self.key().app,
            version,
            services: BTreeMap::from([(web(), service)]),
            artifacts,
            config: Vec::new(),
            origins: BTreeMap::new(),
        }))
    }

    pub async fn release(&self, version: &str) -> Arc<Release> {
        self.make(version, PartsOf::Disk).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub async fn start(
        &self,
        slot: Slot,
        release: &Arc<Release>,
        deployment: u64,
    ) -> Result<Receipt, AdapterError> {
        let action = start(self.unit(slot), release, deployment);
        self.target().apply(&action, &self.cx(&format!("start-{slot}-{deployment}"))).await
    }

    pub async fn stop(&self, slot: Slot, release: &Arc<Release>) -> Result<Receipt, AdapterError> {
        let action = TargetAction::Stop {
            unit: self.unit(slot),
            release: Arc::clone(release),
            grace_ms: 1_000,
        };
        self.target().apply(&action, &self.cx(&format!("stop-{slot}"))).await
    }

    pub async fn observe(&self, slot: Slot, release: &Release) -> Observed {
        self.target().observe(&self.unit(slot), Some(release)).await.unwrap()
    }

    pub async fn restorable(&self, release: &Release) -> ReadinessCheck {
        let found = self.target().restorable(&self.unit(Slot::A), release).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    /// Waits until it looks as it should.
    pub async fn until(
        &self,
        slot: Slot,
        release: &Release,
        is: impl Fn(&Observed) -> bool,
    ) -> Observed {
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            match self.target().observe(&self.unit(slot), Some(release)).await {
                Ok(seen) if is(&seen) => return seen,
                other => assert!(Instant::now() < end, "{other:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for slot in Slot::BOTH {
            let _ = self.machine.systemctl(&["kill", "--signal=KILL", &self.name(slot)]);
            let _ = self.machine.systemctl(&["stop", &self.name(slot)]);
            let _ = self.machine.systemctl(&["reset-failed", &self.name(slot)]);
        }
        let _ = std::fs::remove_file(self.machine.units().join(self.file()));
        let _ = std::fs::remove_dir_all(self.machine.units().join(format!("{}.d", self.file())));
    }
}

/// The way to the first of these servers. Patient: a machine that has much to do makes a slow link.
pub fn host(servers: &SshServers) -> SshHost {
    SshHost::new(SshOptions {
        config: Some(servers.config()),
        folder: "app".to_owned(),
        connect_timeout: std::time::Duration::from_secs(20),
        alive_interval: std::time::Duration::from_secs(10),
        alive_count: 6,
        ..SshOptions::new(HostName::new("host0").unwrap())
    })
}

pub fn start(unit: Unit, release: &Arc<Release>, deployment: u64) -> TargetAction {
    TargetAction::Start {
        unit,
        release: Arc::clone(release),
        deployment,
        restore: false,
        revert: None,
        batch: None,
    }
}

pub fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}
