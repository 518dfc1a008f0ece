//! What is checked, and how often.

use std::net::SocketAddr;

use backout_core::model::{CheckSchedule, HealthSpec, HttpCheck, ProbeSpec};

use super::Findings;
use super::target::{Around, braced_words, check_argv};
use crate::config::errors::nearest;
use crate::config::node::Position;
use crate::config::raw::{
    At, RawDuringRollout, RawExec, RawHealth, RawHttp, RawService, RawServiceHealth, RawTcp,
};
use crate::config::scalar::Duration;

/// What a running check knows of the instance it is for.
const PLACEHOLDERS: &[&str] = &["host", "port", "slot", "version", "release"];

/// The schedule of a probe as written.
#[derive(Default)]
struct Timing<'a> {
    interval: Option<&'a At<Duration>>,
    timeout: Option<&'a At<Duration>>,
    retries: Option<&'a At<u32>>,
    initial_delay: Option<&'a At<Duration>>,
}

macro_rules! timing {
    ($($raw:ty),*) => {$(
        impl<'a> From<&'a $raw> for Timing<'a> {
            fn from(raw: &'a $raw) -> Self {
                Timing {
                    interval: raw.interval.as_ref(),
                    timeout: raw.timeout.as_ref(),
                    retries: raw.retries.as_ref(),
                    initial_delay: raw.initial_delay.as_ref(),
                }
            }
        }
    )*};
}
timing!(RawHttp, RawTcp, RawExec);

/// Where the schedule of a rollout stands, the service's before the one at the top.
struct Maker<'a> {
    rollout: [Option<&'a RawDuringRollout>; 2],
    has_port: bool,
    name: &'a str,
}

/// A service's own probes replace those at the top and inherit the schedule of the same kind; a service
/// that takes requests and names none has those at the top.
pub(super) fn probes(
    top: Option<&At<RawHealth>>,
    own: Option<&RawService>,
    around: &Around<'_>,
    has_port: bool,
    found: &mut Findings,
) -> HealthSpec {
    let nothing = RawHealth::default();
    let top = top.map_or(&nothing, |top| &top.value);
    let own = own.and_then(|own| own.health.as_ref()).map(|health| &health.value);
    let own_probes =
        own.filter(|own| own.http.is_some() || own.tcp.is_some() || own.exec.is_some());
    let inherited = RawServiceHealth {
        http: top.http.clone(),
        tcp: top.tcp.clone(),
        exec: top.exec.clone(),
        ..RawServiceHealth::default()
    };
    let Some(chosen) = own_probes.or(around.traffic.then_some(&inherited)) else {
        return HealthSpec::default();
    };
    let maker = Maker {
        rollout: [own.and_then(|own| own.during_rollout.as_ref()), top.during_rollout.as_ref()],
        has_port,
        name: around.name,
    };
    let mut probes = Vec::new();
    if let Some(http) = &chosen.http {
        probes.extend(maker.http(http, top.http.as_ref(), found));
    }
    if let Some(tcp) = &chosen.tcp {
        probes.extend(maker.tcp(tcp, top.tcp.as_ref(), found));
    }
    if let Some(exec) = &chosen.exec {
        probes.extend(maker.exec(exec, top.exec.as_ref(), found));
    }
    HealthSpec { probes }
}

