//! The systemd unit, and what a service manager is told.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{PATIENCE, World, Yaml};

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let world = World::new(&Yaml::default().extra("secrets: [API_KEY]"));
    let unit = world.run(&["serve", "--print-unit", "-f", "backout.yaml"]).expect(0).stdout;
    let path = world.root().join("backout.service");
    std::fs::write(&path, &unit).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .expect("systemd-analyze is needed (Debian's package systemd)");
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && !said.contains("backout.service"), "{said}\n{unit}");
    // It is the very command with the very paths.
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for word in ["serve --headless", "-f ", "shop/backout.yaml", "--state-dir"] {
        assert!(start.contains(word), "{word} in {start}");
    }
    let json = world.run(&["serve", "--print-unit", "--format", "json"]).expect(0).json();
    assert!(json["unit"].as_str().unwrap().contains("[Service]"));
    world.run(&["serve", "--print-unit", "-f", "none.yaml"]).expect(2).says("is not there");
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_leaves() {
    let world = World::new(&Yaml::default());
    let path = world.root().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = |words: &str| {
        let mut bytes = [0; 512];
        loop {
            let length = socket.recv(&mut bytes).unwrap();
            if String::from_utf8_lossy(&bytes[..length]).contains(words) {
                return;
            }
        }
    };
    let controller = world.controller_with(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    heard("READY=1");
    heard("WATCHDOG=1");
    controller.signal(Signal::TERM);
    heard("STOPPING=1");
    controller.wait().expect(0);
}
