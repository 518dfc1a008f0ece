//! What lies in a folder that could be deployed. Only looks; runs nothing.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Only the beginning of a file is read.
const READ_BYTES: u64 = 256 * 1024;
/// More entries than this are not listed as artifacts.
const MAX_ENTRIES: usize = 64;

/// What was found, ready to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Name for the app.
    pub app: String,
    /// For people: what made the choice.
    pub because: String,
    /// What runs it.
    pub target: Target,
}

/// A target as `init` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A program.
    Process {
        /// Program and arguments.
        command: Vec<String>,
        /// What is copied per release.
        artifact: Vec<String>,
        /// Said beside the command.
        note: &'static str,
    },
    /// A compose file.
    Compose {
        /// The files.
        files: Vec<String>,
        /// Services that publish a port.
        serving: Vec<String>,
        /// Where the first of them is reached on this machine.
        port: Option<u16>,
        /// One of them has a health check of its own.
        checked: bool,
    },
    /// A unit of systemd.
    Systemd {
        /// Its name.
        unit: String,
        /// What is copied per release.
        artifact: Vec<String>,
        /// The link that its file names, if it names one.
        current: Option<String>,
    },
    /// A deployment script.
    Script {
        /// Its path.
        program: String,
        /// It knows `update-traffic`.
        moves_traffic: bool,
    },
}

impl Target {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Target::Process { .. } => "process",
            Target::Script { .. } => "script",
            Target::Compose { .. } => "compose",
            Target::Systemd { .. } => "systemd",
        }
    }
}

const PORT_NOTE: &str =
    "the program must listen on the port in the variable PORT, or take {port} as an argument";

/// Looks for what says most about how the application is run, most telling first.
///
/// # Errors
/// When the folder itself can't be read.
pub(super) fn detect(folder: &Path) -> io::Result<Found> {
    let folder = folder.canonicalize()?;
    let entries = entries(&folder)?;
    let app = app_name(&folder);
    let found = deploy_script(&folder)
        .or_else(|| compose(&folder))
        .or_else(|| systemd(&folder, &app, &entries))
        .or_else(|| procfile(&folder, &entries))
        .or_else(|| executable(&folder, &app))
        .or_else(|| package_json(&folder, &entries))
        .or_else(|| manage_py(&folder, &entries));
    let (because, target) = found.unwrap_or_else(|| {
        let target = Target::Process {
            command: vec!["{artifact}".to_owned()],
            artifact: vec!["server".to_owned()],
            note: "put your program here; it gets its port in the variable PORT, or as {port}",
        };
        (
            "found nothing that tells how the application is run, so the program is a guess"
                .to_owned(),
            target,
        )
    });
    Ok(Found { app, because, target })
}

/// Names of what may belong to a release: nothing hidden, nothing that is written at run time.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let skipped =
        ["target", "tmp", "log", "logs", "uploads", "data", "venv", "__pycache__", "coverage"];
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let config =
            name.starts_with("backout.") && (name.ends_with(".yaml") || name.ends_with(".yml"));
        let odd = name.starts_with(['.', '~'])
            || name.ends_with(".log")
            || name.contains(['{', '}', '\\']);
        if !odd && !config && !skipped.contains(&name.as_str()) && !name.contains(char::is_control)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The folder's name as far as it may name an app.
fn app_name(folder: &Path) -> String {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let mut app = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => app.push(c),
            _ if !app.is_empty() && !app.ends_with('-') => app.push('-'),
            _ => {}
        }
    }
    app.truncate(63);
    let app = app.trim_end_matches('-');
    if app.is_empty() { "app".to_owned() } else { app.to_owned() }
}

