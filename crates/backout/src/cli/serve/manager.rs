//! What the service manager is told (`sd_notify`): that it is ready, that it lives, that it leaves.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What was told already.
#[derive(Default)]
pub struct Told {
    count: Option<usize>,
}

impl Told {
    /// Called with every round.
    pub fn alive(&mut self, count: usize) {
        let status = format!("STATUS=looks after {count} environments");
        if self.count.is_none() {
            tell(&format!("READY=1\n{status}\nWATCHDOG=1"));
        } else if self.count == Some(count) {
            tell("WATCHDOG=1");
        } else {
            tell(&format!("{status}\nWATCHDOG=1"));
        }
        self.count = Some(count);
    }
}

/// Tells the service manager, if one listens. That it can't be told changes nothing here.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return;
    };
    let name = path.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
