//! The text of a new `backout.yaml`.

use super::detect::{Found, Target};

/// A commented file that loads as it is.
pub(super) fn render(found: &Found) -> String {
    let head = format!(
        "# How this application is deployed, watched and taken back.\n\
         # All keys with their meaning: backout schema\n\
         app: {}\n\n",
        found.app
    );
    match &found.target {
        Target::Process { command, artifact, note } => head + &process(command, artifact, note),
        Target::Script { program, moves_traffic } => head + &script(program, *moves_traffic),
        Target::Systemd { unit, artifact, current } => {
            head + &systemd(unit, artifact, current.as_deref())
        }
        Target::Compose { files, serving, port, checked } => {
            head + &compose(files, serving, *port, *checked)
        }
    }
}

/// A text as YAML reads it back: JSON's quoting, and no variable where none is meant.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn process(command: &[String], artifact: &[String], note: &str) -> String {
    let artifact = match artifact {
        [one] => quoted(one),
        several => list(several),
    };
    format!(
        "target:\n  process:\n    \
         # Copied for every release, so that the old bytes are still there on the way back.\n    \
         artifact: {artifact}\n    \
         # {{artifact}} is the release's own copy; {note}.\n    \
         command: {}\n\n\
         router:\n  \
         # Where users connect; Backout moves them from one release to the next.\n  \
         builtin: {{ listen: \"127.0.0.1:8080\" }}\n\n\
         health:\n  \
         # Asked at each release's own port; must answer 200 when it is well.\n  \
         http: {{ url: \"http://127.0.0.1:{{port}}/\" }}\n\n{}",
        list(command),
        canary_times()
    )
}

fn script(program: &str, moves_traffic: bool) -> String {
    let target = format!(
        "target:\n  \
         # Called with deploy, rollback, stop and status{}; see BACKOUT_VERSION and the other variables.\n  \
         script: {{ program: {} }}\n\n\
         health:\n  \
         # Put the service's own address here; it must answer 200 when it is well.\n  \
         http: {{ url: \"http://127.0.0.1:8080/\" }}\n\n",
        if moves_traffic { ", and with update-traffic PERCENT STAGE" } else { "" },
        quoted(program)
    );
    if moves_traffic {
        format!("{target}router: script\n\n{}", canary_times())
    } else {
        format!("{target}{}", bake())
    }
}

fn compose(files: &[String], serving: &[String], port: Option<u16>, checked: bool) -> String {
    let file = match files {
        [one] => one.clone(),
        several => list(several),
    };
    let health = match port {
        Some(port) => format!(
            "health:\n  \
             # Must answer 200 when it is well; containers and their own health checks are always looked at.\n  \
             http: {{ url: \"http://127.0.0.1:{port}/\" }}\n\n"
        ),
        None if checked => String::new(),
        None => "# health: { http: { url: \"http://127.0.0.1:8080/\" } }\n\n".to_owned(),
    };
    let service = match serving {
        [one] => one.as_str(),
        _ => "web",
    };
    format!(
        "target:\n  \
         # Images are pinned by digest at each deploy. ${{BACKOUT_VERSION}} in that file is what `--version` says.\n  \
         # A project that runs already under another name: add project: NAME, then `backout adopt`.\n  \
         compose: {{ file: {file} }}\n\n\
         # For a canary through the built-in proxy name the service that takes requests; the rest runs once for both\n\
         # releases. Its health check then asks each release at its own port.\n\
         # services: {{ {service}: {{}} }}\n\
         # router: {{ builtin: {{ listen: \"127.0.0.1:8080\" }} }}\n\
         # health: {{ http: {{ url: \"http://127.0.0.1:{{port}}/\" }} }}\n\n{health}{}",
        bake()
    )
}

fn systemd(unit: &str, artifact: &[String], current: Option<&str>) -> String {
    let artifact = match artifact {
        [one] => quoted(one),
        several => list(several),
    };
    let slots = unit.contains("{slot}");
    let current = match current {
        Some(path) => format!("    current: {}\n", quoted(path)),
        None => "    # current: /srv/shop/current    # default: beside this file\n".to_owned(),
    };
    let target = format!(
        "target:\n  systemd:\n    \
         # Put its file to /etc/systemd/system, or run `systemctl link` on it: then it comes back with each release.\n    \
         unit: {}\n    \
         # Copied for every release; the link below leads to the one that runs, and ExecStart= must name it.\n    \
         artifact: {artifact}\n{current}\n",
        quoted(unit)
    );
    if slots {
        return format!(
            "{target}router:\n  \
             # Where users connect; each side gets its port as PORT from EnvironmentFile=-LINK.env.\n  \
             builtin: {{ listen: \"127.0.0.1:8080\" }}\n\n\
             health:\n  \
             # Asked at each release's own port; must answer 200 when it is well.\n  \
             http: {{ url: \"http://127.0.0.1:{{port}}/\" }}\n\n{}",
            canary_times()
        );
    }
    format!(
        "{target}health:\n  \
         # Put the service's own address here; it must answer 200 when it is well.\n  \
         http: {{ url: \"http://127.0.0.1:8080/\" }}\n\n{}",
        bake()
    )
}

