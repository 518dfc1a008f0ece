//! `backout inspect`.

mod gather;
mod incident;

use std::io::Write as _;

use backout_core::ids::EnvironmentKey;
use backout_core::ports::Ledger;
use backout_engine as engine;

use super::args::{self, Format, Global};
use super::reading::{Access, Place, Reader};
use super::report::commands::Commands;
use super::report::inspect::{self as report, AppPlace, Inspected};
use super::report::{json as documents, status, text};
use super::session;
use super::values::DeploymentName;
use crate::error::{CommandError, ErrorKind};
use crate::exit_code;

/// Rollbacks of an app that are shown without `--show-history`.
const ROLLBACKS_SHOWN: u32 = 5;

/// Deployments and rollbacks that are shown with it.
const HISTORY_SHOWN: u32 = 500;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Inspect) -> Result<u8, CommandError> {
    let reader = Reader::open(global, "inspect", Access::Read).await?;
    let result = show(global, args, &reader).await;
    reader.close().await;
    result.map(|()| exit_code::OK)
}

async fn show(global: &Global, args: &args::Inspect, reader: &Reader) -> Result<(), CommandError> {
    let Some(ledger) = reader.ledger() else {
        let unknown = reader.not_known(global).await;
        return Err(CommandError { kind: ErrorKind::Failed, ..unknown });
    };
    let is_app = matches!(&args.what, DeploymentName::Word(word) if word == reader.app.as_str());
    let (document, lines) = if is_app {
        let mut places = Vec::new();
        for place in &reader.places {
            places.push(app_place(global, args, (reader, ledger), place).await?);
        }
        (report::app_document(&reader.app, &places), report::app_lines(&places))
    } else {
        let mut inspected = find(&args.what, reader, ledger).await?;
        gather::all(ledger, &mut inspected, args.show_history)
            .await
            .map_err(|error| session::ledger_error(&error))?;
        incident::find(&reader.state.path.join("incidents"), ledger, &mut inspected)
            .await
            .map_err(|error| session::ledger_error(&error))?;
        (report::document(&inspected), report::lines(&inspected, text::terminal_width()))
    };
    match global.format {
        Format::Json => documents::print(&document),
        Format::Table => {
            let mut out = anstream::stdout().lock();
            for line in lines {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    Ok(())
}

async fn find(
    what: &DeploymentName,
    reader: &Reader,
    ledger: &dyn Ledger,
) -> Result<Inspected, CommandError> {
    let keys: Vec<EnvironmentKey> =
        reader.places.iter().map(|place| place.loaded.settings.key.clone()).collect();
    let places = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (name, found) = match what {
        DeploymentName::Number(number) => {
            (format!("#{number}"), gather::by_number(ledger, &keys, *number).await)
        }
        DeploymentName::Word(word) => (word.clone(), gather::by_word(ledger, &keys, word).await),
    };
    let mut found = found.map_err(|error| session::ledger_error(&error))?;
    match found.len() {
        0 => Err(CommandError::failed(format!("nothing is recorded as {name} in {places}")).hint(
            format!(
                "`backout history` lists deployments, `backout inspect {}` shows the app",
                reader.app
            ),
        )),
        1 => Ok(found.swap_remove(0)),
        _ => Err(CommandError::usage(format!("{name} is in several environments: {places}"))
            .hint("name one with `-e ENV`")),
    }
}

async fn app_place(
    global: &Global,
    args: &args::Inspect,
    (reader, ledger): (&Reader, &dyn Ledger),
    place: &Place,
) -> Result<AppPlace, CommandError> {
    let failed = |error| session::ledger_error(&error);
    let key = &place.loaded.settings.key;
    let Some(session) = &place.session else {
        return Ok(AppPlace {
            status: status::unknown(&key.environment),
            lines: Vec::new(),
            rollbacks: Vec::new(),
            incidents: Vec::new(),
            deployments: Vec::new(),
        });
    };
    let view = engine::look(&session.cx).await.map_err(failed)?;
    let described = status::Described::new(&view, &Commands::new(global, &key.environment));
    let limit = if args.show_history { HISTORY_SHOWN } else { ROLLBACKS_SHOWN };
    Ok(AppPlace {
        status: status::document(&described),
        lines: status::lines(&described, text::terminal_width()),
        rollbacks: gather::rollbacks(ledger, key, limit).await.map_err(failed)?,
        incidents: {
            let mut kept = engine::incident::list(&reader.state.path.join("incidents"), key);
            kept.truncate(limit as usize);
            kept
        },
        deployments: match args.show_history {
            true => gather::deployments(ledger, key, HISTORY_SHOWN).await.map_err(failed)?,
            false => Vec::new(),
        },
    })
}
