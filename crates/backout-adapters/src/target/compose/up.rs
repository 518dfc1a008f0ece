//! Handing a definition to compose, and understanding what it says.

use std::time::Duration;

use backout_core::ports::AdapterError;

use super::ComposeTargetOptions;
use super::model::Model;
use super::place::Place;
use crate::docker::{Call, is_no_engine, said};
use crate::host::{Ended, Finished};

/// What compose is told to do with a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Make networks and containers.
    Create,
    /// And start them.
    Start,
    /// So many of the one service, those that are there counted whatever they run, and none made anew.
    Beside { total: usize },
}

/// Makes what the definition says of `project`. Containers that are as it says stay as they are.
pub(super) async fn up(
    options: &ComposeTargetOptions,
    place: &Place,
    project: &str,
    model: &Model,
    how: How,
    timeout: Duration,
) -> Result<(), AdapterError> {
    let mut args = vec!["compose", "--project-name", project, "--project-directory"];
    let folder = options.folder.display().to_string();
    args.extend([folder.as_str(), "--file", "-", "up", "--quiet-pull", "--no-build"]);
    args.push(if how == How::Create { "--no-start" } else { "--detach" });
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    if let (How::Beside { total }, [name]) = (how, model.names().as_slice()) {
        let scale = format!("{name}={total}");
        args.extend(["--no-recreate", "--no-deps", "--scale", scale.as_str()].map(str::to_owned));
    }
    let mut call = Call::new(args);
    // Services of the app that this definition leaves out are no orphans.
    call.env = vec![("COMPOSE_IGNORE_ORPHANS".into(), "true".into())];
    call.stdin = Some(model.bytes());
    call.timeout = timeout;
    let words = call.words();
    let leftover = place.leftover();
    let announced = leftover.announce(&words).map_err(|e| {
        AdapterError::transient(format!("failed to write down that `{words}` starts: {e}"))
    })?;
    call.env.push(announced.variable());
    let finished = options.docker.run_noting(call, |pid| announced.note(pid)).await?;
    leftover.forget();
    let nobody = match holder_of_name(&said(&finished)) {
        Some(id) => is_gone(options, id).await,
        None => false,
    };
    understand(project, &finished, nobody)
}

/// The container that the engine says has a name already.
fn holder_of_name(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("is already in use by container ")?;
    let id = rest.trim_start_matches(['\\', '"']);
    let end = id.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(id.len());
    (end > 0).then(|| &id[..end])
}

async fn is_gone(options: &ComposeTargetOptions, id: &str) -> bool {
    let look = options.docker.run(Call::look(["container", "inspect", id])).await;
    look.is_ok_and(|look| said(&look).contains("No such container"))
}

/// What an end of compose means; `nobody`: the container that has a name already is not there.
fn understand(project: &str, finished: &Finished, nobody: bool) -> Result<(), AdapterError> {
    let words = last_words(finished);
    match finished.ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(_) if is_no_engine(&words) => Err(AdapterError::unknown(format!(
            "failed to start project {project}: the Docker daemon went away: {words}"
        ))),
        // What the engine could not do just now it may be able to do the next time: some of it may have happened.
        Ended::Exited(_) => {
            let error = format!("failed to start project {project}: {words}");
            Err(match hint(&words, nobody) {
                Some(hint) => AdapterError::permanent(error).with_hint(hint),
                None => AdapterError::unknown(error),
            })
        }
        Ended::Signalled(signal) => Err(AdapterError::unknown(format!(
            "failed to learn how the start of project {project} went: signal {signal} ended `docker compose`"
        ))),
        Ended::TimedOut => Err(AdapterError::unknown(format!(
            "failed to learn how the start of project {project} went: `docker compose` was ended after {} s: {words}",
            finished.took.as_secs()
        ))),
    }
}

fn hint(words: &str, nobody: bool) -> Option<&'static str> {
    let says = |what: &[&str]| what.iter().any(|what| words.contains(what));
    if says(&["port is already allocated", "address already in use"]) {
        return Some("another container or program has this port: stop it, or publish another");
    }
    if nobody || names_what_was_never_made(words) {
        return Some(
            "Docker keeps the name of a container that it failed to make: restart the Docker daemon, then run this again",
        );
    }
    if says(&["is already in use by container"]) {
        return Some(
            "another container has this name: take container_name away, or remove that container",
        );
    }
    if says(&["No such image", "no such image"]) {
        return Some("the image was removed meanwhile; `backout status` shows what is left");
    }
    if says(&["no space left on device", "read-only file system"]) {
        return Some("Docker can't write: look at its disk");
    }
    if says(&["OCI runtime create failed", "executable file not found", "invalid", "undefined"]) {
        return Some("correct the compose file, or the image");
    }
    None
}

/// Compose makes the container that takes the place of another under a name with that one's short id before it. Where
/// the engine failed in the middle of that, its disk being read-only or full, it keeps the name without a container.
fn names_what_was_never_made(words: &str) -> bool {
    let Some((_, rest)) = words.split_once("The container name \"/") else { return false };
    let Some((id, rest)) = rest.split_at_checked(12) else { return false };
    id.bytes().all(|b| b.is_ascii_hexdigit()) && rest.starts_with('_')
}

/// What went wrong, without the progress of what went well.
fn last_words(finished: &Finished) -> String {
    let all = said(finished);
    let progress = |line: &&str| {
        let line = line.trim();
        ["Container ", "Network ", "Volume "].iter().any(|what| line.starts_with(what))
            && !line.contains("rror")
    };
    let lines: Vec<&str> =
        all.lines().filter(|line| !progress(line) && !line.trim().is_empty()).collect();
    if lines.is_empty() { all } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use backout_core::ports::ErrorClass;

    use super::*;
    use crate::host::Captured;

    fn error(said: &str) -> AdapterError {
        let mut stderr = Captured::new(4096);
        stderr.push(said.as_bytes());
        let took = Duration::from_secs(1);
        let finished = Finished { ended: Ended::Exited(1), stdout: Captured::new(1), stderr, took };
        understand("shop", &finished, false).unwrap_err()
    }

    #[test]
    fn a_name_without_a_container_is_told_from_one_with() {
        let conflict = |name: &str| {
            format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"68e0\"."
            )
        };
        let hint = |name: &str, nobody| super::hint(&conflict(name), nobody).unwrap();
        assert!(hint("51074670e127_shop-web-1", false).contains("restart the Docker daemon"));
        assert!(hint("shop-web-1", false).contains("container_name"));
        assert!(hint("shop-web-4", true).contains("restart the Docker daemon"));
        assert_eq!(holder_of_name(&conflict("shop-web-4")), Some("68e0"));
        assert_eq!(holder_of_name("port is already allocated"), None);
    }

    #[test]
    fn what_another_try_may_mend_is_tried_again() {
        let progress = " Container shop-web-1  Creating\n Network shop_default  Created\n";
        for (said, class) in [
            ("Bind for 127.0.0.1:80 failed: port is already allocated", ErrorClass::Permanent),
            ("OCI runtime create failed: exec: \"x\": not found in $PATH", ErrorClass::Permanent),
            ("driver failed: iptables failed: No chain by that name.", ErrorClass::Unknown),
            ("Cannot connect to the Docker daemon at unix:///x.", ErrorClass::Unknown),
        ] {
            let error = error(&format!("{progress}{said}"));
            assert_eq!(error.class, class, "{error}");
            assert!(error.message.contains(said) && !error.message.contains("Creating"), "{error}");
        }
    }
}
