//! The key: made once, for its owner alone, and nothing else is taken for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use backout_core::ids::LedgerId;
use backout_ledger::audit::{Keeper, KeeperError};

fn seed(byte: u8) -> impl FnOnce() -> [u8; 32] {
    move || [byte; 32]
}

fn keeper() -> (tempfile::TempDir, Keeper) {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::new(folder.path(), &LedgerId::from_entropy([7; 12]));
    (folder, keeper)
}

fn refused(keeper: &Keeper, words: &str) {
    match keeper.signer(seed(9)) {
        Err(error @ KeeperError::Refused { .. }) => {
            assert!(error.to_string().contains(words), "{error}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a key was given"),
    }
}

#[test]
fn the_key_is_made_once_and_is_the_owners_alone() {
    let (folder, keeper) = keeper();
    let first = keeper.signer(seed(1)).unwrap();
    assert!(first.is_new && !first.replaces_lost);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&keeper.key_path()), 0o600);
    assert_eq!(mode(&folder.path().join("audit")), 0o700);
    let again = keeper.signer(seed(2)).unwrap();
    assert!(!again.is_new);
    assert_eq!(again.key.text(), first.key.text());
    assert_eq!(keeper.public_keys().unwrap(), [first.key.verifier()]);
}

#[test]
fn a_lost_key_is_followed_by_a_new_one_and_the_old_public_one_stays() {
    let (_folder, keeper) = keeper();
    let first = keeper.signer(seed(1)).unwrap();
    fs::remove_file(keeper.key_path()).unwrap();
    let second = keeper.signer(seed(2)).unwrap();
    assert!(second.is_new && second.replaces_lost);
    assert_eq!(keeper.public_keys().unwrap(), [first.key.verifier(), second.key.verifier()]);
    assert!(!keeper.signer(seed(3)).unwrap().is_new);
}

#[test]
fn a_key_in_the_place_of_ours_is_refused() {
    let (_folder, ours) = keeper();
    ours.signer(seed(1)).unwrap();
    let (_other, theirs) = keeper();
    let foreign = theirs.signer(seed(2)).unwrap();
    fs::copy(theirs.key_path(), ours.key_path()).unwrap();
    refused(&ours, "put in the place of the key that signed before");
    // Whoever means it says so.
    let mut public = fs::read_to_string(ours.public_path()).unwrap();
    public.push_str(&format!("{}\n", foreign.key.verifier().text()));
    fs::write(ours.public_path(), public).unwrap();
    assert_eq!(ours.signer(seed(3)).unwrap().key.text(), foreign.key.text());
}

#[test]
fn without_the_list_of_keys_the_last_checkpoint_vouches() {
    let (_folder, keeper) = keeper();
    let first = keeper.signer(seed(1)).unwrap();
    keeper.remember(&first.key.sign("x\n").unwrap()).unwrap();
    fs::remove_file(keeper.public_path()).unwrap();
    assert!(!keeper.signer(seed(2)).unwrap().is_new);
    assert_eq!(keeper.public_keys().unwrap(), [first.key.verifier()]);
    fs::remove_file(keeper.public_path()).unwrap();
    let other = backout_ledger::audit::note::SignerKey::new("other", [5; 32]).unwrap();
    keeper.remember(&other.sign("x\n").unwrap()).unwrap();
    refused(&keeper, "it did not sign");
}

#[test]
fn keys_that_others_read_or_that_are_none_are_refused() {
    let (_folder, keeper) = keeper();
    keeper.signer(seed(1)).unwrap();
    fs::set_permissions(keeper.key_path(), PermissionsExt::from_mode(0o640)).unwrap();
    refused(&keeper, "its mode 640 lets others read it");
    fs::set_permissions(keeper.key_path(), PermissionsExt::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(keeper.key_path()).unwrap();
    for bad in ["", "PRIVATE+KEY+", &text[..text.len() - 9], "rubbish"] {
        fs::write(keeper.key_path(), bad).unwrap();
        refused(&keeper, "it is no key");
    }
    let other = backout_ledger::audit::note::SignerKey::new("backout/other", [5; 32]).unwrap();
    fs::write(keeper.key_path(), other.text()).unwrap();
    refused(&keeper, "it is the key of backout/other");
    fs::write(keeper.public_path(), "rubbish\n").unwrap();
    refused(&keeper, "a line of it: it is no key");
}
