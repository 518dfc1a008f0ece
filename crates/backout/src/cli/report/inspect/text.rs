//! `inspect` for people.

use backout_core::model::{
    ConfigFile, Deployment, EnvValue, FileKind, ProbeSpec, Release, RollbackRecord, Service,
    TargetSpec,
};
use backout_core::plan::Plan;
use backout_core::saga::{State, step_records};

use super::journal::{self, ending_text};
use super::{Inspected, Part, app, incident, there};
use crate::cli::history::{kind, what};
use crate::cli::report::table::{Align, Fields, Table};
use crate::cli::report::text::{BOLD, DIM, PLAIN, Text, bad, good, of_health, of_status, warn};
use crate::cli::report::words;

/// Lines with colour codes for a terminal of this width.
#[must_use]
pub fn lines(inspected: &Inspected, width: usize) -> Vec<String> {
    let mut page = Page { width, lines: Vec::new() };
    page.text(&headline(inspected));
    page.part(&inspected.deployment, |page, row| page.fields(&deployment(row, inspected)));
    page.part(&inspected.release, |page, one| page.release(one));
    page.part(&inspected.operation, |page, plan| page.operation(plan, &inspected.state));
    page.part(&inspected.rollback, |page, record| page.rollback(record, inspected));
    page.list("evidence", &inspected.evidence(), PLAIN);
    page.list("warnings", &inspected.warnings(), warn());
    page.part(&inspected.incident, |page, bundle| {
        page.head(&format!("incident bundle {}", bundle.manifest.id));
        page.fields(&incident::fields(bundle, inspected.at));
        page.table(&incident::table(bundle), false);
        for line in incident::last_words(bundle) {
            page.text(&line);
        }
    });
    if inspected.with_history {
        page.part(&inspected.journal, |page, entries| {
            page.head("journal");
            page.table(&journal::table(there(&inspected.operation), entries), true);
        });
    }
    page.history(inspected);
    page.lines
}

fn headline(inspected: &Inspected) -> Text {
    let place = inspected.key.as_ref().map(|key| format!("{key}  ")).unwrap_or_default();
    let text = Text::new(BOLD, place);
    match (&inspected.deployment, inspected.what) {
        (Ok(Some(row)), "deployment" | "rollback") => text
            .and(BOLD, format!("#{} {}", row.number, row.version))
            .then("  ")
            .and(of_status(row.status), row.status.as_str())
            .and(bad(), if row.rejected { "  rejected" } else { "" })
            .and(good(), if inspected.live { "  live now" } else { "" }),
        _ => text.and(BOLD, format!("{} {}", inspected.what, inspected.name)),
    }
}

fn deployment(row: &Deployment, inspected: &Inspected) -> Fields {
    let now = inspected.at;
    let mut fields = Fields::default();
    fields.add("id", row.id.as_str());
    fields.add("what", kind(row));
    if let (Some(number), Some(version)) = (row.from_number, &row.from_version) {
        fields.add("before it", format!("#{number} {version}"));
    }
    fields.add("asked by", Text::from(&row.requested_by).and(DIM, format!(" ({})", row.surface)));
    // What is evidence already stands below as such.
    let evidence = inspected.evidence();
    let new = |text: &&String| !evidence.contains(text);
    fields.add_some("reason", row.reason.as_ref().filter(new));
    if row.forced {
        fields.add("forced", "yes: although what was live looked healthy");
    }
    fields.add("began", words::moment(row.started_at, now));
    if let Some(end) = row.completed_at {
        let took = words::span(row.started_at, end);
        fields.add("ended", Text::from(words::moment(end, now)).then(format!(", took {took}")));
    }
    fields.add_some("stable", row.stable_at.map(|at| words::moment(at, now)));
    fields.add("health", Text::new(of_health(row.health), row.health.as_str()));
    fields.add("slot", row.slot.as_str());
    fields.add_some(
        "drill",
        inspected.drill.as_ref().map(|drill| {
            let at = words::moment(drill.at, now);
            match (&drill.error, drill.restore_ms) {
                (Some(why), _) => Text::from(at).and(bad(), format!(" failed: {why}")),
                (None, Some(ms)) => Text::from(format!("{at}: up after {}", words::duration(ms))),
                (None, None) => Text::from(format!("{at}: what it needs is there, not started")),
            }
        }),
    );
    let error = row.error_message.as_ref().filter(new);
    fields.add_some("error", error.map(|why| Text::new(bad(), why)));
    fields
}