impl Maker<'_> {
    fn http(
        &self,
        own: &At<RawHttp>,
        top: Option<&At<RawHttp>>,
        found: &mut Findings,
    ) -> Option<ProbeSpec> {
        let schedule =
            self.schedule(&(&own.value).into(), top.map(|top| (&top.value).into()), found);
        let Some(url) = own.value.url.as_ref().or(top.and_then(|top| top.value.url.as_ref()))
        else {
            found.refuse_at(
                own.at,
                "the http check has no `url`",
                "add `url: \"http://127.0.0.1:{port}/health\"`",
            );
            return None;
        };
        if self.check_words(url.at, &url.value, found) {
            check_url(url, found);
        }
        let fields = own
            .value
            .required_fields
            .as_ref()
            .or(top.and_then(|top| top.value.required_fields.as_ref()));
        let check = HttpCheck {
            url: url.value.clone(),
            required_fields: fields.cloned().unwrap_or_default(),
        };
        Some(ProbeSpec::Http { check, schedule })
    }

    fn tcp(
        &self,
        own: &At<RawTcp>,
        top: Option<&At<RawTcp>>,
        found: &mut Findings,
    ) -> Option<ProbeSpec> {
        let schedule =
            self.schedule(&(&own.value).into(), top.map(|top| (&top.value).into()), found);
        let Some(address) =
            own.value.address.as_ref().or(top.and_then(|top| top.value.address.as_ref()))
        else {
            found.refuse_at(
                own.at,
                "the tcp check has no `address`",
                "add `address: \"127.0.0.1:{port}\"`",
            );
            return None;
        };
        self.check_words(address.at, &address.value, found);
        let (host, port) = filled(&address.value)
            .rsplit_once(':')
            .map_or((String::new(), None), |(host, port)| {
                (host.to_owned(), port.parse::<u16>().ok().filter(|port| *port != 0))
            });
        if host.is_empty() || port.is_none() {
            let message = format!("`{}` is not an address", address.value);
            found.refuse_at(address.at, message, "write host and port, such as `127.0.0.1:{port}`");
        }
        Some(ProbeSpec::Tcp { address: address.value.clone(), schedule })
    }

    fn exec(
        &self,
        own: &At<RawExec>,
        top: Option<&At<RawExec>>,
        found: &mut Findings,
    ) -> Option<ProbeSpec> {
        let schedule =
            self.schedule(&(&own.value).into(), top.map(|top| (&top.value).into()), found);
        let Some(command) =
            own.value.command.as_ref().or(top.and_then(|top| top.value.command.as_ref()))
        else {
            found.refuse_at(
                own.at,
                "the exec check has no `command`",
                "add `command: [./check.sh]`",
            );
            return None;
        };
        check_argv(command, "command", found);
        for text in &command.value {
            self.check_port(command.at, text, found);
        }
        Some(ProbeSpec::Exec { command: command.value.clone(), schedule })
    }

    fn schedule(
        &self,
        own: &Timing<'_>,
        top: Option<Timing<'_>>,
        found: &mut Findings,
    ) -> CheckSchedule {
        let default = CheckSchedule::default();
        let top = top.unwrap_or_default();
        let [own_rollout, top_rollout] = self.rollout;
        let rollout_interval = own_rollout
            .and_then(|rollout| rollout.interval.as_ref())
            .or(top_rollout.and_then(|rollout| rollout.interval.as_ref()));
        let rollout_delay = own_rollout
            .and_then(|rollout| rollout.initial_delay.as_ref())
            .or(top_rollout.and_then(|rollout| rollout.initial_delay.as_ref()));
        CheckSchedule {
            interval_ms: found.positive(
                "interval",
                own.interval.or(top.interval),
                default.interval_ms,
            ),
            timeout_ms: found.positive("timeout", own.timeout.or(top.timeout), default.timeout_ms),
            retries: found.within(
                "retries",
                own.retries.or(top.retries),
                default.retries,
                (0, 100),
            ),
            initial_delay_ms: own
                .initial_delay
                .or(top.initial_delay)
                .map_or(default.initial_delay_ms, |delay| delay.value.0),
            rollout_interval_ms: found.positive(
                "interval",
                rollout_interval,
                default.rollout_interval_ms,
            ),
            rollout_initial_delay_ms: rollout_delay
                .map_or(default.rollout_initial_delay_ms, |delay| delay.value.0),
        }
    }

    fn check_port(&self, at: Position, text: &str, found: &mut Findings) {
        if !self.has_port && braced_words(text).any(|word| word == "port") {
            let message =
                format!("the check uses `{{port}}`, but service `{}` has no port", self.name);
            found.refuse_at(at, message, "write the number here, or give a process `port`");
        }
    }

    /// Whether all words in braces are filled in in a check.
    fn check_words(&self, at: Position, text: &str, found: &mut Findings) -> bool {
        self.check_port(at, text, found);
        let mut known = true;
        for word in braced_words(text).filter(|word| !PLACEHOLDERS.contains(word)) {
            let hint = match nearest(word, PLACEHOLDERS.iter().copied()) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => {
                    "filled in here: {host}, {port}, {slot}, {version} and {release}".to_owned()
                }
            };
            found.refuse_at(at, format!("`{{{word}}}` is not filled in in a check"), hint);
            known = false;
        }
        known
    }
}

/// The text with something in place of everything that is filled in later.
fn filled(text: &str) -> String {
    let filled = text.replace("{host}", "h").replace("{port}", "1").replace("{slot}", "a");
    filled.replace("{version}", "1").replace("{release}", "1")
}

fn check_url(url: &At<String>, found: &mut Findings) {
    let parsed: Option<hyper::Uri> = filled(&url.value).parse().ok();
    let valid = parsed.is_some_and(|uri| {
        let port = uri.authority().is_some_and(|authority| {
            authority.port().is_some()
                || !authority.as_str().contains(':')
                || authority.as_str().ends_with(']')
        });
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && port
    });
    if !valid {
        let message = format!("`{}` is not an http address", url.value);
        found.refuse_at(url.at, message, "write it as `http://127.0.0.1:{port}/health`");
    }
}

/// An address to listen on.
pub(super) fn listen_address(written: &At<String>, found: &mut Findings) -> Option<SocketAddr> {
    let text = written.value.trim();
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if address.is_none() {
        let message = format!("`{}` is not an address to listen on", written.value);
        found.refuse_at(
            written.at,
            message,
            "write address and port, such as `0.0.0.0:80` or `127.0.0.1:8080`",
        );
    }
    address
}
