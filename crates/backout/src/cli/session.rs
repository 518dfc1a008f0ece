//! What a verb needs: configuration, state folder, ledger and adapters, put together in one place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backout_core::ids::Entropy;
use backout_core::model::Surface;
use backout_core::ports::{Ledger, LedgerError};
use backout_engine::{Context, EngineError, EventSink, Interrupt};
use tokio::sync::watch;

use super::args::Global;
use crate::config::{self, Loaded, Wanted};
use crate::error::{CommandError, ErrorKind};
use crate::registry::{
    self, DATABASE_VARIABLE, LedgerPlace, OpenError, OpenLedger, OpenMode, SqliteLedger,
    holder_for_this_process, is_missing,
};
use crate::state_dir::{self, StateDir};

/// What a verb asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening<'a> {
    /// The verb, as the lease shows it.
    pub activity: &'a str,
    /// It changes something: the state folder is created.
    pub changes: bool,
    /// A person's way back: only these are busy against each other.
    pub way_back: bool,
    /// Another strategy than the file's.
    pub strategy: Option<&'a str>,
}

/// An open configuration with everything behind it.
pub struct Session {
    /// The configuration.
    pub loaded: Loaded,
    /// The state folder.
    pub state: StateDir,
    /// What the engine is given.
    pub cx: Context,
    /// To tell a running operation of signals.
    pub interrupt: watch::Sender<Interrupt>,
}

/// What a reading verb finds.
pub enum Found {
    /// A ledger.
    Session(Box<Session>),
    /// No ledger in the state folder: nothing was ever deployed from here.
    NoLedger {
        /// The configuration.
        loaded: Box<Loaded>,
        /// The state folder.
        state: StateDir,
    },
}

/// A variable of the caller's environment.
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads the configuration as the flags want it.
pub fn load(global: &Global, strategy: Option<&str>) -> Result<Loaded, CommandError> {
    let wanted = Wanted { environment: global.env.as_deref(), strategy };
    Ok(config::load_as(global.config_file(), wanted, &var)?)
}

/// All state folders that the rules name, the chosen one first.
pub fn state_dirs(global: &Global) -> Result<Vec<StateDir>, CommandError> {
    state_dir::candidates(global.state_dir.as_deref(), &var).map_err(CommandError::failed)
}

/// Opens an environment that the ledger knows; for one that it does not, nothing is made.
///
/// # Errors
/// When it is not known, and as [`open`].
pub async fn open_known(global: &Global, opening: Opening<'_>) -> Result<Session, CommandError> {
    if opening.changes && opening.way_back && is_there(global)? {
        let session = open(global, opening).await?;
        require_known(global, &session).await?;
        return Ok(session);
    }
    match find(global, Opening { changes: false, ..opening }).await {
        Ok(Found::NoLedger { loaded, state }) => {
            return Err(not_known(global, &loaded, &state).await);
        }
        Ok(Found::Session(session)) => require_known(global, &session).await?,
        Err(error) if !opening.changes => return Err(error),
        // What stands in a reader's way may be mended by opening for writing: an older format, a full disk.
        Err(_) => {}
    }
    let session = open(global, opening).await?;
    require_known(global, &session).await?;
    Ok(session)
}

/// Whether opening the ledger for writing makes none, so that it need not be opened for reading first: when traffic
/// has to move back, each opening takes time.
fn is_there(global: &Global) -> Result<bool, CommandError> {
    match state_dirs(global)?.into_iter().next() {
        Some(state) => Ok(ledger_place(global, &state)?.has_file()),
        None => Ok(false),
    }
}

async fn require_known(global: &Global, session: &Session) -> Result<(), CommandError> {
    let known = session.cx.ledger.environment(&session.cx.key).await;
    if known.map_err(|error| ledger_error(&error))?.is_none() {
        return Err(not_known(global, &session.loaded, &session.state).await);
    }
    Ok(())
}

/// Opens for a verb that changes something.
pub async fn open(global: &Global, opening: Opening<'_>) -> Result<Session, CommandError> {
    match find(global, opening).await? {
        Found::Session(session) => Ok(*session),
        Found::NoLedger { loaded, state } => Err(not_known(global, &loaded, &state).await),
    }
}

/// Opens; a reading verb may find that there is no ledger.
pub async fn find(global: &Global, opening: Opening<'_>) -> Result<Found, CommandError> {
    let loaded = load(global, opening.strategy)?;
    let Some(state) = state_dirs(global)?.into_iter().next() else {
        return Err(CommandError::failed("no state folder is known: set --state-dir"));
    };
    let mode = if opening.changes { OpenMode::ReadWrite } else { OpenMode::ReadOnly };
    let place = ledger_place(global, &state)?;
    // A way back begins no history: where there is none it names the ledger that has it.
    if opening.changes && !opening.way_back {
        super::shared_ledger::require(global, &loaded, &state, &place).await?;
    }
    let mut opened = place.open(mode).await;
    if opening.way_back
        && opening.changes
        && matches!(place, LedgerPlace::Folder(_))
        && matches!(opened, Err(OpenError::Ledger(LedgerError::DiskFull(_))))
    {
        opened = open_with_reserve(&state, &place).await;
    }
    let ledger = match opened {
        Ok(ledger) => ledger,
        Err(error) if is_missing(&error) => {
            return Ok(Found::NoLedger { loaded: Box::new(loaded), state });
        }
        Err(error) => return Err(open_error(&error, &state, &place)),
    };
    to_close().push(ledger.clone());
    let session = build(loaded, state, ledger.port(), opening).await?;
    Ok(Found::Session(Box::new(session)))
}

