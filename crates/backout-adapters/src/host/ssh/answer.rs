//! What the helper's answers mean.

use std::time::Duration;

use backout_core::ids::HostName;
use backout_core::ports::{
    AdapterError, GuardState, HostCommand, HostEnded, HostGuard, HostOutput, HostWords,
};
use jiff::Timestamp;

use super::channel::Answer;
use crate::host::{Captured, printable};

/// What a host says to somebody whose lease is over.
const NEWER_LEASE: &str = "somebody with a newer lease";

/// Whether a host has refused a change since it knows a newer lease.
pub(crate) fn is_fenced(error: &AdapterError) -> bool {
    error.message.contains(NEWER_LEASE)
}

/// The code with which the helper refuses.
const REFUSED: i32 = 94;
/// `timeout` ended it.
const TIME_OVER: i32 = 124;
/// It had to be killed.
const KILLED: i32 = 128 + 9;

/// What a request may have done when its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only asks.
    None,
    /// It may have done what it should.
    Maybe,
}

impl Effect {
    pub(super) fn lost(self, host: &HostName, why: &str) -> AdapterError {
        match self {
            Effect::None => AdapterError::transient(format!("failed to hear from {host}: {why}")),
            Effect::Maybe => {
                AdapterError::unknown(format!("failed to learn how it went on {host}: {why}"))
            }
        }
    }
}

/// What the helper would not do. Nothing happened then.
pub(super) fn refusal(host: &HostName, answer: &Answer) -> Option<AdapterError> {
    if answer.code != REFUSED {
        return None;
    }
    let (word, detail) = answer.line.strip_prefix("refused ")?.split_once(' ')?;
    let detail = printable(detail.as_bytes());
    let permanent = |why: String| AdapterError::permanent(format!("failed on {host}: {why}"));
    let transient = |why: String| AdapterError::transient(format!("failed on {host}: {why}"));
    Some(match word {
        "missing" => permanent(format!("there is no program `{detail}`"))
            .with_hint("paths are relative to `ssh.folder` there, names are looked up on the PATH of the login"),
        "not_executable" => permanent(format!("`{detail}` is not executable"))
            .with_hint(format!("run `chmod +x {detail}` there")),
        "folder" => permanent(format!("the folder `{detail}` can't be used"))
            .with_hint("it is relative to `ssh.folder`, else to the home folder of the login"),
        "directory" => permanent(format!("`{detail}` is not a file")),
        "unreadable" => permanent(format!("`{detail}` may not be read by the login")),
        "long" => permanent(format!("the file is longer than it may be: {detail} bytes")),
        "epoch" => permanent(format!("{NEWER_LEASE} (epoch {detail}) works there")),
        "taken_back" => permanent(format!(
            "it took the change back by itself at {}", time(&detail)
        )),
        "busy" => transient(format!("another call of ours holds the lock of {detail}")),
        "stays" => transient(format!("an earlier call (process {detail}) does not end")),
        "reverting" => transient(format!(
            "it is taking deployment {detail} back by itself right now"
        )),
        "arm" => transient("the watcher that would take it back did not start".to_owned()),
        "short" => transient(format!("only {detail} bytes came through")),
        _ => permanent(format!("it refuses: {word} {detail}")),
    })
}

fn time(seconds: &str) -> String {
    let at = seconds.parse().ok().and_then(|s| Timestamp::from_second(s).ok());
    at.map_or_else(|| seconds.to_owned(), |at| at.to_string())
}

fn ended(code: i32) -> HostEnded {
    // A shell tells the end by a signal as 128 and its number.
    if (129..=192).contains(&code) {
        HostEnded::Signalled(code - 128)
    } else {
        HostEnded::Exited(code)
    }
}

/// A command that only looked.
pub(super) fn looked(answer: &Answer, limit: Duration) -> HostOutput {
    let over = answer.took >= limit && matches!(answer.code, TIME_OVER | KILLED);
    HostOutput {
        ended: if over { HostEnded::TimedOut } else { ended(answer.code) },
        stdout: answer.body.bytes(),
        stderr: answer.stderr.bytes(),
        cut: answer.body.is_cut(),
        took: answer.took,
    }
}

/// A command that changed something: how it ended, and both ends of both streams.
pub(super) fn output_of(
    host: &HostName,
    answer: &Answer,
    command: &HostCommand,
) -> Result<HostOutput, AdapterError> {
    let broken = || {
        let line = printable(answer.line.as_bytes());
        AdapterError::unknown(format!("failed to understand the answer of {host}: `{line}`"))
    };
    let mut words = answer.line.split(' ');
    let how = words.next().unwrap_or_default();
    let numbers: Vec<usize> = words.map_while(|word| word.parse().ok()).collect();
    let [code, out_sent, out, err_sent, err] = numbers[..] else { return Err(broken()) };
    let code = i32::try_from(code).map_err(|_| broken())?;
    let ended = match how {
        "exited" => ended(code),
        "lost" if code == TIME_OVER || answer.took >= command.timeout => HostEnded::TimedOut,
        "lost" => HostEnded::Signalled((code - 128).clamp(9, 64)),
        _ => return Err(broken()),
    };
    let body = answer.body.bytes();
    let split = out_sent.min(body.len());
    let stdout = captured(&body[..split], out, command.keep);
    let stderr = captured(&body[split..(split + err_sent).min(body.len())], err, command.keep);
    Ok(HostOutput {
        ended,
        stdout: stdout.bytes(),
        stderr: stderr.bytes(),
        cut: stdout.is_cut(),
        took: answer.took,
    })
}

fn captured(sent: &[u8], total: usize, keep: usize) -> Captured {
    let mut captured = Captured::new(keep);
    let head = sent.len().min(keep);
    captured.push(&sent[..head]);
    captured.skip(total.saturating_sub(sent.len()) as u64);
    captured.push(&sent[head..]);
    captured
}

