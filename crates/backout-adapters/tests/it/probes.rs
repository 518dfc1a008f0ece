//! Health endpoints that misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use backout_adapters::probe::{ExecProbe, HttpProbe, TcpProbe};
use backout_core::model::HttpCheck;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};
use backout_testkit::fixtures::subject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::{World, process_release, sleeper};

/// A server that says the same to everybody, and ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
    connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Server {
    /// Says `reply` after a request, then `filler` bytes more, then closes.
    pub async fn with_filler(reply: Vec<u8>, filler: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let reply = reply.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&reply).await;
                    let chunk = vec![b'x'; 64 << 10];
                    for _ in 0..filler / chunk.len() {
                        if stream.write_all(&chunk).await.is_err() {
                            return;
                        }
                    }
                    let _ = stream.shutdown().await;
                    // Until the other side has closed: a close with unread bytes would reset.
                    let _ = stream.read(&mut request).await;
                });
            }
        });
        Self { address, task, connections }
    }

    pub async fn start(reply: Vec<u8>) -> Self {
        Self::with_filler(reply, 0).await
    }

    /// Accepts and never says a word.
    pub async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { address, task, connections: std::sync::Arc::default() }
    }

    fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Nobody listens there, and nobody else can: the port is bound for as long as the tests run.
pub fn closed_port() -> SocketAddr {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&held).unwrap()).unwrap();
    std::mem::forget(held);
    address
}

fn of(address: SocketAddr) -> ProbeSubject {
    subject(&process_release("v1", sleeper()), Some(address))
}

async fn check_fields(reply: Vec<u8>, required: &[&str]) -> Sample {
    let server = Server::start(reply).await;
    let required_fields = required.iter().map(|f| (*f).to_owned()).collect();
    let check =
        HttpCheck { url: "http://127.0.0.1:{port}/health?slot={slot}".to_owned(), required_fields };
    HttpProbe::new(check).check(&of(server.address)).await.unwrap()
}

async fn check(reply: Vec<u8>) -> Sample {
    check_fields(reply, &[]).await
}

fn failed(sample: &Sample, word: &str) -> bool {
    matches!(&sample.outcome, SampleOutcome::Fail(why) if why.contains(word))
}

