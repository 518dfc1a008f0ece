//! Ports of the file that both sides would want.

use super::{Shop, WEB};
use crate::support::free_port;

/// Nothing was changed: the same containers of the same release, and no new row.
#[track_caller]
fn still(shop: &Shop, containers: &[String], version: &str) {
    assert_eq!(shop.containers(), containers);
    shop.expect_serving(version);
    assert_eq!(shop.world.story(), ["#1 deploy v1 stable"]);
    assert_eq!(shop.world.status()["operation"], serde_json::Value::Null);
}

#[test]
fn a_second_fixed_port_is_refused_where_two_sides_stand_beside_each_other() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    let containers = shop.containers();
    let other = free_port();
    shop.compose(&WEB.replace("8080\"]", &format!("8080\", \"127.0.0.1:{other}:9090\"]")));
    let deploy = ["deploy", "--version", "v2", "--yes"];
    for args in [&deploy[..], &["deploy", "--version", "v2", "--dry-run"]] {
        let ran = shop.world.run(args).expect(1);
        let ran = ran.says("failed to run two releases of web side by side");
        let ran = ran.says(&format!("both would publish port {other}"));
        ran.says("publish only the port that takes requests");
        still(&shop, &containers, "v1");
    }
    // The one that takes requests may be a fixed one: each side gets its own.
    shop.compose(WEB);
    shop.world.deployed("v2");
    shop.expect_serving("v2");
}

#[test]
fn a_network_with_fixed_addresses_is_refused_where_two_sides_stand_beside_each_other() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    let containers = shop.containers();
    let pool = format!("10.{}.{}.0/24", 100 + shop.world.listen % 25, shop.world.listen % 250);
    let network =
        format!("networks: {{ default: {{ ipam: {{ config: [{{ subnet: {pool} }}] }} }} }}\n");
    shop.compose(&format!("{WEB}{network}"));
    let ran = shop.world.deploy("v2").expect(1);
    ran.says(&format!("network default with the addresses {pool}"));
    still(&shop, &containers, "v1");
}

#[test]
fn two_sides_without_a_router_are_refused_in_the_file() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    let containers = shop.containers();
    let text = shop.world.read("backout.yaml");
    shop.world.write("backout.yaml", &format!("{text}strategy: blue_green\n"));
    let ran = shop.world.deploy("v2").expect(2);
    ran.says("moves traffic, and there is no router").says("strategy: recreate");
    shop.world.write("backout.yaml", &text);
    still(&shop, &containers, "v1");
}

#[test]
fn a_router_on_the_port_of_what_runs_in_its_place_says_what_to_do() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    let containers = shop.containers();
    let text = shop.world.read("backout.yaml");
    // As people go from one to the other: the proxy takes over the port that users know.
    shop.configure(
        "router: { builtin: { listen: \"127.0.0.1:LISTEN\" } }\nstrategy: blue_green\n",
        "{port}",
        "",
    );
    let ran = shop.world.deploy("v2").expect(4);
    let words = format!("failed to listen on 127.0.0.1:{}: ", shop.world.listen);
    ran.says(&words).says("change router.builtin.listen");
    let beside = shop.world.read("backout.yaml");
    shop.world.write("backout.yaml", &text);
    still(&shop, &containers, "v1");
    shop.world.run(&["down", "--yes"]).expect(0);
    shop.world.write("backout.yaml", &beside);
    shop.world.deployed("v2");
    shop.expect_serving("v2");
}
