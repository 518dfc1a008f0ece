//! `backout.yaml`: `raw` (what was written, with places) → `merged` (environment, variables) → `settings`
//! (valid types). Only settings reach the engine.

mod de;
mod errors;
mod later;
mod merged;
mod node;
mod raw;
mod scalar;
mod schema;
mod settings;
mod variables;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use backout_core::ids::{AppName, EnvironmentName};

pub use errors::{ConfigError, Problem, nearest};
pub use scalar::parse_duration_ms;
pub use schema::schema;
pub use settings::{Auth, MetricsFrom, MetricsSettings, Settings, SyntheticSettings};

use node::{Node, Value};
use raw::Raw;
use settings::Given;
use variables::Expander;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "backout.yaml";

/// A longer file is no configuration.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration as one environment sees it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The folder of the file, absolute; paths are relative to it.
    pub folder: PathBuf,
    /// The app.
    pub app: AppName,
    /// The chosen environment's settings.
    pub settings: Settings,
}

/// What the caller wants of the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The environment; may be left out where there is one.
    pub environment: Option<&'a str>,
    /// Another strategy than the file's; it keeps the file's settings if it is the same one.
    pub strategy: Option<&'a str>,
}

/// Reads and checks a configuration.
///
/// # Errors
/// What is wrong with it, with places.
pub fn load(
    file: &Path,
    environment: Option<&str>,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    load_as(file, Wanted { environment, strategy: None }, vars)
}

/// Like [`load`], with what the command line overrides.
///
/// # Errors
/// What is wrong with it, with places.
pub fn load_as(
    file: &Path,
    wanted: Wanted<'_>,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    let source = read(file)?;
    let folder = folder_of(file)?;
    parse(&source, file, folder, wanted, vars)
        .map_err(|problems| ConfigError::new(file, &source, problems))
}

/// Names the environments of a file without choosing one.
///
/// # Errors
/// What is wrong with the file as a whole.
pub fn environments(
    file: &Path,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<EnvironmentName>, ConfigError> {
    let source = read(file)?;
    node::parse(&source)
        .map_err(|problem| vec![problem])
        .and_then(|root| check_everywhere(&root, vars).map(|()| environment_names(&root)))
        .map_err(|problems| ConfigError::new(file, &source, problems))
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |problem: Problem| ConfigError::unreadable(file, problem);
    let mut source = String::new();
    let opened = std::fs::File::open(file).and_then(|opened| {
        // A folder opens, and only fails when it is read.
        opened.take(MAX_BYTES + 1).read_to_string(&mut source)
    });
    match opened {
        Ok(_) if source.len() as u64 > MAX_BYTES => {
            Err(unreadable(Problem::whole("the configuration is longer than 1 MiB")))
        }
        Ok(_) => Ok(source.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(source)),
        Err(error) => {
            let problem =
                Problem::whole(format!("failed to read the configuration: {}", reason(&error)));
            Err(unreadable(match error.kind() {
                std::io::ErrorKind::NotFound => {
                    problem.hint("run `backout init` to write one, or name another with `-f FILE`")
                }
                std::io::ErrorKind::InvalidData => problem.hint("it must be text in UTF-8"),
                std::io::ErrorKind::IsADirectory => problem.hint("name the file, not its folder"),
                _ => problem,
            }))
        }
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    }
}

fn folder_of(file: &Path) -> Result<PathBuf, ConfigError> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    folder.canonicalize().map_err(|error| {
        ConfigError::unreadable(
            file,
            Problem::whole(format!("failed to find the folder of the file: {error}")),
        )
    })
}

/// From text to settings; everything but the reading.
fn parse(
    source: &str,
    file: &Path,
    folder: PathBuf,
    wanted: Wanted<'_>,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let root = node::parse(source).map_err(one)?;
    check_everywhere(&root, vars)?;
    let chosen =
        merged::choose(&merged::environment_names(&root), wanted.environment).map_err(one)?;
    let mut tree = merged::merge_environment(&root, &chosen.text);
    if let Some(strategy) = wanted.strategy {
        tree = merged::override_strategy(tree, strategy);
    }
    let secrets = secret_names(&tree);
    let mut problems = Vec::new();
    let expander = Expander { lookup: vars, secrets: &secrets, lenient: false };
    let tree = expander.tree(&tree, &mut Vec::new(), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let raw: Raw = de::from_node(&tree).map_err(one)?;
    let settings = settings::build(&raw, &Given { environment: &chosen, file, lookup: vars })?;
    Ok(Loaded { folder, app: settings.key.app.clone(), settings })
}

/// Keys and types of the whole file, environments that are not meant included; a variable that only they
/// need may be missing.
fn check_everywhere(
    root: &Node,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Vec<Problem>> {
    if !matches!(root.value, Value::Map(_)) {
        let problem = Problem::at(
            root.at,
            format!("the file must be a map of keys, not {}", root.describe()),
        );
        return Err(vec![problem.hint("begin with `app: NAME`, or run `backout init`")]);
    }
    let expander = Expander { lookup: vars, secrets: &[], lenient: true };
    let mut problems = Vec::new();
    let tree = expander.tree(root, &mut Vec::new(), &mut problems);
    problems.extend(de::from_node::<Raw>(&tree).err());
    problems.extend(merged::misplaced(root));
    for key in merged::environment_names(root) {
        if let Err(error) = EnvironmentName::new(key.text.as_str()) {
            problems.push(
                Problem::at(key.at, format!("`{}` is not a valid {}", error.value, error.what))
                    .hint(error.rule),
            );
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn environment_names(root: &Node) -> Vec<EnvironmentName> {
    merged::environment_names(root)
        .into_iter()
        .filter_map(|key| EnvironmentName::new(key.text).ok())
        .collect()
}

/// Names under `secrets:`, before variables are filled in: a name can't be a variable.
fn secret_names(tree: &Node) -> Vec<String> {
    let Some(Value::List(items)) = tree.get("secrets").map(|node| &node.value) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match &item.value {
            Value::Scalar(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}