struct Page {
    width: usize,
    lines: Vec<String>,
}

impl Page {
    fn text(&mut self, text: &Text) {
        self.lines.extend(text.wrapped(self.width).iter().map(Text::styled));
    }

    fn fields(&mut self, fields: &Fields) {
        self.lines.extend(fields.render(2, self.width));
    }

    fn table(&mut self, table: &Table, wrap_last: bool) {
        self.lines.extend(table.render(2, self.width, wrap_last));
    }

    fn head(&mut self, name: &str) {
        self.lines.push(String::new());
        self.text(&Text::new(BOLD, name));
    }

    fn list(&mut self, name: &str, items: &[String], style: clap::builder::styling::Style) {
        if items.is_empty() {
            return;
        }
        self.head(name);
        for item in items {
            let parts = Text::new(style, item).wrapped(self.width.saturating_sub(4));
            for (index, part) in parts.iter().enumerate() {
                let bullet = if index == 0 { "-" } else { " " };
                self.lines.push(format!("  {bullet} {}", part.styled()));
            }
        }
    }

    /// A part, or why it can't be shown.
    fn part<T>(&mut self, part: &Part<T>, show: impl FnOnce(&mut Self, &T)) {
        match part {
            Ok(None) => {}
            Ok(Some(found)) => show(self, found),
            Err(error) => {
                self.lines.push(String::new());
                self.text(&Text::new(bad(), error));
            }
        }
    }

    fn release(&mut self, release: &Release) {
        self.head(&format!("release {} {}", release.id, release.content.version));
        let mut fields = Fields::default();
        let made = release.created_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        fields.add("recorded", format!("{made} by {}", release.created_by));
        for service in release.content.services.values() {
            let own = release.content.origins.get(&service.name);
            let from = own.map(|origin| format!("  {} of {}", origin.version, origin.release));
            let text = Text::new(BOLD, service.name.as_str()).then(target(service));
            fields.add("service", text.and(DIM, from.unwrap_or_default()));
            for probe in &service.health.probes {
                fields.add("", Text::new(DIM, probe_words(probe)));
            }
        }
        for artifact in &release.content.artifacts {
            let kept = if artifact.kept { "kept" } else { "not kept, only hashed" };
            let text = Text::from(&artifact.path)
                .and(DIM, format!("  {}  {kept}", short_digest(&artifact.digest)));
            fields.add("artifact", text);
        }
        for file in &release.content.config {
            fields.add("config", config_words(file));
        }
        self.fields(&fields);
    }

    fn operation(&mut self, plan: &Plan, state: &Part<State>) {
        self.head(&format!("operation {} ({}, {})", plan.operation, plan.kind, plan.strategy));
        let mut fields = Fields::default();
        match state {
            Ok(Some(state)) => {
                fields.add(
                    "state",
                    match (&state.ended, &state.stuck) {
                        (Some(ending), _) => ending_text(ending),
                        (None, Some((step, reason))) => {
                            let step = plan.steps.get(*step).map_or("its end", |s| s.name.as_str());
                            Text::new(bad(), format!("stuck at {step}")).then(format!(": {reason}"))
                        }
                        (None, None) => Text::new(warn(), "open"),
                    },
                );
                fields.add_some("held by", state.holder.as_deref());
            }
            Ok(None) => {}
            Err(error) => fields.add("state", Text::new(bad(), error)),
        }
        if !plan.overrides.is_empty() {
            fields.add("overrides", plan.overrides.join(", "));
        }
        self.fields(&fields);
        // An error is read to its end.
        self.table(&steps(plan, there(state)), true);
    }

    fn rollback(&mut self, record: &RollbackRecord, inspected: &Inspected) {
        self.head(&format!("rollback {}", record.id));
        self.fields(&app::rollback_fields(record, inspected.at));
    }

    fn history(&mut self, inspected: &Inspected) {
        if !inspected.same_release.is_empty() {
            self.head("deployments of this release");
            let mut table = Table::new(&[
                ("", Align::Right),
                ("", Align::Left),
                ("", Align::Left),
                ("", Align::Left),
            ]);
            for row in &inspected.same_release {
                table.row([
                    Text::from(format!("{} #{}", row.key.environment, row.number)),
                    Text::new(of_status(row.status), row.status.as_str()),
                    Text::from(words::age(row.started_at, inspected.at)),
                    what(row),
                ]);
            }
            self.table(&table, false);
        }
        if !inspected.rollbacks.is_empty() {
            self.head("rollbacks of this environment");
            self.table(&app::rollback_table(&inspected.rollbacks, inspected.at), false);
        }
    }
}

