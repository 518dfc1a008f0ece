//! Where the database is. The password in it is never shown.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The address of a PostgreSQL database. Shown without its password.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    shown: String,
    /// Files with certificates and keys, and what names each.
    files: Vec<(&'static str, PathBuf)>,
}

/// What names a file of TLS: the parameters of the address, and the variable.
const TLS_FILES: [(&str, [&str; 3], &str); 3] = [
    ("sslrootcert", ["sslrootcert", "ssl-root-cert", "ssl-ca"], "PGSSLROOTCERT"),
    ("sslcert", ["sslcert", "ssl-cert", "ssl-cert"], "PGSSLCERT"),
    ("sslkey", ["sslkey", "ssl-key", "ssl-key"], "PGSSLKEY"),
];

/// Why an address can't be used. It repeats nothing of it: a password may stand anywhere in a text that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read the address of the database: {0}; write postgres://USER@HOST:PORT/DATABASE, and the password into it, into PGPASSWORD or into ~/.pgpass"
)]
pub struct UrlError(&'static str);

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .ok_or(UrlError("it does not begin with postgres://"))?;
        let options = PgConnectOptions::from_str(text)
            .map_err(|_| UrlError("its parts are not understood"))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(UrlError("it names no database"));
        }
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let files = tls_files(query, |name| std::env::var_os(name));
        let chosen = parameter(query, &["sslmode", "ssl-mode"]).is_some()
            || std::env::var_os("PGSSLMODE").is_some();
        Ok(Self::new(options, files, chosen))
    }
}

/// The files that are named, each by the address or else by its variable.
fn tls_files(
    query: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, PathBuf)> {
    let named = |(name, parameters, of_environment): &(&'static str, [&str; 3], &str)| {
        let in_address = parameter(query, parameters).map(OsString::from);
        let file = in_address.or_else(|| variable(of_environment))?;
        // The driver takes a whole certificate too.
        (!file.to_string_lossy().trim_start().starts_with("-----BEGIN"))
            .then(|| (*name, PathBuf::from(file)))
    };
    TLS_FILES.iter().filter_map(named).collect()
}

/// The value of the last of these parameters.
fn parameter(query: &str, names: &[&str]) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.rfind(|(name, _)| names.contains(name))?.1;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

impl DatabaseUrl {
    /// Beyond this machine, or where its authority is named, the server must prove who it is, unless another mode
    /// was chosen.
    fn new(
        options: PgConnectOptions,
        files: Vec<(&'static str, PathBuf)>,
        ssl_mode_was_chosen: bool,
    ) -> Self {
        let shown = shown(&options);
        let names_authority = files.iter().any(|(name, _)| *name == "sslrootcert");
        let options = match (ssl_mode_was_chosen, socket(&options).is_some()) {
            (true, _) => options,
            // Nothing is ever encrypted there.
            (false, true) => options.ssl_mode(PgSslMode::Disable),
            (false, false) if is_here(&options) && !names_authority => options,
            (false, false) => options.ssl_mode(PgSslMode::VerifyFull),
        };
        Self { options, shown, files }
    }

    /// A file of TLS that can't be read, with what names it and why.
    pub(super) fn unreadable_file(&self) -> Option<String> {
        self.files.iter().find_map(|(name, path)| {
            let error = fs_err::File::open(path).err()?;
            Some(format!("the file of its {name}: {error}"))
        })
    }

    /// As the driver takes it.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Name of the database.
    pub(super) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_default()
    }

    /// Name of the user.
    pub(super) fn user(&self) -> &str {
        self.options.get_username()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.shown).finish()
    }
}

fn socket(options: &PgConnectOptions) -> Option<String> {
    let folder = options.get_socket().map(|path| path.display().to_string());
    folder.or_else(|| {
        Some(options.get_host()).filter(|host| host.starts_with('/')).map(str::to_owned)
    })
}

fn shown(options: &PgConnectOptions) -> String {
    let (user, database) = (options.get_username(), options.get_database().unwrap_or_default());
    match socket(options) {
        Some(folder) => format!("postgres://{user}@{folder}:{}/{database}", options.get_port()),
        None => {
            format!("postgres://{user}@{}:{}/{database}", options.get_host(), options.get_port())
        }
    }
}

fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn the_password_is_never_shown() {
        for text in [
            "postgres://ann:s3cret@db.example:5433/ledger",
            "postgresql://ann@db.example:5433/ledger?password=s3cret",
            "postgres://db.example:5433/ledger?user=ann&password=s3cret&sslmode=require",
        ] {
            let url = url(text);
            assert_eq!(url.to_string(), "postgres://ann@db.example:5433/ledger");
            assert!(!format!("{url:?}").contains("s3cret"));
        }
        let socket = url("postgres://ann:s3cret@%2Frun%2Fpg/ledger");
        assert_eq!(socket.to_string(), "postgres://ann@/run/pg:5432/ledger");
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        for text in [
            "s3cret",
            "mysql://ann:s3cret@h/d",
            "postgres://ann:s3cret@h:port/d",
            "postgres://ann:s3cret@h/d?sslmode=s3cret",
            "postgres://ann:s3cret@h",
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("PGPASSWORD"), "{error}");
        }
    }

    #[test]
    fn servers_elsewhere_must_prove_who_they_are() {
        let mode = |text: &str| url(text).options.get_ssl_mode();
        assert!(matches!(mode("postgres://a@db.example/l"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://a@10.0.0.7/l"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://a@db.example/l?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://a@127.0.0.1/l"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://a@[::1]/l"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://a@localhost/l"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://a@%2Frun%2Fpg/l"), PgSslMode::Disable));
        // An authority is named in order to be asked.
        let with_authority = "postgres://a@localhost/l?sslrootcert=ca.pem";
        assert!(matches!(mode(with_authority), PgSslMode::VerifyFull));
        let chosen = "postgres://a@localhost/l?sslrootcert=ca.pem&sslmode=prefer";
        assert!(matches!(mode(chosen), PgSslMode::Prefer));
    }

    #[test]
    fn files_of_tls_are_found_in_address_and_environment() {
        let none = |_: &str| None;
        let found = tls_files("sslrootcert=%2Fetc%2Fmy%20ca.pem&sslkey=k", none);
        let expected = [("sslrootcert", "/etc/my ca.pem"), ("sslkey", "k")];
        assert_eq!(found, expected.map(|(name, path)| (name, PathBuf::from(path))));
        let variable = |name: &str| (name == "PGSSLCERT").then(|| OsString::from("/c"));
        assert_eq!(tls_files("application_name=x", variable), [("sslcert", PathBuf::from("/c"))]);
        let whole = |name: &str| (name == "PGSSLROOTCERT").then(|| "-----BEGIN C".into());
        assert_eq!(tls_files("", whole), []);
    }
}
