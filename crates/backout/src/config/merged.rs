//! One environment's view of the file: the top level, overridden by key.

use super::errors::{Problem, nearest};
use super::node::{Key, Node, Value};

/// Keys of which exactly one choice stands below.
const CHOICES: &[&str] = &["target", "strategy", "router"];

/// The environment that exists when none is named.
const DEFAULT_ENVIRONMENT: &str = "production";

/// The names of the environments, in the order of the file.
pub(super) fn environment_names(root: &Node) -> Vec<Key> {
    match root.get("environments").map(|node| node.entries()) {
        Some(entries) if !entries.is_empty() => {
            entries.iter().map(|(key, _)| key.clone()).collect()
        }
        _ => vec![Key { at: root.at, text: DEFAULT_ENVIRONMENT.to_owned() }],
    }
}

/// The environment that is meant.
pub(super) fn choose(names: &[Key], wanted: Option<&str>) -> Result<Key, Problem> {
    let list = || names.iter().map(|key| key.text.as_str()).collect::<Vec<_>>().join(", ");
    match wanted {
        None if names.len() == 1 => Ok(names[0].clone()),
        None => Err(Problem::whole(format!("there are several environments: {}", list()))
            .hint("name one with `-e ENV`")),
        Some(wanted) => names.iter().find(|key| key.text == wanted).cloned().ok_or_else(|| {
            let problem = Problem::whole(format!("there is no environment `{wanted}`"));
            match nearest(wanted, names.iter().map(|key| key.text.as_str())) {
                Some(near) => problem.hint(format!("did you mean `-e {near}`?")),
                None => problem.hint(format!("there are: {}", list())),
            }
        }),
    }
}

/// What may not stand where it does, although the types would allow it.
pub(super) fn misplaced(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some((key, _)) = root.entry("production") {
        problems.push(
            Problem::at(key.at, "`production` belongs to an environment")
                .hint("write it as `environments: { production: { production: true } }`"),
        );
    }
    for (_, environment) in root.get("environments").map(|node| node.entries()).unwrap_or_default()
    {
        for word in ["app", "environments"] {
            if let Some((key, _)) = environment.entry(word) {
                problems.push(Problem::at(
                    key.at,
                    format!("`{word}` can't be overridden by an environment"),
                ));
            }
        }
    }
    problems
}

/// The file as an environment sees it.
pub(super) fn merge_environment(root: &Node, environment: &str) -> Node {
    let entries: Vec<_> =
        root.entries().iter().filter(|(key, _)| key.text != "environments").cloned().collect();
    let base = Node { at: root.at, value: Value::Map(entries) };
    match root.get("environments").and_then(|node| node.get(environment)) {
        Some(over) if over.value != Value::Null => merge(&base, over, &mut Vec::new()),
        _ => base,
    }
}

fn merge(base: &Node, over: &Node, path: &mut Vec<String>) -> Node {
    if path.len() == 1 && CHOICES.contains(&path[0].as_str()) {
        let (base, over) = (spelled_out(base), spelled_out(over));
        let name = |node: &Node| node.entries().first().map(|(key, _)| key.text.clone());
        // Another choice leaves nothing of the first one.
        return if name(&base) == name(&over) { merge_maps(&base, &over, path) } else { over };
    }
    merge_maps(base, over, path)
}

fn merge_maps(base: &Node, over: &Node, path: &mut Vec<String>) -> Node {
    let (Value::Map(base_entries), Value::Map(over_entries)) = (&base.value, &over.value) else {
        return over.clone();
    };
    let mut entries = base_entries.clone();
    for (key, value) in over_entries {
        path.push(key.text.clone());
        match entries.iter_mut().find(|(name, _)| name.text == key.text) {
            Some(entry) => *entry = (key.clone(), merge(&entry.1, value, path)),
            None => entries.push((key.clone(), value.clone())),
        }
        path.pop();
    }
    Node { at: over.at, value: Value::Map(entries) }
}