fn read(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(READ_BYTES).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn deploy_script(folder: &Path) -> Option<(String, Target)> {
    for name in ["deploy.sh", "deploy", "scripts/deploy.sh", "bin/deploy", "scripts/deploy"] {
        let Some(text) = read(&folder.join(name)).filter(|text| text.starts_with("#!")) else {
            continue;
        };
        let has = |verb: &str| {
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
                .any(|word| word == verb)
        };
        if has("rollback") && (has("status") || has("stop") || has("update-traffic")) {
            let target = Target::Script {
                program: format!("./{name}"),
                moves_traffic: has("update-traffic"),
            };
            return Some((format!("found {name} with the verbs of a deployment script"), target));
        }
    }
    None
}

/// The file that compose itself would take, and the one beside it that it would lay over it.
fn compose(folder: &Path) -> Option<(String, Target)> {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    let (name, value) = names.into_iter().find_map(|name| {
        let value: serde_json::Value = serde_saphyr::from_str(&read(&folder.join(name))?).ok()?;
        value.get("services")?.as_object()?;
        Some((name, value))
    })?;
    let mut files = vec![name.to_owned()];
    let (stem, end) = name.rsplit_once('.')?;
    let above = format!("{stem}.override.{end}");
    if folder.join(&above).is_file() {
        files.push(above);
    }
    let services = value.get("services")?.as_object()?;
    let published = |service: &serde_json::Value| {
        let ports = service.get("ports")?.as_array()?;
        ports.iter().find_map(host_port)
    };
    let ports = |service: &serde_json::Value| {
        service.get("ports").and_then(|p| p.as_array()).is_some_and(|p| !p.is_empty())
    };
    let serving: Vec<String> = services
        .iter()
        .filter(|(_, service)| ports(service))
        .map(|(name, _)| name.clone())
        .collect();
    let port = services.values().find_map(published);
    let checked = services.values().any(|service| service.get("healthcheck").is_some());
    Some((
        format!("found {}", files.join(" and ")),
        Target::Compose { files, serving, port, checked },
    ))
}

/// A unit file of a service: named as the app, else the first one.
fn systemd(folder: &Path, app: &str, entries: &[String]) -> Option<(String, Target)> {
    let is_unit = |name: &&String| name.ends_with(".service") && !name.starts_with('@');
    let stem = |name: &String| name.trim_end_matches(".service").trim_end_matches('@') == app;
    let mut units: Vec<&String> = entries.iter().filter(is_unit).collect();
    units.sort_by_key(|name| !stem(name));
    let (name, text) = units.into_iter().find_map(|name| {
        let text = read(&folder.join(name))?;
        text.lines().any(|line| line.trim() == "[Service]").then_some((name, text))
    })?;
    let start = text.lines().find_map(|line| line.trim().strip_prefix("ExecStart="));
    // Signs before a path change how it is run, not which one it is.
    let program = start.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let program = program.trim_start_matches(['-', '@', ':', '+', '!']);
    let current = program.split_once("/current").and_then(|(before, after)| {
        let (rest, _) = after.split_once('/')?;
        let plain = rest.is_empty() || rest == "-%i";
        plain.then(|| format!("{before}/current{}", rest.replace("%i", "{slot}")))
    });
    let file = program.rsplit('/').next().unwrap_or_default();
    let places = ["", "target/release/", "bin/", "dist/", "build/"];
    let places = places.map(|place| format!("{place}{file}"));
    let found = places.into_iter().find(|path| is_below(path) && folder.join(path).is_file());
    let artifact = match found {
        Some(path) => vec![path],
        None => code(&entries.iter().filter(|other| *other != name).cloned().collect::<Vec<_>>()),
    };
    let artifact = if artifact.is_empty() { vec![app.to_owned()] } else { artifact };
    let unit = match name.split_once("@.") {
        Some((before, after)) => format!("{before}@{{slot}}.{after}"),
        None => name.clone(),
    };
    Some((format!("found {name}"), Target::Systemd { unit, artifact, current }))
}

/// `8080` of `127.0.0.1:8080:80`, or of the long form.
fn host_port(port: &serde_json::Value) -> Option<u16> {
    match port {
        serde_json::Value::Object(long) => match long.get("published")? {
            serde_json::Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
            text => text.as_str()?.parse().ok(),
        },
        serde_json::Value::String(short) => {
            let mut parts = short.rsplit(':');
            parts.next()?;
            parts.next()?.parse().ok()
        }
        _ => None,
    }
}

fn procfile(folder: &Path, entries: &[String]) -> Option<(String, Target)> {
    let text = read(&folder.join("Procfile"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("web:"))?.trim();
    if line.is_empty() || line.contains('\0') {
        return None;
    }
    Some(("found a Procfile with a web process".to_owned(), from_line(folder, line, entries)))
}

/// A line as a shell would run it, from the release's own copy of what lies here.
fn from_line(folder: &Path, line: &str, entries: &[String]) -> Target {
    let line = line.replace("${PORT}", "$PORT");
    let words: Vec<&str> = line.split_whitespace().collect();
    let plain = !line.contains([
        '"', '\'', '\\', '|', '&', ';', '<', '>', '(', ')', '`', '*', '?', '~', '#', '=', '{',
    ]) && !line.replace("$PORT", "").contains('$');
    let program = words.first().map(|word| word.trim_start_matches("./")).unwrap_or_default();
    if plain && is_below(program) && is_executable(&folder.join(program)) {
        let mut command = vec!["{artifact}".to_owned()];
        command.extend(words[1..].iter().map(|word| word.replace("$PORT", "{port}")));
        return Target::Process { command, artifact: vec![program.to_owned()], note: PORT_NOTE };
    }
    let command = |script: String, rest: &[&str]| {
        let mut command = vec!["sh".to_owned(), "-c".to_owned(), script];
        command.extend(rest.iter().map(|word| (*word).to_owned()));
        command
    };
    // `exec` lets the signal of a stop reach the program itself, where the line is a single command.
    let exec = if plain { "exec " } else { "" };
    let artifact = code(entries);
    if artifact.len() < 2 {
        return Target::Process {
            command: command(format!("{exec}{line}"), &[]),
            artifact,
            note: PORT_NOTE,
        };
    }
    let script = format!("cd \"$0\" && {exec}{line}");
    Target::Process { command: command(script, &["{artifact}"]), artifact, note: PORT_NOTE }
}

/// A path that stays below the folder and can stand in a configuration.
fn is_below(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with(['/', '~'])
        && !path.contains(['{', '}', '\0'])
        && path.split('/').all(|part| part != ".." && !part.is_empty())
}

/// Everything here, or the folder as a whole where that is too much to list.
fn code(entries: &[String]) -> Vec<String> {
    if entries.len() > MAX_ENTRIES { vec![".".to_owned()] } else { entries.to_vec() }
}

/// A built program: the one named as the app, else the only one.
fn executable(folder: &Path, app: &str) -> Option<(String, Target)> {
    for place in ["target/release", "bin", "dist", "build"] {
        let Ok(listing) = std::fs::read_dir(folder.join(place)) else { continue };
        let mut names: Vec<String> = listing
            .take(10_000)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                !name.starts_with('.')
                    && is_below(name)
                    && is_program(&folder.join(place).join(name))
            })
            .collect();
        names.sort();
        let same = |name: &&String| name.replace('_', "-").to_lowercase() == app;
        let Some(name) = names.iter().find(same).or(names.first()) else { continue };
        let path = format!("{place}/{name}");
        let mut because = format!("found the program {path}");
        if names.len() > 1 {
            because.push_str(&format!(" (and {} more beside it)", names.len() - 1));
        }
        let target = Target::Process {
            command: vec!["{artifact}".to_owned()],
            artifact: vec![path],
            note: PORT_NOTE,
        };
        return Some((because, target));
    }
    None
}

