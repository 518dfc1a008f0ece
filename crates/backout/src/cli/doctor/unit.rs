//! The systemd unit that starts after a reboot what should run.

use std::path::{Path, PathBuf};

use backout_core::model::{RouterPolicy, TargetKind};
use clap::builder::styling::Style;

use super::Item;
use crate::cli::args::Global;
use crate::cli::reading::Place;
use crate::cli::report::commands::quoted;
use crate::cli::report::text::{BOLD, Text, command};
use crate::cli::session;

/// Where systemd looks for units of the machine.
const SYSTEM: &[&str] = &[
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit for one environment.
pub struct Unit {
    name: String,
    text: String,
    recover: String,
    is_root: bool,
    home: Option<PathBuf>,
}

impl Unit {
    /// With the very paths that are in use now.
    pub fn new(global: &Global, place: &Place) -> Self {
        let key = &place.loaded.settings.key;
        let exe = session::this_program().unwrap_or_else(|_| PathBuf::from("backout"));
        let file = std::path::absolute(global.config_file())
            .unwrap_or_else(|_| global.config_file().to_owned());
        let state = session::state_dirs(global).ok().and_then(|dirs| dirs.into_iter().next());
        let mut words = vec![exe.display().to_string(), "recover".to_owned(), "--yes".to_owned()];
        words.extend(["-e".to_owned(), key.environment.to_string()]);
        words.extend(["-f".to_owned(), file.display().to_string()]);
        words.extend(
            state.iter().flat_map(|s| ["--state-dir".to_owned(), s.path.display().to_string()]),
        );
        let is_root = rustix::process::geteuid().is_root();
        Self {
            name: format!("backout-{}-{}.service", key.app, key.environment),
            text: text(
                &key.to_string(),
                &place.loaded.folder,
                &words,
                is_root,
                !place.loaded.settings.policy.secrets.is_empty(),
            ),
            recover: words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            is_root,
            home: std::env::var_os("HOME").map(PathBuf::from),
        }
    }

    fn folder(&self) -> PathBuf {
        match (&self.home, self.is_root) {
            (Some(home), false) => home.join(".config/systemd/user"),
            _ => PathBuf::from(SYSTEM[0]),
        }
    }

    fn places(&self) -> Vec<PathBuf> {
        let system = SYSTEM.iter().map(PathBuf::from);
        std::iter::once(self.folder()).chain(system).map(|folder| folder.join(&self.name)).collect()
    }

    /// Where `serve --print-unit` is told to be put.
    fn controllers(&self) -> Vec<PathBuf> {
        let folders = std::iter::once(self.folder()).chain(SYSTEM.iter().map(PathBuf::from));
        folders.map(|folder| folder.join("backout.service")).collect()
    }

    fn is_enabled(&self) -> bool {
        ["multi-user.target.wants", "default.target.wants"].iter().any(|wants| {
            std::fs::symlink_metadata(self.folder().join(wants).join(&self.name)).is_ok()
                || SYSTEM
                    .iter()
                    .any(|folder| Path::new(folder).join(wants).join(&self.name).exists())
        })
    }

    fn enable(&self) -> String {
        let user = if self.is_root { "" } else { " --user" };
        format!("systemctl{user} enable {}", self.name)
    }

    /// The text to install, and how.
    pub fn lines(&self) -> Vec<String> {
        let line = |style: Style, text: &str| Text::new(style, text).styled();
        let path = self.folder().join(&self.name);
        let mut lines = vec![line(BOLD, &format!("to install as {}", path.display()))];
        lines.extend(self.text.lines().map(|text| format!("  {text}").trim_end().to_owned()));
        lines.push(line(BOLD, "then"));
        let mut then = vec![
            format!("systemctl{} daemon-reload", if self.is_root { "" } else { " --user" }),
            self.enable(),
        ];
        if !self.is_root {
            then.push("loginctl enable-linger".to_owned());
        }
        lines.extend(then.iter().map(|text| format!("  {}", line(command(), text))));
        lines
    }
}

fn runs_a_controller(unit: &Path) -> bool {
    std::fs::read_to_string(unit).is_ok_and(|text| text.contains("serve --headless"))
}

/// Whether what runs comes back after a reboot; with the unit, if it has to be installed.
pub fn check(unit: Unit, place: &Place) -> (Option<Item>, Option<Unit>) {
    let name = "after_reboot";
    let policy = &place.loaded.settings.policy;
    let ours = policy.target == TargetKind::Process
        || matches!(policy.router, RouterPolicy::Builtin { .. });
    if !ours {
        return (None, None);
    }
    if let Some(path) = unit.places().into_iter().find(|path| path.exists()) {
        return match unit.is_enabled() {
            true => (Some(Item::pass(name, format!("{} starts it again", path.display()))), None),
            false => {
                let message = format!("{} is there but not enabled", path.display());
                (Some(Item::warning(name, message).fix(unit.enable())), None)
            }
        };
    }
    if let Some(path) = unit.controllers().into_iter().find(|path| runs_a_controller(path)) {
        let message = format!("{} runs a controller, which starts it again", path.display());
        return (Some(Item::pass(name, message)), None);
    }
    let message =
        format!("nothing starts it again by itself: install {}, or run at boot", unit.name);
    let mut item = Item::warning(name, message).fix(unit.recover.clone());
    item.unit = Some(unit.text.clone());
    (Some(item), Some(unit))
}

fn text(key: &str, folder: &Path, words: &[String], is_root: bool, has_secrets: bool) -> String {
    let start: Vec<String> = words.iter().map(|word| in_unit(word)).collect();
    let secrets = if has_secrets {
        "# the values of the keys under secrets:, readable by this user only\nEnvironmentFile=-/etc/backout/secrets.env\n"
    } else {
        ""
    };
    let wanted_by = if is_root { "multi-user.target" } else { "default.target" };
    format!(
        "[Unit]\n\
         Description=Start what should run in {key}, or finish what was interrupted\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         WorkingDirectory={}\n\
         {secrets}ExecStart={}\n\
         # supervisors and the proxy outlive this command\n\
         KillMode=process\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n",
        folder.display().to_string().replace('%', "%%"),
        start.join(" ")
    )
}

/// A word of `ExecStart`: `%` and `$` mean something there, blanks need quotes.
pub fn in_unit(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    if word.contains(|c: char| c.is_whitespace() || "\"'\\;".contains(c)) {
        format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_meaning_in_a_unit() {
        assert_eq!(in_unit("/usr/bin/backout"), "/usr/bin/backout");
        assert_eq!(in_unit("/a b/100%"), "\"/a b/100%%\"");
        assert_eq!(in_unit("$x"), "$$x");
        assert_eq!(in_unit("a\"b"), "\"a\\\"b\"");
    }

    #[test]
    fn the_unit_names_the_command_and_keeps_what_it_starts() {
        let words: Vec<String> = ["/bin/backout", "recover", "--yes"].map(str::to_owned).to_vec();
        let unit = text("shop/production", Path::new("/srv/shop"), &words, true, true);
        for line in [
            "ExecStart=/bin/backout recover --yes",
            "WorkingDirectory=/srv/shop",
            "KillMode=process",
            "RemainAfterExit=yes",
            "WantedBy=multi-user.target",
            "EnvironmentFile=-/etc/backout/secrets.env",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} in\n{unit}");
        }
    }
}
