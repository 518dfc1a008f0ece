//! The command line as people, scripts and documents type it.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::super::values::{DeploymentName, RollbackPoint};
use super::{Cli, Command, ConfigChoice, Format, StrategyName};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let mut words: Vec<String> = vec!["backout".to_owned()];
    let mut quoted = false;
    for (index, part) in line.split('\'').enumerate() {
        quoted = index % 2 == 1;
        if quoted {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    assert!(!quoted, "the test's quotes are balanced");
    Cli::try_parse_from(words)
}

fn ok(line: &str) -> Cli {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refused(line: &str) -> ErrorKind {
    match parse(line) {
        Ok(cli) => panic!("{line} was accepted: {cli:?}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{line}: usage errors exit 2");
            error.kind()
        }
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_value_that_begins_with_a_dash_is_told_what_it_should_be() {
    for (line, says) in [
        ("rollback --timeout -1s", "durations"),
        ("rollback --to -2h", "2h ago"),
        ("rollback --to-revision -1", "deployment's number"),
        ("history --limit -1", "1..=100000"),
        ("check --wait --max-wait -1s", "durations"),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("-- -"), "{line}: {error}");
    }
}

#[test]
fn every_verb_is_there_and_shows_examples() {
    let command = Cli::command();
    let verbs: Vec<&str> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| verb.get_name())
        .collect();
    assert_eq!(
        verbs,
        "init adopt doctor deploy rollback status history inspect promote pause resume retry abort recover resolve down drill eject \
         check audit ledger judge schema completions serve proxy demo"
            .split_whitespace()
            .collect::<Vec<_>>()
    );
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(
            help.contains(&format!("  backout {}", verb.get_name())),
            "{} has no example",
            verb.get_name()
        );
    }
    let hidden: Vec<&str> =
        command.get_subcommands().filter(|v| v.is_hide_set()).map(|v| v.get_name()).collect();
    assert_eq!(hidden, ["supervise", "demo-service", "demo-janitor"]);
}

#[test]
fn every_example_in_the_help_parses() {
    let command = Cli::command();
    let texts = command
        .get_subcommands()
        .filter_map(|verb| verb.get_after_help())
        .chain(command.get_after_help());
    let mut count = 0;
    for line in
        texts.flat_map(|text| text.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let Some(example) = line.strip_prefix("  backout ") else { continue };
        let example =
            example.split("   ").next().unwrap_or_default().split(" > ").next().unwrap_or_default();
        ok(&example.replace('"', "'"));
        count += 1;
    }
    assert!(count > 30, "{count} examples");
}

#[test]
fn global_flags_stand_before_or_after_the_verb() {
    for line in [
        "-f x.yaml -e staging --format json --yes -vv --state-dir /tmp/s status",
        "status -f x.yaml -e staging --format json --yes -v -v --state-dir /tmp/s",
        "--file x.yaml status --env staging --format=json --yes -vv --state-dir=/tmp/s",
    ] {
        let global = ok(line).global;
        assert_eq!(global.config_file().to_str(), Some("x.yaml"), "{line}");
        assert_eq!(global.env.as_deref(), Some("staging"));
        assert_eq!(global.format, Format::Json);
        assert!(global.yes);
        assert_eq!(global.verbose, 2);
        assert_eq!(global.state_dir.as_deref().and_then(|dir| dir.to_str()), Some("/tmp/s"));
    }
    assert_eq!(ok("status").global.config_file().to_str(), Some("backout.yaml"));
}

#[test]
fn a_rollback_names_its_point_in_every_documented_way() {
    let point = |line: &str| match ok(line).command {
        Command::Rollback(rollback) => rollback.point(),
        other => panic!("{other:?}"),
    };
    assert_eq!(point("rollback"), None);
    for line in [
        "rollback --to-revision 41",
        "rollback --to-version 41",
        "rollback --to 41",
        "rollback --to '#41'",
    ] {
        assert_eq!(point(line), Some(RollbackPoint::Revision(41)), "{line}");
    }
    assert!(matches!(point("rollback --to '2h ago'"), Some(RollbackPoint::Time(_))));
    assert!(matches!(point("rollback --to 2020-01-01T00:00:00Z"), Some(RollbackPoint::Time(_))));
    for line in [
        "rollback --version 1.0 --to 41",
        "rollback --version 1.0 --to-revision 41",
        "rollback --to 41 --to-version 40",
    ] {
        assert_eq!(refused(line), ErrorKind::ArgumentConflict, "{line}");
    }
    refused("rollback --to tomorrow");
    refused("rollback --to-revision 1.4.1");
}