/// Where the ledger is: in the database that the environment names, else in the state folder.
pub fn ledger_place(global: &Global, state: &StateDir) -> Result<LedgerPlace, CommandError> {
    let database = if global.own_ledger { None } else { var(DATABASE_VARIABLE) };
    LedgerPlace::new(&state.path, database.as_deref())
        .map_err(|error| CommandError::usage(format!("{DATABASE_VARIABLE}: {error}")))
}

/// The ledger, for a process that works for many environments; made if there is none.
pub async fn open_ledger(global: &Global) -> Result<(StateDir, Arc<dyn Ledger>), CommandError> {
    let Some(state) = state_dirs(global)?.into_iter().next() else {
        return Err(CommandError::failed("no state folder is known: set --state-dir"));
    };
    let place = ledger_place(global, &state)?;
    let opened = place.open(OpenMode::ReadWrite).await;
    let ledger = opened.map_err(|error| open_error(&error, &state, &place))?;
    to_close().push(ledger.clone());
    Ok((state, ledger.port()))
}

/// On a full disk the reserved file makes room for a way back.
async fn open_with_reserve(state: &StateDir, place: &LedgerPlace) -> Result<OpenLedger, OpenError> {
    use std::io::Write as _;
    if registry::free_reserve(&state.path).map_err(OpenError::Ledger)? {
        let folder = state.path.display();
        let _ = writeln!(
            anstream::stderr(),
            "warning: the disk of {folder} is full: the reserved space is used for this way back"
        );
    }
    place.open(OpenMode::ReadWrite).await
}

/// Ledgers that are open in this process.
static OPEN: Mutex<Vec<OpenLedger>> = Mutex::new(Vec::new());

fn to_close() -> std::sync::MutexGuard<'static, Vec<OpenLedger>> {
    OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Closes what nobody uses any more, in order: the log is copied back and its files go, so that no reader has to.
pub async fn close_ledgers() {
    let ledgers = std::mem::take(&mut *to_close());
    for ledger in ledgers {
        ledger.close().await;
    }
}

/// Opens for a look at a plan: nothing is written, and where nothing was ever deployed the ledger is one that
/// goes away with the returned folder.
pub async fn open_to_look(
    global: &Global,
    opening: Opening<'_>,
) -> Result<(Session, Option<tempfile::TempDir>), CommandError> {
    match find(global, Opening { changes: false, ..opening }).await? {
        Found::Session(session) => Ok((*session, None)),
        Found::NoLedger { loaded, state } => {
            let folder = tempfile::tempdir().map_err(|error| {
                CommandError::failed(format!("failed to make a temporary folder: {error}"))
            })?;
            let ledger =
                SqliteLedger::open(folder.path(), OpenMode::ReadWrite).await.map_err(|error| {
                    open_error(&error, &state, &LedgerPlace::Folder(folder.path().to_owned()))
                })?;
            let session = build(*loaded, state, Arc::new(ledger), opening).await?;
            Ok((session, Some(folder)))
        }
    }
}

/// What to do when the disk of this folder is full.
fn with_a_full_disk(folder: &str) -> &'static str {
    let folder = Path::new(folder);
    if registry::has_reserve(folder) {
        "free some space; `backout rollback` still works from its reserve"
    } else if folder.is_dir() {
        "free some space first: the reserve that lets one rollback go on is used up, or there was no room for it"
    } else {
        "free some space"
    }
}

const WITH_A_BAD_RECORD: &str = "`backout status` shows what can be read; if it is of an open operation, \
    `backout resolve --reason TEXT` ends that one as it is, and `backout rollback` works again";

/// Why a ledger could not be opened, with where it was looked for.
pub fn open_error(error: &OpenError, state: &StateDir, place: &LedgerPlace) -> CommandError {
    let mut command = CommandError::failed(error.to_string());
    if let OpenError::Ledger(LedgerError::DiskFull(folder)) = error {
        command = command.hint(with_a_full_disk(folder));
    }
    if matches!(place, LedgerPlace::Database(_)) {
        return command.hint(format!("{DATABASE_VARIABLE} names this database"));
    }
    command.hint(format!(
        "the state folder is {} ({}); name another with --state-dir",
        state.path.display(),
        state.rule
    ))
}

