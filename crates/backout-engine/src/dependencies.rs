//! The check `service_dependencies`: whether services fit together of which only some change.

use std::collections::BTreeSet;

use backout_core::ids::ServiceName;
use backout_core::model::{
    Deployment, EnvironmentRecord, Health, ReadinessCheck, Release, Severity,
};
use backout_core::ports::{LedgerError, Running};

use crate::commands::health;
use crate::context::Context;
use crate::readiness::check;
use crate::situation;

const NAME: &str = "service_dependencies";
/// So many stable deployments are looked at, newest first.
const LOOKED_AT_MAX: usize = 100;

/// Some services that change while the others stay.
pub(crate) struct Alone<'a> {
    pub environment: &'a EnvironmentRecord,
    pub history: &'a [Deployment],
    /// What is live.
    pub live: &'a Release,
    /// What shall be.
    pub wanted: &'a Release,
}

/// Two services of which one depends on the other; one of them changes.
struct Edge<'a> {
    /// It depends on the other.
    above: &'a ServiceName,
    under: &'a ServiceName,
}

/// What is wrong, by how bad it is.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn into_check(self, fine: String) -> ReadinessCheck {
        let all = |first: &[String], second: &[String]| [first, second].concat().join("; ");
        match (self.errors.is_empty(), self.warnings.is_empty()) {
            (false, _) => check(NAME, Severity::Error, all(&self.errors, &self.warnings)),
            (true, false) => check(NAME, Severity::Warning, self.warnings.join("; ")),
            (true, true) => check(NAME, Severity::Pass, fine),
        }
    }
}