#[test]
fn a_rollback_takes_its_flags() {
    let line = "rollback shop --version 1.4.1 --reason 'checkout fails' --force --override target_status \
                --override policy --skip-validation --timeout 10m --dry-run";
    let Command::Rollback(rollback) = ok(line).command else { panic!() };
    assert_eq!(rollback.app.as_ref().map(|app| app.as_str()), Some("shop"));
    assert_eq!(rollback.version.as_ref().map(|version| version.as_str()), Some("1.4.1"));
    assert_eq!(rollback.reason.as_deref(), Some("checkout fails"));
    assert_eq!(rollback.overrides, ["target_status", "policy"]);
    assert_eq!(rollback.timeout, Some(600_000));
    assert!(rollback.force && rollback.skip_validation && rollback.dry_run);
    assert_eq!(refused("rollback --override target_statsu"), ErrorKind::InvalidValue);
    refused("rollback --timeout 0s");
    refused("rollback --reason ' '");
    refused("rollback Shop");
}

#[test]
fn a_deploy_needs_a_version() {
    let Command::Deploy(deploy) =
        ok("deploy --version 1.4.2 --strategy blue_green --config 42 --dry-run").command
    else {
        panic!()
    };
    assert_eq!(deploy.version.as_str(), "1.4.2");
    assert_eq!(deploy.strategy, Some(StrategyName::BlueGreen));
    assert_eq!(deploy.config, Some(ConfigChoice::Deployment(42)));
    assert!(deploy.dry_run);
    let Command::Deploy(deploy) =
        ok("deploy --version v --strategy blue-green --config keep").command
    else {
        panic!()
    };
    assert_eq!(
        (deploy.strategy, deploy.config),
        (Some(StrategyName::BlueGreen), Some(ConfigChoice::Keep))
    );
    assert_eq!(refused("deploy"), ErrorKind::MissingRequiredArgument);
    refused("deploy --version ../x");
    refused("deploy --version 1 --strategy shadow");
    refused("deploy --version 1 --config maybe");
}

#[test]
fn what_later_versions_add_is_not_accepted() {
    for line in [
        "deploy --from staging",
        "rollback --at 10:00",
        "rollback --progressive",
        "init --ci github",
        "watch",
        "serve",
        "serve --api",
        "drill --data",
    ] {
        refused(line);
    }
}

#[test]
fn reading_verbs_take_their_flags() {
    let Command::History(history) =
        ok("history --rollbacks --limit 5 --since '7d ago' --status rolled-back").command
    else {
        panic!()
    };
    assert!(history.rollbacks && history.since.is_some() && history.status.is_some());
    assert_eq!(history.limit, Some(5));
    refused("history --limit 0");
    refused("history --status gone");
    let Command::Inspect(inspect) = ok("inspect '#42' --show-history").command else { panic!() };
    assert_eq!((inspect.what, inspect.show_history), (DeploymentName::Number(42), true));
    refused("inspect");
    let Command::Check(check) =
        ok("check --wait --max-wait 2m --endpoint http://127.0.0.1:1/x").command
    else {
        panic!()
    };
    assert_eq!((check.wait, check.max_wait), (true, Some(120_000)));
    assert_eq!(refused("check --max-wait 2m"), ErrorKind::MissingRequiredArgument);
    refused("check --endpoint 127.0.0.1");
    let Command::Status(status) = ok("status -w --check").command else { panic!() };
    assert!(status.watch && status.check);
    refused("resolve");
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let Command::Completions(completions) = ok(&format!("completions {shell}")).command else {
            panic!()
        };
        let mut text = Vec::new();
        clap_complete::generate(completions.shell, &mut Cli::command(), "backout", &mut text);
        assert!(String::from_utf8(text).unwrap().contains("rollback"));
    }
    refused("completions tcsh");
}
