//! The web service that the demo deploys; its flags let it misbehave in the ways that tests need.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::DemoService;
use crate::error::CommandError;
use crate::exit_code;

/// Name of the header that says which version answered.
pub const VERSION_HEADER: &str = "x-version";
/// How long requests in flight may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);
/// Exit code of a service that was told to end by itself.
const EXIT_BY_ITSELF: i32 = 3;

/// The file that `--config` names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Percent of requests that fail.
    pub fail_percent: Option<u8>,
    /// Time that each answer takes.
    pub latency_ms: Option<u64>,
}

enum Health {
    Green,
    NotReady,
    Hangs,
    Unhealthy,
    Bytes(Bytes),
}

struct Service {
    version: String,
    fail_percent: u8,
    fail_path: Option<String>,
    metrics: Option<std::path::PathBuf>,
    latency: Duration,
    health: Health,
    /// State of the random numbers that choose which requests fail.
    random: AtomicU64,
}

impl Service {
    fn new(args: &DemoService) -> Result<Self, CommandError> {
        let config = match &args.config {
            None => ServiceConfig::default(),
            Some(path) => {
                let bytes = read(path)?;
                serde_json::from_slice(&bytes).map_err(|error| {
                    CommandError::usage(format!("failed to read {}: {error}", path.display()))
                })?
            }
        };
        let health = match &args.health_body {
            Some(path) => Health::Bytes(read(path)?.into()),
            None if args.hang_health => Health::Hangs,
            None if args.never_ready => Health::NotReady,
            None if args.health_unhealthy => Health::Unhealthy,
            None => Health::Green,
        };
        let mut seed = [0; 8];
        // Without randomness the failing requests come in a fixed order, which harms nobody.
        let _ = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty());
        Ok(Self {
            version: args.version.to_string(),
            fail_percent: match (config.fail_percent, &args.fail_path) {
                (Some(percent), _) => percent,
                (None, Some(_)) if args.fail_percent == 0 => 100,
                (None, _) => args.fail_percent,
            },
            fail_path: args.fail_path.clone(),
            metrics: args.metrics.clone(),
            latency: Duration::from_millis(config.latency_ms.unwrap_or(args.latency_ms)),
            health,
            random: AtomicU64::new(u64::from_le_bytes(seed)),
        })
    }

    /// One request in so many fails, by chance (`splitmix64`).
    fn fails(&self) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100 < u64::from(self.fail_percent)
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/health" {
            return self.health().await;
        }
        if let (Some(path), "/metrics") = (&self.metrics, request.uri().path()) {
            let text = fs_err::read(path).unwrap_or_default();
            return self.reply(StatusCode::OK, "text/plain; version=0.0.4", text.into());
        }
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let may_fail = self.fail_path.as_deref().is_none_or(|path| path == request.uri().path());
        if may_fail && self.fails() {
            return self.reply(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{} failed\n", self.version).into(),
            );
        }
        self.reply(StatusCode::OK, "text/plain", format!("{}\n", self.version).into())
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        let body = |status: &str| -> Bytes {
            serde_json::json!({ "status": status, "version": self.version }).to_string().into()
        };
        let json = "application/json";
        match &self.health {
            Health::Green => self.reply(StatusCode::OK, json, body("healthy")),
            Health::NotReady => {
                self.reply(StatusCode::SERVICE_UNAVAILABLE, json, body("unhealthy"))
            }
            Health::Unhealthy => self.reply(StatusCode::OK, json, body("unhealthy")),
            Health::Bytes(bytes) => self.reply(StatusCode::OK, json, bytes.clone()),
            Health::Hangs => std::future::pending().await,
        }
    }

    fn reply(&self, status: StatusCode, kind: &str, body: Bytes) -> Response<Full<Bytes>> {
        let built = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, kind)
            .header(VERSION_HEADER, &self.version)
            .body(Full::new(body));
        // A version label that can't stand in a header is left out.
        built.unwrap_or_else(|_| {
            let mut bare = Response::new(Full::new(Bytes::new()));
            *bare.status_mut() = status;
            bare
        })
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, CommandError> {
    fs_err::read(path).map_err(|error| CommandError::usage(format!("failed to read: {error}")))
}

/// `demo-service`: serves until SIGTERM.
///
/// # Errors
/// When its files can't be read or its port is taken.
pub async fn run(args: &DemoService) -> Result<u8, CommandError> {
    let service = Arc::new(Service::new(args)?);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let failed = |what: &str, error: std::io::Error| {
        CommandError::failed(format!("failed to {what} {address}: {error}"))
    };
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| failed("hear signals at", error))?;
    let listener = TcpListener::bind(address).await.map_err(|error| failed("listen on", error))?;
    if args.spawn_daemon {
        spawn_daemon(args)?;
    }
    if let Some(after_ms) = args.exit_after_ms {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            std::process::exit(EXIT_BY_ITSELF);
        });
    }
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => {
                if args.ignore_sigterm {
                    continue;
                }
                break;
            }
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(graceful.watch(connection));
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(exit_code::OK)
}

/// What careless services do: a child in a process group of its own that does not listen to anybody.
fn spawn_daemon(args: &DemoService) -> Result<(), CommandError> {
    use std::os::unix::process::CommandExt as _;
    let failed =
        |error: std::io::Error| CommandError::failed(format!("failed to leave a child: {error}"));
    let exe = std::env::current_exe().map_err(failed)?;
    let version = args.version.to_string();
    Command::new(exe)
        .args(["demo-service", "--version", &version, "--port", "0", "--ignore-sigterm"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    Ok(())
}
