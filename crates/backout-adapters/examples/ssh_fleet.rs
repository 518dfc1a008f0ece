//! Starts sshd on so many ports for the benchmark, and on each order works on all of them at once.
//!
//! On standard output it says `config=PATH` and `ready`; `run N` on standard input lets it run N commands on each host and
//! say `MILLISECONDS FAILURES`. It ends with its standard input.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_adapters::host::{SshHost, SshOptions};
use backout_core::ids::{HostName, Slot, Unit};
use backout_core::ports::{Host, HostChange, HostCommand, HostEnded};
use backout_testkit::{SshServers, fixtures};

const SCRIPT: &str = "#!/bin/sh\necho \"$1\" >> calls\n";

fn main() {
    let count: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let servers = SshServers::start(count);
    for index in 0..count {
        let script = servers.home(index).join("deploy.sh");
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    println!("config={}\nready", servers.config().display());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (round, line) in std::io::stdin().lock().lines().enumerate() {
        let commands: usize = line.unwrap().strip_prefix("run ").unwrap().parse().unwrap();
        let began = Instant::now();
        let failures = runtime.block_on(all(&servers, count, commands, round));
        println!("{} {failures}", began.elapsed().as_secs_f64() * 1000.0);
        std::io::stdout().flush().unwrap();
    }
}

async fn all(servers: &SshServers, count: usize, commands: usize, round: usize) -> usize {
    let calls: Vec<_> = (0..count)
        .map(|index| {
            let name = HostName::new(format!("host{index}")).unwrap();
            let options = SshOptions {
                config: Some(servers.config()),
                connect_timeout: Duration::from_secs(60),
                ..SshOptions::new(name)
            };
            let host = Arc::new(SshHost::new(options));
            tokio::spawn(async move { one(&host, commands, round).await })
        })
        .collect();
    let mut failures = 0;
    for call in calls {
        failures += usize::from(!call.await.unwrap());
    }
    failures
}

/// Connects, makes so many changes one after the other, and leaves.
async fn one(host: &SshHost, commands: usize, round: usize) -> bool {
    let unit = Unit { host: host.name().clone(), ..fixtures::unit(Slot::A) };
    let mut good = true;
    for number in 0..commands {
        let change = HostChange {
            unit: unit.clone(),
            step: format!("{round}-{number}"),
            epoch: 1,
            revert: None,
        };
        let command = HostCommand {
            change: Some(change),
            ..HostCommand::look(["./deploy.sh", "deploy"], Duration::from_secs(60))
        };
        let ran = host.run(&command).await;
        good &= ran.is_ok_and(|output| output.ended == HostEnded::Exited(0));
    }
    host.close().await;
    good
}
