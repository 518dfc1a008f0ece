//! Notes and checkpoints: what others published is read and written alike, and nothing makes the parsers panic.

use backout_ledger::audit::checkpoint::Checkpoint;
use backout_ledger::audit::note::{NoteError, SignerKey, VerifierKey, claimed, open};
use backout_ledger::audit::{Verifier, read_export};
use proptest::prelude::*;

/// The keys, text and note of the format's reference implementation.
const PRIVATE: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// An example of the format's specification.
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn key(text: &str) -> VerifierKey {
    VerifierKey::parse(text).unwrap()
}

#[test]
fn a_note_of_the_reference_is_written_and_read() {
    let signer = SignerKey::parse(PRIVATE).unwrap();
    assert_eq!(signer.text(), PRIVATE);
    assert_eq!(signer.verifier().text(), PUBLIC);
    assert_eq!(signer.sign(TEXT).unwrap(), NOTE);
    assert_eq!(open(NOTE, &[key(PUBLIC)]), Ok(TEXT));
    assert_eq!(
        open(EXAMPLE, &[key(PUBLIC), key(EXAMPLE_KEY)]),
        Ok("This is an example message.\n")
    );
}

#[test]
fn signatures_of_others_do_no_harm() {
    let ours = SignerKey::new("backout/one", [1; 32]).unwrap();
    let theirs = SignerKey::new("backout/two", [2; 32]).unwrap();
    let line = |note: String| note.rsplit_once("\n\n").unwrap().1.to_owned();
    let both = format!("{}{}", ours.sign("x\n").unwrap(), line(theirs.sign("x\n").unwrap()));
    assert_eq!(open(&both, &[ours.verifier()]), Ok("x\n"));
    assert_eq!(open(&both, &[theirs.verifier()]), Ok("x\n"));
    // A wrong one of a key that is known spoils it, whoever else signed.
    let bad = format!("{}{}", ours.sign("x\n").unwrap(), line(theirs.sign("y\n").unwrap()));
    assert_eq!(open(&bad, &[ours.verifier()]), Ok("x\n"));
    let both_keys = [ours.verifier(), theirs.verifier()];
    assert_eq!(open(&bad, &both_keys), Err(NoteError::BadSignature("backout/two".to_owned())));
    let unknown = SignerKey::new("backout/one", [3; 32]).unwrap().verifier();
    let named = "backout/one, backout/two".to_owned();
    assert_eq!(open(&both, &[unknown]), Err(NoteError::UnknownKey(named)));
}

#[test]
fn what_is_bent_is_not_opened() {
    let keys = [key(PUBLIC)];
    for (from, to) in [
        ("answer", "anser"),
        ("\n\n\u{2014}", "\n\u{2014}"),
        ("\u{2014} Peter", "-- Peter"),
        ("x08go", "x18go"),
        ("JnAM=\n", "JnAM="),
        ("JnAM=\n", "JnAM=\n\n"),
        ("JnAM=", "JnAN="),
        (
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
            "x08goQ==",
        ),
        ("If you", "If\tyou"),
    ] {
        let bent = NOTE.replacen(from, to, 1);
        assert_ne!(bent, NOTE);
        assert!(open(&bent, &keys).is_err(), "{bent}");
    }
    assert!(claimed(NOTE).is_ok() && claimed("x\n\nno signature\n").is_err());
    let signer = SignerKey::parse(PRIVATE).unwrap();
    assert!(signer.sign("no end").is_err() && signer.sign("bell\u{7}\n").is_err());
    for bad in ["a b", "", "a+b", "a\u{a0}b"] {
        assert!(SignerKey::new(bad, [0; 32]).is_err(), "{bad}");
    }
    for bad in [
        PUBLIC.replace("c74f20a3", "c74f20a4"),
        PUBLIC.replace("ARpc", "AhpC"),
        PUBLIC.replace("0TW", ""),
        PUBLIC.replace('+', "-"),
        PRIVATE.to_owned(),
    ] {
        assert!(VerifierKey::parse(&bad).is_err(), "{bad}");
    }
    assert!(SignerKey::parse(PUBLIC).is_err());
    assert!(SignerKey::parse(&PRIVATE.replace("c74f20a3", "00000000")).is_err());
}

/// The checkpoint in the format's specification.
const SPECIFIED: &str =
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

#[test]
fn checkpoints_are_read_as_specified() {
    let checkpoint = Checkpoint::parse(SPECIFIED).unwrap();
    assert_eq!(
        (checkpoint.origin.as_str(), checkpoint.size),
        ("example.com/behind-the-sofa", 20_852_163)
    );
    assert_eq!(checkpoint.text(), SPECIFIED);
    assert!(Checkpoint::parse(&format!("{SPECIFIED}an extension\n")).is_ok());
    for (from, to) in [
        ("example.com/behind-the-sofa\n", "\n"),
        ("20852163", "020852163"),
        ("20852163", "+20852163"),
        ("20852163", "-1"),
        ("20852163", "99999999999999999999"),
        ("20852163", "0"),
        ("q2I=\n", "q2I="),
        ("q2I=\n", "q2I=\n\n"),
        ("CsUY", "Cs"),
        ("CsUY", "Cs Y"),
    ] {
        let bent = SPECIFIED.replacen(from, to, 1);
        assert!(Checkpoint::parse(&bent).is_err(), "{bent}");
    }
}

/// Pieces that parsers look for, and others.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("\u{2014} ".to_owned()),
        Just("PRIVATE+KEY+".to_owned()),
        Just(PUBLIC.to_owned()),
        Just(NOTE.to_owned()),
        Just(SPECIFIED.to_owned()),
        Just("\u{2014} a AAAAAAAA\n".to_owned()),
        Just(r#"{"backout_audit_export":1,"ledger":"led_0123456789ab","size":1,"peaks":[],"written_at":""}"#.to_owned()),
        Just(r#"{"backout_audit_export":1,"ledger":"led_0123456789ab","size":18446744073709551615,"peaks":[],"written_at":""}"#.to_owned()),
        Just(r#"["backout-audit",1,"entry","op_x/1",1,"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",""]"#.to_owned()),
        Just(r#"{"kind":"entry","subject":"op_x/1","format":1,"json":""}"#.to_owned()),
        Just(r#"{"records":0,"checkpoint":"","key":""}"#.to_owned()),
        "[ -~]{0,12}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_parser_panic(text in pieces()) {
        let keys = [key(PUBLIC)];
        if let Ok(opened) = open(&text, &keys) {
            prop_assert_eq!(opened, TEXT, "only what was signed is opened");
        }
        let _ = (claimed(&text), VerifierKey::parse(&text), SignerKey::parse(&text).is_ok());
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert!(text.starts_with(&checkpoint.text()));
        }
        let mut verifier = Verifier::new(&[]);
        let _ = read_export(text.as_bytes(), &mut verifier);
        let _ = verifier.finish();
    }

    #[test]
    fn every_text_that_can_be_signed_comes_back(text in "[ -~\n]{0,80}", seed in any::<[u8; 32]>()) {
        let signer = SignerKey::new("backout/led", seed).unwrap();
        let text = format!("{text}\n");
        let note = signer.sign(&text).unwrap();
        prop_assert_eq!(open(&note, &[signer.verifier()]), Ok(text.as_str()));
        prop_assert_eq!(SignerKey::parse(&signer.text()).unwrap().text(), signer.text());
    }
}
