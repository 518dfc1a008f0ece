//! Bundles of units: what they said to the journal.

use super::{all_text, files, folder, shown};
use crate::support::Service;
use crate::systemd::Shop;

#[test]
fn the_last_words_of_a_unit_that_fails_are_kept() {
    let shop = Shop::new(false);
    shop.build(Service { before: "echo v1 begins", ..Service::default() });
    shop.world.deployed("v1");
    let before = "echo v2 begins; echo no such table >&2; exit 3";
    shop.build(Service { before, ..Service::default() });
    shop.world.deploy("v2").expect(10);
    shop.expect_serving("v1");
    let bundle = shown(&shop.world, "#2");
    assert_eq!((&bundle["version"], &bundle["deployment"]), (&"v2".into(), &2.into()));
    assert_eq!(bundle["problems"], serde_json::json!([]), "{bundle:#}");
    let names = files(&bundle);
    let log = names.iter().find(|name| name.contains("journal") && name.starts_with("shop"));
    let log = log.unwrap_or_else(|| panic!("{names:?}"));
    let path = folder(&shop.world).join(bundle["id"].as_str().unwrap());
    let text = std::fs::read_to_string(path.join(log)).unwrap();
    assert!(text.contains("v2 begins") && text.contains("no such table"), "{text}");
    assert!(!text.contains("v1 begins"), "of another release: {text}");
    // Whoever looks sees it.
    let said = shop.world.run(&["inspect", "#2"]).expect(0).stdout;
    assert!(said.contains(log.as_str()) && said.contains("no such table"), "{said}");
}

#[test]
fn so_are_those_of_one_that_a_person_takes_back_and_no_secret_with_them() {
    let shop = Shop::new(true);
    let text = shop.world.read("backout.yaml") + "secrets: [TOKEN]\n";
    shop.world.write("backout.yaml", &text);
    shop.world.set("TOKEN", "t0ken-of-today");
    shop.world.deployed("v1");
    let before = "echo with t0ken-of-today it began";
    shop.build(Service { before, ..Service::default() });
    shop.world.deployed("v2");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    shown(&shop.world, "#2");
    let all = all_text(&folder(&shop.world));
    assert!(all.contains("with [redacted] it began"), "{all}");
    assert!(!all.contains("t0ken"));
}
