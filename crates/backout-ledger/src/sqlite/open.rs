//! Opening a ledger: made whole or not at all, never migrated when current, never changed by readers.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use fs_err::os::unix::fs::OpenOptionsExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::error::{OpenError, ledger_error};
use super::folder::{self, FolderLock};
use super::{LEDGER_FILE, OpenMode, audit_migration, migrations, moved, space};
use crate::entropy::random;
use crate::faults::mutant;

/// How long SQLite itself waits for another process, per statement.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Pages in the write-ahead log before it is copied back, when the reserve is in use: the log must not grow.
const THRIFTY_CHECKPOINT_PAGES: u32 = 48;

/// SQLite takes a file of a few bytes for an empty database.
const SMALLEST_BYTES: u64 = 512;

/// Name under which a new ledger is built.
const BUILD_FILE: &str = "ledger.db.new";

/// A connection, and whether it may be kept: one that reads files as they lie sees no later change.
pub(super) struct Opened {
    pub(super) connection: SqliteConnection,
    pub(super) lasting: bool,
    /// In use, or left by a caller that was stopped half-way.
    pub(super) lost: bool,
}

/// Opens, and in [`OpenMode::ReadWrite`] creates or migrates.
pub(super) async fn open(state: &Path, mode: OpenMode) -> Result<Opened, OpenError> {
    match mode {
        OpenMode::ReadWrite => open_for_writing(state).await,
        OpenMode::ReadOnly => open_for_reading(state).await,
    }
}

async fn open_for_writing(state: &Path) -> Result<Opened, OpenError> {
    folder::prepare(state)?;
    let file = state.join(LEDGER_FILE);
    if find(&file)?.is_none() {
        create(state, &file).await?;
    }
    let mut opened = open_file(state, &file).await?;
    moved::refuse(state, &mut opened.connection).await?;
    Ok(opened)
}

/// Opens one that is there, also if it was moved.
pub(super) async fn open_to_move(state: &Path) -> Result<Opened, OpenError> {
    folder::check(state)?;
    let file = state.join(LEDGER_FILE);
    match find(&file)? {
        Some(()) => open_file(state, &file).await,
        None => Err(OpenError::NotFound(state.to_owned())),
    }
}

async fn open_file(state: &Path, file: &Path) -> Result<Opened, OpenError> {
    tighten(file)?;
    let reserved = space::ensure_reserve(state);
    let mut connection = connect(state, writing(file, reserved)).await?;
    let found = format_of(state, &mut connection).await?;
    if found < migrations::SUPPORTED {
        let _lock = FolderLock::take(state).await?;
        migrations::run(state, &mut connection).await?;
    }
    Ok(Opened { connection, lasting: true, lost: false })
}

async fn open_for_reading(state: &Path) -> Result<Opened, OpenError> {
    let foreign = folder::is_foreign(state);
    if !foreign {
        folder::check(state)?;
    }
    let file = state.join(LEDGER_FILE);
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if foreign && std::fs::File::open(&file).is_err_and(|error| denied(&error)) {
        // It says whose it is, which helps more than what may not be done.
        folder::check(state)?;
    }
    if find(&file)?.is_none() {
        return Err(OpenError::NotFound(state.to_owned()));
    }
    let (opened, found) = connect_for_reading(state, &file, foreign).await?;
    if found < migrations::OLDEST_READ {
        let message =
            format!("{} has the format {found}, which only older versions read", file.display());
        return Err(OpenError::Ledger(LedgerError::Unavailable(message)));
    }
    Ok(opened)
}

/// In our own folder a reader may take part in locking, so that nothing is left behind when it closes; its
/// statements still can't write. In a folder of somebody else, or where not even that can be written (a full
/// disk, a read-only mount), the files are read as they lie.
async fn connect_for_reading(
    state: &Path,
    file: &Path,
    foreign: bool,
) -> Result<(Opened, i64), OpenError> {
    if !foreign {
        match connect_and_read(state, base(file).pragma("query_only", "ON")).await {
            Ok((connection, found)) => {
                return Ok((Opened { connection, lasting: true, lost: false }, found));
            }
            Err(OpenError::Ledger(newer @ LedgerError::NewerFormat { .. })) => {
                return Err(newer.into());
            }
            Err(error) => tracing::debug!(%error, "reading the ledger as it lies"),
        }
    }
    let log_is_empty =
        fs_err::metadata(with_suffix(file, "-wal")).map_or(true, |meta| meta.len() == 0);
    let options = base(file).read_only(true).immutable(log_is_empty);
    let (connection, found) = connect_and_read(state, options).await?;
    Ok((Opened { connection, lasting: !log_is_empty, lost: false }, found))
}

/// Connecting alone touches nothing; the first read does.
async fn connect_and_read(
    state: &Path,
    options: SqliteConnectOptions,
) -> Result<(SqliteConnection, i64), OpenError> {
    let mut connection = connect(state, options).await?;
    let found = format_of(state, &mut connection).await?;
    moved::refuse(state, &mut connection).await?;
    // What readers ask for and an older format lacks stands beside it, empty, for this connection alone.
    for sql in migrations::for_readers(found) {
        let made = sqlx::raw_sql(*sql).execute(&mut connection).await;
        made.map_err(|error| ledger_error(state, &error))?;
    }
    Ok((connection, found))
}

