//! What is wrong with a command line or a `backout.yaml` is said before anything happens.

use crate::support::{World, Yaml};

#[test]
fn without_a_configuration_every_verb_says_how_to_get_one() {
    let world = World::bare();
    let verbs: [&[&str]; 7] = [
        &["deploy", "--version", "v1", "--yes"],
        &["rollback", "--yes"],
        &["status"],
        &["history"],
        &["recover", "--yes"],
        &["down", "--yes"],
        &["adopt", "--version", "v1", "--yes"],
    ];
    for verb in verbs {
        world.run(verb).expect(2).says("backout.yaml").says("backout init");
    }
    assert!(!world.state_dir().exists(), "nothing is made for nothing");
}

#[test]
fn a_mistyped_verb_or_flag_names_the_nearest_one() {
    let world = World::new(&Yaml::default());
    world.run(&["delpoy", "--version", "v1"]).expect(2).says("deploy");
    world.run(&["deploy", "--vesion", "v1"]).expect(2).says("--version");
    world.run(&["deploy"]).expect(2).says("--version");
    world.run(&["rollback", "--override", "everything"]).expect(2).says("everything");
    world.run(&["rollback", "--to", "yesteryear"]).expect(2).says("yesteryear");
    assert!(!world.state_dir().exists());
}

#[test]
fn a_wrong_configuration_is_shown_with_line_and_column() {
    let world = World::new(&Yaml::default());
    let good = world.read("backout.yaml");
    let cases = [
        ("strategy:", "strategie:", &["unknown key `strategie`", "did you mean `strategy`?"][..]),
        ("bake_time: 1s", "bake_time: soon", &["bake_time", "soon"]),
        ("bake_time: 1s", "bake_time: [1s]", &["bake_time"]),
        ("stages: [20, 60]", "stages: [60, 20]", &["rise"]),
        ("app: shop", "app: Shop!", &["Shop!"]),
        ("bake_time: 1s", "bake_time: \"${NOT_SET_ANYWHERE}\"", &["NOT_SET_ANYWHERE"]),
        ("consecutive_passes: 2", "thresholds: { error_rate: { warn: 9%, fail: 5% } }", &["warn"]),
        ("consecutive_passes: 2", "consecutive_passes: -2", &["consecutive_passes"]),
    ];
    for (right, wrong, words) in cases {
        assert!(good.contains(right), "{right} is not in\n{good}");
        world.write("backout.yaml", &good.replacen(right, wrong, 1));
        let mut ran = world.run(&["deploy", "--version", "v1", "--yes"]).expect(2);
        for word in words {
            ran = ran.says(word);
        }
        let at = good.lines().position(|line| line.contains(right)).unwrap() + 1;
        ran.says(&format!("backout.yaml:{at}:"));
    }
    assert!(!world.state_dir().exists());
}

#[test]
fn an_environment_is_named_where_there_are_several() {
    let world = World::new(&Yaml::default().extra("environments: { staging: {}, production: {} }"));
    world.run(&["deploy", "--version", "v1", "--yes"]).expect(2).says("staging, production");
    world
        .run(&["deploy", "-e", "prodution", "--version", "v1", "--yes"])
        .expect(2)
        .says("prodution")
        .says("production");
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_done() {
    let world = World::new(&Yaml::blue_green());
    world.run(&["deploy", "--version", "v1"]).expect(4).says("no --yes");
    assert_eq!((world.processes().len(), world.status()["deployment"].is_null()), (0, true));
    world.deployed("v1");
    world.deployed("v2");
    world.run(&["rollback", "--force"]).expect(4).says("no --yes");
    world.run(&["down"]).expect(4).says("no --yes");
    world.expect_serving("v2");
    assert_eq!(world.history().len(), 2);
}

#[test]
fn in_production_people_say_why() {
    let yaml = Yaml::blue_green().extra("environments: { production: { production: true } }");
    let world = World::new(&yaml);
    world.deployed("v1");
    world.deployed("v2");
    world.rollback(&["--force"]).expect(4).says("--reason");
    world.expect_serving("v2");
    world.rollback(&["--force", "--reason", "checkout fails"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.row(3)["reason"], "checkout fails");
}

#[test]
fn a_program_that_asks_for_a_document_gets_one_also_when_it_is_refused() {
    let world = World::bare();
    let nothing = world.run(&["status", "--format", "json"]).expect(2).json();
    assert_eq!(nothing["exit_code"], 2);
    assert!(nothing["error"].as_str().unwrap().contains("no such file"), "{nothing:#}");

    let world = World::new(&Yaml::blue_green());
    let refused = world.run(&["adopt", "--version", "v1", "--format", "json"]).expect(4).json();
    assert_eq!(refused["exit_code"], 4);
    assert_eq!(refused["hints"], serde_json::json!(["run it with --yes"]));
}