#[tokio::test]
async fn the_body_decides_over_a_200() {
    let sample =
        check(answer("200 OK", r#"{"status":"unhealthy","version":"1.4.2","error_rate":7.5}"#))
            .await;
    assert!(failed(&sample, "unhealthy"), "{sample:?}");
    assert_eq!((sample.version.as_deref(), sample.error_rate), (Some("1.4.2"), Some(7.5)));
    let sample =
        check(answer("200 OK", r#"{"status":"degraded","timestamp":"2020-01-01T00:00:00Z"}"#))
            .await;
    assert!(matches!(sample.outcome, SampleOutcome::Warn(_)), "{sample:?}");
    assert_eq!(
        sample.timestamp,
        Some("2020-01-01T00:00:00Z".parse().unwrap()),
        "judging its age is the caller's"
    );
    assert_eq!(check(answer("200 OK", "<html>fine</html>")).await.outcome, SampleOutcome::Pass);
    assert_eq!(check(answer("204 No Content", "")).await.outcome, SampleOutcome::Pass);
}

#[tokio::test]
async fn required_fields_are_required() {
    let sample = check_fields(answer("200 OK", r#"{"status":"healthy"}"#), &["database"]).await;
    assert!(failed(&sample, "`database`"), "{sample:?}");
    let sample = check_fields(answer("200 OK", "plain"), &["database"]).await;
    assert!(failed(&sample, "no JSON"), "{sample:?}");
    let sample = check_fields(answer("200 OK", r#"{"database":"up"}"#), &["database"]).await;
    assert_eq!(sample.outcome, SampleOutcome::Pass);
}

#[tokio::test]
async fn bad_answers_are_told_apart() {
    let starting =
        check(answer("503 Service Unavailable", r#"{"status":"unhealthy","version":"2"}"#)).await;
    assert!(
        matches!(&starting.outcome, SampleOutcome::NotReady(why) if why.contains("503")),
        "{starting:?}"
    );
    assert_eq!(starting.version.as_deref(), Some("2"));
    assert!(failed(&check(answer("404 Not Found", "")).await, "404"));
    assert!(failed(&check(answer("500 Internal Server Error", "")).await, "500"));
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n".to_vec();
    let sample = check(redirect).await;
    assert!(failed(&sample, "/login") && failed(&sample, "not followed"), "{sample:?}");
    assert!(failed(&check(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()).await, "no HTTP"));
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec();
    assert!(failed(&check(cut).await, "broke off"));
    let closed = check(Vec::new()).await;
    assert!(matches!(closed.outcome, SampleOutcome::NotReady(_)), "{closed:?}");
}

#[tokio::test]
async fn a_huge_body_is_cut_and_no_harm() {
    let head =
        |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    let server = Server::with_filler(head(100 << 20), 100 << 20).await;
    let probe = |required: &[&str]| {
        let required_fields = required.iter().map(|f| (*f).to_owned()).collect();
        HttpProbe::new(HttpCheck { url: "http://127.0.0.1:{port}/".to_owned(), required_fields })
    };
    let sample = probe(&[]).check(&of(server.address)).await.unwrap();
    assert_eq!(sample.outcome, SampleOutcome::Pass);
    let sample = probe(&["x"]).check(&of(server.address)).await.unwrap();
    assert!(failed(&sample, "1 MiB"), "{sample:?}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_time_out() {
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345".to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(&reply).await.unwrap();
        std::future::pending::<()>().await;
    });
    let check =
        HttpCheck { url: "http://127.0.0.1:{port}/".to_owned(), required_fields: Vec::new() };
    let subject = ProbeSubject { timeout: Duration::from_millis(300), ..of(address) };
    let sample = HttpProbe::new(check).check(&subject).await.unwrap();
    assert!(
        matches!(&sample.outcome, SampleOutcome::NotReady(why) if why.contains("within")),
        "{sample:?}"
    );
    server.abort();
}

#[tokio::test]
async fn each_try_is_a_new_connection_and_the_first_good_one_counts() {
    let server = Server::start(answer("500 Internal Server Error", "")).await;
    let check =
        HttpCheck { url: "http://127.0.0.1:{port}/".to_owned(), required_fields: Vec::new() };
    let subject = ProbeSubject { retries: 2, ..of(server.address) };
    let sample = HttpProbe::new(check.clone()).check(&subject).await.unwrap();
    assert!(failed(&sample, "500"));
    assert_eq!(server.connections(), 3);
    let server = Server::start(answer("200 OK", "")).await;
    let subject = ProbeSubject { retries: 2, ..of(server.address) };
    assert_eq!(HttpProbe::new(check).check(&subject).await.unwrap().outcome, SampleOutcome::Pass);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_checked_and_bad() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], key.signing_key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop).map_err(drop)
    });
    let url = "https://localhost:{port}/".to_owned();
    let check = HttpCheck { url, required_fields: Vec::new() };
    let sample = HttpProbe::new(check.clone()).check(&of(address)).await.unwrap();
    assert!(failed(&sample, "can't be trusted by TLS"), "{sample:?}");
    assert_eq!(server.await.unwrap(), Err(()));
    // Plain HTTP where TLS was asked for.
    let plain = Server::start(answer("200 OK", "")).await;
    let sample = HttpProbe::new(check).check(&of(plain.address)).await.unwrap();
    assert!(failed(&sample, "can't be trusted by TLS"), "{sample:?}");
}

#[tokio::test]
async fn what_cant_be_checked_is_no_sample() {
    let subject = of(closed_port());
    let url =
        |url: &str| HttpProbe::new(HttpCheck { url: url.to_owned(), required_fields: Vec::new() });
    for bad in ["ftp://127.0.0.1/", "not a url", "http://"] {
        url(bad).check(&subject).await.unwrap_err();
    }
    let unknown = ProbeSubject { address: None, ..subject.clone() };
    let ProbeError(why) = url("http://127.0.0.1:{port}/").check(&unknown).await.unwrap_err();
    assert!(why.contains("{port}"), "{why}");
    TcpProbe::new("no-port-here").check(&subject).await.unwrap_err();
    let world = World::new();
    let missing = ExecProbe::new(vec!["./none".to_owned()], world.folder(), Vec::new());
    let ProbeError(why) = missing.check(&subject).await.unwrap_err();
    assert!(why.contains("no such program"), "{why}");
}

#[tokio::test]
async fn exec_checks_say_what_the_command_said() {
    let world = World::new();
    world.script(
        "check.sh",
        r#"echo "$BACKOUT_SERVICE $BACKOUT_VERSION $BACKOUT_PORT $1" >&2; exit 3"#,
    );
    let command = ["./check.sh", "{port}"].map(str::to_owned).to_vec();
    let probe = ExecProbe::new(command, world.folder(), std::env::vars_os().collect());
    let sample = probe.check(&of("127.0.0.1:81".parse().unwrap())).await.unwrap();
    assert!(failed(&sample, "web v1 81 81"), "{sample:?}");
}
