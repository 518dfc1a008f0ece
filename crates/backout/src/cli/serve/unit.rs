//! The systemd unit that runs the controller.

use std::path::{Path, PathBuf};

use super::fleet;
use crate::cli::args::Global;
use crate::cli::doctor::in_unit;
use crate::cli::session;
use crate::config;
use crate::error::CommandError;

/// The unit, with the very paths that are in use now.
pub fn text(global: &Global) -> Result<String, CommandError> {
    let exe = session::this_program()?;
    let mut words = vec![exe.display().to_string(), "serve".to_owned(), "--headless".to_owned()];
    let files: Vec<PathBuf> = fleet::named(global)
        .iter()
        .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        .collect();
    for file in &files {
        // A unit for what is not there would only fail later.
        if !file.exists() {
            let message = format!("{} is not there", file.display());
            return Err(CommandError::usage(message).hint("name files or folders with -f"));
        }
        words.extend(["-f".to_owned(), file.display().to_string()]);
    }
    if let Some(environment) = &global.env {
        words.extend(["-e".to_owned(), environment.clone()]);
    }
    if let Some(state) = session::state_dirs(global)?.into_iter().next() {
        words.extend(["--state-dir".to_owned(), state.path.display().to_string()]);
    }
    let start: Vec<String> = words.iter().map(|word| in_unit(word)).collect();
    let is_root = rustix::process::geteuid().is_root();
    Ok(unit(&start.join(" "), is_root, secrets(&files)))
}

/// Whether any of the files has secrets. A file that is broken today may have some tomorrow.
fn secrets(files: &[PathBuf]) -> bool {
    fleet::expanded(files).iter().any(|file| has_secrets(file))
}

fn has_secrets(file: &Path) -> bool {
    let Ok(names) = config::environments(file, &session::var) else { return true };
    names.iter().any(|name| {
        config::load(file, Some(name.as_str()), &session::var)
            .map_or(true, |loaded| !loaded.settings.policy.secrets.is_empty())
    })
}

fn unit(start: &str, is_root: bool, secrets: bool) -> String {
    let secrets = if secrets {
        "# the values of the keys under `secrets:`, and of variables in the files; readable by this user only\n\
         EnvironmentFile=-/etc/backout/secrets.env\n"
    } else {
        ""
    };
    // In a user's manager these need what a user has not, or would take `sudo` from the programs.
    let hardening = if is_root {
        "# what it starts inherits these, so they take nothing that a service needs\n\
         LockPersonality=yes\n\
         ProtectClock=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\n"
    } else {
        ""
    };
    let wanted_by = if is_root { "multi-user.target" } else { "default.target" };
    format!(
        "[Unit]\n\
         Description=Backout: finishes, watches and takes back deployments\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         {secrets}ExecStart={start}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=always\n\
         RestartSec=2s\n\
         TimeoutStartSec=60s\n\
         # a way back is finished, or handed over after 90 s\n\
         TimeoutStopSec=120s\n\
         WatchdogSec=120s\n\
         # services and the proxy outlive the controller: neither its end nor that of one of them ends the others\n\
         KillMode=process\n\
         OOMPolicy=continue\n\
         TasksMax=infinity\n\
         # the proxy inherits it\n\
         LimitNOFILE=65536\n\
         UMask=0077\n\
         {hardening}\n\
         [Install]\n\
         WantedBy={wanted_by}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_keeps_what_it_starts_and_waits_for_a_way_back() {
        let text = unit("/bin/backout serve --headless -f \"/a b/backout.yaml\"", true, true);
        for line in [
            "Type=notify",
            "KillMode=process",
            "OOMPolicy=continue",
            "Restart=always",
            "TimeoutStopSec=120s",
            "EnvironmentFile=-/etc/backout/secrets.env",
            "ExecStart=/bin/backout serve --headless -f \"/a b/backout.yaml\"",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let user = unit("x", false, false);
        assert!(!user.contains("Protect") && !user.contains("EnvironmentFile"), "{user}");
        assert!(user.ends_with("WantedBy=default.target\n"), "{user}");
    }
}