fn base(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

fn writing(file: &Path, reserved: bool) -> SqliteConnectOptions {
    let synchronous = match mutant("ledger_not_synced") {
        true => SqliteSynchronous::Off,
        false => SqliteSynchronous::Full,
    };
    let options = base(file).synchronous(synchronous);
    if reserved {
        options
    } else {
        options.pragma("wal_autocheckpoint", THRIFTY_CHECKPOINT_PAGES.to_string())
    }
}

/// For a connection that is open when the reserve is freed.
pub(super) async fn be_thrifty(
    state: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), LedgerError> {
    let sql = format!("PRAGMA wal_autocheckpoint = {THRIFTY_CHECKPOINT_PAGES}");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
        .map_err(|error| ledger_error(state, &error))?;
    Ok(())
}

async fn connect(
    state: &Path,
    options: SqliteConnectOptions,
) -> Result<SqliteConnection, OpenError> {
    options.connect().await.map_err(|error| ledger_error(state, &error).into())
}

async fn format_of(state: &Path, connection: &mut SqliteConnection) -> Result<i64, OpenError> {
    let found: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| ledger_error(state, &error))?;
    if found == 0 {
        let file = state.join(LEDGER_FILE).display().to_string();
        return Err(LedgerError::Unavailable(format!(
            "{file} is damaged: it holds no ledger; restore it from a backup"
        ))
        .into());
    }
    if found > migrations::SUPPORTED {
        return Err(LedgerError::NewerFormat { found, supported: migrations::SUPPORTED }.into());
    }
    Ok(found)
}

/// Whether the file is there. An empty one, or a log without it, is what is left of a ledger: a fresh one
/// beside them would hide the loss.
fn find(file: &Path) -> Result<Option<()>, OpenError> {
    let damaged = |what: &str| {
        let message = format!(
            "{} {what}; restore it from a backup, or move the remains away to begin anew",
            file.display()
        );
        Err(OpenError::Ledger(LedgerError::Unavailable(message)))
    };
    match fs_err::symlink_metadata(file) {
        Ok(meta) if !meta.is_file() => damaged("is not a regular file"),
        Ok(meta) if meta.len() == 0 => damaged("is empty"),
        Ok(meta) if meta.len() < SMALLEST_BYTES => damaged("is damaged: it was cut short"),
        Ok(_) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = with_suffix(file, "-wal");
            if fs_err::metadata(&log).is_ok_and(|meta| meta.len() > 0) {
                damaged("is gone but its -wal file is there")
            } else {
                Ok(None)
            }
        }
        Err(error) => Err(io_error(error)),
    }
}

/// A copy that was put back may have come with another mode.
fn tighten(file: &Path) -> Result<(), OpenError> {
    let mode = fs_err::metadata(file).map_err(io_error)?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs_err::set_permissions(file, std::fs::Permissions::from_mode(0o600)).map_err(io_error)
}

/// Builds the ledger under another name, whole and durable, and renames it: there is never half a ledger.
async fn create(state: &Path, file: &Path) -> Result<(), OpenError> {
    let lock = FolderLock::take(state).await?;
    if find(file)?.is_some() {
        return Ok(());
    }
    let build = state.join(BUILD_FILE);
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove_if_there(&with_suffix(&build, suffix))?;
    }
    // SQLite gives its other files the mode of this one.
    let handle = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&build)
        .map_err(io_error)?;
    handle.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(io_error)?;
    let options =
        base(&build).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let mut connection = connect(state, options).await?;
    migrations::run(state, &mut connection).await?;
    write_identity(state, &mut connection).await?;
    // Closing copies the log back, too, but says nothing when that fails: the renamed file would be half a ledger.
    let copied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await;
    copied.map_err(|error| ledger_error(state, &error))?;
    connection.close().await.map_err(|error| ledger_error(state, &error))?;
    handle.sync_all().map_err(io_error)?;
    fs_err::rename(&build, file).map_err(io_error)?;
    lock.sync()
}

async fn write_identity(state: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let id = LedgerId::from_entropy(random::<12>().map_err(io_error)?);
    let created_at = jiff::Timestamp::now().to_string();
    sqlx::query("INSERT INTO ledger (only_row, id, hash_key, created_at) VALUES (1, ?, ?, ?)")
        .bind(id.as_str())
        .bind(random::<32>().map_err(io_error)?.to_vec())
        .bind(created_at.as_str())
        .execute(&mut *connection)
        .await
        .map_err(|error| ledger_error(state, &error))?;
    audit_migration::begin_log(state, connection, id.as_str(), &created_at).await?;
    tracing::info!(folder = %state.display(), ledger = %id, "created a ledger");
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(error: io::Error) -> OpenError {
    folder::unavailable(&error)
}
