//! A compose file as compose resolved it, and as it is handed back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use backout_core::ports::AdapterError;
use serde_json::{Map, Value, json};

/// A resolved compose file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model(Map<String, Value>);

/// A port that a service publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    /// Inside of the container.
    pub target: u16,
    pub protocol: String,
    /// On the host; none: any free one.
    pub host: Option<u16>,
}

impl Model {
    pub(super) fn read(bytes: &[u8], files: &str) -> Result<Self, AdapterError> {
        let wrong = |why: String| AdapterError::permanent(format!("failed to read {files}: {why}"));
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) if map.get("services").is_some_and(Value::is_object) => {
                Ok(Self(map))
            }
            Ok(_) => Err(wrong("it has no services".to_owned())),
            Err(e) => Err(wrong(e.to_string())),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get(name).and_then(Value::as_object).into_iter().flatten()
    }

    fn section_mut(&mut self, name: &str) -> impl Iterator<Item = (&String, &mut Value)> {
        self.0.get_mut(name).and_then(Value::as_object_mut).into_iter().flatten()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.section("services").map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn service(&self, name: &str) -> Option<&Map<String, Value>> {
        self.0.get("services")?.get(name)?.as_object()
    }

    fn text(&self, service: &str, key: &str) -> Option<&str> {
        self.service(service)?.get(key)?.as_str()
    }

    /// The image that a service names, or the one that compose would give what it builds.
    pub(super) fn image(&self, service: &str) -> String {
        let project = self.0.get("name").and_then(Value::as_str).unwrap_or_default();
        self.text(service, "image").map_or_else(|| format!("{project}-{service}"), str::to_owned)
    }

    pub(super) fn builds(&self, service: &str) -> bool {
        self.service(service).is_some_and(|s| s.get("build").is_some_and(|b| !b.is_null()))
    }

    pub(super) fn pull_policy(&self, service: &str) -> Option<&str> {
        self.text(service, "pull_policy")
    }

    /// Names of the services that one needs, with the condition.
    fn needs(&self, service: &str) -> BTreeMap<&str, &str> {
        let needs =
            self.service(service).and_then(|s| s.get("depends_on")).and_then(Value::as_object);
        needs
            .into_iter()
            .flatten()
            .map(|(name, how)| {
                (name.as_str(), how.get("condition").and_then(Value::as_str).unwrap_or_default())
            })
            .collect()
    }

    /// The services so that each stands after those that it needs; ties by name.
    pub(super) fn start_order(&self, of: &[String]) -> Vec<String> {
        let mut order: Vec<String> = Vec::with_capacity(of.len());
        while order.len() < of.len() {
            let ready = of.iter().find(|name| {
                !order.contains(name)
                    && self.needs(name).keys().all(|need| {
                        order.iter().any(|o| o == need) || !of.iter().any(|o| o == need)
                    })
            });
            match ready {
                Some(name) => order.push(name.clone()),
                // Compose refuses circles; what is left of one comes last.
                None => order
                    .extend(of.iter().filter(|n| !order.contains(n)).cloned().collect::<Vec<_>>()),
            }
        }
        order
    }

    /// Services that end by themselves: others wait for their end.
    pub(super) fn jobs(&self) -> BTreeSet<String> {
        let names = self.names();
        let waited = names.iter().flat_map(|name| self.needs(name));
        let ended = waited.filter(|(_, how)| *how == "service_completed_successfully");
        ended.map(|(name, _)| name.to_owned()).collect()
    }

    pub(super) fn stop_grace_ms(&self, service: &str) -> Option<u64> {
        duration_ms(self.text(service, "stop_grace_period")?)
    }

    pub(super) fn ports(&self, service: &str) -> Vec<Published> {
        let ports = self.service(service).and_then(|s| s.get("ports")).and_then(Value::as_array);
        let number = |value: &Value| match value {
            Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        ports
            .into_iter()
            .flatten()
            .filter_map(|port| {
                Some(Published {
                    target: number(port.get("target")?)?,
                    protocol: port
                        .get("protocol")
                        .and_then(Value::as_str)
                        .unwrap_or("tcp")
                        .to_owned(),
                    host: port.get("published").and_then(number),
                })
            })
            .collect()
    }

    /// Paths of the host that a service mounts.
    pub(super) fn mounted(&self, service: &str) -> Vec<&str> {
        let volumes =
            self.service(service).and_then(|s| s.get("volumes")).and_then(Value::as_array);
        let binds = volumes.into_iter().flatten().filter(|volume| volume["type"] == "bind");
        binds.filter_map(|volume| volume.get("source")?.as_str()).collect()
    }

    /// Files that a service gets as configs and secrets: the key that names one, and its path.
    pub(super) fn files_of(&self, service: &str) -> Vec<(String, &str)> {
        let of = |section: &'static str| {
            let used = self.service(service).and_then(|s| s.get(section)).and_then(Value::as_array);
            let names = used.into_iter().flatten().filter_map(|it| it.get("source")?.as_str());
            names.filter_map(move |name| {
                let path = self.0.get(section)?.get(name)?.get("file")?.as_str()?;
                Some((format!("{section}.{name}"), path))
            })
        };
        of("configs").chain(of("secrets")).collect()
    }

    /// How many containers of a service run.
    pub(super) fn scale(&self, service: &str) -> u64 {
        let service = self.service(service);
        let scale = service.and_then(|s| s.get("scale")).and_then(Value::as_u64);
        let replicas = service.and_then(|s| s.get("deploy")?.get("replicas")?.as_u64());
        scale.or(replicas).unwrap_or(1)
    }

    /// Ports of the host that a service asks for, each with the first and the last that would do.
    pub(super) fn published(&self, service: &str) -> Vec<(u16, u16)> {
        let ports = self.service(service).and_then(|s| s.get("ports")).and_then(Value::as_array);
        let range = |port: &Value| {
            let text = match port.get("published")? {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            let (first, last) = text.split_once('-').unwrap_or((&text, &text));
            let range = (first.parse().ok()?, last.parse().ok()?);
            (range != (0, 0)).then_some(range)
        };
        ports.into_iter().flatten().filter_map(range).collect()
    }

    pub(super) fn container_name(&self, service: &str) -> Option<&str> {
        self.text(service, "container_name")
    }

    /// A network that is not its own alone.
    pub(super) fn shared_network(&self, service: &str) -> Option<&str> {
        let mode = self.text(service, "network_mode")?;
        let shared =
            mode == "host" || mode.starts_with("service:") || mode.starts_with("container:");
        shared.then_some(mode)
    }

    /// An address in a network that is always the same.
    pub(super) fn fixed_address(&self, service: &str) -> Option<&str> {
        let keys = ["ipv4_address", "ipv6_address", "mac_address"];
        let networks = self.service(service)?.get("networks").and_then(Value::as_object);
        let networks = networks.into_iter().flat_map(|all| all.values());
        let mut fixed = networks.flat_map(|n| keys.iter().filter_map(|key| n.get(key)?.as_str()));
        fixed.next().or_else(|| self.text(service, "mac_address"))
    }

    /// A network of a service's own that is to have this range of addresses: two of it can't stand beside each other.
    pub(super) fn fixed_network(&self, service: &str) -> Option<(&str, &str)> {
        let named = self.service(service)?.get("networks")?.as_object()?.keys();
        named.into_iter().find_map(|name| {
            let network = self.0.get("networks")?.get(name)?;
            if network.get("external").and_then(Value::as_bool) == Some(true) {
                return None;
            }
            let ranges = network.get("ipam")?.get("config")?.as_array()?;
            let range = ranges.iter().find_map(|range| range.get("subnet")?.as_str())?;
            Some((name.as_str(), range))
        })
    }

    pub(super) fn uses_host_network(&self, service: &str) -> bool {
        self.text(service, "network_mode") == Some("host")
    }

    /// Leaves only these services, and of their needs only those among them.
    pub(super) fn keep_only(&mut self, services: &[String]) {
        let kept = |name: &String| services.contains(name);
        if let Some(Value::Object(all)) = self.0.get_mut("services") {
            all.retain(|name, _| kept(name));
        }
        for (_, service) in self.section_mut("services") {
            let Some(service) = service.as_object_mut() else { continue };
            for key in ["depends_on", "links"] {
                if let Some(Value::Object(needs)) = service.get_mut(key) {
                    needs.retain(|name, _| kept(name));
                }
            }
            // Ours is on: it was chosen by a profile already.
            service.remove("profiles");
        }
    }

    fn set(&mut self, service: &str, key: &str, value: Value) {
        let found = self.0.get_mut("services").and_then(|s| s.get_mut(service));
        if let Some(service) = found.and_then(Value::as_object_mut) {
            service.insert(key.to_owned(), value);
        }
    }

    fn unset(&mut self, service: &str, key: &str) {
        let found = self.0.get_mut("services").and_then(|s| s.get_mut(service));
        if let Some(service) = found.and_then(Value::as_object_mut) {
            service.remove(key);
        }
    }

    /// The image that is really there, and nothing that could bring another.
    pub(super) fn pin(&mut self, service: &str, reference: &str) {
        self.set(service, "image", json!(reference));
        self.set(service, "pull_policy", json!("never"));
        self.unset(service, "build");
        self.unset(service, "develop");
    }

    /// It ends by itself and stays so.
    pub(super) fn restart_never(&mut self, service: &str) {
        self.set(service, "restart", json!("no"));
    }

    pub(super) fn label(&mut self, service: &str, labels: &[(&str, String)]) {
        let old = self.service(service).and_then(|s| s.get("labels")).and_then(Value::as_object);
        let mut all = old.cloned().unwrap_or_default();
        // A `$` in a value would be taken for a variable when the file is read again.
        all.extend(
            labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value.replace('$', "$$")))),
        );
        self.set(service, "labels", Value::Object(all));
    }

    /// Publishes one port on this machine only, at `host`.
    pub(super) fn publish(&mut self, service: &str, target: u16, host: u16) {
        let port = json!({
            "mode": "ingress", "host_ip": "127.0.0.1", "target": target,
            "published": host.to_string(), "protocol": "tcp",
        });
        self.set(service, "ports", json!([port]));
    }

    /// Makes it a project beside its first one: networks of its own, the first one's volumes.
    pub(super) fn move_beside(&mut self, project: &str) {
        let first = self.0.insert("name".to_owned(), json!(project));
        let first = first.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        for (_, network) in self.section_mut("networks") {
            let Some(network) = network.as_object_mut() else { continue };
            let name = network.get("name").and_then(Value::as_str).unwrap_or_default();
            let own =
                name.strip_prefix(&format!("{first}_")).map(|rest| format!("{project}_{rest}"));
            if !is_external(network)
                && let Some(own) = own
            {
                network.insert("name".to_owned(), json!(own));
            }
        }
        for (_, volume) in self.section_mut("volumes") {
            let Some(volume) = volume.as_object_mut() else { continue };
            let name = volume.get("name").cloned().unwrap_or_default();
            *volume =
                Map::from_iter([("name".to_owned(), name), ("external".to_owned(), json!(true))]);
        }
        for name in self.names() {
            self.unset(&name, "container_name");
        }
    }

    /// Volumes that compose would make, by key, with their names and definitions.
    pub(super) fn volumes(&self) -> Vec<(String, String, Map<String, Value>)> {
        self.section("volumes")
            .filter_map(|(key, volume)| {
                let volume = volume.as_object()?;
                let name = volume.get("name")?.as_str()?;
                (!is_external(volume)).then(|| (key.clone(), name.to_owned(), volume.clone()))
            })
            .collect()
    }

    /// Paths below the copies mean the folder of `backout.yaml`, but for files that have a copy.
    pub(super) fn repoint(&mut self, copies: &Path, folder: &Path) {
        for value in self.0.values_mut() {
            repoint(value, copies, folder);
        }
    }
}