/// `canary` as `canary: {}`.
fn spelled_out(node: &Node) -> Node {
    let empty = |at| Node { at, value: Value::Map(Vec::new()) };
    match &node.value {
        Value::Scalar(text) => {
            let key = Key { at: node.at, text: text.clone() };
            Node { at: node.at, value: Value::Map(vec![(key, empty(node.at))]) }
        }
        Value::Map(entries) if entries.len() == 1 && entries[0].1.value == Value::Null => {
            let key = entries[0].0.clone();
            Node { at: node.at, value: Value::Map(vec![(key, empty(node.at))]) }
        }
        _ => node.clone(),
    }
}

/// Puts another strategy in place, keeping the settings if it is the same one.
pub(super) fn override_strategy(root: Node, strategy: &str) -> Node {
    let at = root.get("strategy").map_or(root.at, |node| node.at);
    let entry = (
        Key { at, text: "strategy".to_owned() },
        Node { at, value: Value::Scalar(strategy.to_owned()) },
    );
    merge(&root, &Node { at: root.at, value: Value::Map(vec![entry]) }, &mut Vec::new())
}

/// Whether a path leads to a value in a process's environment.
pub(super) fn is_env_value(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let path = match path.as_slice() {
        ["environments", _, rest @ ..] => rest,
        all => all,
    };
    matches!(path, ["target", "process", "env", _] | ["services", _, "env", _])
}

#[cfg(test)]
mod tests {
    use super::super::node::parse;
    use super::*;

    fn merged(source: &str, environment: &str) -> Node {
        merge_environment(&parse(source).unwrap(), environment)
    }

    fn text(node: &Node, path: &[&str]) -> Option<String> {
        match &path.iter().try_fold(node, |node, key| node.get(key))?.value {
            Value::Scalar(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn environments_override_by_key() {
        let source = "bake_time: 30m\nshutdown: {drain: 1s, grace: 2s}\n\
                      environments:\n  staging: {bake_time: 5m, shutdown: {grace: 9s}}\n  production:\n";
        let staging = merged(source, "staging");
        assert_eq!(text(&staging, &["bake_time"]).as_deref(), Some("5m"));
        assert_eq!(text(&staging, &["shutdown", "drain"]).as_deref(), Some("1s"));
        assert_eq!(text(&staging, &["shutdown", "grace"]).as_deref(), Some("9s"));
        let production = merged(source, "production");
        assert_eq!(text(&production, &["bake_time"]).as_deref(), Some("30m"));
        assert!(production.get("environments").is_none());
    }

    #[test]
    fn another_choice_replaces_and_the_same_one_merges() {
        let source = "strategy: {canary: {hold: 1m, hold_max: 2m}}\nenvironments:\n  a: {strategy: recreate}\n\
                      \x20 b: {strategy: {canary: {hold: 90s}}}\n  c: {strategy: canary}\n  d: {strategy: {blue_green: }}\n";
        assert!(merged(source, "a").get("strategy").unwrap().get("canary").is_none());
        assert_eq!(
            text(&merged(source, "b"), &["strategy", "canary", "hold"]).as_deref(),
            Some("90s")
        );
        assert_eq!(
            text(&merged(source, "b"), &["strategy", "canary", "hold_max"]).as_deref(),
            Some("2m")
        );
        assert_eq!(
            text(&merged(source, "c"), &["strategy", "canary", "hold"]).as_deref(),
            Some("1m")
        );
        assert!(merged(source, "d").get("strategy").unwrap().get("canary").is_none());
    }

    #[test]
    fn lists_are_replaced_and_null_resets() {
        let source = "config: [a, b]\nrouter: script\nenvironments: {x: {config: [c], router: }}\n";
        let tree = merged(source, "x");
        let Value::List(items) = &tree.get("config").unwrap().value else { panic!() };
        assert_eq!(items.len(), 1);
        assert_eq!(tree.get("router").unwrap().value, Value::Null);
    }
}
