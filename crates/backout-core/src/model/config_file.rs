//! Versioned config files, and the masking of secret values inside them.
//!
//! A blob never holds the value of a key under `secrets:`. In its place stands a marker with the key and
//! a keyed hash of the value; on restore the marker is filled with today's value of that key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What kind of directory entry a config path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A file; its masked bytes are the blob.
    File {
        /// Digest of the masked bytes in the blob store.
        blob: String,
        /// Length of the masked bytes.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        target: String,
    },
}

/// One config file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Relative to the folder of `backout.yaml`, with `/`.
    pub path: String,
    /// Content.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// SELinux label, where the file system has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<String>,
    /// Names of the secret keys masked in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// The result of masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedFile {
    /// The bytes with markers instead of secret values.
    pub bytes: Vec<u8>,
    /// Names of the keys that were masked, in order of appearance.
    pub keys: Vec<String>,
}

const OPEN: &str = "\u{1}backout-secret:";
const CLOSE: char = '\u{1}';

/// Splits a line into what stands before the value of `KEY=value`, `KEY: value` or `"KEY": "value"`,
/// the key, the value and what stands after it.
fn split_line<'a>(line: &'a str, keys: &[String]) -> Option<(&'a str, &'a str, &'a str, &'a str)> {
    let bare = line.trim_start();
    let start = line.len() - bare.len();
    let mut rest = bare.strip_prefix("export ").map_or(bare, str::trim_start);
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'');
    if quote.is_some() {
        rest = &rest[1..];
    }
    let key_at = line.len() - rest.len();
    debug_assert!(key_at >= start);
    let key = keys.iter().find(|key| {
        rest.strip_prefix(key.as_str()).is_some_and(|after| {
            let after = match quote {
                Some(q) => match after.strip_prefix(q) {
                    Some(after) => after,
                    None => return false,
                },
                None => after,
            };
            after.trim_start().starts_with(['=', ':'])
        })
    })?;
    let after_key = key_at + key.len();
    let separator = after_key + line[after_key..].find(['=', ':'])?;
    let value_and_tail = &line[separator + 1..];
    let lead = value_and_tail.len() - value_and_tail.trim_start_matches([' ', '\t']).len();
    let value_at = separator + 1 + lead;
    let raw = &line[value_at..];
    let end = raw.trim_end_matches(['\r', ' ', '\t']).trim_end_matches(',').len();
    Some((&line[..value_at], &line[key_at..after_key], &raw[..end], &raw[end..]))
}

/// Replaces the values of `keys` by markers. Text that is not UTF-8 is returned as it is.
///
/// `hash` is a keyed hash of a value, so that a change of the secret is seen without the value being kept.
#[must_use]
pub fn mask_secrets(bytes: &[u8], keys: &[String], hash: impl Fn(&str) -> String) -> MaskedFile {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return MaskedFile { bytes: bytes.to_vec(), keys: Vec::new() };
    };
    if keys.is_empty() {
        return MaskedFile { bytes: bytes.to_vec(), keys: Vec::new() };
    }
    let mut out = String::with_capacity(text.len());
    let mut masked = Vec::new();
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        match split_line(body, keys) {
            Some((before, key, value, tail)) if !value.is_empty() => {
                out.push_str(before);
                out.push_str(OPEN);
                out.push_str(key);
                out.push(':');
                out.push_str(&hash(value));
                out.push(CLOSE);
                out.push_str(tail);
                masked.push(key.to_owned());
            }
            _ => out.push_str(body),
        }
        out.push_str(end);
    }
    MaskedFile { bytes: out.into_bytes(), keys: masked }
}

/// The values of `keys` that a file holds now: what a restore fills into markers.
#[must_use]
pub fn secret_values(bytes: &[u8], keys: &[String]) -> BTreeMap<String, String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return BTreeMap::new() };
    text.lines()
        .filter_map(|line| split_line(line, keys))
        .filter(|(_, _, value, _)| !value.is_empty())
        .map(|(_, key, value, _)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Fills markers with today's values.
///
/// # Errors
/// The name of the first key for which `today` has no value.
pub fn unmask_secrets(bytes: &[u8], today: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(bytes.to_vec()) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        out.push_str(&rest[..at]);
        let marker = &rest[at + OPEN.len()..];
        let Some(end) = marker.find(CLOSE) else {
            out.push_str(&rest[at..]);
            return Ok(out.into_bytes());
        };
        let key = marker[..end].split(':').next().unwrap_or_default();
        out.push_str(today.get(key).ok_or_else(|| key.to_owned())?);
        rest = &marker[end + CLOSE.len_utf8()..];
    }
    out.push_str(rest);
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<String> {
        vec!["API_KEY".to_owned(), "password".to_owned()]
    }

    #[test]
    fn masks_and_restores_every_notation() {
        let file = "A=1\nexport API_KEY=s3cr:et=x\r\npassword: 'p w'\n  \"API_KEY\": \"json\",\nAPI_KEYS=no\nAPI_KEY=\n";
        let masked = mask_secrets(file.as_bytes(), &keys(), |v| format!("h{}", v.len()));
        let text = String::from_utf8(masked.bytes.clone()).unwrap();
        assert!(
            !text.contains("s3cr") && !text.contains("p w") && !text.contains("json\""),
            "{text}"
        );
        assert!(text.contains("API_KEYS=no"));
        assert_eq!(masked.keys, ["API_KEY", "password", "API_KEY"]);
        let today =
            BTreeMap::from([("API_KEY".into(), "new".into()), ("password".into(), "'q'".into())]);
        let back = String::from_utf8(unmask_secrets(&masked.bytes, &today).unwrap()).unwrap();
        assert_eq!(
            back,
            "A=1\nexport API_KEY=new\r\npassword: 'q'\n  \"API_KEY\": new,\nAPI_KEYS=no\nAPI_KEY=\n"
        );
        assert_eq!(unmask_secrets(&masked.bytes, &BTreeMap::new()), Err("API_KEY".to_owned()));
    }

    #[test]
    fn values_of_today_are_read_back() {
        let found = secret_values(b"API_KEY=abc\nother=1\n", &keys());
        assert_eq!(found, BTreeMap::from([("API_KEY".to_owned(), "abc".to_owned())]));
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let bytes = [0xff, 0xfe, b'A', b'P', b'I'];
        assert_eq!(mask_secrets(&bytes, &keys(), |_| String::new()).bytes, bytes);
    }
}