fn steps(plan: &Plan, state: Option<&State>) -> Table {
    let mut table = Table::new(&[
        ("STEP", Align::Left),
        ("STATUS", Align::Left),
        ("TRIES", Align::Right),
        ("TOOK", Align::Right),
        ("ON", Align::Left),
        ("WHAT", Align::Left),
    ]);
    let records = state.map(|state| step_records(plan, state)).unwrap_or_default();
    for (index, step) in plan.steps.iter().enumerate() {
        let record = records.get(index);
        let progress = state.and_then(|state| state.steps.get(index));
        let over = state.is_some_and(|state| state.ended.is_some());
        let status = match record.map_or("", |record| record.status.as_str()) {
            "running" if over => "ended here",
            "pending" if over => "not run",
            status => status,
        };
        let style = match status {
            "done" => good(),
            "failed" => bad(),
            "running" | "ended here" => warn(),
            _ => DIM,
        };
        let tried = record.filter(|record| record.attempts > 0);
        let error = progress.filter(|p| !p.is_finished()).and_then(|p| p.error.as_deref());
        let said = progress.and_then(|p| p.receipt.as_ref()).map(|r| r.message.as_str());
        let said = said.filter(|said| !said.is_empty()).unwrap_or(step.after.as_str());
        table.row([
            Text::from(&step.name),
            Text::new(style, status),
            tried.map(|r| Text::from(r.attempts.to_string())).unwrap_or_default(),
            tried.map(|r| Text::from(words::duration(r.duration_ms))).unwrap_or_default(),
            Text::from(if step.subject.contains('@') { step.subject.as_str() } else { "" }),
            error.map_or_else(|| Text::new(DIM, said), |error| Text::new(bad(), error)),
        ]);
    }
    table
}

fn target(service: &Service) -> String {
    let words = match &service.target {
        TargetSpec::Process(process) => {
            let env: Vec<String> = process
                .env
                .iter()
                .map(|(key, value)| match value {
                    EnvValue::Plain(value) => format!("{key}={value}"),
                    EnvValue::Secret => format!("{key}=<secret>"),
                })
                .collect();
            let env = if env.is_empty() { String::new() } else { format!("  [{}]", env.join(" ")) };
            format!("  process: {}{env}", process.command.join(" "))
        }
        TargetSpec::Script(script) => {
            format!("  script: {} {}", script.program, script.args.join(" ")).trim_end().to_owned()
        }
        TargetSpec::Git(git) => {
            let commit = git.commit.get(..12).unwrap_or(&git.commit);
            format!("  git: {} ({commit}) in {}", git.revision, git.repository)
        }
        TargetSpec::Systemd(unit) => {
            format!(
                "  systemd: {} runs `{}` behind {}",
                unit.unit,
                unit.artifact.join(", "),
                unit.current
            )
        }
        TargetSpec::Compose(compose) => format!(
            "  compose: {} of {} as project {}",
            compose.services.join(", "),
            compose.files.join(", "),
            compose.project
        ),
    };
    let needs: Vec<&str> = service.depends_on.iter().map(|name| name.as_str()).collect();
    let needs =
        if needs.is_empty() { String::new() } else { format!("  needs {}", needs.join(", ")) };
    format!("{words}{needs}{}", if service.traffic { "" } else { "  no traffic" })
}

fn probe_words(probe: &ProbeSpec) -> String {
    let what = match probe {
        ProbeSpec::Http { check, .. } => check.url.clone(),
        ProbeSpec::Tcp { address, .. } => address.clone(),
        ProbeSpec::Exec { command, .. } => command.join(" "),
    };
    let every = words::duration(probe.schedule().interval_ms);
    format!("{} {what} every {every}", probe.name())
}

fn config_words(file: &ConfigFile) -> Text {
    let content = match &file.kind {
        FileKind::File { blob, size } => format!("  {size} B  {}", short_digest(blob)),
        FileKind::Link { target } => format!("  link to {target}"),
    };
    let secrets = if file.secrets.is_empty() {
        String::new()
    } else {
        format!("  secret: {}", file.secrets.join(", "))
    };
    Text::from(&file.path).and(DIM, format!("  {:04o}{content}{secrets}", file.mode & 0o7777))
}

/// `sha256:` and the first twelve digits.
fn short_digest(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}
