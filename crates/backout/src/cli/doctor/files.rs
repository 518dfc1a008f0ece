//! The files that a deploy reads: programs, artifacts, config.

use std::path::{Path, PathBuf};

use backout_core::ids::HostName;
use backout_core::model::{ProbeSpec, ProcessSpec, Service, TargetSpec};
use backout_core::ports::{ArtifactStore, ConfigFiles};
use rustix::fs::{Access as Rights, access};

use super::{Item, state};
use crate::cli::reading::{Place, Reader};
use crate::registry;

/// A folder with more entries is not counted to its end.
const ENTRIES_MAX: usize = 100_000;

/// All files of an environment.
pub async fn items(place: &Place, reader: &Reader) -> Vec<Item> {
    let folder = &place.loaded.folder;
    let settings = &place.loaded.settings;
    let (artifacts, config_files) = registry::files(folder, &reader.state.path);
    let mut items = Vec::new();
    let mut size = 0;
    for service in settings.services.values() {
        if settings.hosts.iter().any(HostName::is_local) {
            items.extend(program(folder, service));
        }
        if let TargetSpec::Process(process) = &service.target {
            items.extend(artifact_items(folder, service, process, artifacts.as_ref()).await);
            size += process.artifact.iter().map(|path| size_of(&folder.join(path))).sum::<u64>();
        }
        for probe in &service.health.probes {
            if let ProbeSpec::Exec { command, .. } = probe {
                items.push(runnable("health_command", folder, command));
            }
        }
    }
    items.extend(room(size, &reader.state.path));
    items.push(config(&registry::config_globs(settings, folder), config_files.as_ref()).await);
    items
}

fn program(folder: &Path, service: &Service) -> Option<Item> {
    Some(match &service.target {
        // Its own checks stand in a file of their own.
        TargetSpec::Compose(_) | TargetSpec::Systemd(_) => return None,
        TargetSpec::Git(git) => {
            let tree = folder.join(&git.repository);
            // Worktrees can be of a repository that has no tree of its own.
            let bare = git.link.is_some() && tree.join("HEAD").is_file();
            let there = bare || tree.join(".git").exists();
            let name = "repository";
            if !there {
                let shown = format!("`{}` is not the top of a git repository", git.repository);
                return Some(
                    Item::error(name, shown).fix("git clone it there, or correct `repository`"),
                );
            }
            match bare || git.post_checkout.is_empty() {
                true => Item::pass(name, format!("`{}` is a git repository", git.repository)),
                false => runnable("post_checkout", &tree, &git.post_checkout),
            }
        }
        TargetSpec::Script(script) => {
            // As the script target finds it: below the folder of the file, never on PATH.
            executable("program", &folder.join(&script.program), &script.program)
        }
        TargetSpec::Process(process) => match (process.command.first(), &process.artifact[..]) {
            // Who can't start this file can't start a release's copy of it.
            (Some(word), [file]) if word == "{artifact}" && folder.join(file).is_file() => {
                executable("program", &folder.join(file), file)
            }
            _ => runnable("program", &folder.join(&process.workdir), &process.command),
        },
    })
}

/// The first word of a command: a path, or a name on `PATH`; with `{…}` in it, it is known only at start.
fn runnable(name: &str, folder: &Path, command: &[String]) -> Item {
    let Some(word) = command.first() else { return Item::error(name, "the command is empty") };
    if word.contains('{') {
        return Item::pass(name, format!("{word} is filled in at start"));
    }
    if word.contains('/') {
        return executable(name, &folder.join(word), word);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path)
        .map(|folder| folder.join(word))
        .find(|file| is_executable(file))
    {
        Some(file) => Item::pass(name, format!("{word} is {}", file.display())),
        None => Item::error(name, format!("{word} is not found on PATH"))
            .fix("install it, or write its full path"),
    }
}

fn executable(name: &str, file: &Path, shown: &str) -> Item {
    if !file.exists() {
        return Item::error(name, format!("{shown} does not exist"));
    }
    if !is_executable(file) {
        return Item::error(name, format!("{shown} can't be executed"))
            .fix(format!("chmod +x {}", file.display()));
    }
    Item::pass(name, format!("{shown} can be executed"))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, Rights::EXEC_OK).is_ok()
}

async fn artifact_items(
    folder: &Path,
    service: &Service,
    process: &ProcessSpec,
    artifacts: &dyn ArtifactStore,
) -> Vec<Item> {
    let name = "artifact";
    if process.artifact.is_empty() {
        return vec![Item::warning(
            name,
            format!("{} has no artifact: other files on disk are not kept, so going back would start today's", service.name),
        )
        .fix("name the program's files with `artifact:` in backout.yaml")];
    }
    let mut items = Vec::new();
    for path in &process.artifact {
        if path.contains("{version}") {
            items.push(versioned(folder, path));
            continue;
        }
        items.push(match artifacts.digest(path).await {
            Ok(digest) => Item::pass(
                name,
                format!("{path} is readable ({})", digest.get(..19).unwrap_or(&digest)),
            ),
            Err(error) => Item::error(name, error.message).fix(error.hint.unwrap_or_default()),
        });
    }
    items
}

/// Which file it will be is known only at deploy; whether there is any, now.
fn versioned(folder: &Path, path: &str) -> Item {
    let name = "artifact";
    let pattern = folder.join(path.replace("{version}", "*"));
    let found = glob::glob(&pattern.to_string_lossy())
        .map_or(0, |paths| paths.flatten().take(1_000).count());
    match found {
        0 => Item::warning(name, format!("{path}: there is no file for any version yet")),
        count => Item::pass(name, format!("{path}: {count} on disk")),
    }
}

/// The copy of the next release must fit.
fn room(size: u64, state: &Path) -> Option<Item> {
    let free = state::free_bytes(state)?;
    (size > 0).then(|| {
        let message = format!("{} KiB of artifacts, {} MiB free", size.div_ceil(1024), free >> 20);
        if size > free.saturating_sub(state::FREE_BYTES_MIN) {
            Item::error("artifact_space", message).fix("free some space in the state folder")
        } else {
            Item::pass("artifact_space", message)
        }
    })
}

fn size_of(path: &Path) -> u64 {
    let mut open: Vec<PathBuf> = vec![path.to_owned()];
    let (mut bytes, mut entries) = (0_u64, 0);
    while let Some(path) = open.pop() {
        entries += 1;
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if !meta.is_dir() {
            bytes = bytes.saturating_add(meta.len());
        } else if entries < ENTRIES_MAX {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    bytes
}

async fn config(globs: &[String], config_files: &dyn ConfigFiles) -> Item {
    let name = "config_files";
    if globs.is_empty() {
        return Item::pass(name, "none are versioned");
    }
    match config_files.read(globs).await {
        Ok(files) if files.is_empty() => {
            Item::warning(name, format!("nothing matches {}", globs.join(", ")))
        }
        Ok(files) => Item::pass(name, format!("{} readable", files.len())),
        Err(error) => Item::error(name, error.to_string()),
    }
}
