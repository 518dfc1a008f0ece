//! The one place that names concrete adapters.

mod compose;
mod from_ledger;
mod hosts;
mod ledger;
mod systemd;

pub use compose::check_compose;
pub use hosts::{close_connections, hosts};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backout_adapters::artifact::{
    AllArtifacts, FileArtifacts, GIT_SCHEME, GitArtifacts, IMAGE_SCHEME,
};
use backout_adapters::data::LocalConfigFiles;
use backout_adapters::git::Git;
use backout_adapters::probe::{
    Credentials, ExecProbe, HttpProbe, HttpSynthetic, MetricsOptions, MetricsSource, ProcessProbe,
    PrometheusOptions, PrometheusSource, Selector, TcpProbe, Trust,
};
use backout_adapters::router::{ScriptRouter, ScriptRouterOptions};
use backout_adapters::target::compose::definition_files;
use backout_adapters::target::process::{
    DEFAULT_LOG_CAP_BYTES, ProcessTarget, ProcessTargetOptions, inherited_environment,
};
use backout_adapters::target::systemd::own_files;
use backout_adapters::target::{
    GitTarget, GitTargetOptions, ScriptTarget, ScriptTargetOptions, worktrees,
};
use backout_core::ids::{HostName, LedgerId, ServiceName, Unit};
use backout_core::model::{
    CheckSchedule, HttpCheck, ProbeSpec, RouterPolicy, Service, TargetKind, TargetSpec,
};
use backout_core::ports::{
    AdapterError, ArtifactStore, ConfigFiles, Ledger, MetricSource, Probe, Router, Secrets, Target,
};
use backout_engine::{MetricPlan, MixedTarget, ProbePlan, Probes, SyntheticPlan};
use backout_proxy::client::{BuiltinRouter, BuiltinRouterOptions};

use from_ledger::{LedgerBlobs, LedgerHistory};

use crate::config::{Auth, MetricsFrom, MetricsSettings, Settings, SyntheticSettings};

/// The check of a ledger against its audit log.
pub use backout_ledger::audit;

/// The ledger that commands open.
pub use backout_ledger::{
    Copied, CopyError, LEDGER_FILE, OpenError, OpenMode, Progress, SqliteLedger, copy_ledger,
    holder_for_this_process,
};
pub use ledger::{DATABASE_VARIABLE, LedgerPlace, OpenLedger, is_missing};
pub use systemd::check_systemd;

/// Serves as the built-in proxy until it is told to end.
///
/// # Errors
/// In words, before any request was served.
pub fn run_proxy(dir: PathBuf, exit_when_idle: bool) -> Result<(), String> {
    use std::error::Error as _;
    let options = backout_proxy::server::Options { dir, exit_when_idle };
    backout_proxy::server::run(options).map_err(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Runs the program of one slot until it is told to end; its exit code.
#[must_use]
pub fn run_supervisor(spec: &Path) -> i32 {
    backout_adapters::target::process::supervise::run(spec)
}

/// The adapters of one environment.
pub struct Adapters {
    /// What runs services.
    pub target: Arc<dyn Target>,
    /// What moves traffic.
    pub router: Option<Arc<dyn Router>>,
    /// What checks health.
    pub probes: Arc<dyn Probes>,
    /// Copies of artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Config files.
    pub config_files: Arc<dyn ConfigFiles>,
}

/// What adapters are built from.
pub struct Surroundings<'a> {
    /// Valid settings.
    pub settings: &'a Settings,
    /// Folder of `backout.yaml`.
    pub folder: &'a Path,
    /// State folder.
    pub state_dir: &'a Path,
    /// The store.
    pub ledger: Arc<dyn Ledger>,
    /// Its id.
    pub ledger_id: LedgerId,
    /// This program.
    pub exe: PathBuf,
}

/// Folder of the proxy inside the state folder.
pub fn proxy_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("proxy")
}

