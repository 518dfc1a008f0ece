//! Texts with `{version} {release} {slot} {port} {artifact} {config}` in them.

/// What is known to fill in; `None` if this release has no such thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    pub version: Option<String>,
    pub release: Option<String>,
    pub slot: Option<String>,
    pub port: Option<u16>,
    pub artifact: Option<String>,
    pub config: Option<String>,
}

impl Values {
    fn get(&self, name: &str) -> Option<Option<String>> {
        Some(match name {
            "version" => self.version.clone(),
            "release" => self.release.clone(),
            "slot" => self.slot.clone(),
            "port" => self.port.map(|port| port.to_string()),
            "artifact" => self.artifact.clone(),
            "config" => self.config.clone(),
            _ => return None,
        })
    }
}

/// Fills a text in. Other braces stay as they are, and what was filled in is not looked at again.
///
/// # Errors
/// The name for which there is no value.
pub(crate) fn fill(text: &str, values: &Values) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let known = after
            .find('}')
            .and_then(|close| values.get(&after[..close]).map(|value| (close, value)));
        match known {
            Some((close, Some(value))) => {
                out.push_str(&value);
                rest = &after[close + 1..];
            }
            Some((close, None)) => return Err(after[..close].to_owned()),
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_known_names_once_and_leaves_other_braces() {
        let values = Values { version: Some("{slot}".into()), port: Some(80), ..Values::default() };
        assert_eq!(
            fill("{version}:{port} {{\"a\": {}} {other", &values).unwrap(),
            "{slot}:80 {{\"a\": {}} {other"
        );
        assert_eq!(fill("x {artifact}", &values), Err("artifact".to_owned()));
    }
}
