//! What valid files mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::model::{
    EnvValue, OnNoData, PortSpec, ProbeSpec, ProcessSpec, RouterPolicy, Service, Strategy,
    TargetKind, TargetSpec,
};

use super::super::{ConfigError, Loaded, Wanted, parse};

pub(super) fn load_with(
    source: &str,
    wanted: Wanted<'_>,
    vars: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let vars: BTreeMap<String, String> =
        vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let lookup = |name: &str| vars.get(name).cloned();
    let file = Path::new("backout.yaml");
    parse(source, file, PathBuf::from("/srv/shop"), wanted, &lookup)
        .map_err(|problems| ConfigError::new(file, source, problems))
}

fn load(source: &str) -> Loaded {
    load_with(source, Wanted::default(), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn service<'a>(loaded: &'a Loaded, name: &str) -> &'a Service {
    &loaded.settings.services[&backout_core::ids::ServiceName::new(name).unwrap()]
}

fn process<'a>(loaded: &'a Loaded, name: &str) -> &'a ProcessSpec {
    match &service(loaded, name).target {
        TargetSpec::Process(process) => process,
        other => panic!("{other:?}"),
    }
}

const SIX_LINES: &str = "\
app: shop
target:
  process:
    command: [./server]
    port: 8080
health: {http: {url: 'http://127.0.0.1:{port}/health'}}
";

const CANARY: &str = "\
app: shop
target: {process: {command: [./server], artifact: ./server}}
router: {builtin: {listen: '127.0.0.1:8080'}}
health: {http: {url: 'http://127.0.0.1:{port}/health'}}
";

fn ms(text: &str) -> u64 {
    super::super::parse_duration_ms(text).unwrap()
}

