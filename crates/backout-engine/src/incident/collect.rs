//! Everything that may tell why a release was taken back.

use std::collections::BTreeSet;
use std::future::Future;

use backout_core::ids::{OperationId, ReleaseId, Slot, Unit};
use backout_core::model::{Deployment, Release};
use backout_core::ports::{NamedText, Observed};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout_at};

use super::diff;
use super::redact::Redactor;
use super::store::{BUNDLE_BYTES_MAX, BUNDLE_FORMAT, BundleFile, FILE_BYTES_MAX, Manifest};
use crate::context::Context;
use crate::journal::Journal;
use crate::situation;
use crate::watch::judge_account_name;

/// One log of a service.
const LOG_BYTES_MAX: usize = 512 << 10;
/// Logs of one service.
const LOGS_MAX: usize = 32;
/// Units that are asked at the same time.
const UNITS_AT_ONCE: usize = 8;

/// What is left, and how long it may take.
pub(super) struct What<'a> {
    pub slot: Slot,
    pub release: &'a ReleaseId,
    pub deployment: u64,
    pub until: Instant,
}

/// Files by name, and what could not be had.
struct Gathered<'a> {
    what: &'a What<'a>,
    redactor: Redactor,
    files: Vec<(String, String)>,
    cut: BTreeSet<String>,
    problems: Vec<String>,
}

pub(super) async fn collect(
    cx: &Context,
    journal: &Journal,
    what: &What<'_>,
) -> (Manifest, Vec<(String, String)>) {
    let release = timeout_at(what.until, situation::release(cx, what.release)).await;
    let release = release.ok().and_then(Result::ok);
    let mut gathered = Gathered {
        what,
        redactor: redactor(cx, what, release.as_deref()).await,
        files: Vec::new(),
        cut: BTreeSet::new(),
        problems: Vec::new(),
    };
    gathered.own(cx, journal).await;
    gathered.left(cx, release.as_deref(), journal).await;
    if let Some(release) = &release {
        gathered.target(cx, release).await;
    } else {
        gathered.problems.push(format!("release {} can't be read", what.release));
    }
    gathered.finish(cx, journal, release.as_deref())
}

/// Today's values, from the caller and from the config files on disk.
async fn redactor(cx: &Context, what: &What<'_>, release: Option<&Release>) -> Redactor {
    let mut values: Vec<String> =
        cx.secrets.values().map(|secret| secret.expose().to_owned()).collect();
    let mut names: BTreeSet<String> = cx.policy.secrets.iter().cloned().collect();
    names.extend(cx.secrets.keys().cloned());
    names.extend(release.iter().flat_map(|release| release.content.secret_env_keys()));
    for file in release.iter().flat_map(|release| &release.content.config) {
        let read = cx.config_files.read_one(&file.path);
        if let Ok(Ok(Some(disk))) = timeout_at(what.until, read).await {
            let found = backout_core::model::secret_values(&disk.bytes, &cx.policy.secrets);
            values.extend(found.into_values());
        }
    }
    Redactor::new(values, &names.into_iter().collect::<Vec<_>>())
}

