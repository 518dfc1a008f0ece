//! What the manager knows of a unit.

use std::collections::HashMap;

use backout_core::ids::hex;
use backout_core::ports::Exit;
use jiff::Timestamp;
use zbus::{OwnedVariant, Variant};

/// By name, as the manager hands them over.
pub(super) type Properties = HashMap<String, OwnedVariant>;

/// A unit as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// Its name.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// What is wrong with its files, if anything.
    pub load_error: String,
    /// `active`, `activating`, `deactivating`, `reloading`, `inactive`, `failed`.
    pub active: String,
    /// Such as `running`, `auto-restart`, `start-pre`.
    pub sub: String,
    /// `success`, or why it failed: `exit-code`, `timeout`, `start-limit-hit` …
    pub result: String,
    /// `Type=`.
    pub kind: String,
    /// The main process; 0: there is none.
    pub pid: u32,
    /// Restarts by the manager.
    pub restarts: u32,
    /// Starts that it makes within a while, and no more; 0: any number.
    pub burst: u32,
    /// How the main process ended last.
    pub exit: Option<Exit>,
    /// One for each start.
    pub invocation: String,
    /// Its files are newer than what the manager has read.
    pub must_reload: bool,
    /// The job that is under way; 0: there is none.
    pub job: u32,
    /// Its file, and the drop-ins over it.
    pub files: Vec<String>,
    /// Files of variables that it reads.
    pub environment_files: Vec<String>,
    /// `enabled`, `disabled`, `static` …
    pub file_state: String,
    /// Paths and arguments that it runs, filled in.
    pub uses: Vec<String>,
}

impl UnitState {
    pub(super) fn read(name: &str, known: &Properties) -> Self {
        let word = |key: &str| known.get(key).and_then(text).unwrap_or_default();
        let count = |key: &str| known.get(key).and_then(number).unwrap_or_default();
        let small = |key: &str| u32::try_from(count(key)).unwrap_or_default();
        let mut files = vec![word("FragmentPath")];
        files.extend(known.get("DropInPaths").map(texts).unwrap_or_default());
        files.retain(|path| !path.is_empty());
        Self {
            name: name.to_owned(),
            load: word("LoadState"),
            load_error: known.get("LoadError").map(second_text).unwrap_or_default(),
            active: word("ActiveState"),
            sub: word("SubState"),
            result: word("Result"),
            kind: word("Type"),
            pid: small("MainPID"),
            restarts: small("NRestarts"),
            burst: small("StartLimitBurst"),
            exit: exit(
                count("ExecMainCode"),
                count("ExecMainStatus"),
                count("ExecMainExitTimestamp"),
            ),
            invocation: known.get("InvocationID").map(bytes).unwrap_or_default(),
            must_reload: known.get("NeedDaemonReload").is_some_and(is_true),
            job: known.get("Job").map(first_number).unwrap_or_default(),
            files,
            environment_files: known.get("EnvironmentFiles").map(texts).unwrap_or_default(),
            file_state: word("UnitFileState"),
            uses: uses(known),
        }
    }

    /// There is a definition that can be run.
    pub(crate) fn is_loaded(&self) -> bool {
        self.load == "loaded"
    }

    /// It was started, and the manager takes it for running.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// It is between two starts of the manager's own.
    pub(crate) fn is_awaiting_restart(&self) -> bool {
        self.active == "activating" && self.sub.starts_with("auto-restart")
    }

    /// The program has begun, and has not said yet that it is ready.
    pub(crate) fn is_beginning(&self) -> bool {
        self.active == "activating" && !self.is_awaiting_restart()
    }

    /// Its program tells the manager when it is ready.
    pub(crate) fn tells_readiness(&self) -> bool {
        self.kind.starts_with("notify") || self.kind == "dbus"
    }

    /// Nothing runs, and the manager leaves it at that.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// Somebody has asked the manager to end it, and it ends.
    pub(crate) fn is_being_stopped(&self) -> bool {
        self.active == "deactivating" && self.job != 0
    }

    /// The manager has given up, because it was started too often. Its own word for that stands only where nothing else
    /// was wrong before.
    pub(crate) fn hit_start_limit(&self) -> bool {
        let often = self.burst > 0 && self.restarts > 0 && self.restarts + 1 >= self.burst;
        self.active == "failed" && (self.result == "start-limit-hit" || often)
    }

    /// How it is, for people.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} is {}", self.name, self.active);
        if !self.sub.is_empty() && self.sub != self.active {
            words.push_str(&format!(" ({})", self.sub));
        }
        match self.result.as_str() {
            "" | "success" => {}
            "start-limit-hit" => {}
            "timeout" => words.push_str(": it did not become ready or did not end in time"),
            result => words.push_str(&format!(": {result}")),
        }
        if self.hit_start_limit() {
            words.push_str(
                ", and it was started too often (StartLimitBurst= within StartLimitIntervalSec=)",
            );
        }
        match self.exit {
            Some(Exit { code: Some(code), .. }) if code != 0 => {
                words.push_str(&format!(", exit code {code}{}", meaning(code)));
            }
            Some(Exit { signal: Some(signal), .. }) => {
                words.push_str(&format!(", ended by signal {signal}"));
            }
            _ => {}
        }
        words
    }
}