/// Executable, and a binary or a script: not a library, not data with odd permissions.
fn is_program(path: &Path) -> bool {
    let mut magic = [0_u8; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let library = name.contains(".so") || name.ends_with(".d") || name.ends_with(".dylib");
    is_executable(path)
        && !library
        && read.is_ok()
        && (&magic == b"\x7fELF" || magic.starts_with(b"#!"))
}

fn package_json(folder: &Path, entries: &[String]) -> Option<(String, Target)> {
    let text = read(&folder.join("package.json"))?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    let start = package.pointer("/scripts/start")?.as_str()?.trim();
    let because = "found package.json with a start script".to_owned();
    let words: Vec<&str> = start.split_whitespace().collect();
    let artifact = code(entries);
    let note = PORT_NOTE;
    if let ["node", file] = words.as_slice()
        && is_below(file.trim_start_matches("./"))
        && artifact.len() > 1
    {
        // npm between Backout and the program would keep signals from it.
        let file = format!("{{artifact}}/{}", file.trim_start_matches("./"));
        return Some((
            because,
            Target::Process { command: vec!["node".to_owned(), file], artifact, note },
        ));
    }
    let command = if artifact.len() > 1 {
        ["npm", "--prefix", "{artifact}", "run", "start"].map(str::to_owned).to_vec()
    } else {
        ["npm", "run", "start"].map(str::to_owned).to_vec()
    };
    Some((because, Target::Process { command, artifact, note }))
}

fn manage_py(folder: &Path, entries: &[String]) -> Option<(String, Target)> {
    read(&folder.join("manage.py"))
        .filter(|text| text.contains("django") || text.contains("DJANGO"))?;
    let artifact = code(entries);
    let place =
        if artifact.len() > 1 || artifact == ["."] { "{artifact}/manage.py" } else { "{artifact}" };
    let words = ["python3", place, "runserver", "--noreload", "127.0.0.1:{port}"];
    let target = Target::Process {
        command: words.map(str::to_owned).to_vec(),
        artifact,
        note: "for production use a server such as gunicorn, bound to 127.0.0.1:{port}",
    };
    Some(("found manage.py of Django".to_owned(), target))
}
