//! Records as JSON with the format it was written in.

use backout_core::ports::LedgerError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::{Columns, Row};

/// Newest format of the records that carry none themselves.
pub(crate) const RECORD_FORMAT: u32 = 1;

/// No record comes near this; more is a mistake of the caller.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// A record as text.
pub(crate) fn encode<T: Serialize>(what: &str, record: &T) -> Result<String, LedgerError> {
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
pub(crate) fn decode<T: DeserializeOwned>(
    what: &str,
    row: &Row,
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
pub(crate) fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| corrupt(what, &error))
}

/// What a column may hold.
pub(crate) trait Column: Sized {
    /// The value in a row.
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error>;
}

impl Column for String {
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error> {
        row.text(name)?.ok_or_else(|| sqlx::Error::Decode(format!("{name} is missing").into()))
    }
}

impl Column for Option<String> {
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error> {
        row.text(name)
    }
}

impl Column for i64 {
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error> {
        row.integer(name)
    }
}

impl Column for bool {
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error> {
        Ok(row.integer(name)? != 0)
    }
}

impl Column for Vec<u8> {
    fn read(row: &dyn Columns, name: &str) -> Result<Self, sqlx::Error> {
        row.bytes(name)
    }
}

/// A column.
pub(crate) fn column<T: Column>(what: &str, row: &Row, name: &str) -> Result<T, LedgerError> {
    T::read(row.as_ref(), name).map_err(|error| corrupt(what, &error))
}

/// A column with a number that is never negative.
pub(crate) fn unsigned(what: &str, row: &Row, name: &str) -> Result<u64, LedgerError> {
    let value: i64 = column(what, row, name)?;
    u64::try_from(value).map_err(|_| corrupt(what, &format!("{name} is {value}")))
}

/// A number as databases keep it.
pub(crate) fn signed(what: &str, value: u64) -> Result<i64, LedgerError> {
    i64::try_from(value).map_err(|_| {
        LedgerError::Unavailable(format!("{what} {value} is too large for the ledger"))
    })
}

/// The rows that can be read. One bad record must not hide the others; it is named in the log.
pub(crate) fn readable<T>(records: impl Iterator<Item = Result<T, LedgerError>>) -> Vec<T> {
    records
        .filter_map(|record| {
            record.inspect_err(|error| tracing::warn!(%error, "left a record out of a list")).ok()
        })
        .collect()
}

pub(crate) fn corrupt(what: &str, why: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::CorruptRecord { what: what.to_owned(), message: why.to_string() }
}