impl Gathered<'_> {
    fn text(&mut self, name: &str, text: &str, cut: bool) {
        let mut text = self.redactor.text(&printable(text), cut);
        let mut cut = cut;
        if text.len() > FILE_BYTES_MAX {
            let from = (text.len() - FILE_BYTES_MAX..=text.len())
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(text.len());
            text.drain(..from);
            cut = true;
        }
        self.put(name, text, cut);
    }

    fn document(&mut self, name: &str, mut value: Value) {
        self.redactor.value(&mut value);
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        // Half a document is none.
        if text.len() > FILE_BYTES_MAX {
            self.problems.push(format!("{name} was left out: it has {} bytes", text.len()));
        } else {
            self.put(name, text, false);
        }
    }

    fn put(&mut self, name: &str, text: String, cut: bool) {
        let so_far: usize = self.files.iter().map(|(_, text)| text.len()).sum();
        if so_far + text.len() > BUNDLE_BYTES_MAX {
            self.problems.push(format!("{name} was left out: the bundle is full"));
            return;
        }
        if cut {
            self.cut.insert(name.to_owned());
        }
        self.files.push((name.to_owned(), text));
    }

    /// What `name` waits for, as long as there is time.
    async fn within<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        until: Instant,
        future: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let answer = timeout_at(until, future).await;
        self.told(name, answer)
    }

    /// An answer, or why there is none.
    fn told<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        answer: Result<Result<T, E>, tokio::time::error::Elapsed>,
    ) -> Option<T> {
        match answer {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => self.problems.push(format!("{name}: {error}")),
            Err(_) => self.problems.push(format!("{name}: no answer in time")),
        }
        None
    }

    /// The operation that takes it back, as far as it is.
    async fn own(&mut self, cx: &Context, journal: &Journal) {
        self.document("plan.json", json!(journal.plan));
        self.entries(cx, "journal.json", &journal.plan.operation).await;
    }

    async fn entries(&mut self, cx: &Context, name: &str, operation: &OperationId) {
        let until = self.what.until;
        if let Some(entries) = self.within(name, until, cx.ledger.entries(operation)).await {
            self.document(name, json!(entries));
        }
    }

    /// The deployment that is left: its operation, the evidence behind the verdict, and what differed.
    async fn left(&mut self, cx: &Context, release: Option<&Release>, journal: &Journal) {
        let (until, number) = (self.what.until, self.what.deployment);
        let row = self.within("deployment", until, cx.ledger.deployment(&cx.key, number)).await;
        let row: Option<Deployment> = row.flatten();
        if let Some(row) = &row {
            let plan = cx.ledger.operation(&row.operation);
            if let Some(Some(plan)) = self.within("failed-plan.json", until, plan).await {
                self.document("failed-plan.json", json!(plan));
            }
            self.entries(cx, "failed-journal.json", &row.operation).await;
        }
        let name = judge_account_name(number);
        let account = cx.ledger.document(&cx.key, &name);
        let account = self.within("judge", until, account).await.flatten();
        let health = self.within("health", until, cx.ledger.health(&cx.key)).await.flatten();
        self.document(
            "verdict.json",
            json!({
                "trigger": journal.plan.trigger, "reason": journal.plan.reason,
                "evidence": journal.plan.evidence, "deployment": row, "health": health,
                "judge": account,
            }),
        );
        let target = match &journal.plan.release {
            Some(id) => self.within("release", until, situation::release(cx, id)).await,
            None => None,
        };
        if let (Some(left), Some(target)) = (release, target) {
            let compared = timeout_at(until, diff::config(cx, &target, left)).await;
            match compared {
                Ok(text) => self.text("config.diff", &text, false),
                Err(_) => self.problems.push("config.diff: no answer in time".to_owned()),
            }
        }
    }

    /// What runs, as the target and the router see it, and its last words.
    async fn target(&mut self, cx: &Context, release: &Release) {
        let mut state = serde_json::Map::new();
        if let Some(router) = &cx.router {
            let until = self.what.until.min(Instant::now() + Duration::from_secs(1));
            if let Some(traffic) = self.within("traffic", until, router.read()).await {
                state.insert("traffic".to_owned(), json!(traffic));
            }
        }
        let missing: Vec<String> = release
            .content
            .secret_env_keys()
            .into_iter()
            .filter(|key| !cx.secrets.contains_key(key))
            .collect();
        let all: Vec<Unit> = release
            .content
            .services
            .keys()
            .flat_map(|service| situation::units(cx, service, self.what.slot))
            .collect();
        let (until, with_logs) = (self.what.until, missing.is_empty());
        // One host or service that hangs costs the others nothing.
        let ask = |unit: Unit| async move {
            let seen = timeout_at(until, cx.target.observe(&unit, Some(release))).await;
            let texts = match with_logs {
                true => {
                    Some(timeout_at(until, cx.target.evidence(&unit, release, LOG_BYTES_MAX)).await)
                }
                false => None,
            };
            (unit, seen, texts)
        };
        let asked: Vec<_> = stream::iter(all).map(ask).buffered(UNITS_AT_ONCE).collect().await;
        let mut units = serde_json::Map::new();
        for (unit, seen, texts) in asked {
            let who = situation::who(&unit);
            if let Some(observed) = self.told(&format!("state of {who}"), seen) {
                // Output that may hold a secret of which only the end was kept stands in the logs, redacted.
                units.insert(unit.to_string(), json!(Observed { tail: None, ..observed }));
            }
            let Some(texts) = texts else { continue };
            let texts = self.told(&format!("logs of {who}"), texts).unwrap_or_default();
            for NamedText { name, text, cut } in texts.into_iter().take(LOGS_MAX) {
                self.text(&file_name(&who, &name), &text, cut);
            }
        }
        if !missing.is_empty() {
            self.problems.push(format!(
                "logs were left out: {} is not set here, so its value could not be taken out of them",
                missing.join(", ")
            ));
        }
        state.insert("units".to_owned(), Value::Object(units));
        self.document("state.json", Value::Object(state));
    }

    fn finish(
        self,
        cx: &Context,
        journal: &Journal,
        release: Option<&Release>,
    ) -> (Manifest, Vec<(String, String)>) {
        let plan = &journal.plan;
        let version = plan.left.as_ref().map(|left| left.version.to_string());
        let evidence = plan.evidence.iter().map(|line| self.redactor.text(line, false)).collect();
        let problems = self.problems.iter().map(|line| self.redactor.text(line, false)).collect();
        let file = |(name, text): &(String, String)| BundleFile {
            name: name.clone(),
            bytes: text.len() as u64,
            cut: self.cut.contains(name),
        };
        let manifest = Manifest {
            format: BUNDLE_FORMAT,
            id: super::bundle_id(plan),
            key: cx.key.clone(),
            operation: plan.operation.to_string(),
            deployment: self.what.deployment,
            version: version
                .or_else(|| release.map(|release| release.content.version.to_string()))
                .unwrap_or_default(),
            target_version: plan.version.as_ref().map(ToString::to_string),
            trigger: plan.trigger,
            evidence,
            collected_at: cx.now(),
            files: self.files.iter().map(file).collect(),
            problems,
        };
        (manifest, self.files)
    }
}

/// `web.log`, `web-host1.log`: whose it is before the name that its target gave, of harmless characters only.
fn file_name(who: &str, name: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name.chars().filter(|c| harmless(*c)).take(80).collect();
    let who: String = who.replace('@', "-").chars().filter(|c| harmless(*c)).take(120).collect();
    format!("{who}.{name}")
}

/// Without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
