//! Bundles of containers, and an engine that hangs over their logs.

use std::time::Instant;

use super::{files, folder, shown};
use crate::compose::Shop;
use crate::support::World;

/// A `docker` that never answers to `logs`, before the real one on the PATH.
fn hang_over_logs(world: &World) {
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("docker")).find(|p| p.exists());
    let real = real.expect("docker is on the PATH");
    let folder = world.root().join("hanging");
    std::fs::create_dir(&folder).unwrap();
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in logs) exec sleep 300;; esac\nexec {} \"$@\"\n",
        real.display()
    );
    let program = folder.join("docker");
    std::fs::write(&program, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    world.set("PATH", &format!("{}:{path}", folder.display()));
}

/// A build that answers, says something, and is not well.
fn ill(shop: &Shop, version: &str) {
    let program = "echo \"it began with $0\"; echo 'no such table' >&2; exec /bin/busybox httpd -f -p 8080 -h /www";
    let files = [("www/index.html", version)];
    shop.engine.image(&shop.image(version), &files, &["/bin/sh", "-c", program]);
}

#[test]
fn logs_and_states_of_containers_are_kept() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    ill(&shop, "v3");
    shop.world.deploy("v3").expect(10);
    shop.expect_serving("v1");
    let bundle = shown(&shop.world, "#2");
    let names = files(&bundle);
    assert!(names.iter().any(|n| n == "web.containers.json"), "{names:?}");
    let log = names.iter().find(|n| n.ends_with(".err.log")).unwrap_or_else(|| panic!("{names:?}"));
    let path = folder(&shop.world).join(bundle["id"].as_str().unwrap());
    let text = std::fs::read_to_string(path.join(log)).unwrap();
    assert!(text.contains("no such table"), "{text}");
}

#[test]
fn a_hanging_engine_holds_nothing_up_for_long() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    hang_over_logs(&shop.world);
    let began = Instant::now();
    let back = shop.world.rollback(&["--force"]).expect(0).json();
    shop.expect_serving("v1");
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    let warnings = back["warnings"].to_string();
    assert!(warnings.contains("logs of web: no answer in time"), "{warnings}");
    let bundle = shown(&shop.world, "#2");
    assert!(files(&bundle).contains(&"state.json".to_owned()), "{bundle:#}");
    let sleeping = shop.world.processes().into_iter().find(|p| p.has("sleep"));
    assert!(sleeping.is_none(), "the hanging call is ended: {sleeping:?}");
}
