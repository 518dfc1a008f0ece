//! A real Prometheus that scrapes a program of ours, and answers that only a broken one gives.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backout_adapters::probe::{Credentials, PrometheusOptions, PrometheusSource, Trust};
use backout_core::ports::{MetricSource, MetricSubject, Points, ProbeError, Secret};
use tokio::net::TcpListener;

use crate::metrics::{Exporter, metric_subject};
use crate::probes::Server;
use crate::world::World;

/// A server that is ended when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    https: bool,
}

impl Prometheus {
    /// Starts one that scrapes `targets`; `web` is its web configuration.
    async fn start(world: &World, targets: &[std::net::SocketAddr], web: Option<&str>) -> Self {
        let config = world.write("prometheus.yml", &config(targets));
        for _ in 0..5 {
            let port = free_port().await;
            let mut command = Command::new("prometheus");
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", world.folder().join("tsdb").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--log.level=error")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if let Some(web) = web {
                let web = world.write("web.yml", web);
                command.arg(format!("--web.config.file={}", web.display()));
            }
            let child = command.spawn().expect("prometheus is installed");
            let https = web.is_some_and(|web| web.contains("tls_server_config"));
            let mut server = Prometheus { child, port, https };
            if server.is_up().await {
                return server;
            }
        }
        panic!("prometheus did not start");
    }

    async fn is_up(&mut self) -> bool {
        for _ in 0..600 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.port)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn config(targets: &[std::net::SocketAddr]) -> String {
    let mut text =
        "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\nscrape_configs:\n".to_owned();
    for (slot, target) in ["a", "b"].iter().zip(targets) {
        text += &format!(
            "- job_name: web_{slot}\n  static_configs: [{{ targets: ['{target}'], labels: {{ slot: {slot} }} }}]\n"
        );
    }
    text
}

fn source(url: String, credentials: Credentials, trust: Trust, max_age: u64) -> PrometheusSource {
    let max_age = Duration::from_secs(max_age);
    PrometheusSource::new(PrometheusOptions { url, credentials, trust, max_age })
}

async fn read(source: &PrometheusSource, query: &str) -> Result<Points, ProbeError> {
    let mut all = source.read(&metric_subject(None), &[query.to_owned()]).await?;
    Ok(all.remove(0))
}