fn canary_times() -> String {
    format!(
        "strategy:\n  \
         # Short times to try it out. For production raise them, such as hold: 5m, hold_max: 1h, on_no_data: pause.\n  \
         canary:\n    \
         stages: [10, 25, 50, 100]\n    \
         hold: 20s\n    \
         hold_max: 1m\n    \
         on_no_data: promote\n\n{}",
        bake()
    )
}

fn bake() -> String {
    "# The watch after 100 %. Short to try it out; for production raise it, such as 30m.\nbake_time: 1m\n".to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use backout_core::model::{OnNoData, Strategy, TargetSpec};
    use tempfile::TempDir;

    use super::super::detect::{Found, Target, detect};
    use super::*;
    use crate::config::{self, Loaded};

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::Builder::new().prefix("My_Shop.").tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            if content.starts_with("#!") || content.starts_with('\u{7f}') {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        folder
    }

    fn written(folder: &Path) -> (Found, Loaded) {
        let found = detect(folder).unwrap();
        let file = folder.join("backout.yaml");
        std::fs::write(&file, render(&found)).unwrap();
        let loaded = config::load(&file, None, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        (found, loaded)
    }

    fn command(found: &Found) -> (Vec<&str>, Vec<&str>) {
        let Target::Process { command, artifact, .. } = &found.target else { panic!("{found:?}") };
        (
            command.iter().map(String::as_str).collect(),
            artifact.iter().map(String::as_str).collect(),
        )
    }

    /// Whatever is found: it loads, warns of nothing, keeps an artifact and has the short times.
    fn assert_usable(loaded: &Loaded) {
        let settings = &loaded.settings;
        assert_eq!(settings.warnings, Vec::<String>::new());
        assert_eq!(settings.policy.bake_ms, 60_000);
        for service in settings.services.values() {
            if let TargetSpec::Process(process) = &service.target {
                assert!(!process.artifact.is_empty());
            }
            assert_eq!(service.health.probes.len(), 1);
        }
        if let Strategy::Canary(canary) = &settings.policy.strategy {
            assert_eq!((canary.stages[0].hold_ms, canary.stages[0].hold_max_ms), (20_000, 60_000));
            assert_eq!(canary.on_no_data, OnNoData::Promote);
        }
    }

    #[test]
    fn an_empty_folder_gets_a_template() {
        let folder = folder(&[]);
        let (found, loaded) = written(folder.path());
        assert!(found.because.contains("guess"));
        assert!(found.app.starts_with("my-shop-"), "{}", found.app);
        assert_usable(&loaded);
    }

    #[test]
    fn a_procfile_that_runs_a_file_here() {
        let folder = folder(&[
            ("Procfile", "worker: x\nweb: ./bin/serve --port $PORT\n"),
            ("bin/serve", "#!/bin/sh\n"),
        ]);
        let (found, loaded) = written(folder.path());
        assert_eq!(command(&found), (vec!["{artifact}", "--port", "{port}"], vec!["bin/serve"]));
        assert_usable(&loaded);
    }

    #[test]
    fn a_procfile_that_runs_an_installed_program_on_the_code_here() {
        let line = "web: gunicorn 'shop:app' --bind 0.0.0.0:${PORT} \"--name=${NAME:-x}\"\n";
        let folder = folder(&[("Procfile", line), ("shop.py", "app = 1"), ("run.log", "")]);
        let (found, loaded) = written(folder.path());
        let (command, artifact) = command(&found);
        assert_eq!(artifact, ["Procfile", "shop.py"]);
        assert_eq!(command[..2], ["sh", "-c"]);
        assert!(command[2].starts_with("cd \"$0\" && gunicorn"), "{}", command[2]);
        let service = loaded.settings.services.values().next().unwrap();
        let TargetSpec::Process(process) = &service.target else { panic!() };
        assert!(
            process.command[2].contains("--bind 0.0.0.0:$PORT \"--name=${NAME:-x}\""),
            "{:?}",
            process.command
        );
        assert_usable(&loaded);
    }

    #[test]
    fn a_built_program() {
        let files = [
            ("target/release/other", "\u{7f}ELF"),
            ("target/release/libx.so", "\u{7f}ELF"),
            ("target/release/notes.txt", "text"),
        ];
        let folder = folder(&files);
        let (found, loaded) = written(folder.path());
        assert_eq!(command(&found), (vec!["{artifact}"], vec!["target/release/other"]));
        assert_usable(&loaded);
    }

    #[test]
    fn a_unit_of_systemd() {
        let plain = "[Unit]\n[Service]\nExecStart=/srv/shop/current/serve --port 80\n";
        let one = folder(&[("shop.service", plain), ("bin/serve", "\u{7f}ELF")]);
        let (found, loaded) = written(one.path());
        let target = Target::Systemd {
            unit: "shop.service".to_owned(),
            artifact: vec!["bin/serve".to_owned()],
            current: Some("/srv/shop/current".to_owned()),
        };
        assert_eq!(found.target, target);
        assert_eq!(loaded.settings.policy.strategy, Strategy::Recreate);
        assert_usable(&loaded);
        let template = "[Service]\nExecStart=-/srv/shop/current-%i/bin/serve\n";
        let two = folder(&[("shop@.service", template), ("serve.py", "x")]);
        let (found, loaded) = written(two.path());
        let target = Target::Systemd {
            unit: "shop@{slot}.service".to_owned(),
            artifact: vec!["serve.py".to_owned()],
            current: Some("/srv/shop/current-{slot}".to_owned()),
        };
        assert_eq!(found.target, target);
        assert_eq!(loaded.settings.policy.strategy.as_str(), "canary");
        assert_usable(&loaded);
        let odd = folder(&[("a.service", "[Service]\nExecStart=\n"), ("b.service", "no unit")]);
        assert_usable(&written(odd.path()).1);
    }

    #[test]
    fn a_node_application() {
        let package = r#"{"scripts": {"start": "node ./server.js"}}"#;
        let one = folder(&[("package.json", package), ("server.js", "")]);
        let (found, loaded) = written(one.path());
        assert_eq!(command(&found).0, ["node", "{artifact}/server.js"]);
        assert_usable(&loaded);
        let other = folder(&[
            ("package.json", r#"{"scripts": {"start": "vite preview && true"}}"#),
            ("a.js", ""),
        ]);
        let (found, loaded) = written(other.path());
        assert_eq!(command(&found).0, ["npm", "--prefix", "{artifact}", "run", "start"]);
        assert_usable(&loaded);
    }

    #[test]
    fn a_django_application() {
        let folder = folder(&[("manage.py", "import django"), ("shop/__init__.py", "")]);
        let (found, loaded) = written(folder.path());
        assert_eq!(command(&found).0[1], "{artifact}/manage.py");
        assert_usable(&loaded);
    }

    #[test]
    fn a_deployment_script_with_and_without_traffic() {
        let plain = "#!/bin/sh\ncase $1 in deploy) ;; rollback) ;; status) ;; esac\n";
        let one = folder(&[("deploy.sh", plain)]);
        let (_, loaded) = written(one.path());
        assert_eq!(loaded.settings.policy.strategy, Strategy::Recreate);
        assert_usable(&loaded);
        let two = folder(&[(
            "scripts/deploy.sh",
            "#!/bin/sh\ncase $1 in rollback) ;; update-traffic) ;; esac\n",
        )]);
        let (found, loaded) = written(two.path());
        assert_eq!(
            found.target,
            Target::Script { program: "./scripts/deploy.sh".to_owned(), moves_traffic: true }
        );
        assert_eq!(loaded.settings.policy.strategy.as_str(), "canary");
        assert_usable(&loaded);
    }

    #[test]
    fn odd_names_and_content_still_give_a_file_that_loads() {
        for line in [
            "web: \"quo\\\"ted\" $(x) `y` # z",
            "web:",
            "web: a\u{0}b",
            "web: ${",
            "web: {port} \\n",
        ] {
            let odd = folder(&[
                ("Procfile", line),
                ("ü \"x\".txt", ""),
                ("${HOME}", ""),
                ("tab\there", ""),
            ]);
            assert_usable(&written(odd.path()).1);
        }
        let odd =
            folder(&[("package.json", "{\"scripts\": {\"start\": 5}}"), ("manage.py", "nothing")]);
        assert_usable(&written(odd.path()).1);
    }
}
