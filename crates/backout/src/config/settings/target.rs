//! What runs a service.

use std::collections::BTreeMap;

use backout_core::model::{EnvValue, PortSpec, ProcessSpec, RestartPolicy, ScriptSpec};

use super::Findings;
use crate::config::errors::{Problem, nearest};
use crate::config::node::Position;
use crate::config::raw::{
    At, Entries, EnvText, OneOrMany, RawPort, RawProcess, RawScript, RawService,
};

/// What is filled in in commands and environments when a process starts.
const PLACEHOLDERS: &[&str] = &["version", "release", "slot", "port", "artifact", "config"];

/// The words in braces in a text, such as `port` in `{port}`.
pub(super) fn braced_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word).filter(
        |word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
    )
}

/// What surrounds the service that is made.
pub(super) struct Around<'a> {
    /// Where the service, or else the target, stands.
    pub at: Position,
    /// For messages.
    pub name: &'a str,
    pub traffic: bool,
    pub builtin_router: bool,
    pub has_config: bool,
    pub secrets: &'a [String],
}

pub(super) fn process(
    base: &RawProcess,
    own: Option<&RawService>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<ProcessSpec> {
    refuse_keys_of_others(own, "process", found);
    let command = own.and_then(|own| own.command.as_ref()).or(base.command.as_ref());
    let Some(command) = command else {
        found.refuse_at(
            around.at,
            format!("service `{}` has no `command`", around.name),
            "write the program and its arguments as a list, such as `command: [./server, --port, \"{port}\"]`",
        );
        return None;
    };
    check_argv(command, "command", found);
    let artifact = own.and_then(|own| own.artifact.as_ref()).or(base.artifact.as_ref());
    let own_env = own.and_then(|own| own.env.as_ref()).map(|env| &env.value);
    let env = environment(base.env.as_ref(), own_env, around, found);
    let port = port(own.and_then(|own| own.port.as_ref()).or(base.port.as_ref()), around, found);
    let port_env = own.and_then(|own| own.port_env.as_ref()).or(base.port_env.as_ref());
    if let Some(name) = port_env {
        check_env_key(name, found);
    }
    let workdir = own
        .and_then(|own| own.workdir.as_ref())
        .map(|at| &at.value)
        .or(base.workdir.as_ref())
        .cloned();
    let spec = ProcessSpec {
        command: command.value.clone(),
        env,
        workdir: workdir.unwrap_or_else(|| ".".to_owned()),
        artifact: artifact.map(|artifact| artifacts(artifact, found)).unwrap_or_default(),
        port,
        port_env: port_env.map_or_else(|| "PORT".to_owned(), |name| name.value.clone()),
        restart: restart(base, own, found),
    };
    check_placeholders(&spec, command.at, around, found);
    Some(spec)
}

pub(super) fn script(
    base: &RawScript,
    own: Option<&RawService>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<ScriptSpec> {
    refuse_keys_of_others(own, "script", found);
    let program = own.and_then(|own| own.program.as_ref()).or(base.program.as_ref());
    let Some(program) = program.filter(|program| !program.value.trim().is_empty()) else {
        let at = program.map_or(around.at, |program| program.at);
        found.refuse_at(
            at,
            format!("service `{}` has no `program`", around.name),
            "name the program, such as `target: { script: { program: ./deploy.sh } }`",
        );
        return None;
    };
    let args = own.and_then(|own| own.args.as_ref()).map(|args| &args.value).or(base.args.as_ref());
    let timeout = own.and_then(|own| own.timeout.as_ref()).or(base.timeout.as_ref());
    Some(ScriptSpec {
        program: program.value.clone(),
        args: args.cloned().unwrap_or_default(),
        timeout_ms: found.positive("timeout", timeout, 600_000),
    })
}

/// Refuses keys of a service that mean nothing to target `ours`.
pub(super) fn refuse_keys_of_others(own: Option<&RawService>, ours: &str, found: &mut Findings) {
    fn at<T>(written: Option<&At<T>>) -> Option<Position> {
        written.map(|written| written.at)
    }
    let Some(own) = own else { return };
    // Every job has a limit of its own.
    let timeout = at(own.timeout.as_ref()).filter(|_| own.job.is_none());
    let keys: [(&str, Option<Position>, &[&str]); 13] = [
        ("command", at(own.command.as_ref()), &["process"]),
        ("workdir", at(own.workdir.as_ref()), &["process"]),
        ("port_env", at(own.port_env.as_ref()), &["process"]),
        ("restart", at(own.restart.as_ref()), &["process"]),
        ("env", at(own.env.as_ref()), &["process", "compose"]),
        ("artifact", at(own.artifact.as_ref()), &["process", "systemd"]),
        ("port", at(own.port.as_ref()), &["process", "compose", "systemd"]),
        ("program", at(own.program.as_ref()), &["script"]),
        ("args", at(own.args.as_ref()), &["script"]),
        ("unit", at(own.unit.as_ref()), &["systemd"]),
        ("current", at(own.current.as_ref()), &["systemd", "git"]),
        ("repository", at(own.repository.as_ref()), &["git"]),
        ("timeout", timeout, &["script", "compose", "systemd", "git"]),
    ];
    for (key, at, theirs) in keys {
        let Some(at) = at.filter(|_| !theirs.contains(&ours)) else { continue };
        let theirs: Vec<String> = theirs.iter().map(|name| format!("`{name}`")).collect();
        found.refuse_at(
            at,
            format!(
                "`{key}` belongs to target {}, and the target here is `{ours}`",
                theirs.join(" or ")
            ),
            format!("remove `{key}`, or change `target`"),
        );
    }
}

pub(super) fn check_argv(command: &At<Vec<String>>, key: &str, found: &mut Findings) {
    if command.value.first().is_none_or(|program| program.trim().is_empty()) {
        found.refuse_at(
            command.at,
            format!("`{key}` names no program"),
            "write it as `[program, argument]`",
        );
    } else if command.value.iter().any(|text| text.contains('\0')) {
        found.refuse(Problem::at(command.at, format!("`{key}` holds a zero byte")));
    }
}

fn check_env_key(key: &At<String>, found: &mut Findings) {
    let name = &key.value;
    if name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
        found.refuse_at(
            key.at,
            format!("`{name}` is not the name of a variable"),
            "write names such as LOG_LEVEL",
        );
    } else if name.starts_with("BACKOUT_") {
        found.refuse_at(
            key.at,
            format!("`{name}` is set by Backout itself"),
            "choose a name without BACKOUT_",
        );
    }
}

pub(super) fn environment(
    base: Option<&Entries<EnvText>>,
    own: Option<&Entries<EnvText>>,
    around: &Around<'_>,
    found: &mut Findings,
) -> BTreeMap<String, EnvValue> {
    let mut env = BTreeMap::new();
    for (key, value) in base.into_iter().chain(own).flat_map(|entries| &entries.0) {
        check_env_key(key, found);
        let value = match value {
            _ if around.secrets.contains(&key.value) => EnvValue::Secret,
            Some(EnvText(text)) if text.contains('\0') => {
                found.refuse(Problem::at(
                    key.at,
                    format!("the value of `{}` holds a zero byte", key.value),
                ));
                continue;
            }
            Some(EnvText(text)) => EnvValue::Plain(text.clone()),
            None => {
                found.refuse_at(
                    key.at,
                    format!("`{}` has no value", key.value),
                    "write a value, `\"\"` for an empty one, or add the key to `secrets` to take the caller's",
                );
                continue;
            }
        };
        env.insert(key.value.clone(), value);
    }
    env
}

pub(super) fn port(
    written: Option<&At<RawPort>>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<PortSpec> {
    match written {
        None => (around.builtin_router && around.traffic).then_some(PortSpec::Auto),
        Some(At { value: RawPort::Fixed(port), .. }) => Some(PortSpec::Fixed(*port)),
        Some(At { at, value: RawPort::Auto }) => {
            if !around.builtin_router {
                found.refuse_at(
                    *at,
                    "`port: auto` needs the built-in router, or nobody would find the program",
                    "write a number, or add `router: { builtin: { listen: \"0.0.0.0:80\" } }`",
                );
            }
            Some(PortSpec::Auto)
        }
    }
}

pub(super) fn artifacts(written: &At<OneOrMany>, found: &mut Findings) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for path in &written.value.0 {
        let trimmed = path.trim_start_matches("./").trim_end_matches('/');
        let path = if trimmed.is_empty() && !path.is_empty() { "." } else { trimmed };
        if !found.relative_path(written.at, "artifact", path) {
            continue;
        }
        if let Some(word) = braced_words(path).find(|word| *word != "version") {
            let message = format!("`{{{word}}}` is not filled in in `artifact`");
            found.refuse_at(
                written.at,
                message,
                "only `{version}` is known before a release exists",
            );
        } else if !paths.iter().any(|other| other == path) {
            paths.push(path.to_owned());
        }
    }
    if paths.len() > 1 && paths.iter().any(|path| path == ".") {
        found.refuse_at(
            written.at,
            "`.` already holds the other artifacts",
            "write `artifact: .`, or only the others",
        );
    }
    paths
}

fn restart(base: &RawProcess, own: Option<&RawService>, found: &mut Findings) -> RestartPolicy {
    let default = RestartPolicy::default();
    let own = own.and_then(|own| own.restart.as_ref()).map(|at| &at.value);
    let base = base.restart.as_ref();
    let max = own.and_then(|own| own.max).or(base.and_then(|base| base.max));
    let within =
        own.and_then(|own| own.within.as_ref()).or(base.and_then(|base| base.within.as_ref()));
    RestartPolicy {
        max: max.unwrap_or(default.max),
        within_ms: found.positive("within", within, default.within_ms),
    }
}

/// Refuses what would be filled in with nothing, and what looks like a slip.
fn check_placeholders(spec: &ProcessSpec, at: Position, around: &Around<'_>, found: &mut Findings) {
    let values = spec.env.values().filter_map(|value| match value {
        EnvValue::Plain(text) => Some(text),
        EnvValue::Secret => None,
    });
    let words: Vec<&str> =
        spec.command.iter().chain(values).flat_map(|text| braced_words(text)).collect();
    let lacks = [
        ("port", spec.port.is_none(), "`port`"),
        ("artifact", spec.artifact.is_empty(), "`artifact`"),
        ("config", !around.has_config, "`config`"),
    ];
    for (word, _, key) in lacks.iter().filter(|(word, lacking, _)| *lacking && words.contains(word))
    {
        found.refuse_at(
            at,
            format!("service `{}` uses `{{{word}}}`, but has no {key}", around.name),
            format!("add {key}"),
        );
    }
    for word in words.iter().filter(|word| !PLACEHOLDERS.contains(word)) {
        // Braces are common in arguments; only what is nearly one of ours is worth a word.
        if let Some(near) = nearest(word, PLACEHOLDERS.iter().copied()) {
            found.warnings.push(format!(
                "service `{}`: `{{{word}}}` is passed on as it is; `{{{near}}}` would be filled in",
                around.name
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_found() {
        assert_eq!(
            braced_words("--a={port} {\"x\":1} {slot}{").collect::<Vec<_>>(),
            ["port", "slot"]
        );
    }
}
