//! The user guide, run as a reader would: its files are written, its commands are run, its output is compared.
//!
//! A fenced block whose first word is `console` holds commands behind `$ ` (more lines of one behind `> `) with what they
//! print; `…` stands for anything in a line, and alone in a line for any lines. A block with a file name as second word
//! is written to that file. Every command must exit with 0. Port 8080 of the guide is a free one here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::World;

/// The port that the guide's services are reached at.
const GUIDE_PORT: &str = "8080";

/// The database of the guide's shared ledger.
const GUIDE_DATABASE: &str = "postgres://backout@db.example/backout";

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

/// A reader at work in a world of their own.
struct Reader(World, OnceLock<String>, Vec<(String, String)>, Vec<(String, String)>);

impl Reader {
    fn new() -> Self {
        let reader = Self(World::bare(), OnceLock::new(), Vec::new(), Vec::new());
        // What the guide calls "any program that listens on the port in PORT".
        let program = reader.0.program();
        let text = format!(
            "#!/bin/sh\nexec {} demo-service --version \"$BACKOUT_VERSION\"\n",
            program.display()
        );
        reader.write("bin/shop", &text);
        reader
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace(GUIDE_PORT, &self.0.listen.to_string());
        let text = self.3.iter().fold(text, |text, (shown, here)| text.replace(shown, here));
        self.0.write(name, &text);
        if text.starts_with("#!") {
            let path = self.0.folder().join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Runs one command; both of its streams in the order they were written, and whether it went well.
    fn run(&self, command: &str) -> (String, bool) {
        let port = self.0.listen.to_string();
        let log = self.0.root().join("output");
        let out = fs::File::create(&log).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let status = Command::new("sh")
            .args(["-c", &self.here(&command.replace(GUIDE_PORT, &port))])
            .current_dir(self.0.folder())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.0.root().join("bin").display()))
            .env("HOME", self.0.root().join("home"))
            .env("BACKOUT_STATE_DIR", self.0.state_dir())
            .envs(self.2.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        (text.replace(&port, GUIDE_PORT), status.success())
    }

    /// With a database that is there.
    fn here(&self, command: &str) -> String {
        let command = self.3.iter().fold(command.to_owned(), |text, (a, b)| text.replace(a, b));
        if !command.contains(GUIDE_DATABASE) {
            return command;
        }
        let server = backout_testkit::postgres::shared();
        let url = self.1.get_or_init(|| server.url(&server.database()));
        command.replace(GUIDE_DATABASE, url)
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
}

fn read_page(name: &str) {
    read_page_as(name, &Reader::new());
}

fn read_page_as(name: &str, reader: &Reader) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(name);
    let page = fs::read_to_string(&path).unwrap();
    reader.follow(name, &page);
}

#[test]
fn first_deploy() {
    read_page("first-deploy.md");
}

#[test]
fn rollback() {
    read_page("rollback.md");
}

#[test]
fn script_target() {
    read_page("script-target.md");
}

#[test]
fn compose() {
    let engine = backout_testkit::docker::Engine::own();
    for version in ["1.0.0", "1.1.0"] {
        let serve = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"];
        engine.image(&format!("shop/web:{version}"), &[("www/health", version)], &serve);
    }
    let mut reader = Reader::new();
    reader.2 = engine.env();
    read_page_as("compose.md", &reader);
}

#[test]
fn systemd() {
    let machine = backout_testkit::systemd::Machine::own();
    let mut reader = Reader::new();
    reader.2 = vec![("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), machine.address())];
    // The reader is root on a machine of their own: here that is a container whose unit files are seen from outside.
    let here = reader.0.folder().display().to_string();
    let root = format!("  systemd:\n    root: {}\n", machine.root().display());
    reader.3 = vec![("/srv/shop".to_owned(), here), ("  systemd:\n".to_owned(), root)];
    let systemctl = format!(
        "#!/bin/sh\nexec nsenter --target {} --mount --uts --ipc --pid --root --wd=/ -- /usr/bin/systemctl \"$@\"\n",
        machine.leader()
    );
    let path = reader.0.root().join("bin/systemctl");
    fs::write(&path, systemctl).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    read_page_as("systemd.md", &reader);
}

#[test]
fn git() {
    read_page("git.md");
}

#[test]
fn hosts() {
    let servers = backout_testkit::SshServers::start(2);
    let reader = Reader::new();
    // The reader's own configuration knows these two by other names.
    let config = fs::read_to_string(servers.config()).unwrap();
    let config =
        config.replace("Host host0\n", "Host web1\n").replace("Host host1\n", "Host web2\n");
    let path = reader.0.root().join("ssh_config");
    fs::write(&path, config).unwrap();
    let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", path.display());
    let program = reader.0.root().join("bin/ssh");
    fs::write(&program, ssh).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    read_page_as("hosts.md", &reader);
}

#[test]
fn judging() {
    read_page("judging.md");
}

#[test]
fn trip() {
    read_page("trip.md");
}

#[test]
fn shared_ledger() {
    read_page("shared-ledger.md");
}

#[test]
fn audit() {
    read_page("audit.md");
}

#[test]
fn controller() {
    read_page("controller.md");
}

#[test]
fn drill() {
    read_page("drill.md");
}

#[test]
fn when_stuck() {
    read_page("when-stuck.md");
}

#[test]
fn services() {
    read_page("services.md");
}

#[test]
fn configuration() {
    read_page("configuration.md");
}

#[test]
fn ci() {
    read_page("ci.md");
}

/// A page without a test above would not be run.
#[test]
fn every_page_with_commands_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let source = include_str!("guide.rs");
    let mut run = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if fs::read_to_string(&path).unwrap().contains("```console") {
            let is_run = ["read_page", "read_page_as"]
                .iter()
                .any(|call| source.contains(&format!("{call}(\"{name}\"")));
            assert!(is_run, "{name} is not run");
            run += 1;
        }
    }
    assert!(run >= 6, "{run} pages");
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