/// Programs with their arguments, and the folders that they run in.
fn uses(known: &Properties) -> Vec<String> {
    let folders = ["WorkingDirectory", "RootDirectory"];
    let mut all: Vec<String> = folders.iter().filter_map(|key| text(known.get(*key)?)).collect();
    for key in ["ExecStart", "ExecStartPre"] {
        let Some(Variant::Array(commands)) = known.get(key).map(|value| &**value) else { continue };
        for command in commands.iter() {
            let Variant::Structure(parts) = command else { continue };
            all.extend(parts.fields().first().and_then(text_of));
            if let Some(Variant::Array(words)) = parts.fields().get(1) {
                all.extend(words.iter().filter_map(text_of));
            }
        }
    }
    all
}

/// What systemd itself says by an exit code of its own, where it is about the release.
fn meaning(code: i32) -> &'static str {
    match code {
        200 => " (its working folder is not there)",
        203 => " (its program is not there or can't be executed)",
        217 => " (its user is not there)",
        _ => "",
    }
}

/// `CLD_EXITED`; `CLD_KILLED` and `CLD_DUMPED` are the next two.
const EXITED: i64 = 1;

fn exit(code: i64, status: i64, at_us: i64) -> Option<Exit> {
    let at = Timestamp::from_microsecond(at_us).ok().filter(|_| at_us > 0)?;
    let status = i32::try_from(status).ok()?;
    Some(match code {
        EXITED => Exit { code: Some(status), signal: None, at },
        _ => Exit { code: None, signal: Some(status), at },
    })
}

pub(super) fn text(value: &OwnedVariant) -> Option<String> {
    text_of(value)
}

fn text_of(value: &Variant<'_>) -> Option<String> {
    match value {
        Variant::Str(text) => Some(text.to_string()),
        Variant::ObjectPath(path) => Some(path.to_string()),
        Variant::Variant(inner) => text_of(inner),
        _ => None,
    }
}

fn number(value: &OwnedVariant) -> Option<i64> {
    number_of(value)
}

fn number_of(value: &Variant<'_>) -> Option<i64> {
    match value {
        Variant::U8(n) => Some(i64::from(*n)),
        Variant::I32(n) => Some(i64::from(*n)),
        Variant::U32(n) => Some(i64::from(*n)),
        Variant::I64(n) => Some(*n),
        Variant::U64(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}

fn is_true(value: &OwnedVariant) -> bool {
    matches!(&**value, Variant::Bool(true))
}

/// A list of texts, or of structures that begin with one.
fn texts(value: &OwnedVariant) -> Vec<String> {
    let Variant::Array(array) = &**value else { return Vec::new() };
    let one = |value: &Variant<'_>| match value {
        Variant::Structure(parts) => parts.fields().first().and_then(text_of),
        other => text_of(other),
    };
    array.iter().filter_map(one).collect()
}

fn bytes(value: &OwnedVariant) -> String {
    let Variant::Array(array) = &**value else { return String::new() };
    let bytes: Vec<u8> = array
        .iter()
        .filter_map(|value| if let Variant::U8(byte) = value { Some(*byte) } else { None })
        .collect();
    hex(&bytes)
}

fn second_text(value: &OwnedVariant) -> String {
    let Variant::Structure(parts) = &**value else { return String::new() };
    parts.fields().get(1).and_then(text_of).unwrap_or_default()
}

fn first_number(value: &OwnedVariant) -> u32 {
    let Variant::Structure(parts) = &**value else { return 0 };
    let number = parts.fields().first().and_then(number_of).unwrap_or_default();
    u32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(pairs: Vec<(&str, Variant<'static>)>) -> Properties {
        let owned = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        pairs.into_iter().map(|(key, value)| (key.to_owned(), owned(value))).collect()
    }

    #[test]
    fn what_the_manager_says_is_read() {
        let state = UnitState::read(
            "shop.service",
            &known(vec![
                ("ActiveState", Variant::from("failed")),
                ("SubState", Variant::from("failed")),
                ("Result", Variant::from("start-limit-hit")),
                ("FragmentPath", Variant::from("/etc/systemd/system/shop.service")),
                ("DropInPaths", Variant::from(vec!["/etc/x.conf".to_owned()])),
                ("NRestarts", Variant::from(5_u32)),
                ("ExecMainCode", Variant::from(1_i32)),
                ("ExecMainStatus", Variant::from(203_i32)),
                ("ExecMainExitTimestamp", Variant::from(1_000_000_u64)),
                ("InvocationID", Variant::from(vec![0xab_u8, 1])),
                ("NeedDaemonReload", Variant::from(true)),
            ]),
        );
        assert_eq!(state.files, ["/etc/systemd/system/shop.service", "/etc/x.conf"]);
        assert_eq!((state.restarts, state.invocation.as_str()), (5, "ab01"));
        assert_eq!(state.exit.and_then(|exit| exit.code), Some(203));
        assert!(state.must_reload && state.is_down() && !state.is_up());
        let words = state.words();
        assert!(
            words.contains("StartLimitBurst") && words.contains("can't be executed"),
            "{words}"
        );
    }

    #[test]
    fn a_unit_between_two_starts_is_neither_up_nor_down() {
        let state = UnitState {
            active: "activating".into(),
            sub: "auto-restart".into(),
            ..UnitState::default()
        };
        assert!(state.is_awaiting_restart() && !state.is_beginning());
        assert!(!state.is_up() && !state.is_down());
        assert_eq!(exit(2, 9, 5).and_then(|exit| exit.signal), Some(9));
        assert_eq!(exit(1, 0, 0), None);
    }
}
