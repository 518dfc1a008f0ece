//! Durations, percents and ratios as people write them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// No duration may be longer, so that sums of a few can't overflow.
const MAX_MS: u64 = 10 * 366 * 24 * 3_600_000;

const DURATION_RULE: &str = "write durations as `500ms`, `30s`, `5m`, `1h30m` or `7d`";

/// Milliseconds of a text such as `30s`, `5m`, `1h30m`, `500ms` or `0`.
///
/// # Errors
/// Says how durations are written.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a duration; {DURATION_RULE}");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut total_ms: u64 = 0;
    let mut last_unit_ms = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        let unit_ms = match &rest[digits..digits + letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("`{text}` lacks a unit; {DURATION_RULE}")),
            _ => return Err(refuse()),
        };
        // `30m1h` is more likely a slip than a wish.
        if unit_ms >= last_unit_ms {
            return Err(refuse());
        }
        last_unit_ms = unit_ms;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|part| part.checked_add(total_ms))
            .filter(|ms| *ms <= MAX_MS)
            .ok_or_else(|| format!("`{text}` is longer than ten years"))?;
        rest = &rest[digits + letters..];
    }
    Ok(total_ms)
}

/// A duration as people write it: the largest units first, nothing that is zero.
#[must_use]
pub fn format_duration_ms(mut ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, unit_ms) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if ms >= unit_ms {
            out.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    out
}

fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    // `inf`, `nan` and exponents parse as f64, but nobody means them here.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    text.parse().ok()
}

/// A percentage such as `3%`, as 3.0.
///
/// # Errors
/// Says how percents are written.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let refuse =
        || format!("`{text}` is not a percentage from 0% to 100%; write it as `3%` or `99.5%`");
    let number = text.trim().strip_suffix('%').and_then(parse_number).ok_or_else(refuse)?;
    if number <= 100.0 { Ok(number) } else { Err(refuse()) }
}

/// A ratio such as `0.01` or `1%`, as 0.01.
///
/// # Errors
/// Says how ratios are written.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let refuse = || format!("`{text}` is not a ratio; write it as `0.01` or `1%`");
    if text.trim_end().ends_with('%') {
        return parse_percent(text).map(|percent| percent / 100.0).map_err(|_| refuse());
    }
    parse_number(text).filter(|ratio| *ratio <= 1.0).ok_or_else(refuse)
}

/// A number in base units: `512MiB` in bytes, `250ms` in seconds, `3%` as 0.03, or as it stands.
///
/// # Errors
/// Says how quantities are written.
pub fn parse_quantity(text: &str) -> Result<f64, String> {
    const UNITS: &[(&str, f64)] = &[
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("%", 0.01),
        ("ms", 0.001),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
    ];
    let text = text.trim();
    let (number, unit) = match UNITS
        .iter()
        .find_map(|(unit, size)| text.strip_suffix(unit).map(|number| (number.trim_end(), *size)))
    {
        Some(found) => found,
        None => (text, 1.0),
    };
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    let value = number.parse::<f64>().ok().filter(|_| number.chars().all(plain));
    value.map(|value| value * unit).filter(|value| value.is_finite()).ok_or_else(|| {
        format!("`{text}` is not a quantity; write it as `500`, `512MiB`, `250ms` or `3%`")
    })
}

/// The milliseconds between two of them, for a rate such as `2/s` or `30/m`.
///
/// # Errors
/// Says how rates are written.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a rate; write it as `2/s`, `30/m` or `100/h`");
    let (number, unit) = text.trim().split_once('/').ok_or_else(refuse)?;
    let unit_ms = match unit.trim() {
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err(refuse()),
    };
    let number = parse_number(number).filter(|number| *number > 0.0).ok_or_else(refuse)?;
    Ok((unit_ms / number).round().clamp(0.0, 1e12) as u64)
}

macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expecting:literal, $parse:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        $parse(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

scalar!(/** A span of time, in milliseconds. */ Duration(u64), "a duration such as `30s`", parse_duration_ms, {
    "description": "A duration such as 500ms, 30s, 5m, 1h30m or 7d",
    "anyOf": [{"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$|^0$|\\$\\{.+\\}"}, {"const": 0}]
});
scalar!(/** A percentage, 3.0 for `3%`. */ Percent(f64), "a percentage such as `3%`", parse_percent, {
    "description": "A percentage such as 3% or 99.5%",
    "type": "string", "pattern": "^[0-9.]+%$|\\$\\{.+\\}"
});
scalar!(/** A number in base units: bytes, seconds, fractions. */ Quantity(f64), "a number such as `500`, `512MiB`, `250ms` or `3%`", parse_quantity, {
    "description": "A number such as 500, 512MiB, 250ms or 3%",
    "anyOf": [{"type": "string", "pattern": "^[-+0-9.eE]+ ?(KiB|MiB|GiB|kB|MB|GB|%|ms|s|m|h)?$|\\$\\{.+\\}"}, {"type": "number"}]
});
scalar!(/** How often, as the milliseconds between two. */ Rate(u64), "a rate such as `2/s`", parse_rate, {
    "description": "A rate such as 2/s, 30/m or 100/h",
    "type": "string", "pattern": "^[0-9.]+ ?/ ?[smh]$|\\$\\{.+\\}"
});
scalar!(/** A ratio, 0.01 for `0.01` or `1%`. */ Ratio(f64), "a ratio such as `0.01` or `1%`", parse_ratio, {
    "description": "A ratio such as 0.01 or 1%",
    "anyOf": [{"type": "string", "pattern": "^[0-9.]+%?$|\\$\\{.+\\}"}, {"type": "number", "minimum": 0, "maximum": 1}]
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_in_every_documented_form() {
        for (text, ms) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1m500ms", 60_500),
            ("7d", 604_800_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_rule() {
        for text in [
            "",
            "30",
            "s",
            "-5s",
            "1.5h",
            "5 m",
            "30m1h",
            "1h1h",
            "5y",
            "99999999999999999999s",
            "9999999d",
        ] {
            let error = parse_duration_ms(text).unwrap_err();
            assert!(error.contains("30s") || error.contains("ten years"), "{text}: {error}");
        }
    }

    #[test]
    fn percents_and_ratios_keep_their_meaning_apart() {
        assert_eq!(parse_percent("3%"), Ok(3.0));
        assert_eq!(parse_percent("99.5%"), Ok(99.5));
        assert_eq!(parse_ratio("1%"), Ok(0.01));
        assert_eq!(parse_ratio("0.25"), Ok(0.25));
        for text in ["3", "101%", "-1%", "nan%", "%", "1e1%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
        for text in ["1.5", "inf", "", "200%"] {
            assert!(parse_ratio(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_in_base_units_and_rates_are_periods() {
        for (text, value) in [
            ("500", 500.0),
            ("-3.5e2", -350.0),
            ("512MiB", 536_870_912.0),
            ("2 GB", 2e9),
            ("250ms", 0.25),
            ("3%", 0.03),
            ("1m", 60.0),
        ] {
            assert_eq!(parse_quantity(text), Ok(value), "{text}");
        }
        for text in ["", "inf", "nan", "5 apples", "MiB", "1e999"] {
            assert!(parse_quantity(text).is_err(), "{text}");
        }
        for (text, ms) in [("1/s", 1_000), ("50/s", 20), ("30/m", 2_000), ("0.5/s", 2_000)] {
            assert_eq!(parse_rate(text), Ok(ms), "{text}");
        }
        for text in ["1", "/s", "0/s", "-1/s", "1/d"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = parse_duration_ms(&text);
            let _ = parse_percent(&text);
            let _ = parse_ratio(&text);
            let _ = parse_quantity(&text);
            let _ = parse_rate(&text);
        }

        #[test]
        fn a_written_duration_reads_back(ms in 0..MAX_MS) {
            prop_assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms));
        }
    }
}
