//! Whether containers of two releases of a service can stand beside each other, and how many there is room for.

use backout_core::model::Replicas;
use backout_core::ports::AdapterError;

use super::model::Model;

/// Why some containers of a service can't be replaced while the others go on, and what to do about it.
pub(super) struct Alone {
    pub why: String,
    pub hint: &'static str,
}

impl Alone {
    pub(super) fn refuse(self, name: &str) -> AdapterError {
        AdapterError::permanent(format!(
            "failed to replace containers of {name} while others of it go on (`strategy: rolling`): {}",
            self.why
        ))
        .with_hint(format!("{}, or write `strategy: recreate`", self.hint))
    }
}

/// How many containers a service has, and how many there is room for.
pub(super) fn of(model: &Model, name: &str) -> Result<Replicas, Alone> {
    let alone = |why: String, hint| Err(Alone { why, hint });
    if let Some(fixed) = model.container_name(name) {
        let why = format!("two can't both be called {fixed}");
        return alone(why, "take container_name out of the compose file");
    }
    if let Some(mode) = model.shared_network(name) {
        let why = format!("two can't have the same ports in one network (network_mode: {mode})");
        return alone(why, "take network_mode out of the compose file");
    }
    if let Some(address) = model.fixed_address(name) {
        let why = format!("two can't both have the address {address}");
        return alone(why, "take the fixed address out of the compose file");
    }
    let count = u32::try_from(model.scale(name)).unwrap_or(u32::MAX);
    let mut at_most = None;
    for (first, last) in model.published(name) {
        let room = u32::from(last.saturating_sub(first)) + 1;
        let hint = "publish a range of ports with room for more, or none and a proxy of the file's before it";
        if room == 1 {
            return alone(format!("two can't both publish port {first}"), hint);
        }
        if room <= count {
            let why = format!("ports {first}-{last} have room for {room}, and {count} run already");
            return alone(why, hint);
        }
        at_most = Some(at_most.map_or(room, |most: u32| most.min(room)));
    }
    Ok(Replicas { count, at_most })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of_web(web: Value) -> Result<Replicas, String> {
        let file = json!({ "services": { "web": web } }).to_string();
        let model = Model::read(file.as_bytes(), "compose.yaml").unwrap();
        of(&model, "web").map_err(|alone| alone.why)
    }

    #[test]
    fn what_is_there_once_is_told() {
        for (web, why) in [
            (json!({"container_name": "shop"}), "called shop"),
            (json!({"network_mode": "host"}), "network_mode: host"),
            (json!({"network_mode": "service:db"}), "network_mode: service:db"),
            (json!({"networks": {"x": {"ipv4_address": "10.0.0.7"}}}), "10.0.0.7"),
            (json!({"mac_address": "02:42:ac:11:00:03"}), "02:42"),
            (json!({"ports": [{"target": 80, "published": "8080"}]}), "publish port 8080"),
            (
                json!({"scale": 3, "ports": [{"target": 80, "published": "8080-8082"}]}),
                "room for 3",
            ),
        ] {
            let told = of_web(web).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_has_room_is_counted() {
        let ports = json!([{"target": 80, "published": "8080-8084"}, {"target": 81}]);
        let three = of_web(json!({"deploy": {"replicas": 3}, "ports": ports})).unwrap();
        assert_eq!(three, Replicas { count: 3, at_most: Some(5) });
        let one = of_web(json!({"networks": {"x": null}, "network_mode": "bridge"})).unwrap();
        assert_eq!(one, Replicas { count: 1, at_most: None });
    }
}
