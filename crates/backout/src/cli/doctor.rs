//! `backout doctor`: everything that a deploy and a rollback will need, checked before they need it.

mod compose;
mod files;
mod hosts;
mod machine;
mod needs;
mod running;
mod state;
mod systemd;
mod unit;

use std::io::Write as _;

use backout_core::ids::EnvironmentKey;
use backout_core::model::Severity;
use serde_json::{Value, json};

use super::args::{Format, Global};
use super::reading::{Access, Place, Reader};
use super::report::commands::Commands;
use super::report::json as documents;
use super::report::table::{Align, Table};
use super::report::text::{BOLD, Text, bad, command, of_severity, terminal_width, warn};
use super::session;
use crate::error::{CommandError, ErrorKind};
use crate::exit_code;

pub use unit::in_unit;

/// One line.
#[derive(Debug, Clone)]
pub struct Item {
    environment: Option<EnvironmentKey>,
    name: String,
    status: Severity,
    message: String,
    /// What to type.
    fix: Vec<String>,
    /// The text of a unit to install.
    unit: Option<String>,
}

impl Item {
    fn new(name: &str, status: Severity, message: impl Into<String>) -> Self {
        Self {
            environment: None,
            name: name.to_owned(),
            status,
            message: message.into(),
            fix: Vec::new(),
            unit: None,
        }
    }

    fn pass(name: &str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Pass, message)
    }

    fn warning(name: &str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Warning, message)
    }

    fn error(name: &str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Error, message)
    }

    /// With a command that helps.
    #[must_use]
    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix.push(command.into());
        self
    }
}

/// Everything that was found, and the unit to install, if there is none.
#[derive(Default)]
struct Findings {
    items: Vec<Item>,
    units: Vec<unit::Unit>,
}

/// Runs the verb.
pub async fn run(global: &Global) -> Result<u8, CommandError> {
    let mut found = Findings { items: machine::items(), units: Vec::new() };
    let state = session::state_dirs(global)?.into_iter().next();
    found.items.extend(state.iter().flat_map(state::folder));
    let code = match Reader::open(global, "doctor", Access::Read).await {
        Ok(reader) => {
            let result = environments(global, &reader, &mut found).await;
            reader.close().await;
            result?;
            worst(&found.items)
        }
        Err(error) => {
            let usage = error.kind == ErrorKind::Usage;
            let name = if usage { "configuration" } else { "ledger" };
            let mut item = Item::error(name, error.message.clone());
            item.fix.clone_from(&error.hints);
            found.items.push(item);
            if usage { exit_code::USAGE } else { exit_code::FAILED }
        }
    };
    match global.format {
        Format::Json => documents::print(&found.items.iter().map(document).collect()),
        Format::Table => print(&found),
    }
    Ok(code)
}

fn worst(items: &[Item]) -> u8 {
    match items.iter().any(|item| item.status == Severity::Error) {
        true => exit_code::FAILED,
        false => exit_code::OK,
    }
}

async fn environments(
    global: &Global,
    reader: &Reader,
    found: &mut Findings,
) -> Result<(), CommandError> {
    found.items.extend(state::ledger(global, reader).await?);
    for place in &reader.places {
        let key = &place.loaded.settings.key;
        let commands = Commands::new(global, &key.environment);
        let mut items = place_items(place, reader, &commands).await?;
        let unit = unit::Unit::new(global, place);
        let (item, to_install) = unit::check(unit, place);
        items.extend(item);
        found.units.extend(to_install);
        for item in &mut items {
            item.environment = Some(key.clone());
        }
        found.items.extend(items);
    }
    for (name, error) in &reader.broken {
        let mut item = Item::error("configuration", format!("{name}: {}", error.message));
        item.fix.clone_from(&error.hints);
        found.items.push(item);
    }
    Ok(())
}

async fn place_items(
    place: &Place,
    reader: &Reader,
    commands: &Commands,
) -> Result<Vec<Item>, CommandError> {
    let settings = &place.loaded.settings;
    let mut items =
        vec![Item::pass("configuration", format!("{} is valid", settings.config_path.display()))];
    items.extend(settings.warnings.iter().map(|warning| Item::warning("configuration", warning)));
    items.extend(files::items(place, reader).await);
    items.extend(hosts::items(place).await);
    items.extend(compose::items(place).await);
    items.extend(systemd::items(place).await);
    items.extend(needs::items(place));
    items.extend(running::items(place, commands).await?);
    Ok(items)
}

fn document(item: &Item) -> Value {
    json!({
        "name": item.name, "status": item.status, "message": item.message,
        "environment": item.environment.as_ref().map(|key| &key.environment), "fix": item.fix,
        "unit": item.unit,
    })
}

fn print(found: &Findings) {
    let width = terminal_width();
    let mut lines = Vec::new();
    let mut groups: Vec<Option<&EnvironmentKey>> = Vec::new();
    for item in &found.items {
        if !groups.contains(&item.environment.as_ref()) {
            groups.push(item.environment.as_ref());
        }
    }
    for group in groups {
        let name = group.map_or_else(|| "this machine".to_owned(), ToString::to_string);
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(Text::new(BOLD, name).styled());
        let items = found.items.iter().filter(|item| item.environment.as_ref() == group);
        lines.extend(table(items).render(2, width, true));
    }
    for unit in &found.units {
        lines.push(String::new());
        lines.extend(unit.lines());
    }
    lines.push(String::new());
    lines.push(summary(&found.items).styled());
    let mut out = anstream::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

fn table<'a>(items: impl Iterator<Item = &'a Item>) -> Table {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for item in items {
        table.row([
            Text::new(of_severity(item.status), item.status.as_str()),
            Text::from(&item.name),
            Text::from(&item.message),
        ]);
        for fix in &item.fix {
            table.row([Text::default(), Text::default(), Text::new(command(), fix).unbroken()]);
        }
    }
    table
}

fn summary(items: &[Item]) -> Text {
    let count = |status| items.iter().filter(|item| item.status == status).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let words = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    match (errors, warnings) {
        (0, 0) => Text::new(of_severity(Severity::Pass), "everything is ready"),
        (0, _) => Text::from("ready, with ").and(warn(), words(warnings, "warning")),
        (_, _) => Text::new(bad(), words(errors, "error")).then(if warnings > 0 {
            format!(" and {}", words(warnings, "warning"))
        } else {
            String::new()
        }),
    }
}
