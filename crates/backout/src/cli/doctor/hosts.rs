//! The other machines: reachable by ssh, and with what a deploy needs there.

use std::sync::Arc;
use std::time::Duration;

use backout_core::model::{SystemdBus, TargetSpec};
use backout_core::ports::{Host, HostCommand, HostEnded};
use futures_util::stream::{self, StreamExt};

use super::Item;
use crate::cli::reading::Place;
use crate::registry;

const LOOK: Duration = Duration::from_secs(30);

/// What is looked for on a host: the words of `test`, and what it means that they fail.
struct Wanted {
    test: Vec<String>,
    missing: String,
    fix: String,
}

/// One line for each host.
pub async fn items(place: &Place) -> Vec<Item> {
    let settings = &place.loaded.settings;
    let hosts = registry::hosts(settings, &place.loaded.folder);
    let wanted: Vec<Wanted> =
        settings.services.values().filter_map(|service| wanted(&service.target)).collect();
    let all: Vec<Arc<dyn Host>> = hosts.all().cloned().collect();
    let look = |host: Arc<dyn Host>| item(host, &wanted);
    let at_once = settings.policy.hosts.at_once.max(1);
    let items = stream::iter(all).map(look).buffered(at_once).collect().await;
    hosts.close().await;
    items
}

fn wanted(target: &TargetSpec) -> Option<Wanted> {
    let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    match target {
        TargetSpec::Script(script) => Some(Wanted {
            test: words(["-x", &script.program]),
            missing: format!("there is no executable `{}`", script.program),
            fix: "put the script below `ssh.folder` there, and make it executable".to_owned(),
        }),
        TargetSpec::Git(git) => Some(Wanted {
            test: words(["-e", &format!("{}/.git", git.repository)]),
            missing: format!("`{}` is not the top of a git repository", git.repository),
            fix: "git clone it there, or correct `repository`".to_owned(),
        }),
        TargetSpec::Systemd(unit) if unit.bus == SystemdBus::System => Some(Wanted {
            test: words(["-S", "/run/dbus/system_bus_socket"]),
            missing: "D-Bus of its system does not listen".to_owned(),
            fix: "install dbus there: the units are started over it".to_owned(),
        }),
        _ => None,
    }
}

async fn item(host: Arc<dyn Host>, wanted: &[Wanted]) -> Item {
    let name = "host";
    for Wanted { test, missing, fix } in wanted {
        let argv = std::iter::once("test".to_owned()).chain(test.iter().cloned());
        match host.run(&HostCommand::look(argv, LOOK)).await {
            Ok(output) if output.ended == HostEnded::Exited(0) => {}
            Ok(_) => return Item::error(name, format!("{}: {missing}", host.name())).fix(fix),
            Err(error) => {
                let item = Item::error(name, format!("{}: {error}", host.name()));
                return match error.hint {
                    Some(hint) => item.fix(hint),
                    None => item.fix(format!("ssh {} true", host.name())),
                };
            }
        }
    }
    Item::pass(name, format!("{} is reached by ssh, with what a deploy needs", host.name()))
}
