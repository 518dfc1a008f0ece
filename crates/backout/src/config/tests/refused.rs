//! What invalid files are told: one snapshot per file under `bad/`.

use std::path::Path;

use super::super::Wanted;
use super::loading::load_with;

/// Every file under `bad/`, by name.
pub(super) fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/bad");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_mistake_is_shown_with_its_place_and_a_way_out() {
    let files = corpus();
    assert!(files.len() > 80, "the corpus is there");
    let mut text = String::new();
    for (name, source) in files {
        let environment = source.contains("environments: {}").then_some("production");
        let wanted = Wanted { environment, strategy: None };
        match load_with(&source, wanted, &[]) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => {
                assert!(
                    error.problems.iter().all(|p| p.at.is_some() || !p.hints.is_empty()),
                    "{name}: {error}"
                );
                text.push_str(&format!("## {name}\n{error}\n\n"));
            }
        }
    }
    insta::assert_snapshot!("refused", text);
}

#[test]
fn files_that_can_not_be_read_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let error = super::super::load(&folder.path().join(name), None, &|_| None).unwrap_err();
        error.to_string()
    };
    let missing = load("backout.yaml");
    assert!(missing.contains("no such file") && missing.contains("backout init"), "{missing}");
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    assert!(load("folder").contains("name the file"), "{}", load("folder"));
    std::fs::write(folder.path().join("binary"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(load("binary").contains("UTF-8"));
    std::fs::write(folder.path().join("long"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(load("long").contains("1 MiB"));
}

#[test]
fn an_unknown_environment_names_the_nearest() {
    let source = "app: shop\ntarget: { process: { command: [a] } }\nenvironments: { staging: {}, production: {} }\n";
    let wanted = Wanted { environment: Some("stagin"), strategy: None };
    let error = load_with(source, wanted, &[]).unwrap_err().to_string();
    assert!(error.contains("did you mean `-e staging`?"), "{error}");
}
