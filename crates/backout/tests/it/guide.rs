//! The user guide, run as a reader would: its files are written, its commands are run, its output is compared.
//!
//! A fenced block whose first word is `console` holds commands behind `$ ` (more lines of one behind `> `) with what they
//! print; `…` stands for anything in a line, and alone in a line for any lines. A block with a file name as second word
//! is written to that file. Every command must exit with 0. Port 8080 of the guide is a free one here.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const BACKOUT: &str = env!("CARGO_BIN_EXE_backout");

/// The port that the guide's services are reached at.
const GUIDE_PORT: &str = "8080";

/// What the guide calls "any program that listens on the port in PORT".
fn service() -> PathBuf {
    let tests = Path::new(BACKOUT).parent().unwrap().join("examples/odd_service");
    assert!(tests.exists(), "build it with `cargo test -p backout` or `cargo build --examples`");
    tests
}

/// A piece of a page.
#[derive(Debug)]
enum Block {
    File { name: String, text: String },
    Commands(Vec<Shown>),
}

/// A command and what the page says it prints.
#[derive(Debug, PartialEq)]
struct Shown {
    command: String,
    output: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let mut words = info.split_whitespace();
        match (words.next(), words.next()) {
            (Some("console"), _) => found.push(Block::Commands(commands(&body))),
            (Some(_), Some(name)) => found.push(Block::File {
                name: name.to_owned(),
                text: body.iter().map(|line| format!("{line}\n")).collect(),
            }),
            _ => {}
        }
    }
    found
}

fn commands(body: &[&str]) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for line in body {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Shown { command: command.to_owned(), output: Vec::new() });
            continue;
        }
        let last = found.last_mut().expect("a console block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if last.output.is_empty() => {
                last.command.push('\n');
                last.command.push_str(more);
            }
            _ => last.output.push((*line).to_owned()),
        }
    }
    found
}

/// Whether a line is as shown; `…` is any text, and how many blanks stand between words is the same.
fn same_line(shown: &str, got: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, got) = (words(shown), words(got));
    matches(&shown, &got) || shown.strip_suffix(" …").is_some_and(|shown| matches(shown, &got))
}

fn matches(shown: &str, got: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Whether output is as shown; a line `…` is any lines.
fn same(shown: &[String], got: &[&str]) -> bool {
    match shown.split_first() {
        None => got.is_empty(),
        Some((any, rest)) if any == "…" => (0..=got.len()).any(|skip| same(rest, &got[skip..])),
        Some((line, rest)) => got
            .split_first()
            .is_some_and(|(first, others)| same_line(line, first) && same(rest, others)),
    }
}

/// A reader at work: a folder with the service, and a home of its own.
struct Reader {
    temp: tempfile::TempDir,
    port: String,
}

impl Reader {
    fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("guide.").tempdir().unwrap();
        for folder in ["shop/bin", "home", "bin"] {
            fs::create_dir_all(temp.path().join(folder)).unwrap();
        }
        symlink(BACKOUT, temp.path().join("bin/backout")).unwrap();
        let port =
            TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let reader = Self { temp, port };
        reader.write("bin/shop", &format!("#!/bin/sh\nexec {}\n", service().display()));
        reader
    }

    fn folder(&self) -> PathBuf {
        self.temp.path().join("shop")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace(GUIDE_PORT, &self.port)).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs one command; both of its streams in the order they were written, and whether it went well.
    fn run(&self, command: &str) -> (String, bool) {
        let log = self.temp.path().join("output");
        let out = fs::File::create(&log).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let status = Command::new("sh")
            .args(["-c", &command.replace(GUIDE_PORT, &self.port)])
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.temp.path().join("bin").display()))
            .env("HOME", self.temp.path().join("home"))
            .env("XDG_STATE_HOME", self.temp.path().join("home/state"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        (text.replace(&self.port, GUIDE_PORT), status.success())
    }

    fn follow(&self, name: &str, page: &str) {
        for block in blocks(page) {
            match block {
                Block::File { name, text } => self.write(&name, &text),
                Block::Commands(shown) => shown.iter().for_each(|shown| self.check(name, shown)),
            }
        }
    }

    fn check(&self, page: &str, shown: &Shown) {
        let (text, well) = self.run(&shown.command);
        let got: Vec<&str> = text.lines().collect();
        assert!(well, "{page}: `{}` failed:\n{text}", shown.command);
        assert!(
            same(&shown.output, &got),
            "{page}: `{}` should print\n{}\n\nand prints\n{text}",
            shown.command,
            shown.output.join("\n")
        );
    }

    /// Processes whose command line names this reader's folder.
    fn running(&self) -> Vec<i32> {
        let needle = self.temp.path().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&needle) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The supervisors would start their programs again: some rounds, until nothing is left.
        for _ in 0..50 {
            let running = self.running();
            if running.is_empty() {
                return;
            }
            for pid in running.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn read_page(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(name);
    let page = fs::read_to_string(&path).unwrap();
    let reader = Reader::new();
    reader.follow(name, &page);
}

#[test]
fn first_deploy() {
    read_page("first-deploy.md");
}

#[test]
fn wildcards_stand_for_any_text_and_any_lines() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(same(&lines("a … c\n…\nz"), &["a b c", "1", "2", "z"]));
    assert!(same(&lines("…\nz"), &["z"]));
    assert!(!same(&lines("a … c"), &["a b d"]));
    assert!(!same(&lines("a"), &["a", "b"]));
    assert!(same_line("x …", "x y") && same_line("x …", "x") && same_line(" a  b", "a b "));
    assert!(!same_line("x", "xy") && !same_line("…y", "yx") && !same_line("x …", "y x"));
}

#[test]
fn a_page_falls_into_files_and_commands() {
    let page = "text\n```yaml backout.yaml\napp: x\n```\n```console\n$ one\n> more\nout\n$ two\n```\n```sh\nno\n```\n";
    let blocks = blocks(page);
    assert_eq!(blocks.len(), 2);
    let Block::Commands(shown) = &blocks[1] else { panic!("{blocks:?}") };
    assert_eq!(shown[0], Shown { command: "one\nmore".to_owned(), output: vec!["out".to_owned()] });
    assert_eq!(shown[1].command, "two");
}
