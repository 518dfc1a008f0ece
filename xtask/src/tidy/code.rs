//! Rules about Rust code.

use super::mask::code_only;
use super::{Source, Violation};

const LONG_LINES: usize = 400;
const MOST_LINES: usize = 800;

/// Tokens that no code may hold, and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("#[ignore", "a test runs or is not there: make it run, or delete it"),
    ("todo!", "build it, or leave the whole path out"),
    ("unimplemented!", "build it, or leave the whole path out"),
    ("dbg!", "take it out; use tracing where it helps people"),
];

/// Folders whose code is pure, so that every outcome can be enumerated in a test.
const PURE: &[&str] = &["crates/backout-core/src/", "crates/backout-judge/src/"];
const PURE_REMEDY: &str =
    "take it as a value: this crate has no files, network, environment or clock";
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

/// Addresses are values; opening or resolving one is what needs the network.
const ADDRESSES: &[&str] = &[
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "AddrParseError",
];

/// What only `registry.rs` names, so that nothing but it knows which adapters exist.
const CONCRETE: &[&str] = &["backout_adapters::", "backout_ledger::", "backout_proxy::"];
const CONCRETE_REMEDY: &str = "go through a port and crates/backout/src/registry.rs, or add the file to NAMES_CONCRETE with its reason";

/// Files of the binary that may name concrete adapters, each with its reason.
const NAMES_CONCRETE: &[(&str, &str)] = &[
    ("crates/backout/src/registry.rs", "the one place that picks adapters by configuration"),
    ("crates/backout/src/registry/", "the same, once it is more than a file"),
    ("crates/backout/src/cli/supervise.rs", "is the supervisor: there is nothing to choose"),
    ("crates/backout/src/cli/proxy.rs", "is the data plane: there is nothing to choose"),
    ("crates/backout/src/demo/", "its web service and load are part of the show, not of a deploy"),
];

/// Lints that may only be silenced with a reason beside it.
const GUARDED_LINTS: &[&str] = &["too_many_lines", "unwrap_used", "unsafe_code"];

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let masked = code_only(&source.text);
    let mut found = Vec::new();
    length(source, &mut found);
    one_test_binary(source, &mut found);
    silenced_lints(source, &masked, &mut found);
    for (at, line) in masked.lines().enumerate() {
        let mut add = |what: &str, remedy| {
            found.push(Violation {
                path: source.path.clone(),
                line: at + 1,
                what: format!("`{what}`"),
                remedy,
            });
        };
        for (token, remedy) in FORBIDDEN.iter().filter(|(token, _)| has_token(line, token)) {
            add(token, remedy);
        }
        if is_pure(&source.path) {
            let worldly = IMPURE.iter().filter(|token| is_impure(line, token));
            worldly.for_each(|token| add(token, PURE_REMEDY));
        }
        if hides_adapters(&source.path) {
            let named = CONCRETE.iter().filter(|token| has_token(line, token));
            named.for_each(|token| add(token, CONCRETE_REMEDY));
        }
    }
    if is_pure(&source.path) {
        grouped_imports(source, &masked, &mut found);
    }
    found
}

/// A note, not a violation: files near 200 lines read best.
pub(super) fn long_file_note(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (source.is_rust() && lines > LONG_LINES && lines <= MOST_LINES)
        .then(|| format!("{} has {lines} lines; aim near 200", source.path))
}

fn length(source: &Source, found: &mut Vec<Violation>) {
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        found.push(Violation {
            path: source.path.clone(),
            line: lines,
            what: format!("{lines} lines, the limit is {MOST_LINES}"),
            remedy: "split it by what its parts do",
        });
    }
}

fn one_test_binary(source: &Source, found: &mut Vec<Violation>) {
    let parts: Vec<&str> = source.path.split('/').collect();
    if let ["crates", _, "tests", file] = parts.as_slice() {
        found.push(Violation {
            path: source.path.clone(),
            line: 1,
            what: format!("`{file}` is a test binary of its own"),
            remedy: "make it a module of tests/it/main.rs: each binary is linked anew",
        });
    }
}

