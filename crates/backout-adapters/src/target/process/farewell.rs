//! What becomes of a supervised program when Backout goes: its supervisor stays, and a unit can take over.

use std::fmt::Write as _;

use backout_core::ids::Unit;
use backout_core::ports::{AdapterError, Farewell};

use super::slot::SlotFolder;
use super::spec::SlotSpec;
use crate::host::procfs::ProcessId;

pub(super) fn farewell(slot: &SlotFolder, unit: &Unit) -> Result<Farewell, AdapterError> {
    let Some(spec) = slot.read_spec()? else { return Ok(Farewell::default()) };
    let status = slot.read_status()?.filter(|status| status.instance == spec.instance);
    let supervisor = status.as_ref().map(|s| &s.supervisor).filter(|s| ProcessId::is_alive(s));
    let Some(supervisor) = supervisor else {
        let stays = vec![format!("{} {} does not run", unit.service, spec.version)];
        return Ok(Farewell { stays, ..Farewell::default() });
    };
    let stays = vec![
        format!(
            "{} {} goes on under its supervisor, process {}, which starts it again when it ends and logs to {}; \
             `kill {}` ends both in order",
            unit.service,
            spec.version,
            supervisor.pid,
            slot.log(spec.deployment).display(),
            supervisor.pid
        ),
        "after a restart of this machine nothing starts it: install a unit such as this one"
            .to_owned(),
        unit_file(&spec),
    ];
    Ok(Farewell { removed: Vec::new(), stays, keeps_copies: true })
}

/// A systemd unit that runs the same command. Values of secrets are for whoever installs it.
fn unit_file(spec: &SlotSpec) -> String {
    let mut text = format!("# {}-{}.service\n", spec.unit.key.app, spec.unit.service);
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line("[Unit]".to_owned());
    line(format!("Description={} of {}, {}", spec.unit.service, spec.unit.key, spec.version));
    line("After=network-online.target\n\n[Service]".to_owned());
    let words: Vec<String> = spec.command.iter().map(|word| quoted(word)).collect();
    line(format!("ExecStart={}", words.join(" ")));
    line(format!("WorkingDirectory={}", spec.cwd.display()));
    let ours = |name: &str| name.starts_with("BACKOUT_");
    for (name, value) in spec.env.iter().filter(|(name, _)| !ours(name)) {
        line(format!("Environment={}", quoted(&format!("{name}={value}"))));
    }
    for name in &spec.secret_env {
        line(format!("# and {name}, for example by EnvironmentFile="));
    }
    line("Restart=on-failure\n\n[Install]\nWantedBy=multi-user.target".to_owned());
    text
}

/// As systemd reads it: `%`, `$` and quotes mean themselves.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+".contains(c);
    let word = word.replace('%', "%%").replace('$', "$$");
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_of_a_unit_mean_themselves() {
        assert_eq!(quoted("/srv/app"), "/srv/app");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("50%"), "\"50%%\"");
        assert_eq!(quoted("a\"$b"), "\"a\\\"$$b\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