/// A file, whole.
pub(super) fn file_of(
    host: &HostName,
    path: &str,
    answer: &Answer,
) -> Result<Option<Vec<u8>>, AdapterError> {
    if answer.line == "none" {
        return Ok(None);
    }
    let size = answer.line.strip_prefix("file ").and_then(|size| size.parse::<usize>().ok());
    let bytes = answer.body.bytes();
    if size != Some(bytes.len()) || answer.body.is_cut() {
        return Err(AdapterError::transient(format!(
            "failed to read `{path}` of {host}: it came over in part only"
        )));
    }
    Ok(Some(bytes))
}

/// The last words of a service's calls: three streams, one after the other.
pub(super) fn words_of(host: &HostName, answer: &Answer) -> Result<HostWords, AdapterError> {
    let sizes = answer.line.strip_prefix("words ").into_iter().flat_map(|line| line.split(' '));
    let sizes: Vec<usize> = sizes.map_while(|size| size.parse().ok()).collect();
    let [out, err, revert] = sizes[..] else {
        let line = printable(answer.line.as_bytes());
        return Err(AdapterError::transient(format!(
            "failed to understand the answer of {host}: `{line}`"
        )));
    };
    let body = answer.body.bytes();
    if body.len() != out.saturating_add(err).saturating_add(revert) || answer.body.is_cut() {
        return Err(AdapterError::transient(format!(
            "failed to read what was said on {host}: it came over in part only"
        )));
    }
    let (stdout, rest) = body.split_at(out);
    let (stderr, revert) = rest.split_at(err);
    let [stdout, stderr, revert] = [stdout, stderr, revert].map(<[u8]>::to_vec);
    Ok(HostWords { stdout, stderr, revert })
}

/// What is known of a guard.
pub(super) fn guard_of(
    host: &HostName,
    answer: &Answer,
) -> Result<Option<HostGuard>, AdapterError> {
    if answer.line == "unguarded" {
        return Ok(None);
    }
    let words: Vec<&str> = answer.line.split(' ').collect();
    let ["guard", deployment, state, at, watched] = words[..] else {
        let line = printable(answer.line.as_bytes());
        return Err(AdapterError::transient(format!(
            "failed to understand the answer of {host}: `{line}`"
        )));
    };
    let at = at.parse().ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
    let said = answer.body.last_text(2_000);
    let watched = watched == "watched";
    let state = match state {
        "confirmed" => GuardState::Confirmed,
        "reverted" => GuardState::Reverted(at),
        "failed" => GuardState::Failed(at, said),
        "reverting" if watched => GuardState::Reverting,
        "reverting" => GuardState::Failed(at, "it was ended on the way back".to_owned()),
        "armed" if watched => GuardState::Armed,
        _ => GuardState::Lost,
    };
    Ok(Some(HostGuard { deployment: deployment.parse().unwrap_or_default(), state }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str, body: &[u8], code: i32) -> Answer {
        let mut captured = Captured::new(1 << 16);
        captured.push(body);
        let (line, stderr) = (line.to_owned(), Captured::new(1));
        Answer { line, body: captured, stderr, code, took: Duration::from_secs(1) }
    }

    #[test]
    fn both_ends_of_long_streams_come_together() {
        let host = HostName::local();
        let mut command = HostCommand::look(["x"], Duration::from_secs(5));
        command.keep = 4;
        let output = output_of(&host, &answer("exited 3 8 100 2 2", b"abcdwxyzer", 0), &command);
        let output = output.unwrap();
        assert_eq!(output.ended, HostEnded::Exited(3));
        assert_eq!(output.stdout, b"abcd\n[\xe2\x80\xa6 92 bytes \xe2\x80\xa6]\nwxyz");
        assert_eq!((output.stderr.as_slice(), output.cut), (&b"er"[..], true));
        let of = |line| output_of(&host, &answer(line, b"", 0), &command);
        assert_eq!(of("exited 143 0 0 0 0").unwrap().ended, HostEnded::Signalled(15));
        assert_eq!(of("lost 124 0 0 0 0").unwrap().ended, HostEnded::TimedOut);
        assert_eq!(of("lost 137 0 0 0 0").unwrap().ended, HostEnded::Signalled(9));
        assert!(of("exited x").is_err() && of("").is_err());
    }

    #[test]
    fn last_words_are_told_apart() {
        let host = HostName::local();
        let of = |line, body: &[u8]| words_of(&host, &answer(line, body, 0));
        let words = of("words 3 2 4", b"onetwback").unwrap();
        assert_eq!((words.stdout.as_slice(), words.stderr.as_slice()), (&b"one"[..], &b"tw"[..]));
        assert_eq!(words.revert, b"back");
        assert_eq!(of("words 0 0 0", b"").unwrap(), HostWords::default());
        assert!(of("words 3 2 4", b"onetwbac").is_err() && of("words 1 2", b"abc").is_err());
    }

    #[test]
    fn refusals_are_told_by_their_code_and_word() {
        use backout_core::ports::ErrorClass::{Permanent, Transient};
        let host = HostName::local();
        for (line, class) in [
            ("refused missing ./deploy", Permanent),
            ("refused epoch 9", Permanent),
            ("refused reverting 3", Transient),
            ("refused busy shop/production", Transient),
        ] {
            assert_eq!(refusal(&host, &answer(line, b"", REFUSED)).unwrap().class, class, "{line}");
        }
        assert!(refusal(&host, &answer("run", b"", REFUSED)).is_none());
        assert!(refusal(&host, &answer("refused missing x", b"", 0)).is_none());
    }
}
