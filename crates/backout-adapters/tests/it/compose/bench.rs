//! A folder with a compose file, a state folder, and projects of this test's own on the shared engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backout_adapters::artifact::{ImageArtifacts, Keep};
use backout_adapters::data::LocalConfigFiles;
use backout_adapters::docker::Docker;
use backout_adapters::target::compose::definition_files;
use backout_adapters::target::{ComposeHost, ComposeTarget, ComposeTargetOptions};
use backout_core::ids::{
    AppName, EnvironmentKey, EnvironmentName, HostName, ServiceName, Slot, Unit, Version,
};
use backout_core::model::{
    ComposeSpec, ConfigFile, FileKind, HealthSpec, RELEASE_FORMAT, Release, ReleaseContent,
    Service, TargetSpec,
};
use backout_core::ports::{
    AdapterError, ArtifactStore, ConfigFiles, Host, Observed, PartsOf, Receipt, Running, Secret,
    StepCx, Target, TargetAction,
};
use backout_testkit::docker::Engine;
use backout_testkit::fixtures::{ledger, release_of, step_cx};
use sha2::{Digest, Sha256};

use crate::world::{Blobs, PATIENCE};

/// One app on one engine.
pub struct Bench {
    pub engine: Arc<Engine>,
    temp: tempfile::TempDir,
    pub app: String,
    pub environment: String,
    pub services: BTreeMap<ServiceName, Service>,
    pub beside: bool,
    pub rolls: bool,
    pub keep: Keep,
    pub secrets: BTreeMap<String, String>,
    /// The engine is reached there, at this socket.
    pub elsewhere: Option<(Arc<dyn Host>, String)>,
    blobs: Arc<Blobs>,
}

