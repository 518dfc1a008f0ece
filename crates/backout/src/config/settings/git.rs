//! A working tree of git.

use backout_core::model::{GitMove, GitPush, GitSpec};

use super::Findings;
use super::target::{Around, braced_words, check_argv, refuse_keys_of_others};
use crate::config::errors::nearest;
use crate::config::raw::{At, RawGit, RawGitMove, RawService};

/// Those that git itself knows; helpers such as `ext` run commands.
const PROTOCOLS: [&str; 5] = ["https", "ssh", "http", "git", "file"];

pub(super) fn git(
    base: &RawGit,
    own: Option<&RawService>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<GitSpec> {
    refuse_keys_of_others(own, "git", found);
    let repository = own.and_then(|own| own.repository.as_ref()).or(base.repository.as_ref());
    let timeout = own.and_then(|own| own.timeout.as_ref()).or(base.timeout.as_ref());
    if let Some(command) = &base.post_checkout {
        check_argv(command, "post_checkout", found);
    }
    Some(GitSpec {
        repository: repository.map_or_else(|| ".".to_owned(), |path| path.value.clone()),
        revision: revision(base.revision.as_ref(), found),
        by: match base.by {
            Some(RawGitMove::Reset) => GitMove::Reset,
            Some(RawGitMove::Checkout) | None => GitMove::Checkout,
        },
        submodules: base.submodules.unwrap_or(false),
        remote: name(base.remote.as_ref(), "remote", found),
        protocols: protocols(base.protocols.as_deref(), found),
        push: push(base, around, found),
        last_stable: name(base.last_stable.as_ref(), "tag", found)
            .unwrap_or_else(|| "last-stable".to_owned()),
        post_checkout: base.post_checkout.as_ref().map(|v| v.value.clone()).unwrap_or_default(),
        timeout_ms: found.positive("timeout", timeout, 300_000),
        commit: String::new(),
    })
}

fn revision(written: Option<&At<String>>, found: &mut Findings) -> String {
    let Some(written) = written else { return "{version}".to_owned() };
    let unknown = braced_words(&written.value).find(|word| *word != "version").map(str::to_owned);
    if let Some(word) = unknown {
        found.refuse_at(
            written.at,
            format!("`{{{word}}}` is not filled in here"),
            "only {version} is, as in `revision: \"release/{version}\"`",
        );
    } else if !is_name(&written.value.replace("{version}", "v")) {
        found.refuse_at(written.at, format!("`{}` is no revision", written.value), NAME_HINT);
    }
    written.value.clone()
}

const NAME_HINT: &str = "write the name of a branch, tag or remote; none begins with `-` or holds spaces or any of ~^:?*[\\";

/// The rules of git-check-ref-format(1) that matter here: what a command line or a pattern could take for something else.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains("//")
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
}

fn name(written: Option<&At<String>>, what: &str, found: &mut Findings) -> Option<String> {
    let written = written?;
    if !is_name(&written.value) {
        let message = format!("`{}` is not the name of a {what}", written.value);
        found.refuse_at(written.at, message, NAME_HINT);
    }
    Some(written.value.clone())
}

fn protocols(written: Option<&[At<String>]>, found: &mut Findings) -> Vec<String> {
    let Some(written) = written else { return vec!["https".to_owned(), "ssh".to_owned()] };
    for protocol in written.iter().filter(|protocol| !PROTOCOLS.contains(&&*protocol.value)) {
        let hint = match nearest(&protocol.value, PROTOCOLS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write some of {}", PROTOCOLS.join(", ")),
        };
        found.refuse_at(
            protocol.at,
            format!("`{}` is not a protocol that may be allowed", protocol.value),
            hint,
        );
    }
    written.iter().map(|protocol| protocol.value.clone()).collect()
}

fn push(base: &RawGit, around: &Around<'_>, found: &mut Findings) -> Option<GitPush> {
    let written = base.push.as_ref()?;
    let remote = name(written.remote.as_ref(), "remote", found);
    let Some(branch) = name(written.branch.as_ref(), "branch", found) else {
        found.refuse_at(
            around.at,
            "`push` names no `branch`",
            "write it such as `push: { remote: origin, branch: production }`",
        );
        return None;
    };
    Some(GitPush { remote: remote.unwrap_or_else(|| "origin".to_owned()), branch })
}
