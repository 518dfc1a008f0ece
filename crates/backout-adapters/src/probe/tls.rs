//! Connections that may be encrypted.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http_exchange::NoAnswer;

/// Who may vouch for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// What this machine trusts.
    System,
    /// That, and the certificates of a file in PEM.
    File(PathBuf),
}

impl Trust {
    /// Greets a server by TLS.
    pub(super) async fn greet(&self, host: &str, stream: TcpStream) -> Result<Stream, NoAnswer> {
        let config = self.config().map_err(NoAnswer::CouldNotCheck)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| NoAnswer::CouldNotCheck(format!("`{host}` is no name of a server")))?;
        let greeted = TlsConnector::from(config).connect(name, stream).await;
        greeted.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::BrokenPipe => {
                NoAnswer::NotReady("the connection was closed while greeting by TLS".to_owned())
            }
            _ => NoAnswer::Nonsense(format!("it can't be trusted by TLS: {error}")),
        })
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        match self {
            Trust::System => match SYSTEM.get() {
                Some(config) => Ok(config.clone()),
                None => Ok(SYSTEM.get_or_init(|| client(system_roots())).clone()),
            },
            Trust::File(path) => {
                let mut roots = system_roots();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| {
                        format!("failed to use a certificate of {}: {error}", path.display())
                    })?;
                }
                Ok(client(roots))
            }
        }
    }
}

fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A machine without any still checks plain addresses; by TLS it then trusts nobody.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |error: &dyn std::fmt::Display| {
        format!("failed to read certificates from {}: {error}", path.display())
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| fail(&error))?;
    if found.is_empty() { Err(fail(&"there are none in it")) } else { Ok(found) }
}

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
