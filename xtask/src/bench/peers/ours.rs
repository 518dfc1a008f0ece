//! Our own proxy, commanded through its admin socket with nothing but the documented protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Proxy, ask, wait_until_serving};
use crate::Outcome;
use crate::bench::backend::{Backends, Side};
use crate::bench::folder::Folder;
use crate::bench::process::{Server, free_address};

const SOCKET_NAME: &str = "admin.sock";

pub(crate) struct Ours {
    server: Server,
    address: SocketAddr,
    socket: PathBuf,
    /// Everything of a put but the weights.
    route: Value,
}

impl Ours {
    pub(crate) fn start(backout: &Path, folder: &Folder, backends: &Backends) -> Outcome<Self> {
        let address = free_address()?;
        let state = folder.path().join("state");
        let mut command = Command::new(backout);
        command.arg("--state-dir").arg(&state).arg("proxy").current_dir(folder.path());
        let mut server = Server::start(command)?;
        let socket = server.wait_for(|| find_socket(&state, 4))?;
        let side = |deployment: u64, upstream: SocketAddr| {
            let version = format!("v{deployment}");
            json!({
                "upstream": upstream, "deployment": deployment,
                "release": format!("rel_{deployment}"), "version": version,
            })
        };
        let route = json!({
            "v": 1, "id": 1, "cmd": "put",
            "route": "bench/production/web", "listen": address, "epoch": 1,
            "owner": {"ledger": "bench", "app": "bench", "environment": "production"},
            "sides": {"a": side(1, backends.a), "b": side(2, backends.b)},
        });
        let mut ours = Self { server, address, socket, route };
        ours.switch_to(Side::A)?;
        wait_until_serving(&mut ours.server, address)?;
        Ok(ours)
    }
}

/// The socket stands somewhere below the state folder; where is the proxy's business.
fn find_socket(folder: &Path, depth: u32) -> Option<PathBuf> {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let here = entries.iter().find(|path| path.ends_with(SOCKET_NAME)).cloned();
    here.or_else(|| {
        entries.iter().filter(|_| depth > 0).find_map(|path| find_socket(path, depth - 1))
    })
}

impl Proxy for Ours {
    fn name(&self) -> &'static str {
        "Backout"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn switch_to(&mut self, side: Side) -> Outcome<()> {
        let mut put = self.route.clone();
        let (new, old) = (side.letter().to_string(), side.other().letter().to_string());
        put["weights"] = json!({new: 100, old: 0});
        let answer = ask(&self.socket, &format!("{put}\n"), |answer| answer.ends_with(b"\n"))?;
        let answer: Value =
            serde_json::from_str(&answer).map_err(|e| format!("failed to read `{answer}`: {e}"))?;
        if answer["ok"].is_object() {
            return Ok(());
        }
        Err(format!("the proxy refused the weights: {answer}"))
    }

    fn server(&self) -> &Server {
        &self.server
    }
}