/// Builds the adapters.
pub fn adapters(s: &Surroundings<'_>) -> Adapters {
    let files = Arc::new(FileArtifacts::new(s.folder, s.state_dir));
    let mut artifacts: Arc<dyn ArtifactStore> = files.clone();
    let config_files: Arc<dyn ConfigFiles> = Arc::new(LocalConfigFiles::new(s.folder));
    let blobs = Arc::new(LedgerBlobs {
        ledger: s.ledger.clone(),
        files: config_files.clone(),
        keys: s.settings.policy.secrets.clone(),
    });
    let target: Arc<dyn Target> = match s.settings.policy.target {
        TargetKind::Process => Arc::new(ProcessTarget::new(ProcessTargetOptions {
            state_dir: s.state_dir.to_owned(),
            folder: s.folder.to_owned(),
            supervise_exe: s.exe.clone(),
            supervise_args: vec!["supervise".to_owned()],
            ledger: s.ledger_id.clone(),
            artifacts: files.clone(),
            blobs,
            inherited: inherited_environment(),
            log_cap_bytes: DEFAULT_LOG_CAP_BYTES,
        })),
        TargetKind::Script => {
            let target = ScriptTarget::new(ScriptTargetOptions {
                state_dir: s.state_dir.to_owned(),
                folder: s.folder.to_owned(),
                env: std::env::vars_os().collect(),
                default: s.settings.services.values().find_map(script_of),
                side_by_side: s.settings.policy.router != RouterPolicy::None,
                history: Some(Arc::new(LedgerHistory(s.ledger.clone()))),
            });
            Arc::new(target.with_hosts(hosts::hosts(s.settings, s.folder)))
        }
        TargetKind::Compose => {
            let (target, images) = compose::compose(s, blobs);
            artifacts = Arc::new(AllArtifacts::new(files, vec![(IMAGE_SCHEME, images)]));
            target
        }
        TargetKind::Git => {
            let (target, commits) = git(s);
            artifacts = Arc::new(AllArtifacts::new(files, vec![(GIT_SCHEME, commits)]));
            target
        }
        TargetKind::Systemd => {
            let (target, kept) = systemd::systemd(s, files);
            artifacts = kept;
            target
        }
    };
    let target: Arc<dyn Target> = Arc::new(MixedTarget::new(target, s.ledger.clone()));
    let probes = Arc::new(AllProbes {
        target: target.clone(),
        folder: s.folder.to_owned(),
        metrics: s.settings.metrics.clone(),
        synthetic: s.settings.synthetic.clone(),
        secrets: s.settings.secrets.clone(),
        first_host: s.settings.hosts.first().cloned().unwrap_or_else(HostName::local),
    });
    Adapters { router: router(s), target, probes, artifacts, config_files }
}

/// The git target, and what keeps its commits.
fn git(s: &Surroundings<'_>) -> (Arc<dyn Target>, Arc<GitArtifacts>) {
    let env: Vec<_> = std::env::vars_os().collect();
    let hosts = hosts::hosts(s.settings, s.folder);
    let has_local = s.settings.hosts.iter().any(HostName::is_local);
    let (mut trees, mut links) = (Vec::new(), Vec::new());
    for service in s.settings.services.values() {
        let TargetSpec::Git(spec) = &service.target else { continue };
        let path = PathBuf::from(&spec.repository);
        if has_local {
            let tree = Git::new(s.folder.join(&path), &env, &spec.protocols);
            if let Some(link) = &spec.link {
                let git = tree.clone();
                let releases = worktrees(s.folder, &s.settings.key, (spec, link), git);
                links.push((path.clone(), releases));
            }
            trees.push((path.clone(), tree));
        }
        let there = hosts.all().map(|host| {
            let (tree, remote) = (path.clone(), spec.remote.clone());
            (path.clone(), Git::on(host.clone(), tree, &spec.protocols, remote))
        });
        trees.extend(there);
    }
    let commits = Arc::new(GitArtifacts::new(&s.settings.key, trees).with_worktrees(links));
    let target = GitTarget::new(GitTargetOptions {
        folder: s.folder.to_owned(),
        env,
        key: s.settings.key.clone(),
        ledger: s.ledger_id.clone(),
        services: s.settings.services.clone(),
    });
    let target = target.with_hosts(hosts);
    (Arc::new(target), commits)
}

