//! A web service for tests: answers with its version, and is well or odd as its arguments say.
//!
//! `odd_service [--health KIND]`, where KIND is `ok`, `unhealthy`, `text`, `hang` or `huge`. Listens on `PORT`;
//! its version is `BACKOUT_VERSION`. Standard library only, so that it starts at once.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Enough that whoever reads it all notices.
const HUGE_BYTES: usize = 100 << 20;
/// Longer than any probe waits.
const HANG: Duration = Duration::from_secs(600);

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut health = "ok".to_owned();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--health", Some(kind)) => health = kind,
            (other, _) => panic!("unknown argument {other}"),
        }
    }
    let port: u16 = var("PORT").parse().expect("PORT is a number");
    let version = var("BACKOUT_VERSION");
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming() {
        let (version, health) = (version.clone(), health.clone());
        // A client that left is its own business.
        std::thread::spawn(move || serve(stream?, &version, &health));
    }
    Ok(())
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Answers requests of one connection until the client leaves.
fn serve(stream: TcpStream, version: &str, health: &str) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next() {
        let path = request?.split(' ').nth(1).unwrap_or("/").to_owned();
        for header in lines.by_ref() {
            if header?.is_empty() {
                break;
            }
        }
        if path == "/health" {
            answer_health(&mut out, version, health)?;
        } else {
            respond(&mut out, &format!("{version}\n"))?;
        }
    }
    Ok(())
}

fn answer_health(out: &mut TcpStream, version: &str, kind: &str) -> std::io::Result<()> {
    match kind {
        "ok" => respond(out, &format!(r#"{{"status":"healthy","version":"{version}"}}"#)),
        "unhealthy" => respond(out, r#"{"status":"unhealthy"}"#),
        "text" => respond(out, "fine, thank you\n"),
        "hang" => {
            std::thread::sleep(HANG);
            Ok(())
        }
        "huge" => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n")?;
            let chunk = vec![b'x'; 1 << 16];
            (0..HUGE_BYTES / chunk.len()).try_for_each(|_| out.write_all(&chunk))
        }
        other => panic!("unknown health {other}"),
    }
}

fn respond(out: &mut TcpStream, body: &str) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
