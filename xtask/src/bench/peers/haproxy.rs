//! HAProxy, commanded through its runtime API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::{Proxy, ask, wait_until_serving};
use crate::Outcome;
use crate::bench::backend::{Backends, Side};
use crate::bench::folder::Folder;
use crate::bench::process::{Server, free_address};

pub(crate) struct Haproxy {
    server: Server,
    address: SocketAddr,
    socket: PathBuf,
}

impl Haproxy {
    pub(crate) fn start(folder: &Folder, backends: &Backends, threads: usize) -> Outcome<Self> {
        let address = free_address()?;
        let socket = folder.path().join("haproxy.sock");
        let Backends { a, b } = backends;
        let config = folder.write(
            "haproxy.cfg",
            &format!(
                "global\n  nbthread {threads}\n  maxconn 4096\n  stats socket {} mode 600 level admin\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
                 frontend in\n  bind {address}\n  default_backend be\n\
                 backend be\n  balance roundrobin\n  http-reuse always\n\
                 \x20 server a {a} weight 100\n  server b {b} weight 0\n",
                socket.display()
            ),
        )?;
        let mut command = Command::new("haproxy");
        command.arg("-q").arg("-db").arg("-f").arg(config);
        let mut server = Server::start(command)?;
        wait_until_serving(&mut server, address)?;
        Ok(Self { server, address, socket })
    }
}

impl Proxy for Haproxy {
    fn name(&self) -> &'static str {
        "HAProxy"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    /// The new side first: with both at 0 it answers 503.
    fn switch_to(&mut self, side: Side) -> Outcome<()> {
        let (new, old) = (side.letter(), side.other().letter());
        let command = format!("set server be/{new} weight 100;set server be/{old} weight 0\n");
        let answer = ask(&self.socket, &command, |_| false)?;
        match answer.trim() {
            "" => Ok(()),
            told => Err(format!("HAProxy refused the weights: {told}")),
        }
    }

    fn server(&self) -> &Server {
        &self.server
    }
}