/// Something that was looked at, and how it is.
pub type Finding = (&'static str, Result<String, AdapterError>);

/// What is versioned with every release: the files under `config:`, and those that the target's definition is made of.
pub fn config_globs(settings: &Settings, folder: &Path) -> Vec<String> {
    let mut globs = settings.config_globs.clone();
    let here = settings.hosts.iter().any(HostName::is_local);
    for service in settings.services.values() {
        let own = match &service.target {
            TargetSpec::Compose(spec) => definition_files(folder, &spec.files, &spec.env_files),
            // What lies here is not what defines the units of other hosts.
            TargetSpec::Systemd(spec) if here => own_files(folder, &spec.unit)
                .iter()
                .map(|path| glob::Pattern::escape(path))
                .collect(),
            _ => Vec::new(),
        };
        for glob in own {
            if !globs.contains(&glob) {
                globs.push(glob);
            }
        }
    }
    globs
}

fn script_of(service: &Service) -> Option<backout_core::model::ScriptSpec> {
    match &service.target {
        TargetSpec::Script(spec) => Some(spec.clone()),
        _ => None,
    }
}

fn router(s: &Surroundings<'_>) -> Option<Arc<dyn Router>> {
    let service: ServiceName =
        s.settings.services.values().find(|service| service.traffic)?.name.clone();
    match &s.settings.policy.router {
        RouterPolicy::None => None,
        RouterPolicy::Builtin { listen, .. } => {
            let dir = proxy_dir(s.state_dir);
            let args = ["proxy", "--detached", "--exit-when-idle", "--dir"];
            let mut args: Vec<String> = args.map(str::to_owned).to_vec();
            args.push(dir.display().to_string());
            Some(Arc::new(BuiltinRouter::new(BuiltinRouterOptions {
                dir,
                exe: s.exe.clone(),
                args,
                key: s.settings.key.clone(),
                service,
                listen: *listen,
                ledger: s.ledger_id.clone(),
                sticky: s.settings.policy.judge.sticky_sessions,
            })))
        }
        RouterPolicy::Script => Some(Arc::new(ScriptRouter::new(ScriptRouterOptions {
            state_dir: s.state_dir.to_owned(),
            folder: s.folder.to_owned(),
            env: std::env::vars_os().collect(),
            spec: s.settings.services.values().find_map(script_of)?,
            key: s.settings.key.clone(),
            service,
            ledger: s.ledger_id.clone(),
        }))),
    }
}

/// Probes by their specification.
struct AllProbes {
    target: Arc<dyn Target>,
    folder: PathBuf,
    metrics: BTreeMap<ServiceName, Vec<MetricsSettings>>,
    synthetic: Option<SyntheticSettings>,
    secrets: Secrets,
    first_host: HostName,
}

impl AllProbes {
    fn source(&self, from: &MetricsFrom) -> Arc<dyn MetricSource> {
        let trust = |ca: &Option<String>| match ca {
            Some(path) => Trust::File(self.folder.join(path)),
            None => Trust::System,
        };
        let text = |from, trust| -> Arc<dyn MetricSource> {
            Arc::new(MetricsSource::new(MetricsOptions {
                from,
                trust,
                folder: self.folder.clone(),
                env: std::env::vars_os().collect(),
            }))
        };
        use backout_adapters::probe::MetricsFrom as From;
        match from {
            MetricsFrom::Url { url, ca } => text(From::Url(url.clone()), trust(ca)),
            MetricsFrom::Command(argv) => text(From::Command(argv.clone()), Trust::System),
            MetricsFrom::Prometheus { url, auth, ca, max_age_ms } => {
                let secret = |name: &String| self.secrets.get(name).cloned();
                let missing = |name: &String| Credentials::Missing(name.clone());
                let credentials = match auth {
                    Auth::None => Credentials::None,
                    Auth::Basic(user, name) => secret(name)
                        .map_or_else(|| missing(name), |it| Credentials::Basic(user.clone(), it)),
                    Auth::Bearer(name) => {
                        secret(name).map_or_else(|| missing(name), Credentials::Bearer)
                    }
                };
                Arc::new(PrometheusSource::new(PrometheusOptions {
                    url: url.clone(),
                    credentials,
                    trust: trust(ca),
                    max_age: std::time::Duration::from_millis(*max_age_ms),
                }))
            }
        }
    }
}

/// Whether a text names series of the text format.
///
/// # Errors
/// What is wrong with it.
pub fn check_selector(text: &str) -> Result<(), String> {
    Selector::parse(text).map(drop)
}

impl Probes for AllProbes {
    fn for_unit(&self, unit: &Unit, service: &Service) -> Vec<ProbePlan> {
        // One that asks the service as a whole is made once, not by each host.
        let first = unit.host == self.first_host;
        let mut plans: Vec<ProbePlan> = service
            .health
            .probes
            .iter()
            .filter(|spec| first || spec.names_a_host())
            .map(|spec| ProbePlan {
                probe: match spec {
                    ProbeSpec::Http { check, .. } => Arc::new(HttpProbe::new(check.clone())),
                    ProbeSpec::Tcp { address, .. } => Arc::new(TcpProbe::new(address.clone())),
                    ProbeSpec::Exec { command, .. } => Arc::new(ExecProbe::new(
                        command.clone(),
                        self.folder.clone(),
                        std::env::vars_os().collect(),
                    )),
                },
                schedule: *spec.schedule(),
                names_a_side: spec.names_a_side(),
            })
            .collect();
        // What the target knows by itself is checked always; alone it is enough only for a process.
        // A script and a working tree only tell what should run.
        let is_process = !matches!(service.target, TargetSpec::Script(_) | TargetSpec::Git(_));
        if is_process || plans.is_empty() {
            // As often as the checks that were written: neither waits for the other.
            let written = plans.iter().map(|plan| plan.schedule.rollout_interval_ms).min();
            let mut schedule = CheckSchedule::default();
            schedule.rollout_interval_ms = written.unwrap_or(schedule.rollout_interval_ms);
            plans.push(ProbePlan {
                probe: Arc::new(ProcessProbe::new(self.target.clone())),
                schedule,
                names_a_side: is_process && service.health.probes.is_empty(),
            });
        }
        plans
    }

    fn metrics(&self, service: &ServiceName) -> Vec<MetricPlan> {
        let sources = self.metrics.get(service).map(Vec::as_slice).unwrap_or_default();
        let plan = |of: &MetricsSettings| MetricPlan {
            source: self.source(&of.from),
            asked: of.asked.clone(),
        };
        sources.iter().map(plan).collect()
    }

    fn synthetic(&self, _service: &ServiceName) -> Option<SyntheticPlan> {
        let wanted = self.synthetic.as_ref()?;
        Some(SyntheticPlan {
            sender: Arc::new(HttpSynthetic::new(wanted.path.clone())),
            interval_ms: wanted.interval_ms,
        })
    }
}

/// What reads artifacts and config files, where there is no ledger yet.
pub fn files(folder: &Path, state_dir: &Path) -> (Arc<dyn ArtifactStore>, Arc<dyn ConfigFiles>) {
    (Arc::new(FileArtifacts::new(folder, state_dir)), Arc::new(LocalConfigFiles::new(folder)))
}

/// Processes that listen on a port of this machine, with their names.
pub fn listeners(port: u16) -> Vec<(u32, String)> {
    let (owners, _) = backout_adapters::host::procfs::listeners(port);
    owners.into_iter().map(|owner| (owner.pid, owner.name)).collect()
}

/// A check of one address, for `check --endpoint`.
pub fn endpoint_probe(url: &str) -> Arc<dyn Probe> {
    Arc::new(HttpProbe::new(HttpCheck { url: url.to_owned(), required_fields: Vec::new() }))
}

/// Gives the reserved space back, so that one rollback can be journaled on a full disk.
///
/// # Errors
/// When the file can't be removed.
pub fn free_reserve(state_dir: &Path) -> Result<bool, backout_core::ports::LedgerError> {
    backout_ledger::free_reserve(state_dir)
}

/// Whether there is reserved space to give back.
pub fn has_reserve(state_dir: &Path) -> bool {
    state_dir.join(backout_ledger::RESERVE_FILE).exists()
}
