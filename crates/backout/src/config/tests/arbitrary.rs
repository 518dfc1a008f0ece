//! Whatever stands in a file, it is loaded or refused: no panic, no endless work.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;

use super::super::Wanted;
use super::loading::load_with;
use super::refused::corpus;

fn vars() -> [(&'static str, &'static str); 2] {
    [("PORT", "8080"), ("ODD", "a: [\u{0}${X}")]
}

fn check(source: &str) {
    for environment in [None, Some("staging")] {
        if let Err(error) = load_with(source, Wanted { environment, strategy: None }, &vars()) {
            assert!(!error.problems.is_empty());
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.chars().any(|c| c.is_control() && c != '\n'),
                "{text:?}"
            );
            for at in error.problems.iter().filter_map(|problem| problem.at) {
                assert!(
                    at.line as usize <= source.lines().count() + 1,
                    "{at:?} lies beyond the end"
                );
            }
        }
    }
}

/// Valid files and bad ones: what is cut and mixed below.
fn seeds() -> Vec<String> {
    let mut seeds = super::examples::valid();
    seeds.extend(corpus().into_iter().map(|(_, source)| source));
    seeds
}

proptest! {
    #[test]
    fn any_text(source in "\\PC{0,200}") {
        check(&source);
    }

    #[test]
    fn anything_that_looks_like_yaml(source in "([ ]{0,4}(app|target|process|health|http|canary|stages|[a-z]{1,3})?[:\\-\\[\\]{}&*!|>,#'\" \n]{1,3}[a-z0-9$%{}]{0,4}\n?){0,20}") {
        check(&source);
    }

    #[test]
    fn a_changed_file(
        seed in select(seeds()),
        cut in 0.0..1.0_f64,
        len in 0..40_usize,
        insert in "[\\PC\n]{0,8}",
    ) {
        let chars: Vec<char> = seed.chars().collect();
        let start = (chars.len() as f64 * cut) as usize;
        let end = (start + len).min(chars.len());
        let changed: String = chars[..start].iter().chain(insert.chars().collect::<Vec<_>>().iter()).chain(&chars[end..]).collect();
        check(&changed);
    }

    #[test]
    fn a_changed_value(seed in select(seeds()), nth in 0..40_usize, value in select(vec![
        "0", "-1", "99999999999999999999999", "1e999", ".nan", "~", "''", "[]", "{}", "[[[[]]]]", "{a: {b: {c: }}}",
        "${PORT}", "${ODD}", "${", "\"\\u0000\"", "{port}", "0s", "100%", "18446744073709551615ms", "../..", "*x", "&x y",
    ])) {
        let at: Vec<usize> = seed.match_indices(": ").map(|(at, _)| at).collect();
        if let Some(start) = at.get(nth % at.len().max(1)).map(|at| at + 2) {
            let end = seed[start..].find(['\n', ',', '}']).map_or(seed.len(), |len| start + len);
            check(&format!("{}{value}{}", &seed[..start], &seed[end..]));
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("backout.yaml");
        std::fs::write(&file, bytes).unwrap();
        let _ = super::super::load(&file, None, &|_| None);
    }
}

#[test]
fn deep_and_repetitive_files_end_quickly() {
    check(&"[".repeat(100_000));
    check(&format!("a: {}", "{b: ".repeat(50_000)));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    check(&bomb);
}
