//! Keys and choices of the documented file format that this version can't honour, and where keys belong.

/// By the raw type in which they stand.
const LATER: &[(&str, &[&str])] = &[
    ("Raw", &["state", "data", "migrations", "approvals", "notify", "policies", "guard"]),
    ("RawTarget", &["kubernetes", "ec2"]),
    ("RawRouter", &["haproxy", "nginx", "caddy", "kubernetes", "gateway", "ingress_nginx", "alb"]),
    ("RawHealth", &["log", "query"]),
    ("RawServiceHealth", &["log", "query"]),
    ("RawBuiltin", &["tls"]),
    ("RawCanary", &["header", "cookie", "shadow"]),
];

/// Whether the documented format has this word here, although this version does not support it.
pub(super) fn is_known(place: &str, word: &str) -> bool {
    LATER.iter().any(|(name, words)| *name == place && words.contains(&word))
}

/// Keys that are often written one level too high or too low.
const ELSEWHERE: &[(&str, &str)] = &[
    ("url", "`health.http`"),
    ("interval", "`health.http`, `health.tcp` or `health.exec`"),
    ("retries", "`health.http`, `health.tcp` or `health.exec`"),
    ("initial_delay", "`health.http`, `health.tcp` or `health.exec`"),
    ("required_fields", "`health.http`"),
    ("error_rate", "`health.thresholds`"),
    ("availability", "`health.thresholds`"),
    ("response_time", "`health.thresholds`"),
    ("minimum_samples", "`health.thresholds`"),
    ("thresholds", "`health` at the top, for all services"),
    ("consecutive_failures", "`health` at the top, for all services"),
    ("consecutive_passes", "`health` at the top, for all services"),
    ("startup_failures", "`health` at the top, for all services"),
    ("startup_timeout", "`health` at the top, for all services"),
    ("windows", "`health` at the top, for all services"),
    ("judge", "`health` at the top, for all services"),
    ("series", "`health.prometheus` or `health.metrics`"),
    ("synthetic", "`health.judge`"),
    ("stages", "`strategy.canary`"),
    ("hold", "`strategy.canary`"),
    ("hold_max", "`strategy.canary`"),
    ("hold_min", "`strategy.canary`"),
    ("on_no_data", "`strategy.canary`"),
    ("keep_old", "`strategy.blue_green`"),
    ("batch", "`strategy.rolling`"),
    ("pause", "`strategy.rolling`"),
    ("listen", "`router.builtin`"),
    ("dead_man", "`router.builtin`"),
    ("automatic", "`rollback`"),
    ("deadline", "`rollback`"),
    ("keep", "`rollback`"),
    ("drain", "`shutdown`"),
    ("grace", "`shutdown`"),
    ("command", "`target.process` or a service"),
    ("artifact", "`target.process` or a service"),
    ("port", "`target.process` or a service"),
    ("program", "`target.script` or a service"),
    ("env", "`target.process` or a service"),
    ("at_once", "`ssh`"),
    ("jitter", "`ssh`"),
    ("connect_timeout", "`ssh`"),
    ("confirm", "`ssh`"),
    ("docker_socket", "`ssh`"),
    ("depends_on", "a service under `services`"),
    ("traffic", "a service under `services`"),
    ("job", "a service under `services`"),
    ("production", "an environment: `environments: { production: { production: true } }`"),
    ("environments", "the top of the file"),
    ("app", "the top of the file"),
];

/// Where a key belongs that stands in the wrong place.
pub(super) fn elsewhere(word: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(key, _)| *key == word).map(|(_, place)| *place)
}