impl Alone<'_> {
    /// Before the `named` services are deployed alone.
    pub async fn deployed(
        &self,
        cx: &Context,
        named: &[ServiceName],
    ) -> Result<ReadinessCheck, LedgerError> {
        self.judge(cx, named, false).await
    }

    /// Before the `named` services go back alone.
    pub async fn rolled_back(
        &self,
        cx: &Context,
        named: &[ServiceName],
    ) -> Result<ReadinessCheck, LedgerError> {
        self.judge(cx, named, true).await
    }

    async fn judge(
        &self,
        cx: &Context,
        named: &[ServiceName],
        back: bool,
    ) -> Result<ReadinessCheck, LedgerError> {
        let mut found = Findings::default();
        self.missing(&mut found);
        self.others(cx, named, &mut found).await?;
        let stable = self.stable_releases(cx).await?;
        for edge in self.edges(named) {
            if stable.iter().any(|(_, release)| self.together(&edge, release)) {
                continue;
            }
            let words = format!(
                "{} and {}, which it depends on, were never live and stable together",
                self.label(edge.above),
                self.label(edge.under)
            );
            let stays_above = !named.contains(edge.above);
            if back && stays_above && self.is_newer(&edge, &stable) {
                let also = format!("--service {}", edge.above);
                found.errors.push(format!(
                    "{words}: {} is newer, and may need what is taken away; roll it back too ({also})",
                    self.label(edge.above)
                ));
            } else {
                found.warnings.push(words);
            }
        }
        let names: Vec<&str> = named.iter().map(ServiceName::as_str).collect();
        Ok(found.into_check(format!("{} and the others were stable together", names.join(", "))))
    }

    fn label(&self, name: &ServiceName) -> String {
        format!("{name} {}", self.wanted.content.version_of(name))
    }

    /// Pairs of which exactly one changes.
    fn edges(&self, named: &[ServiceName]) -> Vec<Edge<'_>> {
        let services = self.wanted.content.services.values();
        let all = services.flat_map(|service| {
            service.depends_on.iter().map(move |under| Edge { above: &service.name, under })
        });
        all.filter(|edge| {
            self.wanted.content.services.contains_key(edge.under)
                && named.contains(edge.above) != named.contains(edge.under)
        })
        .collect()
    }

    /// What some service needs and nobody has.
    fn missing(&self, found: &mut Findings) {
        let there = &self.wanted.content.services;
        for service in there.values() {
            for needed in service.depends_on.iter().filter(|name| !there.contains_key(*name)) {
                found.errors.push(format!(
                    "{} depends on {needed}, which would not be there: name it too (--service {needed})",
                    service.name
                ));
            }
        }
    }

    /// Services that stay: what a changed one depends on must do well; the others are told of.
    async fn others(
        &self,
        cx: &Context,
        named: &[ServiceName],
        found: &mut Findings,
    ) -> Result<(), LedgerError> {
        let needed = self.needed_by(named);
        let Some(live) = situation::live(cx, self.environment).await? else { return Ok(()) };
        for name in self.wanted.content.services.keys().filter(|name| !named.contains(name)) {
            if let Some(ill) = self.ill(cx, &live, name).await {
                if needed.contains(name) {
                    found
                        .errors
                        .push(format!("{ill}, and {} depends on it", self.who(named, name)));
                } else {
                    found.warnings.push(format!("{ill}; the whole app is judged with it"));
                }
            }
        }
        Ok(())
    }

    /// Why a service that stays does not do well; `None` if it does.
    async fn ill(
        &self,
        cx: &Context,
        live: &backout_core::plan::Live,
        name: &ServiceName,
    ) -> Option<String> {
        let service = self.live.content.services.get(name)?;
        if crate::jobs::is_job(service) {
            return None;
        }
        let units = situation::units(cx, name, live.slot);
        let seen = situation::observe_each(cx, units, Some(self.live)).await;
        if seen.iter().any(|(_, seen)| seen.running == Running::No) {
            return Some(format!("{} does not run", self.label(name)));
        }
        let mut findings = Vec::new();
        let health = health::probe_service(cx, live, self.live, service, &mut findings).await;
        match health {
            Health::Failing => Some(format!("{} is not healthy ({})", name, findings.join(", "))),
            _ => None,
        }
    }

    fn who(&self, named: &[ServiceName], name: &ServiceName) -> String {
        let above =
            |other: &&ServiceName| self.needed_by(std::slice::from_ref(*other)).contains(name);
        let names: Vec<&str> = named.iter().filter(above).map(ServiceName::as_str).collect();
        names.join(", ")
    }

    /// All that these depend on, directly or not.
    fn needed_by(&self, named: &[ServiceName]) -> BTreeSet<ServiceName> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<&ServiceName> = named.iter().collect();
        while let Some(name) = open.pop() {
            let service = self.wanted.content.services.get(name);
            for under in service.into_iter().flat_map(|service| &service.depends_on) {
                if needed.insert(under.clone()) {
                    open.push(under);
                }
            }
        }
        needed
    }

    /// Releases that were stable once, with the number of the deployment, newest first.
    async fn stable_releases(
        &self,
        cx: &Context,
    ) -> Result<Vec<(u64, std::sync::Arc<Release>)>, LedgerError> {
        let mut stable: Vec<(u64, std::sync::Arc<Release>)> = Vec::new();
        let rows = self.history.iter().filter(|row| row.stable_at.is_some());
        for row in rows.take(LOOKED_AT_MAX) {
            let known = stable.iter().find(|(_, release)| release.id == row.release).cloned();
            let release = match known {
                Some((_, release)) => release,
                None => situation::release(cx, &row.release).await?,
            };
            stable.push((row.number, release));
        }
        Ok(stable)
    }

    fn has(&self, release: &Release, name: &ServiceName) -> bool {
        release.content.services.contains_key(name)
            && release.content.version_of(name) == self.wanted.content.version_of(name)
    }

    fn together(&self, edge: &Edge<'_>, release: &Release) -> bool {
        self.has(release, edge.above) && self.has(release, edge.under)
    }

    /// Whether the version above became stable for the first time after the version under it had.
    fn is_newer(&self, edge: &Edge<'_>, stable: &[(u64, std::sync::Arc<Release>)]) -> bool {
        let first = |name| {
            let release = stable.iter().rev().find(|(_, release)| self.has(release, name));
            release.map(|(number, _)| *number)
        };
        match (first(edge.above), first(edge.under)) {
            (Some(above), Some(under)) => above > under,
            // It was never stable: it came with what is live.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }
}