/// A compose file with one web service whose version stands in `TAG`.
pub const WEB: &str = "services:
  web:
    image: ${IMAGE}:${TAG}
    init: true
    stop_grace_period: 2s
    ports: [\"127.0.0.1:${PORT:-}:8080\"]
";

impl Bench {
    pub fn new(beside: bool) -> Self {
        Self::on(Engine::shared(), beside)
    }

    pub fn on(engine: Arc<Engine>, beside: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = tempfile::Builder::new().prefix("backout.compose.").tempdir().unwrap();
        std::fs::create_dir(temp.path().join("shop")).unwrap();
        let mut bench = Self {
            engine,
            temp,
            app: format!("shop{number}"),
            environment: "production".to_owned(),
            services: BTreeMap::new(),
            beside,
            rolls: false,
            keep: Keep::Pin,
            secrets: BTreeMap::new(),
            elsewhere: None,
            blobs: Arc::default(),
        };
        bench.services.insert(name("web"), bench.service("web", true));
        bench.write("compose.yaml", WEB);
        bench
    }

    /// Images `APP/web:v1` and `APP/web:v2`, and a port for those without a router.
    pub fn with_images(beside: bool) -> Self {
        let bench = Self::new(beside);
        for version in ["v1", "v2"] {
            bench.engine.web(&bench.image(version), version);
        }
        bench
    }

    pub fn image(&self, version: &str) -> String {
        format!("{}/web:{version}", self.app)
    }

    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("shop")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder().join(name), text).unwrap();
    }

    pub fn key(&self) -> EnvironmentKey {
        EnvironmentKey {
            app: AppName::new(self.app.as_str()).unwrap(),
            environment: EnvironmentName::new(self.environment.as_str()).unwrap(),
        }
    }

    pub fn project(&self) -> String {
        format!("{}_{}", self.app, self.environment)
    }

    pub fn unit(&self, service: &str, slot: Slot) -> Unit {
        let host = self.elsewhere.as_ref().map(|(host, _)| host.name().clone());
        let host = host.unwrap_or_else(HostName::local);
        Unit { key: self.key(), service: name(service), host, slot }
    }

    pub fn spec(&self) -> ComposeSpec {
        use backout_core::model::EnvValue::Plain;
        let mut env = BTreeMap::from([
            ("IMAGE".to_owned(), Plain(format!("{}/web", self.app))),
            ("TAG".to_owned(), Plain("{version}".to_owned())),
        ]);
        env.extend(self.secrets.keys().map(|k| (k.clone(), backout_core::model::EnvValue::Secret)));
        ComposeSpec {
            files: vec!["compose.yaml".to_owned()],
            env_files: Vec::new(),
            profiles: Vec::new(),
            env,
            project: self.project(),
            images: BTreeMap::new(),
            port: None,
            timeout_ms: 60_000,
            services: Vec::new(),
            stop_grace_ms: 0,
            replicas: None,
        }
    }

    pub fn service(&self, service: &str, traffic: bool) -> Service {
        Service {
            name: name(service),
            depends_on: Default::default(),
            traffic,
            health: HealthSpec::default(),
            job: None,
            target: TargetSpec::Compose(self.spec()),
        }
    }

    pub fn docker(&self) -> Docker {
        let Some((host, socket)) = &self.elsewhere else {
            return Docker::new(self.engine.whole_env(), self.folder());
        };
        // What the caller has set leads nowhere, and must not win.
        let mut env = self.engine.whole_env();
        env.retain(|(name, _)| name != "DOCKER_HOST");
        let nowhere = [("DOCKER_HOST", "tcp://127.0.0.1:1"), ("DOCKER_CONTEXT", "nowhere")];
        env.extend(nowhere.map(|(name, value)| (name.into(), value.into())));
        Docker::new(env, self.folder()).on(host.clone(), Some(socket.clone()))
    }

    pub fn images(&self) -> ImageArtifacts {
        ImageArtifacts::new(
            self.docker(),
            &self.key(),
            &ledger("tests"),
            &self.state_dir(),
            self.keep,
        )
    }

    fn secret_values(&self) -> backout_core::ports::Secrets {
        Arc::new(self.secrets.iter().map(|(k, v)| (k.clone(), Secret::new(v.clone()))).collect())
    }

    pub fn target(&self) -> ComposeTarget {
        let images = Arc::new(self.images());
        let target = ComposeTarget::new(ComposeTargetOptions {
            state_dir: self.state_dir(),
            folder: self.folder(),
            key: self.key(),
            ledger: ledger("tests"),
            docker: self.docker(),
            images: images.clone(),
            blobs: self.blobs.clone(),
            services: self.services.clone(),
            secrets: self.secret_values(),
            beside: self.beside,
            rolls: self.rolls,
        });
        let hosts = self.elsewhere.iter().map(|(host, _)| ComposeHost {
            name: host.name().clone(),
            docker: self.docker(),
            images: images.clone(),
        });
        target.with_hosts(hosts)
    }

    pub fn cx(&self, step: &str) -> StepCx {
        StepCx { timeout: 2 * PATIENCE, secrets: self.secret_values(), ..step_cx(step) }
    }

    /// The config files of the definition as they are now, kept as the ledger keeps them.
    pub async fn config(&self) -> Vec<ConfigFile> {
        let spec = self.spec();
        let globs = definition_files(&self.folder(), &spec.files, &spec.env_files);
        let mut config = Vec::new();
        for mut file in LocalConfigFiles::new(self.folder()).read(&globs).await.unwrap() {
            if let FileKind::File { blob, .. } = &mut file.meta.kind {
                *blob = format!("sha256:{}", backout_core::ids::hex(&Sha256::digest(&file.bytes)));
                self.blobs.0.lock().unwrap().insert(blob.clone(), file.bytes.clone());
            }
            config.push(file.meta);
        }
        config
    }

    /// Makes a release of what is on disk and pins it, as a deploy does.
    pub async fn try_release(&self, version: &str) -> Result<Arc<Release>, AdapterError> {
        self.make(version, PartsOf::Disk).await
    }

    pub async fn release(&self, version: &str) -> Arc<Release> {
        self.try_release(version).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub async fn make(&self, version: &str, of: PartsOf<'_>) -> Result<Arc<Release>, AdapterError> {
        let target = self.target();
        let version = Version::new(version).unwrap();
        let mut services = self.services.clone();
        let mut artifacts = Vec::new();
        for service in services.values_mut() {
            let unit = self.unit(service.name.as_str(), Slot::A);
            artifacts.extend(target.parts(&unit, service, &version, of).await?.unwrap());
        }
        let images = self.images();
        for artifact in &artifacts {
            images.pin(&artifact.path, &artifact.digest).await?;
        }
        Ok(release_of(ReleaseContent {
            format: RELEASE_FORMAT,
            app: self.key().app,
            version,
            services,
            artifacts,
            config: self.config().await,
            origins: BTreeMap::new(),
        }))
    }

    pub async fn start(
        &self,
        slot: Slot,
        release: &Arc<Release>,
        deployment: u64,
    ) -> Result<Receipt, AdapterError> {
        self.start_of("web", slot, release, deployment).await
    }

    pub async fn start_of(
        &self,
        service: &str,
        slot: Slot,
        release: &Arc<Release>,
        deployment: u64,
    ) -> Result<Receipt, AdapterError> {
        let unit = self.unit(service, slot);
        let release = Arc::clone(release);
        let action = TargetAction::Start {
            unit,
            release,
            deployment,
            restore: false,
            revert: None,
            batch: None,
        };
        self.target()
            .apply(&action, &self.cx(&format!("start-{service}-{slot}-{deployment}")))
            .await
    }

    pub async fn stop(&self, slot: Slot, release: &Arc<Release>) -> Receipt {
        self.stop_of("web", slot, release).await
    }

    pub async fn stop_of(&self, service: &str, slot: Slot, release: &Arc<Release>) -> Receipt {
        let unit = self.unit(service, slot);
        let action = TargetAction::Stop { unit, release: Arc::clone(release), grace_ms: 1_000 };
        let cx = self.cx(&format!("stop-{service}-{slot}"));
        self.target().apply(&action, &cx).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub async fn observe(&self, slot: Slot, release: &Release) -> Observed {
        self.target().observe(&self.unit("web", slot), Some(release)).await.unwrap()
    }

    /// Waits until it looks as it should.
    pub async fn until(
        &self,
        slot: Slot,
        release: &Release,
        is: impl Fn(&Observed) -> bool,
    ) -> Observed {
        let end = std::time::Instant::now() + 2 * PATIENCE;
        loop {
            let seen = self.target().observe(&self.unit("web", slot), Some(release)).await;
            match seen {
                Ok(seen) if is(&seen) => return seen,
                other => assert!(std::time::Instant::now() < end, "{other:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Asks at the side's own address until it answers.
    pub async fn answer(&self, slot: Slot, release: &Release) -> String {
        use std::io::{Read as _, Write as _};
        let end = std::time::Instant::now() + 2 * PATIENCE;
        let seen = self.until(slot, release, |seen| seen.running == Running::Yes).await;
        let address = seen.address.expect("an address");
        loop {
            let mut text = String::new();
            let asked = std::net::TcpStream::connect(address).and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
                stream.read_to_string(&mut text)
            });
            match text.split_once("\r\n\r\n") {
                Some((_, body)) if asked.is_ok() => return body.to_owned(),
                _ => assert!(std::time::Instant::now() < end, "{asked:?} {text}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Names of this project's containers, sorted.
    pub fn containers(&self, project: &str) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={project}");
        let listed =
            self.engine.expect(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for label in [
            format!("backout.app={}", self.app),
            format!("com.docker.compose.project={}", self.project()),
        ] {
            let listed = self.engine.docker(&["ps", "-aq", "--filter", &format!("label={label}")]);
            let ids = String::from_utf8_lossy(&listed.stdout);
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = self.engine.docker(&[&["rm", "-f"], &ids[..]].concat());
            }
        }
    }
}

pub fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}
