//! The suites, run against the fakes.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{HostName, Slot, Unit};
use backout_core::model::{EnvValue, Release, TargetSpec};
use backout_core::ports::{
    ArtifactStore, Capabilities, ConfigFiles, Host, Probe, ProbeSubject, SampleOutcome, StepCx,
    Target,
};
use backout_testkit::artifacts_suite::{ArtifactBench, check_artifact_store};
use backout_testkit::config_files_suite::{ConfigFilesBench, check_config_files};
use backout_testkit::fixtures::{ledger, process, release, step_cx, subject, unit};
use backout_testkit::host_suite::{HostBench, check_host};
use backout_testkit::probe_suite::{ProbeBench, check_probe};
use backout_testkit::target_suite::{TargetBench, check_target};
use backout_testkit::{FakeArtifacts, FakeConfigFiles, FakeHost, FakeProbe, FakeTarget};

struct Targets(FakeTarget);

#[async_trait]
impl TargetBench for Targets {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.0.clone())
    }
    fn unit(&self, slot: Slot) -> Unit {
        unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        release(version, TargetSpec::Process(process(["serve"])))
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        let mut spec = process(["serve"]);
        spec.env.insert("API_KEY".to_owned(), EnvValue::Secret);
        Some(release("v9", TargetSpec::Process(spec)))
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

#[tokio::test]
async fn the_fake_target_obeys_the_suite() {
    check_target(&Targets(FakeTarget::new(ledger("a")))).await;
    let in_place = Capabilities {
        side_by_side: false,
        replaces_in_place: true,
        addressable: false,
        sees_foreign: false,
    };
    let target = FakeTarget::new(ledger("a")).with_capabilities(in_place);
    check_target(&Targets(target.clone())).await;
    target.assert_clean();
}

struct Artifacts(FakeArtifacts);

#[async_trait]
impl ArtifactBench for Artifacts {
    fn store(&self) -> Arc<dyn ArtifactStore> {
        Arc::new(self.0.clone())
    }
    async fn put(&self, path: &str, bytes: &[u8], executable: bool) {
        self.0.put(path, bytes, executable);
    }
    async fn take(&self, path: &str) {
        self.0.take(path);
    }
    async fn damage(&self, digest: &str) {
        self.0.damage(digest);
    }
}

#[tokio::test]
async fn the_fake_artifact_store_obeys_the_suite() {
    check_artifact_store(&Artifacts(FakeArtifacts::new())).await;
}

struct Files(FakeConfigFiles);

#[async_trait]
impl ConfigFilesBench for Files {
    fn files(&self) -> Arc<dyn ConfigFiles> {
        Arc::new(self.0.clone())
    }
    async fn put(&self, path: &str, bytes: &[u8], mode: u32) {
        self.0.put(path, bytes, mode);
    }
    async fn link(&self, path: &str, target: &str) {
        self.0.link(path, target);
    }
}

#[tokio::test]
async fn the_fake_config_files_obey_the_suite() {
    check_config_files(&Files(FakeConfigFiles::new())).await;
}

struct Probes(FakeProbe);

impl Probes {
    fn subject(version: &str) -> ProbeSubject {
        subject(&release(version, TargetSpec::Process(process(["serve"]))), None)
    }
}

#[async_trait]
impl ProbeBench for Probes {
    fn probe(&self) -> Arc<dyn Probe> {
        Arc::new(self.0.clone())
    }
    async fn healthy(&self) -> ProbeSubject {
        Self::subject("v1")
    }
    async fn bad(&self) -> Option<ProbeSubject> {
        let subject = Self::subject("v2");
        self.0.answer(&subject.version, SampleOutcome::Fail("500".to_owned()));
        Some(subject)
    }
    async fn absent(&self) -> Option<ProbeSubject> {
        let subject = Self::subject("v3");
        self.0.answer(&subject.version, SampleOutcome::NotReady("refused".to_owned()));
        Some(subject)
    }
    async fn hanging(&self) -> Option<ProbeSubject> {
        self.0.hang(true);
        Some(Self::subject("v4"))
    }
}

#[tokio::test]
async fn the_fake_probe_obeys_the_suite() {
    check_probe(&Probes(FakeProbe::new("http"))).await;
}

struct Hosts(FakeHost);

impl HostBench for Hosts {
    fn host(&self) -> Arc<dyn Host> {
        Arc::new(self.0.clone())
    }
    fn say(&self, words: &[&str]) -> Vec<String> {
        ["say"].iter().chain(words).map(ToString::to_string).collect()
    }
    fn exit(&self, code: i32) -> Vec<String> {
        vec!["exit".to_owned(), code.to_string()]
    }
    fn copy(&self) -> Vec<String> {
        vec!["copy".to_owned()]
    }
    fn variable(&self, name: &str) -> Vec<String> {
        vec!["variable".to_owned(), name.to_owned()]
    }
    fn wait(&self, file: &str, until: &str) -> Vec<String> {
        vec!["wait".to_owned(), file.to_owned(), until.to_owned()]
    }
}

#[tokio::test]
async fn the_fake_host_obeys_the_suite() {
    check_host(&Hosts(FakeHost::new(HostName::new("web1").unwrap()))).await;
}
