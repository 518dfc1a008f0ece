//! A working tree of git.

use backout_core::model::{GitLink, GitMove, GitPush, GitSpec};

use super::Findings;
use super::systemd::{beside, place};
use super::target::{Around, braced_words, check_argv, refuse_keys_of_others};
use crate::config::errors::nearest;
use crate::config::node::Position;
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
        link: link(base, own, around, found),
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

/// Where releases stand, if each has a worktree of its own.
fn link(
    base: &RawGit,
    own: Option<&RawService>,
    around: &Around<'_>,
    found: &mut Findings,
) -> Option<GitLink> {
    let Some(written) = own.and_then(|own| own.current.as_ref()).or(base.current.as_ref()) else {
        if let Some(releases) = &base.releases {
            let hint = "name the link to the live one too, such as `current: current`, or remove `releases`";
            found.refuse_at(
                releases.at,
                "releases take turns in the working tree: there is no `current`",
                hint,
            );
        }
        return None;
    };
    if let Some(word) = braced_words(&written.value).find(|word| *word != "service") {
        found.refuse_at(
            written.at,
            format!("`{{{word}}}` is not filled in in `current` of service `{}`", around.name),
            "only {service} is; an environment has a `target` of its own under `environments`",
        );
    }
    if base.by.is_some() {
        let hint = "remove `by`: each release stays where it is, and no branch moves";
        found.refuse_at(
            written.at,
            "`by` says how the working tree moves, and with `current` it does not",
            hint,
        );
    }
    let current = place(written, "link", found).replace("{service}", around.name);
    let releases = match &base.releases {
        Some(written) => place(written, "folder of releases", found),
        None => beside(&current, "releases"),
    };
    Some(GitLink { current, releases })
}

/// Two services can't have one link.
pub(super) fn refuse_shared<'a>(
    specs: impl Iterator<Item = (Position, &'a str, &'a GitSpec)>,
    found: &mut Findings,
) {
    let mut seen: Vec<(&str, &GitLink)> = Vec::new();
    for (at, name, spec) in specs {
        let Some(link) = &spec.link else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, other)| other.current == link.current) {
            found.refuse_at(
                at,
                format!("services `{other}` and `{name}` share `{}`", link.current),
                "give each a `current` of its own; `{service}` stands for its name",
            );
        }
        seen.push((name, link));
    }
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

#[cfg(test)]
mod tests {
    use backout_core::model::TargetSpec;

    use super::*;
    use crate::config::load;

    fn specs(text: &str) -> Result<Vec<GitSpec>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backout.yaml");
        let health = "health: { exec: { command: [\"true\"] } }";
        std::fs::write(&file, format!("app: shop\n{health}\n{text}\n")).unwrap();
        let loaded = load(&file, None, &|_| None).map_err(|error| error.to_string())?;
        let spec = |target: &TargetSpec| match target {
            TargetSpec::Git(spec) => spec.clone(),
            other => panic!("{other:?}"),
        };
        Ok(loaded.settings.services.values().map(|service| spec(&service.target)).collect())
    }

    #[test]
    fn releases_stand_beside_their_link() {
        let link = |text: &str| specs(text).unwrap().remove(0).link;
        assert_eq!(link("target: { git: { repository: site } }"), None);
        let made = link("target: { git: { current: ./served/current } }").unwrap();
        assert_eq!((&*made.current, &*made.releases), ("served/current", "served/releases"));
        let made = link("target: { git: { current: now, releases: /srv/shop } }").unwrap();
        assert_eq!((&*made.current, &*made.releases), ("now", "/srv/shop"));
    }

    #[test]
    fn each_service_has_a_link_of_its_own() {
        let all = "services: { web: {}, docs: { current: docs } }";
        let specs =
            specs(&format!("target: {{ git: {{ current: \"{{service}}\" }} }}\n{all}")).unwrap();
        let links: Vec<_> =
            specs.iter().map(|spec| &*spec.link.as_ref().unwrap().current).collect();
        assert_eq!(links, ["docs", "web"]);
    }

    #[test]
    fn what_can_not_be_behind_a_link_is_refused_with_a_way_out() {
        let target = |words: &str| format!("target: {{ git: {{ {words} }} }}");
        for (text, words) in [
            (target("releases: there"), "there is no `current`"),
            (target("current: now, by: reset"), "it does not"),
            (target("current: ../now"), "holds `..`"),
            (target("current: \"now-{version}\""), "not filled in in `current`"),
            (target("current: now") + "\nservices: { a: {}, b: {} }", "share `now`"),
            (target("current: now") + "\nhosts: [web1]", "on this machine only"),
        ] {
            let error = specs(&text).unwrap_err();
            assert!(error.contains(words), "{text}\n{error}");
        }
    }
}