/// Reads until `holds`.
async fn until(
    source: &PrometheusSource,
    query: &str,
    holds: impl Fn(&Result<Points, ProbeError>) -> bool,
) -> Result<Points, ProbeError> {
    let mut last = read(source, query).await;
    for _ in 0..600 {
        if holds(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        last = read(source, query).await;
    }
    panic!("{query} gives {last:?}");
}

fn some(points: &Result<Points, ProbeError>) -> bool {
    points.as_ref().is_ok_and(|points| !points.is_empty())
}

#[tokio::test]
async fn a_real_server_is_asked_for_each_side_now_and_for_the_past() {
    let world = World::new();
    let a =
        Exporter::start("requests_total{code=\"200\"} 100\nrequests_total{code=\"500\"} 4\n").await;
    let b = Exporter::start("requests_total{code=\"200\"} 900\nmemory 7\n").await;
    let server = Prometheus::start(&world, &[a.address, b.address], None).await;
    let source = source(server.url(), Credentials::None, Trust::System, 120);
    let points = until(&source, "requests_total{slot=\"{slot}\"}", some).await.unwrap();
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [4.0, 100.0], "slot a is the subject's");
    assert_ne!(points[0].series, points[1].series);
    until(&source, "requests_total{slot=\"b\"}", some).await.unwrap();

    let sum = read(&source, "sum(requests_total)").await.unwrap();
    assert_eq!(sum[0].value, 1004.0);
    assert_eq!(read(&source, "scalar(memory)").await.unwrap()[0].value, 7.0);
    assert_eq!(read(&source, "{deployment} + 0").await.unwrap()[0].value, 42.0);
    assert!(read(&source, "nobody").await.unwrap().is_empty(), "absent is no value");
    assert!(read(&source, "memory / 0 - memory / 0").await.unwrap()[0].value.is_nan());
    for (query, part) in
        [("sum(", "parse error"), ("memory[5m]", "remove the range"), ("\"a\"", "remove")]
    {
        let error = read(&source, query).await.unwrap_err().to_string();
        assert!(error.contains(part), "{query}: {error}");
    }
    let asked = ["requests_total".to_owned(), "nobody".to_owned()];
    let mut past = Vec::new();
    for _ in 0..600 {
        past = source.past(&metric_subject(None), &asked, 24).await.unwrap().unwrap();
        if past[0].iter().any(|(_, point)| point.value == 900.0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(past[0].iter().any(|(_, point)| point.value == 900.0), "{past:?}");
    assert!(past[1].is_empty());
}

#[tokio::test]
async fn what_is_no_longer_scraped_and_who_no_longer_answers_is_no_value() {
    let world = World::new();
    let exporter = Exporter::start("memory 7\n").await;
    let server = Prometheus::start(&world, &[exporter.address], None).await;
    let source = source(server.url(), Credentials::None, Trust::System, 2);
    until(&source, "memory", some).await.unwrap();
    // Its own server goes on, and scrapes no more: after `max_age` nothing is left of the value.
    world.write("prometheus.yml", &config(&[]));
    server.signal(rustix::process::Signal::HUP);
    until(&source, "memory", |points| points.as_ref().is_ok_and(Vec::is_empty)).await.unwrap();
    assert_eq!(read(&source, "vector(1)").await.unwrap()[0].value, 1.0);

    server.signal(rustix::process::Signal::STOP);
    let subject = MetricSubject { timeout: Duration::from_millis(300), ..metric_subject(None) };
    // A signal takes a moment: what was asked before is still answered.
    let error = loop {
        if let Err(error) = source.read(&subject, &["memory".to_owned()]).await {
            break error.to_string();
        }
    };
    assert!(error.contains("no answer within"), "{error}");
    server.signal(rustix::process::Signal::CONT);
    drop(server);
    let error = read(&source, "memory").await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn who_asks_is_proven_over_tls() {
    let world = World::new();
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = world.write("server.pem", &key.cert.pem());
    let private = world.write("server.key", &key.signing_key.serialize_pem());
    // bcrypt of the password below.
    let web = format!(
        "tls_server_config: {{ cert_file: {}, key_file: {} }}\nbasic_auth_users: {{ me: '{}' }}\n",
        certificate.display(),
        private.display(),
        "$2b$04$7syQnUwleKn9D3xqcu23A.0kcGcSRDYaVSb3rSRQmqpObIWMEvInq"
    );
    let server = Prometheus::start(&world, &[], Some(&web)).await;
    let trust = || Trust::File(certificate.clone());
    let me = |password: &str| Credentials::Basic("me".to_owned(), Secret::new(password.to_owned()));
    let good = source(server.url(), me("open sesame"), trust(), 120);
    assert_eq!(read(&good, "vector(3)").await.unwrap()[0].value, 3.0);
    for credentials in [
        me("close sesame"),
        Credentials::None,
        Credentials::Bearer(Secret::new("open sesame".to_owned())),
    ] {
        let error = read(&source(server.url(), credentials, trust(), 120), "vector(1)").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("401") && !error.contains("sesame"), "{error}");
    }
    let stranger = source(server.url(), me("open sesame"), Trust::System, 120);
    let error = read(&stranger, "vector(1)").await.unwrap_err().to_string();
    assert!(error.contains("can't be trusted by TLS"), "{error}");
    let nobody = source(server.url(), Credentials::Missing("PROM_TOKEN".to_owned()), trust(), 120);
    let error = read(&nobody, "vector(1)").await.unwrap_err().to_string();
    assert!(error.contains("PROM_TOKEN has no value"), "{error}");
    let no_file = Trust::File(Path::new("/nowhere/ca.pem").to_owned());
    let error = read(&source(server.url(), Credentials::None, no_file, 120), "vector(1)").await;
    assert!(error.unwrap_err().to_string().contains("/nowhere/ca.pem"));
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let json = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let old = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1000000000,"1"]}]}}"#;
    for (reply, part) in [
        (json(old), "s old"),
        (json("<html>sign in</html>"), "no Prometheus answer"),
        (json("{}"), "no Prometheus answer"),
        (json(r#"{"status":"success"}"#), "refused"),
        (
            json(r#"{"status":"success","data":{"resultType":"vector","result":[{"value":"x"}]}}"#),
            "no Prometheus",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(), "503"),
        (b"\xff\xfe".to_vec(), "no HTTP"),
    ] {
        let server = Server::start(reply).await;
        let source =
            source(format!("http://{}", server.address), Credentials::None, Trust::System, 120);
        let error = read(&source, "memory").await.unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"status\":\"".to_vec();
    let huge = Server::with_filler(head, 64 << 20).await;
    let source = source(format!("http://{}", huge.address), Credentials::None, Trust::System, 120);
    let error = read(&source, "memory").await.unwrap_err().to_string();
    assert!(error.contains("longer than 8 MiB"), "{error}");
}
