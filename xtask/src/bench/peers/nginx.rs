//! nginx, switched by a new configuration and a reload.

use std::net::SocketAddr;
use std::process::Command;

use super::{Proxy, wait_until_serving};
use crate::bench::backend::{Backends, Side};
use crate::bench::folder::Folder;
use crate::bench::process::{Server, free_address};
use crate::{Outcome, needs, run};

pub(crate) struct Nginx<'a> {
    server: Server,
    address: SocketAddr,
    folder: &'a Folder,
    backends: &'a Backends,
    workers: usize,
}

impl<'a> Nginx<'a> {
    pub(crate) fn start(
        folder: &'a Folder,
        backends: &'a Backends,
        workers: usize,
    ) -> Outcome<Self> {
        let address = free_address()?;
        folder.write("nginx.conf", &config(address, backends.a, workers))?;
        let mut server = Server::start(nginx(folder))?;
        wait_until_serving(&mut server, address)?;
        Ok(Self { server, address, folder, backends, workers })
    }
}

fn nginx(folder: &Folder) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "nginx-error.log"]);
    command.env("PATH", needs::with_system_folders());
    command
}

fn config(address: SocketAddr, upstream: SocketAddr, workers: usize) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path nginx-{kind};\n"))
        .collect();
    format!(
        "worker_processes {workers};\ndaemon off;\npid nginx.pid;\nerror_log nginx-error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n{temporary}\
         \x20 upstream be {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}\n\
         \x20 server {{\n    listen {address};\n    keepalive_requests 100000000;\n\
         \x20   location / {{\n      proxy_pass http://be;\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    )
}

impl Proxy for Nginx<'_> {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn switch_to(&mut self, side: Side) -> Outcome<()> {
        let text = config(self.address, self.backends.of(side), self.workers);
        self.folder.write("nginx.conf", &text)?;
        let mut reload = nginx(self.folder);
        reload.args(["-s", "reload"]);
        run::output(reload).map(drop)
    }

    fn server(&self) -> &Server {
        &self.server
    }
}
