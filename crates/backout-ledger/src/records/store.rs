//! What a database must do to hold a ledger's records. The SQL above it is written once, in the words that both
//! SQLite and PostgreSQL understand.

use std::borrow::Cow;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::ports::LedgerError;

use crate::surroundings::Surroundings;

/// A value of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, or nothing.
    Text(Option<String>),
    /// A number; a yes or no is 1 or 0.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Integer(i64::from(flag))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// More than this takes its time on a slow line.
const LARGE_BYTES: usize = 256 * 1024;

/// A statement with its values, `$1` and following in their order.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
    large: bool,
}

impl Statement {
    /// Without values yet. Nothing that came from outside may stand in the text.
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), large: false }
    }

    /// The next value.
    #[must_use]
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Whether it carries, or asks for, so much that it may take long.
    pub(crate) fn is_large(&self) -> bool {
        let weigh = |value: &Value| match value {
            Value::Text(text) => text.as_ref().map_or(0, String::len),
            Value::Integer(_) => 8,
            Value::Bytes(bytes) => bytes.len(),
        };
        self.large || self.values.iter().map(weigh).sum::<usize>() > LARGE_BYTES
    }

    /// Says that its answer may be large.
    #[must_use]
    pub(crate) fn large(mut self) -> Self {
        self.large = true;
        self
    }

    /// More text, with a value behind it.
    pub(crate) fn push(&mut self, sql: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let text = self.sql.to_mut();
        text.push_str(sql);
        text.push('$');
        text.push_str(&self.values.len().to_string());
    }

    /// More text.
    pub(crate) fn push_sql(&mut self, sql: &str) {
        self.sql.to_mut().push_str(sql);
    }
}

/// A row that was read.
pub trait Columns: Send + Sync {
    /// Text, or nothing.
    fn text(&self, name: &str) -> Result<Option<String>, sqlx::Error>;
    /// A number.
    fn integer(&self, name: &str) -> Result<i64, sqlx::Error>;
    /// Bytes.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, sqlx::Error>;
}

/// A row, of whichever database.
pub type Row = Box<dyn Columns>;

/// A database that holds a ledger.
#[async_trait]
pub trait Store: Send + Sync {
    /// The first row, if there is one.
    async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, LedgerError>;

    /// All rows.
    async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, LedgerError>;

    /// One statement that does no harm when it is done twice, durable on return. How many rows it changed.
    async fn execute(&self, statement: Statement) -> Result<u64, LedgerError>;

    /// Begins to write, alone: who else wants to waits a bounded time.
    async fn begin(&self) -> Result<Box<dyn Write + '_>, LedgerError>;

    /// Begins to read, everything as of one moment.
    async fn look(&self) -> Result<Box<dyn Look + '_>, LedgerError>;

    /// The time by which leases end, milliseconds.
    async fn now_ms(&self, here: &dyn Surroundings) -> Result<u64, LedgerError>;

    /// Whether the last transaction failed because its connection was cut, and is known to be undone: once more may
    /// do. Asked once.
    fn was_cut(&self) -> bool {
        false
    }

    /// What is written of this environment from now on is a way back, which may use the space that is reserved for
    /// one; or it is none any more.
    fn goes_back(&self, _key: &EnvironmentKey, _goes: bool) {}

    /// Whether this error was for want of space, and the reserve was used for a way back: once more may do.
    async fn makes_room(&self, _error: &LedgerError) -> bool {
        false
    }
}

/// A view of one moment. Dropped, it ends.
#[async_trait]
pub trait Look: Send {
    /// All rows.
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError>;

    /// Ends it in order.
    async fn end(self: Box<Self>) -> Result<(), LedgerError>;
}

/// A transaction that may write. Dropped, it is undone, unless its commit was on the way.
#[async_trait]
pub trait Write: Send {
    /// How many rows it changed.
    async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError>;

    /// The first row, if there is one.
    async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError>;

    /// The time by which leases end, milliseconds.
    fn now_ms(&self, here: &dyn Surroundings) -> u64;

    /// Durable on return; on an error nothing was written.
    async fn commit(self: Box<Self>) -> Result<(), LedgerError>;

    /// Nothing was written.
    async fn rollback(self: Box<Self>);
}

/// What a database's driver needs to take statements and give rows.
macro_rules! driver {
    ($database:ty, $arguments:ty, $row:ty) => {
        /// A statement as the driver takes it.
        pub(super) fn prepare(
            statement: $crate::records::store::Statement,
        ) -> sqlx::query::Query<'static, $database, $arguments> {
            use $crate::records::store::Value;
            // The text is ours: `Statement` takes what came from outside only as values.
            let query = sqlx::query(sqlx::AssertSqlSafe(statement.sql));
            statement.values.into_iter().fold(query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Integer(number) => query.bind(number),
                Value::Bytes(bytes) => query.bind(bytes),
            })
        }

        impl $crate::records::store::Columns for $row {
            fn text(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn integer(&self, name: &str) -> Result<i64, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn bytes(&self, name: &str) -> Result<Vec<u8>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }
        }

        pub(super) fn boxed(row: $row) -> $crate::records::store::Row {
            Box::new(row)
        }
    };
}

pub(crate) use driver;
