//! What a reading verb works on: one environment, or all that the file names, and a ledger if there is one.
//! Nothing is created. The ledger is closed in order, so that it leaves no files of its own behind; but a log
//! that somebody else left there is not copied back into it by a reader.

use std::sync::OnceLock;

use backout_core::ids::{AppName, EnvironmentName};
use backout_core::ports::{Ledger, LedgerError};

use super::args::Global;
use super::session::{self, Opening, Session};
use crate::config::{self, Loaded};
use crate::error::CommandError;
use crate::registry::{LEDGER_FILE, LedgerPlace, OpenLedger, OpenMode, is_missing};
use crate::state_dir::StateDir;

/// How a reading verb wants the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written.
    Read,
    /// Results of checks are kept where the ledger can be written; else they are only shown.
    KeepChecks,
}

/// One environment of the file.
pub struct Place {
    /// Its configuration.
    pub loaded: Loaded,
    /// The open session; none without a ledger.
    pub session: Option<Session>,
}

/// The environments that are meant.
pub struct Reader {
    /// The app.
    pub app: AppName,
    /// Those whose configuration is valid; at least one.
    pub places: Vec<Place>,
    /// Those whose configuration is not, such as for a variable that only they need.
    pub broken: Vec<(EnvironmentName, CommandError)>,
    /// The state folder.
    pub state: StateDir,
    /// Where its ledger is, or would be.
    pub ledger_place: LedgerPlace,
    ledger: Option<OpenLedger>,
    log_was_there: bool,
}

/// Whoever closes a ledger last copies its log back. While this one stays open nobody in this process is the last.
static ANCHOR: OnceLock<OpenLedger> = OnceLock::new();

impl Reader {
    /// Opens for the environment of `-e`, else for all that the file names.
    ///
    /// # Errors
    /// For a configuration that is wrong, or a ledger that can't be read.
    pub async fn open(
        global: &Global,
        activity: &str,
        access: Access,
    ) -> Result<Self, CommandError> {
        let (loaded, broken) = configurations(global)?;
        let Some(state) = session::state_dirs(global)?.into_iter().next() else {
            return Err(CommandError::failed("no state folder is known: set --state-dir"));
        };
        let log = state.path.join(format!("{LEDGER_FILE}-wal"));
        let log_was_there = fs_err::metadata(log).is_ok_and(|meta| meta.len() > 0);
        let ledger_place = session::ledger_place(global, &state)?;
        let ledger = open_ledger(&state, &ledger_place, access).await?;
        let opening = Opening { activity, ..Opening::default() };
        let app = loaded[0].app.clone();
        let mut places = Vec::new();
        for loaded in loaded {
            let session = match &ledger {
                Some(ledger) => {
                    let ledger = ledger.port();
                    Some(session::build(loaded.clone(), state.clone(), ledger, opening).await?)
                }
                None => None,
            };
            places.push(Place { loaded, session });
        }
        Ok(Self { app, places, broken, state, ledger_place, ledger, log_was_there })
    }

    /// As [`Reader::open`], for a verb that is about one environment.
    ///
    /// # Errors
    /// Usage where there are several and none was named.
    pub async fn open_one(
        global: &Global,
        activity: &str,
        access: Access,
    ) -> Result<Self, CommandError> {
        // Says which environments there are, before anything is opened.
        session::load(global, None)?;
        Self::open(global, activity, access).await
    }

    /// The ledger; none if there is none.
    #[must_use]
    pub fn ledger(&self) -> Option<&dyn Ledger> {
        self.ledger.as_ref().map(OpenLedger::as_dyn)
    }

    /// As [`OpenLedger::careless_settings`].
    ///
    /// # Errors
    /// When the ledger can't be asked.
    pub async fn careless_settings(&self) -> Result<Vec<String>, LedgerError> {
        match &self.ledger {
            Some(ledger) => ledger.careless_settings().await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether the ledger knows any of these environments.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn is_known(&self) -> Result<bool, CommandError> {
        for session in self.places.iter().filter_map(|place| place.session.as_ref()) {
            match session.cx.ledger.environment(&session.cx.key).await {
                Ok(None) => {}
                Ok(Some(_)) | Err(LedgerError::CorruptRecord { .. }) => return Ok(true),
                Err(error) => return Err(session::ledger_error(&error)),
            }
        }
        Ok(false)
    }

    /// Says which folder was read, by which rule, and which other one knows what is asked for.
    pub async fn not_known(&self, global: &Global) -> CommandError {
        session::not_known(global, &self.places[0].loaded, &self.state).await
    }

    /// Closes the ledger and waits for it; one with a log that somebody else left stays open to the end of the process.
    pub async fn close(self) {
        let Self { places, ledger, log_was_there, .. } = self;
        drop(places);
        let Some(ledger) = ledger else { return };
        if log_was_there {
            ANCHOR.get_or_init(|| ledger);
            return;
        }
        ledger.close().await;
    }
}

type Broken = (EnvironmentName, CommandError);

fn configurations(global: &Global) -> Result<(Vec<Loaded>, Vec<Broken>), CommandError> {
    if global.env.is_some() {
        return Ok((vec![session::load(global, None)?], Vec::new()));
    }
    let file = global.config_file();
    let names = config::environments(file, &session::var)?;
    let (mut loaded, mut broken) = (Vec::new(), Vec::new());
    for name in names {
        match config::load(file, Some(name.as_str()), &session::var) {
            Ok(one) => loaded.push(one),
            Err(error) => broken.push((name, CommandError::from(error))),
        }
    }
    match broken.first() {
        Some((_, error)) if loaded.is_empty() => Err(error.clone()),
        _ => Ok((loaded, broken)),
    }
}

async fn open_ledger(
    state: &StateDir,
    place: &LedgerPlace,
    access: Access,
) -> Result<Option<OpenLedger>, CommandError> {
    // Read first: opening for writing would create what is not there, and change an older format.
    let reading = match place.open(OpenMode::ReadOnly).await {
        Ok(ledger) => ledger,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(session::open_error(&error, state, place)),
    };
    if access == Access::Read {
        return Ok(Some(reading));
    }
    match place.open(OpenMode::ReadWrite).await {
        Ok(writing) => {
            reading.close().await;
            Ok(Some(writing))
        }
        Err(_) => Ok(Some(reading)),
    }
}
