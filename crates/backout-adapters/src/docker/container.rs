//! A container as `docker inspect` shows it, as far as it is needed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use backout_core::ports::{AdapterError, Exit};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    pub id: String,
    #[serde(default)]
    pub name: String,
    /// Id of the image it really runs.
    #[serde(default)]
    pub image: String,
    #[serde(default)]
    pub restart_count: u32,
    pub state: State,
    pub config: Config,
    pub host_config: HostConfig,
    #[serde(default)]
    pub network_settings: NetworkSettings,
}

type Ports = BTreeMap<String, Option<Vec<Binding>>>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    /// What is published while it runs.
    #[serde(default)]
    pub ports: Option<Ports>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub status: String,
    #[serde(default)]
    pub pid: u32,
    #[serde(default)]
    pub exit_code: i32,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub started_at: String,
    #[serde(default)]
    pub finished_at: String,
    #[serde(default)]
    pub health: Option<Health>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    pub status: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    #[serde(default)]
    pub image: String,
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub stop_timeout: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfig {
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    #[serde(default)]
    pub port_bindings: Option<Ports>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RestartPolicy {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub maximum_retry_count: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Binding {
    #[serde(default)]
    pub host_ip: String,
    #[serde(default)]
    pub host_port: String,
}

pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Container>, AdapterError> {
    serde_json::from_slice(bytes)
        .map_err(|e| AdapterError::permanent(format!("failed to read `docker inspect`: {e}")))
}

impl Container {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The image that it really runs, as digests name it.
    pub(crate) fn image_digest(&self) -> String {
        format!("image:{}", self.image)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state.status.as_str(), "running" | "paused")
    }

    /// Nobody will start it again.
    pub(crate) fn is_given_up(&self) -> bool {
        let policy = &self.host_config.restart_policy;
        let restarted = match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                self.state.exit_code != 0
                    && (policy.maximum_retry_count == 0
                        || self.restart_count < policy.maximum_retry_count)
            }
            _ => false,
        };
        match self.state.status.as_str() {
            "exited" => !restarted,
            "dead" => true,
            _ => false,
        }
    }

    /// How its last run ended, if it ever ended.
    pub(crate) fn last_exit(&self) -> Option<Exit> {
        let at: Timestamp = self.state.finished_at.parse().ok()?;
        if at.as_second() <= 0 {
            return None;
        }
        // 128 and a signal's number is what the engine tells of a program that a signal ended.
        let code = self.state.exit_code;
        let signal = (129..=128 + 64).contains(&code).then(|| code - 128);
        Some(Exit { code: signal.is_none().then_some(code), signal, at })
    }

    /// Ports of this machine that it publishes to.
    pub(crate) fn host_ports(&self) -> Vec<u16> {
        let ports = self.network_settings.ports.iter().flat_map(|all| all.values());
        ports.flatten().flatten().filter_map(|binding| binding.host_port.parse().ok()).collect()
    }

    /// Where a port of it is reached on this machine: `8080/tcp`, or the first that is published. One that is
    /// between two runs has what was asked for.
    pub(crate) fn address(&self, port: Option<&str>) -> Option<SocketAddr> {
        let known = [&self.network_settings.ports, &self.host_config.port_bindings];
        known.into_iter().flatten().find_map(|ports| address(ports, port))
    }
}

fn address(ports: &Ports, port: Option<&str>) -> Option<SocketAddr> {
    let binding = match port {
        Some(port) => ports.get(port)?.as_ref()?.first()?,
        None => ports.values().flatten().flatten().next()?,
    };
    let ip = match binding.host_ip.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => ip,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Some(SocketAddr::new(ip, binding.host_port.parse().ok().filter(|port| *port != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(status: &str, code: i32, policy: &str, max: u32, count: u32) -> Container {
        let value = serde_json::json!({
            "Id": "1", "RestartCount": count,
            "State": {"Status": status, "ExitCode": code, "FinishedAt": "2026-11-21T06:37:59.25Z"},
            "Config": {}, "HostConfig": {
                "RestartPolicy": {"Name": policy, "MaximumRetryCount": max},
                "PortBindings": {"80/tcp": null, "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "4711"}]},
            },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_nobody_restarts_has_given_up() {
        for (given_up, status, code, policy, max, count) in [
            (true, "exited", 0, "no", 0, 0),
            (true, "exited", 1, "", 0, 0),
            (false, "exited", 1, "always", 0, 9),
            (false, "restarting", 1, "always", 0, 9),
            (true, "exited", 0, "on-failure", 0, 0),
            (false, "exited", 1, "on-failure", 3, 2),
            (true, "exited", 1, "on-failure", 3, 3),
            (true, "dead", 1, "always", 0, 0),
            (false, "running", 0, "no", 0, 0),
        ] {
            let seen = container(status, code, policy, max, count).is_given_up();
            assert_eq!(seen, given_up, "{status} {code} {policy} {max} {count}");
        }
    }

    #[test]
    fn signals_and_addresses_are_told() {
        let killed = container("exited", 137, "no", 0, 0);
        let exit = killed.last_exit().unwrap();
        assert_eq!((exit.code, exit.signal), (None, Some(9)));
        assert_eq!(container("exited", 3, "no", 0, 0).last_exit().unwrap().code, Some(3));
        let expected = Some("127.0.0.1:4711".parse().unwrap());
        assert_eq!((killed.address(None), killed.address(Some("8080/tcp"))), (expected, expected));
        assert_eq!(killed.address(Some("80/tcp")), None);
    }
}
