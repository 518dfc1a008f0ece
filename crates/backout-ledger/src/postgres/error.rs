//! What the server's errors mean.

use std::time::Duration;

use backout_core::ports::LedgerError;

use super::url::DatabaseUrl;

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The driver or the server says so.
    Sql(sqlx::Error),
    /// Nothing was heard for this long.
    Silent(Duration),
}

/// SQLSTATE codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
mod code {
    pub const DISK_FULL: &str = "53100";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const NO_SUCH_DATABASE: &str = "3D000";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const UNDEFINED_SCHEMA: &str = "3F000";
    pub const NO_PRIVILEGE: &str = "42501";
    pub const READ_ONLY: &str = "25006";
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub const QUERY_CANCELED: &str = "57014";
    pub const STARTING_OR_STOPPING: &str = "57P03";
}

impl Failure {
    fn code(&self) -> Option<String> {
        let Self::Sql(error) = self else { return None };
        Some(error.as_database_error()?.code()?.into_owned())
    }

    fn is(&self, code: &str) -> bool {
        self.code().as_deref() == Some(code)
    }

    /// The connection is gone: another one may work, now or in a moment.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Self::Silent(_) => false,
            Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            // 08: connection; 57P01-5: ended by an administrator, a crash, a time limit; 25P03: idle in a transaction.
            Self::Sql(_) => self.code().is_some_and(|code| {
                code.starts_with("08") || code.starts_with("57P") || code == "25P03"
            }),
        }
    }

    /// Somebody was there, and the connection broke.
    pub(super) fn is_broken_off(&self) -> bool {
        use std::io::ErrorKind as Kind;
        matches!(self, Self::Sql(sqlx::Error::Io(error)) if matches!(
            error.kind(),
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
        ))
    }

    /// Whether the connection can be used further, outside of a transaction.
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(_))) && !self.is_cut()
    }

    /// The table is not there, or not even its schema.
    pub(super) fn is_missing_table(&self) -> bool {
        self.is(code::UNDEFINED_TABLE) || self.is(code::UNDEFINED_SCHEMA)
    }

    /// Worth another try to connect: the server starts, or has no room for the moment.
    pub(super) fn may_pass(&self) -> bool {
        self.is(code::STARTING_OR_STOPPING) || self.is(code::TOO_MANY_CONNECTIONS)
    }

    /// The meaning for whoever called.
    pub(crate) fn meaning(&self, url: &DatabaseUrl) -> LedgerError {
        let error = match self {
            Self::Silent(limit) => {
                return LedgerError::Unavailable(format!(
                    "{url} gave no answer within {} s; check the network and the server",
                    limit.as_secs_f32()
                ));
            }
            Self::Sql(error) => error,
        };
        let code = self.code().unwrap_or_default();
        let says = said(error);
        let hint = match code.as_str() {
            code::DISK_FULL => {
                return LedgerError::DiskFull(format!("the database {url} ({says})"));
            }
            code::INVALID_AUTHORIZATION if wants_tls(&says) => {
                "it takes encrypted connections only: add ?sslmode=verify-full, and sslrootcert=FILE for an authority of your own"
                    .to_owned()
            }
            code::INVALID_PASSWORD | code::INVALID_AUTHORIZATION => format!(
                "check the password of {} in BACKOUT_DATABASE_URL, PGPASSWORD or ~/.pgpass, and the server's pg_hba.conf",
                url.user()
            ),
            code::NO_SUCH_DATABASE => {
                format!("create it with `createdb {}` on that server", url.database())
            }
            code::NO_PRIVILEGE => format!(
                "let {} create a schema there: `GRANT CREATE ON DATABASE \"{}\" TO \"{}\"`",
                url.user(),
                url.database(),
                url.user()
            ),
            code::READ_ONLY => {
                "it can only be read from here: name the primary server, not a standby".to_owned()
            }
            code::LOCK_NOT_AVAILABLE | code::QUERY_CANCELED => {
                "another command is writing and does not end; try again".to_owned()
            }
            code::TOO_MANY_CONNECTIONS => "raise max_connections, or try again".to_owned(),
            _ => match error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) if url.unreadable_file().is_some() => {
                    let file = url.unreadable_file().unwrap_or_default();
                    return LedgerError::Unavailable(format!("{url}: failed to read {file}"));
                }
                sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tls_hint(&says).to_owned()
                }
                sqlx::Error::Io(_) => "check that the server runs and can be reached".to_owned(),
                sqlx::Error::Tls(_) => tls_hint(&says).to_owned(),
                _ => return LedgerError::Unavailable(format!("{url}: {says}")),
            },
        };
        LedgerError::Unavailable(format!("{url}: {says}; {hint}"))
    }
}

/// The server refused a connection for not being encrypted: its words, new and old.
fn wants_tls(says: &str) -> bool {
    says.contains("no encryption") || says.contains("SSL off")
}

/// What to do about a server that can't be trusted, or will not be encrypted.
fn tls_hint(says: &str) -> &'static str {
    let hints = [
        (
            "UnknownIssuer",
            "nobody trusted here vouches for its certificate: name the file with its authority, ?sslrootcert=FILE",
        ),
        (
            "not valid for name",
            "its certificate is for another name: write that name into the address, or ask only for the authority with ?sslmode=verify-ca",
        ),
        ("expired", "renew its certificate, and check the clocks"),
        (
            "does not support TLS",
            "switch TLS on there (`ssl = on` with a certificate), or choose ?sslmode=disable where nobody can listen",
        ),
        ("alert", "it refused this side: name certificate and key with ?sslcert=FILE&sslkey=FILE"),
    ];
    let found = hints.iter().find(|(words, _)| says.contains(words));
    found.map_or(
        "check the certificates: ?sslrootcert=FILE names the server's authority",
        |(_, hint)| hint,
    )
}

/// The words of the server itself, where it spoke.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