fn silenced_lints(source: &Source, masked: &str, found: &mut Vec<Violation>) {
    // Helpers of tests may unwrap; clippy knows test functions, but not the functions they share.
    if !source.path.contains("/src/") {
        return;
    }
    for (start, _) in masked.match_indices("#[").chain(masked.match_indices("#![")) {
        let attribute = &masked[start..];
        let attribute = &attribute[..attribute.find(']').unwrap_or(attribute.len())];
        let silences = attribute.contains("allow(") || attribute.contains("expect(");
        if !silences || attribute.contains("reason") {
            continue;
        }
        for lint in GUARDED_LINTS.iter().filter(|lint| attribute.contains(**lint)) {
            found.push(Violation {
                path: source.path.clone(),
                line: line_of(masked, start),
                what: format!("`{lint}` is silenced without a reason"),
                remedy: "mend the code, or say why with `reason = \"…\"`",
            });
        }
    }
}

/// `use std::{fs, net}` says the same as the tokens above in another form.
fn grouped_imports(source: &Source, masked: &str, found: &mut Vec<Violation>) {
    for (start, opening) in masked.match_indices("std::{") {
        let group = &masked[start + opening.len()..];
        for (at, name) in top_level_names(group) {
            let full = format!("std::{name}");
            let value_only = name == "net" && names_addresses_only(&group[at + name.len()..]);
            if IMPURE.contains(&full.as_str()) && !value_only {
                found.push(Violation {
                    path: source.path.clone(),
                    line: line_of(masked, start + opening.len() + at),
                    what: format!("`{full}`"),
                    remedy: PURE_REMEDY,
                });
            }
        }
    }
}

