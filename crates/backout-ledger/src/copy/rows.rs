//! Rows as values, read page by page and written as they were.

use backout_core::ports::LedgerError;

use super::tables::{Kind, Table};
use crate::records::codec::corrupt;
use crate::records::store::{Row, Statement, Value};

/// A row.
pub(super) type Values = Vec<Value>;

/// Values in one statement; PostgreSQL takes 65 535.
const MOST_VALUES: usize = 30_000;

/// The page behind a row. In the source a column may be replaced.
pub(super) fn page(table: &Table, after: Option<&Values>, is_source: bool) -> Statement {
    let mut columns = Vec::new();
    for column in table.columns {
        columns.push(match column.instead {
            Some(value) if is_source => format!("CAST({value} AS BIGINT) AS {}", column.name),
            _ => column.name.to_owned(),
        });
    }
    let key = table.key.join(", ");
    let mut statement =
        Statement::new(format!("SELECT {} FROM {}", columns.join(", "), table.name)).large();
    if let Some(after) = after {
        statement.push_sql(&format!(" WHERE ({key}) > ("));
        for (number, value) in key_of(table, after).into_iter().enumerate() {
            statement.push(if number == 0 { "" } else { ", " }, value);
        }
        statement.push_sql(")");
    }
    statement.push(&format!(" ORDER BY {key} LIMIT "), table.page);
    statement
}

fn key_of(table: &Table, row: &Values) -> Vec<Value> {
    let place = |name: &&str| table.columns.iter().position(|column| column.name == *name);
    table.key.iter().filter_map(place).filter_map(|place| row.get(place).cloned()).collect()
}

/// A row, for people.
pub(super) fn name_of(table: &Table, row: &Values) -> String {
    let text = |value: Value| match value {
        Value::Text(text) => text.unwrap_or_default(),
        Value::Integer(number) => number.to_string(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
    };
    let parts: Vec<String> = key_of(table, row).into_iter().map(text).collect();
    format!("{} {}", table.name, parts.join("/"))
}

/// Reads a row.
pub(super) fn values(table: &Table, row: &Row) -> Result<Values, LedgerError> {
    let read = |column: &super::tables::Column| match column.kind {
        Kind::Text => row.text(column.name).map(Value::Text),
        Kind::Number => row.integer(column.name).map(Value::Integer),
        Kind::Bytes => row.bytes(column.name).map(Value::Bytes),
    };
    let values: Result<Values, sqlx::Error> = table.columns.iter().map(read).collect();
    values.map_err(|error| corrupt(&format!("a row of {}", table.name), &error))
}

/// Statements that write rows.
pub(super) fn inserts(table: &Table, rows: &[Values]) -> Vec<Statement> {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let begin = format!("INSERT INTO {} ({}) VALUES ", table.name, names.join(", "));
    let insert = |part: &[Values]| {
        let mut statement = Statement::new(begin.clone()).large();
        for (number, row) in part.iter().enumerate() {
            statement.push_sql(if number == 0 { "(" } else { ", (" });
            for (place, value) in row.iter().enumerate() {
                statement.push(if place == 0 { "" } else { ", " }, value.clone());
            }
            statement.push_sql(")");
        }
        statement
    };
    rows.chunks(MOST_VALUES / names.len().max(1)).map(insert).collect()
}
