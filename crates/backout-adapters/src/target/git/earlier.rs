//! What was checked out before the ledger knew of anything.

use backout_core::ids::{Unit, Version};
use backout_core::model::{Artifact, GitSpec, Service, TargetSpec};
use backout_core::ports::{AdapterError, Earlier};

use super::GitTarget;
use super::marker::LastStable;
use super::note::Note;
use crate::artifact::GIT_SCHEME;
use crate::git::Git;
use crate::host::printable;

/// So far back history is searched for a commit that was not rolled back from.
const ANCESTORS_MAX: &str = "--max-count=100";
const SUBJECT_CHARS: usize = 60;

/// A commit that was good before, and how that is known.
struct Candidate {
    commit: String,
    how: String,
}

/// What our own note says was there before the first deployment; else what the marker names; else the first parent.
pub(super) async fn earlier(
    target: &GitTarget,
    unit: &Unit,
    service: &Service,
    besides: &[String],
) -> Result<Option<Earlier>, AdapterError> {
    let TargetSpec::Git(live) = &service.target else { return Ok(None) };
    let git = target.git(unit, live)?;
    let home = target.home(&git, unit, live).await?;
    let note = home.read(&git).await?.filter(|note| note.key == unit.key);
    let Some(head) = target.live_git(unit, live)?.head().await? else { return Ok(None) };
    let is_other = |commit: &String| {
        *commit != head && !besides.iter().any(|it| it.strip_prefix(GIT_SCHEME) == Some(commit))
    };
    let Some(found) = candidate(&git, (unit, live), note, &is_other).await? else {
        return Ok(None);
    };
    let commit = found.commit;
    let mut service = service.clone();
    let label = label(&git, live, &commit).await?;
    let version = Version::new(&label).or_else(|_| Version::new(&commit));
    let version = version.map_err(|error| AdapterError::permanent(error.to_string()))?;
    if let TargetSpec::Git(spec) = &mut service.target {
        spec.commit.clone_from(&commit);
        spec.revision.clone_from(&commit);
    }
    whole(&git, &commit).await?;
    let artifacts = vec![Artifact {
        service: unit.service.clone(),
        path: live.repository.clone(),
        digest: format!("{GIT_SCHEME}{commit}"),
        kept: true,
    }];
    let short = commit.get(..12).unwrap_or(&commit);
    let found = format!("commit {short}{}, {}", subject(&git, &commit).await?, found.how);
    Ok(Some(Earlier { version, service, artifacts, found }))
}

async fn candidate(
    git: &Git,
    (unit, live): (&Unit, &GitSpec),
    note: Option<Note>,
    is_other: &impl Fn(&String) -> bool,
) -> Result<Option<Candidate>, AdapterError> {
    if let Some(before) = note.and_then(|note| note.before)
        && let Some(commit) = git.commit(&before).await?.filter(is_other)
    {
        let how = "which was checked out before the first deployment".to_owned();
        return Ok(Some(Candidate { commit, how }));
    }
    let marker = LastStable::of(git, live, &unit.key).await?;
    if let Some(commit) = git.commit(&marker.reference()).await?.filter(is_other) {
        let how = format!("which the tag {} names", marker.tag);
        return Ok(Some(Candidate { commit, how }));
    }
    let all = git.look(&["rev-list", "--first-parent", ANCESTORS_MAX, "HEAD"]).await?;
    let mut parents = all.lines().skip(1).map(str::to_owned).enumerate();
    Ok(parents.find(|(_, commit)| is_other(commit)).map(|(between, commit)| {
        let how = match between {
            0 => "the first parent of what is checked out".to_owned(),
            _ => format!(
                "{} commits before what is checked out: those in between were rolled back from",
                between + 1
            ),
        };
        Candidate { commit, how }
    }))
}

/// The commit's own files are all there.
async fn whole(git: &Git, commit: &str) -> Result<(), AdapterError> {
    let args = ["rev-list", "--objects", "--no-walk", "--quiet", commit];
    git.look(&args).await.map(drop).map_err(|error| {
        AdapterError::permanent(format!("files of commit {commit} are missing: {}", error.message))
            .with_hint("`git fsck` lists them; fetch the commit from where it was pushed")
    })
}

/// The nearest tag, our own markers aside, else the short id.
pub(super) async fn label(git: &Git, spec: &GitSpec, commit: &str) -> Result<String, AdapterError> {
    let (ours, others) =
        (format!("--exclude={}", spec.last_stable), format!("--exclude={}-*", spec.last_stable));
    let text = git.look(&["describe", "--tags", "--always", &ours, &others, commit]).await?;
    Ok(text.trim().to_owned())
}

/// ` ("the first line")`, or nothing.
async fn subject(git: &Git, commit: &str) -> Result<String, AdapterError> {
    // `git log` may run what the repository's settings name to check a signature.
    let text = git.look(&["cat-file", "commit", commit]).await?;
    let line = text.split_once("\n\n").and_then(|(_, message)| message.lines().next());
    let line: String = printable(line.unwrap_or_default().as_bytes())
        .chars()
        .filter(|c| !c.is_control())
        .take(SUBJECT_CHARS)
        .collect();
    Ok(if line.is_empty() { line } else { format!(" (\"{line}\")") })
}
