//! The text format, scraped from servers that behave and from ones that do not.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use backout_adapters::probe::{MetricsFrom, MetricsOptions, MetricsSource, Trust};
use backout_core::ports::{MetricSource, MetricSubject, Points, ProbeError};
use backout_testkit::fixtures::subject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::probes::Server;
use crate::world::{World, process_release, sleeper};

/// Whose figures are asked for in tests.
pub fn metric_subject(address: Option<std::net::SocketAddr>) -> MetricSubject {
    let probe = subject(&process_release("1.4.2", sleeper()), address);
    MetricSubject {
        unit: probe.unit,
        address,
        version: probe.version,
        release: probe.release,
        deployment: 42,
        timeout: Duration::from_secs(20),
    }
}

/// A program with an endpoint whose text can be changed; ends when dropped.
pub struct Exporter {
    pub address: std::net::SocketAddr,
    text: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Exporter {
    pub async fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let text = Arc::new(Mutex::new(text.to_owned()));
        let shown = text.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let text = shown.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut request = [0; 8192];
                    let _ = stream.read(&mut request).await;
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: ";
                    let _ = stream
                        .write_all(format!("{head}{}\r\n\r\n{text}", text.len()).as_bytes())
                        .await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read(&mut request).await;
                });
            }
        });
        Self { address, text, task }
    }

    pub fn show(&self, text: &str) {
        *self.text.lock().unwrap() = text.to_owned();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn source(from: MetricsFrom, world: &World) -> MetricsSource {
    let env = std::env::vars_os().collect();
    MetricsSource::new(MetricsOptions { from, trust: Trust::System, folder: world.folder(), env })
}

fn own_address() -> MetricsFrom {
    MetricsFrom::Url("http://127.0.0.1:{port}/metrics".to_owned())
}

async fn read(
    source: &MetricsSource,
    address: std::net::SocketAddr,
    expressions: &[&str],
) -> Result<Vec<Points>, ProbeError> {
    let expressions: Vec<String> = expressions.iter().map(|&text| text.to_owned()).collect();
    let subject =
        MetricSubject { timeout: Duration::from_secs(2), ..metric_subject(Some(address)) };
    source.read(&subject, &expressions).await
}

fn values(points: &Points) -> Vec<f64> {
    points.iter().map(|point| point.value).collect()
}

#[tokio::test]
async fn each_sides_own_address_is_scraped() {
    let world = World::new();
    let exporter = Exporter::start(
        "# TYPE requests counter\nrequests_total{code=\"200\",slot=\"a\"} 90\nrequests_total{code=\"500\",slot=\"a\"} 3\n\
         memory 2.5e7\nlatency_bucket{le=\"0.1\"} 7\nlatency_bucket{le=\"+Inf\"} 9\nodd NaN\n# EOF\n",
    )
    .await;
    let source = source(own_address(), &world);
    let asked = [
        "requests_total{code=~\"5..\",slot=\"{slot}\"}",
        "requests_total",
        "memory",
        "latency_bucket",
        "nobody",
        "odd",
    ];
    let points = read(&source, exporter.address, &asked).await.unwrap();
    assert_eq!(values(&points[0]), [3.0]);
    assert_eq!(values(&points[1]), [90.0, 3.0]);
    assert_ne!(points[1][0].series, points[1][1].series);
    assert_eq!(points[0][0].series, points[1][1].series);
    assert_eq!(values(&points[2]), [2.5e7]);
    let bounds: Vec<_> = points[3].iter().map(|point| point.bound).collect();
    assert_eq!(bounds, [Some(0.1), Some(f64::INFINITY)]);
    assert_eq!(points[3][0].series, points[3][1].series);
    assert!(points[4].is_empty());
    assert!(points[5][0].value.is_nan());
    exporter.show("memory 3e7\n");
    let points = read(&source, exporter.address, &["memory"]).await.unwrap();
    assert_eq!(values(&points[0]), [3e7]);
}

#[tokio::test]
async fn what_can_not_be_read_is_an_error_and_never_a_value() {
    let world = World::new();
    let source = source(own_address(), &world);
    let why = async |address| read(&source, address, &["memory"]).await.unwrap_err().to_string();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(why(gone).await.contains("refused"));
    let silent = Server::silent().await;
    let message = why(silent.address).await;
    assert!(message.contains("no answer within 2000 ms"), "{message}");
    for (reply, part) in [
        (&b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"[..], "401"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n<html>no metrics here</html>",
            "no metrics in it",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no metrics in it"),
        (b"\x00\x01\x02garbage\r\n\r\n", "no HTTP"),
    ] {
        let server = Server::start(reply.to_vec()).await;
        let message = why(server.address).await;
        assert!(message.contains(part), "{message}");
    }
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nmemory 1\n".to_vec();
    let huge = Server::with_filler(head, 64 << 20).await;
    let message = why(huge.address).await;
    assert!(message.contains("longer than 8 MiB"), "{message}");
    let without = source.read(&metric_subject(None), &["memory".to_owned()]).await.unwrap_err();
    assert!(without.to_string().contains("{port}"), "{without}");
}

#[tokio::test]
async fn an_expression_that_matches_too_much_is_refused() {
    let world = World::new();
    let text: String = (0..3_000).map(|id| format!("requests{{user=\"{id}\"}} 1\n")).collect();
    let exporter = Exporter::start(&text).await;
    let source = source(own_address(), &world);
    let error = read(&source, exporter.address, &["requests"]).await.unwrap_err().to_string();
    assert!(error.contains("more than 2000 series"), "{error}");
    assert!(read(&source, exporter.address, &["requests{user=\"7\"}"]).await.is_ok());
}

#[tokio::test]
async fn a_command_prints_its_figures() {
    let world = World::new();
    let script =
        world.script("figures.sh", "echo \"queue $1\"; echo 'orders{kind=\"new\"} 7'; echo 42");
    let command = |args: &[&str]| {
        let mut argv = vec![script.display().to_string()];
        argv.extend(args.iter().map(|&arg| arg.to_owned()));
        source(MetricsFrom::Command(argv), &world)
    };
    let address = "127.0.0.1:4711".parse().unwrap();
    let good = command(&["{deployment}"]);
    let points = read(&good, address, &["queue", "orders{kind=\"new\"}", "value"]).await.unwrap();
    let all: Vec<f64> = points.iter().flat_map(values).collect();
    assert_eq!(all, [42.0, 7.0, 42.0]);

    let failing = world.script("bad.sh", "echo 'queue 9'; echo 'no database' >&2; exit 3");
    let failing = source(MetricsFrom::Command(vec![failing.display().to_string()]), &world);
    let error = read(&failing, address, &["queue"]).await.unwrap_err().to_string();
    assert!(error.contains("exited with 3: no database"), "{error}");
    let long = world.script("long.sh", "yes 'queue 1' | head -c 400000");
    let long = source(MetricsFrom::Command(vec![long.display().to_string()]), &world);
    let error = read(&long, address, &["queue"]).await.unwrap_err().to_string();
    assert!(error.contains("more than 256 KiB"), "{error}");
    let hung = world.script("hung.sh", "exec sleep 60");
    let hung = source(MetricsFrom::Command(vec![hung.display().to_string()]), &world);
    let error = read(&hung, address, &["queue"]).await.unwrap_err().to_string();
    assert!(error.contains("did not end within 2000 ms"), "{error}");
}