fn is_external(definition: &Map<String, Value>) -> bool {
    match definition.get("external") {
        Some(Value::Bool(external)) => *external,
        Some(Value::Object(_)) => true,
        _ => false,
    }
}

fn repoint(value: &mut Value, copies: &Path, folder: &Path) {
    match value {
        Value::String(text) => {
            let path = Path::new(text.as_str());
            if let Ok(inside) = path.strip_prefix(copies)
                && !path.is_file()
            {
                let there = if inside.as_os_str().is_empty() {
                    folder.to_owned()
                } else {
                    folder.join(inside)
                };
                *text = there.display().to_string();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|v| repoint(v, copies, folder)),
        Value::Object(map) => map.values_mut().for_each(|v| repoint(v, copies, folder)),
        _ => {}
    }
}

/// `1m30s` as compose writes durations.
fn duration_ms(text: &str) -> Option<u64> {
    let mut total = 0.0_f64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit_len] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1_000.0,
                "ms" => 1.0,
                "us" | "µs" | "ns" => 0.0,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // far below the limit, never negative
    Some(total.min(1e15) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(value: Value) -> Model {
        Model::read(value.to_string().as_bytes(), "compose.yaml").unwrap()
    }

    fn shop() -> Model {
        model(json!({
            "name": "shop", "networks": {"default": {"name": "shop_default"}, "out": {"name": "out", "external": true}},
            "services": {
                "web": {
                    "image": "web:1", "depends_on": {
                        "db": {"condition": "service_healthy"}, "init": {"condition": "service_completed_successfully"},
                    },
                    "container_name": "the-web", "labels": {"a": "b"}, "stop_grace_period": "1m30s",
                    "ports": [{"target": 80, "published": "8080", "protocol": "tcp"}, {"target": 81}],
                },
                "db": {"image": "db:1", "build": null}, "init": {"build": {"context": "."}, "depends_on": {"db": {}}},
            },
            "volumes": {"data": {"name": "shop_data", "driver": "local"}},
        }))
    }

    #[test]
    fn what_is_needed_starts_first() {
        let shop = shop();
        let names = shop.names();
        assert_eq!(shop.start_order(&names), ["db", "init", "web"]);
        assert_eq!(shop.start_order(&["web".to_owned(), "db".to_owned()]), ["db", "web"]);
        assert_eq!(shop.jobs(), BTreeSet::from(["init".to_owned()]));
        assert_eq!(
            (shop.image("init"), shop.builds("init"), shop.builds("db")),
            ("shop-init".to_owned(), true, false)
        );
    }

    #[test]
    fn a_project_beside_shares_volumes_and_nothing_else() {
        let mut beside = shop();
        beside.keep_only(&["web".to_owned()]);
        beside.move_beside("shop-b");
        assert_eq!(beside.names(), ["web"]);
        assert_eq!(beside.0["networks"]["default"]["name"], "shop-b_default");
        assert_eq!(beside.0["networks"]["out"]["name"], "out");
        assert_eq!(beside.0["volumes"]["data"], json!({"name": "shop_data", "external": true}));
        assert_eq!(beside.service("web").unwrap().get("container_name"), None);
        assert_eq!(beside.0["services"]["web"]["depends_on"], json!({}));
        assert_eq!(beside.volumes(), []);
    }

    #[test]
    fn ports_and_durations_are_read() {
        let shop = shop();
        let ports = shop.ports("web");
        assert_eq!((ports[0].target, ports[0].host, ports[1].host), (80, Some(8080), None));
        assert_eq!(shop.stop_grace_ms("web"), Some(90_000));
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("1h0m1.5s", Some(3_601_500)),
            ("500ms", Some(500)),
            ("", Some(0)),
            ("5 apples", None),
        ] {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_of_copies_mean_the_folder_unless_a_copy_is_there() {
        let copies = tempfile::tempdir().unwrap();
        std::fs::write(copies.path().join("one.conf"), "x").unwrap();
        std::fs::create_dir(copies.path().join("conf")).unwrap();
        let at = |name: &str| copies.path().join(name).display().to_string();
        let mut shop = model(json!({"services": {"web": {"volumes": [
            {"source": at("one.conf")}, {"source": at("conf")}, {"source": at("data")}, {"source": "/etc/hosts"},
        ]}}}));
        shop.repoint(copies.path(), Path::new("/srv/shop"));
        let sources: Vec<_> = shop.service("web").unwrap()["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["source"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            sources,
            [
                at("one.conf"),
                "/srv/shop/conf".to_owned(),
                "/srv/shop/data".to_owned(),
                "/etc/hosts".to_owned()
            ]
        );
    }

    #[test]
    fn labels_are_added_and_dollars_stay() {
        let mut shop = shop();
        shop.label("web", &[("backout.version", "a$b".to_owned())]);
        assert_eq!(
            shop.0["services"]["web"]["labels"],
            json!({"a": "b", "backout.version": "a$$b"})
        );
        shop.pin("init", "backout/x:1");
        assert!(!shop.builds("init") && shop.pull_policy("init") == Some("never"));
    }
}
