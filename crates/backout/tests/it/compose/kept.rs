//! Images that are pruned while somebody watches, and a registry that goes away in the middle of a layer.

use std::fmt::Write as _;
use std::sync::Arc;

use backout_testkit::Relay;
use backout_testkit::docker::{Engine, Registry};
use rustix::process::Signal;

use super::{Shop, WEB};
use crate::support::{wait_for, wait_until};

#[test]
fn a_way_back_that_goes_while_a_release_bakes_is_seen_without_asking_for_it() {
    let shop = Shop::on(Arc::new(Engine::own()), false);
    shop.world.deployed("v1");
    let text = shop.world.read("backout.yaml");
    shop.world.write("backout.yaml", &text.replace("bake_time: 1s", "bake_time: 10m"));
    let deploying = shop.world.deploying("v2");
    shop.world.wait_for_step("bake");
    let readiness = || shop.world.status()["rollback_readiness"].clone();
    let first = wait_for("the way back to be proven", || {
        let seen = readiness();
        (seen["ready"] == true && seen["version"] == "v1").then_some(seen)
    });
    shop.engine.expect(&["image", "rm", &shop.image("v1")]);
    shop.engine.expect(&["system", "prune", "--all", "--force"]);
    let second = wait_for("the way back to be looked at again", || {
        let seen = readiness();
        (seen["ready"] == false).then_some(seen)
    });
    assert!(second["checked_at"].as_str() > first["checked_at"].as_str(), "{second:#}");
    assert!(second["checks"].to_string().contains("was removed from this machine"), "{second:#}");
    // Who asks for it all the same is told, nothing is stopped for it, and the release goes on baking.
    let ran = shop.world.rollback(&["--reason", "checkout fails"]).expect(4);
    ran.says("artifact_available").says("was removed from this machine");
    shop.expect_serving("v2");
    let status = shop.world.status();
    assert_eq!(
        (&status["operation"]["step"], &status["operation"]["held"]),
        (&"bake".into(), &true.into())
    );
    deploying.signal(Signal::TERM);
    deploying.wait().expect(3);
    shop.expect_serving("v2");
    assert_eq!(shop.world.status()["version"], "v2");
}

/// Text that no compression makes small, another one for each seed: an engine keeps equal layers once.
fn noise(seed: u16, bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(seed);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(text, "{state:016x}").unwrap();
    }
    text
}

/// `v1` in a registry behind a relay and live, `v2` only in the registry, with a layer of some MB.
struct Far {
    shop: Shop,
    relay: Relay,
    /// The image as the file names it.
    image: String,
    containers: Vec<String>,
    _registry: Registry,
}

impl Far {
    fn new() -> Self {
        let (shop, registry) = (Shop::new(false), Registry::start());
        let name = format!("{}/web", shop.app());
        let direct = registry.reference(&name);
        let relay = Relay::to(direct.split([':', '/']).nth(1).unwrap().parse().unwrap());
        let image = format!("127.0.0.1:{}/{name}", relay.port());
        shop.compose(&WEB.replace("IMAGE", &image));
        let noise = noise(shop.world.listen, 6 << 20);
        let command = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"];
        for (version, noise) in [("v1", ""), ("v2", noise.as_str())] {
            let files = [("www/health", version), ("www/index.html", version), ("noise", noise)];
            let tag = format!("{direct}:{version}");
            shop.engine.image(&tag, &files, &command);
            shop.engine.expect(&["push", "--quiet", &tag]);
            shop.engine.expect(&["image", "rm", &tag]);
        }
        shop.world.deployed("v1");
        shop.expect_serving("v1");
        let containers = shop.containers();
        Self { shop, relay, image, containers, _registry: registry }
    }

    #[track_caller]
    fn nothing_was_changed(&self) {
        self.shop.expect_serving("v1");
        assert_eq!(self.shop.containers(), self.containers);
        assert_eq!(self.shop.world.story(), ["#1 deploy v1 stable"]);
        assert_eq!(self.shop.world.status()["operation"], serde_json::Value::Null);
    }

    /// Whether a command of the engine has the image among its words.
    fn somebody_asks_for_it(&self) -> bool {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let words =
            all.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
        let mut words = words.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        words.any(|words| words.contains(&self.image) && words.contains("docker"))
    }

    #[track_caller]
    fn ends_well_once_it_is_back(&self) {
        self.relay.restore();
        self.shop.world.deployed("v2");
        self.shop.expect_serving("v2");
    }
}

/// The engine tries five times, for most of a minute.
#[test]
fn a_registry_that_goes_away_in_the_middle_of_a_layer_changes_nothing() {
    let far = Far::new();
    far.relay.cut_after(2 << 20);
    let ran = far.shop.world.deploy("v2").expect(1);
    assert!(far.relay.is_cut(), "in the middle of the layer");
    ran.says(&format!("failed to pull image {}:v2: ", far.image))
        .says("registry must be reachable");
    far.nothing_was_changed();
    far.ends_well_once_it_is_back();
}

#[test]
fn a_registry_that_says_nothing_holds_nobody_up() {
    let far = Far::new();
    far.relay.swallow();
    let deploying = far.shop.world.deploying("v2");
    let asks = || far.somebody_asks_for_it();
    wait_until("the question for the image", asks);
    far.shop.expect_serving("v1");
    deploying.signal(Signal::TERM);
    // Nothing had begun that would have to be ended in good order.
    assert_eq!(deploying.wait().signal, Some(15));
    wait_until("the end of the question", || !asks());
    far.nothing_was_changed();
    far.ends_well_once_it_is_back();
}