#[test]
fn six_lines_are_enough_and_the_rest_is_default() {
    let loaded = load(SIX_LINES);
    let settings = &loaded.settings;
    assert_eq!(settings.key.to_string(), "shop/production");
    assert!(!settings.policy.production, "the implied environment is not `production: true`");
    assert_eq!(settings.policy.target, TargetKind::Process);
    assert_eq!(settings.policy.strategy, Strategy::Recreate);
    assert_eq!(settings.policy.router, RouterPolicy::None);
    assert_eq!(settings.policy.bake_ms, ms("30m"));
    assert_eq!(settings.policy.deploy_timeout_ms, ms("30m"));
    assert_eq!(settings.policy.rollback.timeout_ms, ms("15m"));
    assert_eq!(settings.policy.rollback.deadline_ms, ms("2m"));
    assert_eq!(settings.policy.rollback.keep, 5);
    assert!(settings.policy.rollback.automatic);
    assert_eq!(settings.policy.shutdown.drain_ms, ms("30s"));
    let judge =
        backout_judge::Settings { watch_ms: 30 * 60_000, ..backout_judge::Settings::default() };
    assert_eq!(settings.policy.judge, judge, "SPEC §3 is the judge's default");
    assert_eq!(process(&loaded, "shop").port, Some(PortSpec::Fixed(8080)));
    assert_eq!(process(&loaded, "shop").port_env, "PORT");
    assert_eq!(process(&loaded, "shop").restart.max, 5);
    let ProbeSpec::Http { schedule, .. } = &service(&loaded, "shop").health.probes[0] else {
        panic!()
    };
    assert_eq!(*schedule, backout_core::model::CheckSchedule::default());
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn a_router_makes_it_a_canary_with_a_free_port() {
    let loaded = load(CANARY);
    let Strategy::Canary(canary) = &loaded.settings.policy.strategy else { panic!() };
    let stages: Vec<_> = canary
        .stages
        .iter()
        .map(|stage| (stage.weight, stage.hold_ms, stage.hold_max_ms))
        .collect();
    assert_eq!(
        &stages[..3],
        [(10, ms("5m"), ms("1h")), (25, ms("5m"), ms("1h")), (50, ms("10m"), ms("1h"))]
    );
    assert_eq!(stages[3].0, 100);
    assert_eq!(canary.on_no_data, OnNoData::Pause);
    assert_eq!(process(&loaded, "shop").port, Some(PortSpec::Auto));
    assert_eq!(process(&loaded, "shop").artifact, ["server"]);
    let RouterPolicy::Builtin { listen, dead_man_ms } = &loaded.settings.policy.router else {
        panic!()
    };
    assert_eq!(listen.to_string(), "127.0.0.1:8080");
    assert_eq!(*dead_man_ms, 15_000);
}

#[test]
fn stages_inherit_what_they_do_not_say() {
    let source = format!(
        "{CANARY}strategy: {{canary: {{stages: [5, '10%', {{weight: 50, hold: 2m, hold_min: 30s, hold_max: 3m}}], \
         hold: 20s, hold_max: 1m, on_no_data: promote}}}}\n"
    );
    let loaded = load(&source);
    let Strategy::Canary(canary) = &loaded.settings.policy.strategy else { panic!() };
    let stages: Vec<_> = canary
        .stages
        .iter()
        .map(|stage| (stage.weight, stage.hold_ms, stage.hold_min_ms, stage.hold_max_ms))
        .collect();
    assert_eq!(
        &stages[..3],
        [(5, 20_000, 20_000, 60_000), (10, 20_000, 20_000, 60_000), (50, 120_000, 30_000, 180_000)]
    );
    assert_eq!(stages[3].0, 100, "100 is added");
    assert_eq!(canary.on_no_data, OnNoData::Promote);
}

#[test]
fn a_hold_of_ones_own_replaces_the_long_hold_at_half() {
    let loaded = load(&format!("{CANARY}strategy: {{canary: {{hold: 20s, hold_max: 1m}}}}\n"));
    let Strategy::Canary(canary) = &loaded.settings.policy.strategy else { panic!() };
    assert!(
        canary
            .stages
            .iter()
            .filter(|s| s.weight < 100)
            .all(|s| s.hold_ms == 20_000 && s.hold_max_ms == 60_000)
    );
}

#[test]
fn bare_names_are_choices_without_settings() {
    let loaded = load(&format!("{SIX_LINES}strategy: recreate\nrouter: none\n"));
    assert_eq!(loaded.settings.policy.strategy, Strategy::Recreate);
    let loaded = load(&format!("{CANARY}strategy: blue_green\n"));
    assert_eq!(loaded.settings.policy.strategy, Strategy::BlueGreen { keep_old_ms: 0 });
    let loaded = load(
        "app: x\ntarget: process\nservices: {x: {command: [run]}, y: {command: [go], traffic: none, depends_on: [x]}}\n",
    );
    assert_eq!(process(&loaded, "x").command, ["run"]);
    assert!(!service(&loaded, "y").traffic);
    assert_eq!(service(&loaded, "y").depends_on.len(), 1);
}

#[test]
fn environments_are_chosen_and_override() {
    let source = format!(
        "{CANARY}bake_time: 30m\nenvironments:\n  staging: {{bake_time: 5m, router: none, strategy: recreate, \
         target: {{process: {{port: 9000}}}}}}\n  production: {{production: true}}\n"
    );
    let staging =
        load_with(&source, Wanted { environment: Some("staging"), strategy: None }, &[]).unwrap();
    assert_eq!(staging.settings.policy.bake_ms, ms("5m"));
    assert_eq!(staging.settings.policy.strategy, Strategy::Recreate);
    assert_eq!(process(&staging, "shop").port, Some(PortSpec::Fixed(9000)));
    let production =
        load_with(&source, Wanted { environment: Some("production"), strategy: None }, &[])
            .unwrap();
    assert!(production.settings.policy.production);
    assert_eq!(production.settings.policy.bake_ms, ms("30m"));
    let none = load_with(&source, Wanted::default(), &[]).unwrap_err();
    assert!(none.to_string().contains("staging, production"), "{none}");
}

#[test]
fn variables_may_stand_for_numbers_and_are_only_needed_where_they_are_used() {
    let source = "app: shop\ntarget: {process: {command: ['${BIN:-./server}', '$${KEEP}'], port: '${PORT}'}}\n\
                  environments: {a: {}, b: {bake_time: '${NOWHERE}'}}\n";
    let wanted = Wanted { environment: Some("a"), strategy: None };
    let loaded =
        load_with(source, wanted, &[("PORT", "8081")]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(process(&loaded, "shop").port, Some(PortSpec::Fixed(8081)));
    assert_eq!(process(&loaded, "shop").command, ["./server", "${KEEP}"]);
    let missing =
        load_with(source, Wanted { environment: Some("b"), strategy: None }, &[("PORT", "1")])
            .unwrap_err();
    assert!(missing.to_string().contains("`NOWHERE` is not set"), "{missing}");
}

#[test]
fn secrets_come_from_the_file_or_the_caller_and_are_not_in_the_release() {
    let source = "app: shop\nsecrets: [DATABASE_URL, API_KEY, TOKEN]\ntarget:\n  process:\n    command: [./server]\n    \
                  env:\n      DATABASE_URL: 'postgres://app:${DB_PASSWORD}@db/shop'\n      API_KEY: '${API_KEY}'\n      \
                  TOKEN:\n      LEVEL: 1.10\n";
    let vars = [("DB_PASSWORD", "hunter2"), ("TOKEN", "t0k")];
    let loaded =
        load_with(source, Wanted::default(), &vars).unwrap_or_else(|error| panic!("{error}"));
    let env = &process(&loaded, "shop").env;
    assert_eq!(env["DATABASE_URL"], EnvValue::Secret);
    assert_eq!(env["API_KEY"], EnvValue::Secret);
    assert_eq!(env["LEVEL"], EnvValue::Plain("1.10".to_owned()), "numbers keep their spelling");
    assert_eq!(loaded.settings.secrets["DATABASE_URL"].expose(), "postgres://app:hunter2@db/shop");
    assert_eq!(loaded.settings.secrets["TOKEN"].expose(), "t0k");
    assert_eq!(loaded.settings.missing_secrets, ["API_KEY"]);
    assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
}

#[test]
fn another_strategy_may_be_asked_for() {
    let source = format!("{CANARY}strategy: {{canary: {{hold: 20s, hold_max: 1m}}}}\n");
    let with = |strategy| {
        load_with(&source, Wanted { environment: None, strategy: Some(strategy) }, &[]).unwrap()
    };
    assert_eq!(with("recreate").settings.policy.strategy, Strategy::Recreate);
    assert_eq!(with("blue_green").settings.policy.strategy.as_str(), "blue_green");
    let Strategy::Canary(canary) = with("canary").settings.policy.strategy else { panic!() };
    assert_eq!(canary.stages[0].hold_ms, 20_000, "the same strategy keeps its settings");
}

#[test]
fn services_override_the_target_and_the_health_at_the_top() {
    let source = "app: shop\ntarget: {process: {command: [./server], env: {A: 1, B: 2}, port: 1}}\n\
                  health: {http: {url: 'http://127.0.0.1:8080/', interval: 5s}}\nservices:\n  web:\n    env: {B: 3}\n  \
                  api:\n    port: 2\n    health: {http: {url: 'http://127.0.0.1:{port}/ok'}}\n  db:\n    health: {tcp: \
                  {address: '127.0.0.1:{port}'}}\n  jobs:\n    traffic: none\n    command: [./jobs]\n";
    let loaded = load(source);
    assert_eq!(process(&loaded, "web").env["A"], EnvValue::Plain("1".to_owned()));
    assert_eq!(process(&loaded, "web").env["B"], EnvValue::Plain("3".to_owned()));
    let ProbeSpec::Http { check, schedule } = &service(&loaded, "api").health.probes[0] else {
        panic!()
    };
    assert_eq!(check.url, "http://127.0.0.1:{port}/ok");
    assert_eq!(schedule.interval_ms, 5_000, "the schedule of the same kind is inherited");
    let names =
        |service: &Service| service.health.probes.iter().map(ProbeSpec::name).collect::<Vec<_>>();
    assert_eq!(names(service(&loaded, "db")), ["tcp"], "own probes replace those at the top");
    assert_eq!(names(service(&loaded, "web")), ["http"]);
    assert!(
        names(service(&loaded, "jobs")).is_empty(),
        "without traffic the url at the top is not asked"
    );
}

#[test]
fn a_script_with_its_own_router() {
    let loaded = load(
        "app: shop\ntarget: {script: {program: ./deploy.sh, args: [--fast], timeout: 90s}}\nrouter: script\n\
         health: {exec: {command: [./healthy.sh]}}\n",
    );
    assert_eq!(loaded.settings.policy.router, RouterPolicy::Script);
    assert_eq!(loaded.settings.policy.strategy.as_str(), "canary");
    let TargetSpec::Script(script) = &service(&loaded, "shop").target else { panic!() };
    assert_eq!((script.program.as_str(), script.timeout_ms), ("./deploy.sh", 90_000));
}

#[test]
fn a_check_that_can_not_name_a_side_is_said_loudly() {
    let loaded = load(&CANARY.replace("{port}", "8080"));
    assert_eq!(loaded.settings.warnings.len(), 1);
    assert!(loaded.settings.warnings[0].contains("can't name a side"));
}

#[test]
fn thresholds_and_judge_are_taken_over() {
    let source = format!(
        "{SIX_LINES}bake_time: 1m\n"
    )
    .replace(
        "health: {http:",
        "health: {thresholds: {error_rate: {warn: 1%, fail: 2%}, availability: {fail: 90%}, response_time: \
         {fail: 1s}, minimum_samples: 5}, consecutive_failures: {count: 2, within: 10s}, consecutive_passes: 2, \
         startup_failures: 4, startup_timeout: 5s, windows: {short: 1m}, judge: {false_rollback_probability: 5%, \
         harmless_error_rate: 0.5%, harmless_latency_increase: 0.2, warm_up: 1s, latency_warm_up: 2s}, http:",
    );
    let judge = load(&source).settings.policy.judge;
    assert_eq!(
        (judge.thresholds.error_rate_percent.warn, judge.thresholds.error_rate_percent.fail),
        (1.0, 2.0)
    );
    assert_eq!(
        (judge.thresholds.availability_percent.warn, judge.thresholds.availability_percent.fail),
        (99.5, 90.0)
    );
    assert_eq!(
        (judge.thresholds.response_time_ms.warn, judge.thresholds.response_time_ms.fail),
        (1000.0, 1000.0)
    );
    assert_eq!(
        (judge.minimum_samples, judge.consecutive_failures.count, judge.consecutive_passes),
        (5, 2, 2)
    );
    assert_eq!(
        (judge.startup_failures, judge.startup_timeout_ms, judge.window_short_ms),
        (4, 5_000, 60_000)
    );
    assert_eq!((judge.false_rollback_probability, judge.harmless_error_rate), (0.05, 0.005));
    assert_eq!(
        (judge.harmless_latency_increase, judge.warm_up_ms, judge.latency_warm_up_ms),
        (0.2, 1_000, 2_000)
    );
    assert_eq!(judge.watch_ms, Duration::from_secs(60).as_millis() as i64);
}

#[test]
fn anchors_and_merge_keys_may_be_used() {
    let loaded = load(
        "app: shop\ntarget: process\nservices:\n  a: &base {command: [run, '1.10'], port: 1}\n  b: {<<: *base, port: 2}\n",
    );
    assert_eq!(process(&loaded, "b").command, ["run", "1.10"]);
    assert_eq!(process(&loaded, "b").port, Some(PortSpec::Fixed(2)));
}
