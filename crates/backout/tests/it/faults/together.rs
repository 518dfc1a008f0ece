//! Two at once.

use crate::support::{World, Yaml};

#[test]
fn of_two_deploys_at_once_one_is_accepted() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    let yaml = world.read("backout.yaml");
    world.write("backout.yaml", &yaml.replace("hold: 400ms", "hold: 2s"));
    let racers = [world.deploying("v2"), world.deploying("v3")];
    let pids = racers.each_ref().map(crate::support::Background::pid);
    let ran = racers.map(crate::support::Background::wait);
    let winner =
        ran.iter().position(|ran| ran.code == Some(0)).unwrap_or_else(|| panic!("{ran:?}"));
    let loser = &ran[1 - winner];
    assert_eq!(loser.code, Some(5), "{ran:?}");
    let holder = format!(":{} is busy with `deploy`", pids[winner]);
    assert!(loser.stderr.contains(&holder), "names the holder {holder}: {}", loser.stderr);
    let version = ["v2", "v3"][winner];
    world.expect_serving(version);
    assert_eq!(
        world.story(),
        [format!("#2 deploy {version} stable"), "#1 deploy v1 stable".to_owned()]
    );
}