/// Puts a session together on an open ledger.
pub async fn build(
    loaded: Loaded,
    state: StateDir,
    ledger: Arc<dyn Ledger>,
    opening: Opening<'_>,
) -> Result<Session, CommandError> {
    let holder = holder_for_this_process(opening.activity, opening.way_back)
        .map_err(|error| CommandError::failed(error.to_string()))?;
    let ledger_id = ledger.id().await.map_err(|error| ledger_error(&error))?;
    let exe = this_program()?;
    let adapters = registry::adapters(&registry::Surroundings {
        settings: &loaded.settings,
        folder: &loaded.folder,
        state_dir: &state.path,
        ledger: ledger.clone(),
        ledger_id,
        exe,
    });
    let requested_by =
        holder.label.rsplit_once(':').map_or(holder.label.as_str(), |(who, _)| who).to_owned();
    let (interrupt, receiver) = watch::channel(Interrupt::None);
    let settings = &loaded.settings;
    let cx = Context {
        key: settings.key.clone(),
        folder: loaded.folder.display().to_string(),
        policy: settings.policy.clone(),
        services: settings.services.clone(),
        config_globs: registry::config_globs(settings, &loaded.folder),
        secrets: settings.secrets.clone(),
        ledger,
        target: adapters.target,
        router: adapters.router,
        probes: adapters.probes,
        artifacts: adapters.artifacts,
        config_files: adapters.config_files,
        incidents: Some(state.path.join("incidents")),
        holder,
        requested_by,
        surface: Surface::Cli,
        events: EventSink::default(),
        interrupt: receiver,
        entropy,
        clock: jiff::Timestamp::now,
    };
    Ok(Session { loaded, state, cx, interrupt })
}

/// This program's file; still right when it was replaced by a newer build meanwhile.
pub fn this_program() -> Result<PathBuf, CommandError> {
    let exe = std::env::current_exe().map_err(|error| {
        CommandError::failed(format!("failed to find this program's file: {error}"))
    })?;
    if exe.exists() {
        return Ok(exe);
    }
    // The kernel marks a replaced file; what lies at its old path is the newer build.
    let text = exe.display().to_string();
    Ok(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text)))
}

/// New random bytes.
pub fn entropy() -> Entropy {
    let mut bytes = Entropy::default();
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(got, Ok(bytes.len()), "the kernel gives small amounts of randomness whole");
    bytes
}

/// The ledger doesn't know this environment: names the folder that was read, and the one that does.
pub async fn not_known(global: &Global, loaded: &Loaded, state: &StateDir) -> CommandError {
    let key = &loaded.settings.key;
    let database =
        ledger_place(global, state).ok().filter(|place| matches!(place, LedgerPlace::Database(_)));
    let mut error = CommandError::refused(match &database {
        Some(database) => format!("{key} is not known in {database} ({DATABASE_VARIABLE})"),
        None => format!("{key} is not known in {} ({})", state.path.display(), state.rule),
    });
    // With a database, the folder of this command may have a ledger that was not moved.
    let read = usize::from(database.is_none());
    for other in state_dirs(global).unwrap_or_default().into_iter().skip(read) {
        if knows(&other, loaded).await {
            let folder = other.path.display();
            error = error.hint(match &database {
                None => format!("it is known there: --state-dir {folder}"),
                Some(_) => format!(
                    "it is known in the ledger of {folder}: `backout --state-dir {folder} ledger copy --to URL` moves that"
                ),
            });
        }
    }
    if error.hints.is_empty() {
        error = error.hint("nothing was deployed from here yet: `backout deploy --version V` does, `backout adopt` records what runs");
    }
    error
}

pub(super) async fn knows(state: &StateDir, loaded: &Loaded) -> bool {
    let Ok(ledger) = SqliteLedger::open(&state.path, OpenMode::ReadOnly).await else {
        return false;
    };
    matches!(ledger.environment(&loaded.settings.key).await, Ok(Some(_)))
}

/// A ledger's failure as a command's.
pub fn ledger_error(error: &LedgerError) -> CommandError {
    let command = CommandError::failed(error.to_string());
    match error {
        LedgerError::DiskFull(folder) => command.hint(with_a_full_disk(folder)),
        LedgerError::CorruptRecord { .. } => command.hint(WITH_A_BAD_RECORD),
        _ => command,
    }
}

/// The engine's refusal as a command's.
pub fn engine_error(error: &EngineError) -> CommandError {
    match error {
        EngineError::Refused(refused) => {
            let mut command = CommandError::refused(refused.message.clone());
            command.hints.clone_from(&refused.hints);
            command
        }
        EngineError::Busy(view) => CommandError::new(ErrorKind::Busy, error.to_string()).hint(
            format!("wait for it, or follow it with `backout status -w` (epoch {})", view.epoch),
        ),
        EngineError::Ledger(error) => ledger_error(error),
        EngineError::Failed(_) | EngineError::Journal(_) => CommandError::failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_named_only_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let hint = |folder: &Path| {
            ledger_error(&LedgerError::DiskFull(folder.display().to_string())).hints.join("; ")
        };
        assert!(hint(folder.path()).contains("used up"), "{}", hint(folder.path()));
        std::fs::write(folder.path().join("reserve"), "").unwrap();
        assert!(hint(folder.path()).contains("still works"), "{}", hint(folder.path()));
        assert_eq!(hint(Path::new("the database postgres://db")), "free some space");
    }
}