fn top_level_names(group: &str) -> Vec<(usize, &str)> {
    let (mut depth, mut names, mut fresh) = (0_usize, Vec::new(), true);
    for (at, next) in group.char_indices() {
        match next {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && depth == 0 && is_word(next) => {
                let len = group[at..].find(|c| !is_word(c)).unwrap_or(group.len() - at);
                names.push((at, &group[at..at + len]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn is_impure(line: &str, token: &str) -> bool {
    let mut places = tokens(line, token);
    if token == "std::net" {
        return places.any(|at| !names_addresses_only(&line[at + token.len()..]));
    }
    places.next().is_some()
}

/// Whether a path into `std::net` goes on to nothing but addresses.
fn names_addresses_only(after: &str) -> bool {
    let Some(after) = after.strip_prefix("::") else {
        return false;
    };
    let names = match after.strip_prefix('{') {
        Some(group) => top_level_names(group),
        None => top_level_names(after).into_iter().take(1).collect(),
    };
    !names.is_empty() && names.iter().all(|(_, name)| ADDRESSES.contains(name))
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|folder| path.starts_with(folder))
}

fn hides_adapters(path: &str) -> bool {
    path.starts_with("crates/backout/src/")
        && !NAMES_CONCRETE.iter().any(|(allowed, _)| path.starts_with(allowed))
}

fn has_token(line: &str, token: &str) -> bool {
    tokens(line, token).next().is_some()
}

/// Where a token begins that is not a piece of a longer word.
fn tokens<'a>(line: &'a str, token: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(token).map(|(at, _)| at).filter(move |at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + token.len()..].chars().next();
        let ends_in_word = token.chars().next_back().is_some_and(is_word);
        let goes_on = before.is_some_and(is_word) || (ends_in_word && after.is_some_and(is_word));
        !goes_on
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&source(path, text)).into_iter().map(|v| (v.line, v.what)).collect()
    }

    fn one(line: usize, what: &str) -> Vec<(usize, String)> {
        vec![(line, what.to_owned())]
    }

    const ENGINE: &str = "crates/backout-engine/src/a.rs";
    const CORE: &str = "crates/backout-core/src/a.rs";

    #[test]
    fn hollow_code_is_found_and_words_about_it_are_not() {
        assert_eq!(lines(ENGINE, "\nfn a() { todo!() }"), one(2, "`todo!`"));
        assert_eq!(lines(ENGINE, "fn a() { unimplemented!() }"), one(1, "`unimplemented!`"));
        assert_eq!(lines(ENGINE, "fn a() { dbg!(1); }"), one(1, "`dbg!`"));
        assert_eq!(lines(ENGINE, "#[test]\n#[ignore = \"x\"]\nfn a() {}"), one(2, "`#[ignore`"));
        assert_eq!(lines(ENGINE, "// todo!\nconst A: &str = \"dbg!(\"; fn my_dbg!()"), []);
    }

    #[test]
    fn a_long_file_is_found_and_a_longish_one_noted() {
        let long = source(ENGINE, &"\n".repeat(801));
        assert_eq!(check(&long)[0].what, "801 lines, the limit is 800");
        assert_eq!(long_file_note(&long), None);
        let longish = source(ENGINE, &"\n".repeat(800));
        assert_eq!(check(&longish), []);
        assert!(long_file_note(&longish).unwrap().contains("800 lines"));
        assert_eq!(long_file_note(&source(ENGINE, &"\n".repeat(400))), None);
    }

    #[test]
    fn pure_crates_have_no_world() {
        for token in IMPURE {
            let text = format!("fn a() {{ {token}; }}");
            assert_eq!(lines(CORE, &text), one(1, &format!("`{token}`")), "{token}");
            assert_eq!(lines("crates/backout-judge/src/b/c.rs", &text).len(), 1);
            assert_eq!(lines(ENGINE, &text), []);
        }
        assert_eq!(
            lines(CORE, "use std::{\n    collections::{fs, HashMap},\n    env,\n};"),
            one(3, "`std::env`")
        );
        assert_eq!(lines(CORE, "use std::fmt; struct MySystemTimes; // std::fs"), []);
    }

    #[test]
    fn addresses_are_values_and_sockets_are_not() {
        let free = [
            "use std::net::SocketAddr;",
            "use std::net::{IpAddr, SocketAddr};",
            "use std::{fmt, net::Ipv4Addr};",
            "fn a(b: std::net::SocketAddr) {}",
        ];
        for text in free {
            assert_eq!(lines(CORE, text), [], "{text}");
        }
        let caught = [
            "use std::net::TcpStream;",
            "use std::net::ToSocketAddrs;",
            "use std::net::{SocketAddr, UdpSocket};",
            "use std::{fmt, net::TcpListener};",
            "use std::net;",
            "use std::net::*;",
            "fn a(b: std::net::SocketAddr) { std::net::TcpStream::connect(b); }",
        ];
        for text in caught {
            assert_eq!(lines(CORE, text), one(1, "`std::net`"), "{text}");
        }
    }

    #[test]
    fn only_listed_files_name_concrete_adapters() {
        let text = "use backout_adapters::router;\nuse backout_ledger::Sqlite;";
        let found = lines("crates/backout/src/cli/deploy.rs", text);
        assert_eq!(
            found,
            [(1, "`backout_adapters::`".to_owned()), (2, "`backout_ledger::`".to_owned())]
        );
        let found = lines("crates/backout/src/cli/deploy.rs", "use backout_proxy::client::Admin;");
        assert_eq!(found, one(1, "`backout_proxy::`"));
        for (allowed, _) in NAMES_CONCRETE {
            assert_eq!(lines(allowed, text), [], "{allowed}");
        }
        assert_eq!(lines("crates/backout/tests/it/a.rs", text), []);
    }

    #[test]
    fn a_crate_has_one_test_binary() {
        assert_eq!(lines("crates/backout-core/tests/fold.rs", "").len(), 1);
        assert_eq!(lines("crates/backout-core/tests/it/fold.rs", ""), []);
    }

    #[test]
    fn a_lint_is_silenced_only_with_a_reason() {
        let bare = "fn a() {}\n#[allow(clippy::too_many_lines)]\nfn b() {}";
        assert_eq!(lines(ENGINE, bare), one(2, "`too_many_lines` is silenced without a reason"));
        let whole = "#![expect(clippy::unwrap_used)]";
        assert_eq!(lines(ENGINE, whole), one(1, "`unwrap_used` is silenced without a reason"));
        assert_eq!(lines(ENGINE, "#[allow(clippy::too_many_lines, reason = \"a table\")]"), []);
        assert_eq!(lines(ENGINE, "#[allow(dead_code)]"), []);
        assert_eq!(lines("crates/backout-engine/tests/it/main.rs", whole), []);
    }
}
