//! Records as JSON with the format it was written in.

use backout_core::ports::LedgerError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

/// Newest format of the records that carry none themselves.
pub(super) const RECORD_FORMAT: u32 = 1;

/// No record comes near this; more is a mistake of the caller.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// A record as text.
pub(super) fn encode<T: Serialize>(what: &str, record: &T) -> Result<String, LedgerError> {
    let text = serde_json::to_string(record).map_err(|error| {
        LedgerError::Unavailable(format!("failed to write {what} as JSON: {error}"))
    })?;
    if text.len() > MAX_RECORD_BYTES {
        let message = format!(
            "{what} has {} bytes, more than the {MAX_RECORD_BYTES} that a record may have",
            text.len()
        );
        return Err(LedgerError::Unavailable(message));
    }
    Ok(text)
}

/// The record in the columns `format` and `json`.
pub(super) fn decode<T: DeserializeOwned>(
    what: &str,
    row: &SqliteRow,
    supported: u32,
) -> Result<T, LedgerError> {
    let format: i64 = column(what, row, "format")?;
    if format > i64::from(supported) {
        let message = format!(
            "it has format {format}, this version reads up to {supported}; use the newer backout"
        );
        return Err(LedgerError::CorruptRecord { what: what.to_owned(), message });
    }
    parse(what, &column::<String>(what, row, "json")?)
}

/// A value from JSON.
pub(super) fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| corrupt(what, &error))
}

/// A column.
pub(super) fn column<'r, T>(what: &str, row: &'r SqliteRow, name: &str) -> Result<T, LedgerError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).map_err(|error| corrupt(what, &error))
}

/// A column with a number that is never negative.
pub(super) fn unsigned(what: &str, row: &SqliteRow, name: &str) -> Result<u64, LedgerError> {
    let value: i64 = column(what, row, name)?;
    u64::try_from(value).map_err(|_| corrupt(what, &format!("{name} is {value}")))
}

/// A number as SQLite keeps it.
pub(super) fn signed(what: &str, value: u64) -> Result<i64, LedgerError> {
    i64::try_from(value).map_err(|_| {
        LedgerError::Unavailable(format!("{what} {value} is too large for the ledger"))
    })
}

/// The rows that can be read. One bad record must not hide the others; it is named in the log.
pub(super) fn readable<T>(records: impl Iterator<Item = Result<T, LedgerError>>) -> Vec<T> {
    records
        .filter_map(|record| {
            record.inspect_err(|error| tracing::warn!(%error, "left a record out of a list")).ok()
        })
        .collect()
}

pub(super) fn corrupt(what: &str, why: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::CorruptRecord { what: what.to_owned(), message: why.to_string() }
}
