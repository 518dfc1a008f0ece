//! Signed notes: the text, a blank line, and a line for each signature (C2SP `signed-note`), with Ed25519 keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The only kind of key that is known here.
const ED25519: u8 = 1;

/// Begins the line of a signature: an em dash and a space.
const SIGNATURE_MARK: &str = "\u{2014} ";

/// No note needs more.
const MAX_SIGNATURES: usize = 100;

/// Longest note that is read.
const MAX_NOTE_BYTES: usize = 1024 * 1024;

/// Why a note or a key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not written as a note is.
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    /// A key that is known did not make the signature that carries its name.
    #[error("the signature of {0} is wrong: the note was changed, or signed with another key")]
    BadSignature(String),
    /// No key that is known signed it.
    #[error("none of its signatures ({0}) is of a key that is known here")]
    UnknownKey(String),
    /// Not written as a key is.
    #[error("it is no key: {0}")]
    BadKey(&'static str),
}

/// A public key with its name: `NAME+HASH+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', ED25519]);
    hash.update(key.as_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

fn hex_id(name: &str, key: &VerifyingKey) -> String {
    format!("{:08x}", u32::from_be_bytes(key_id(name, key)))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['+', '\u{feff}']) && !name.contains(char::is_whitespace)
}

/// `+HASH+KEY` behind a name: the hash, and the 32 bytes of the key.
fn split_key(text: &str) -> Result<(&str, &str, [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::BadKey("it has not three parts"));
    };
    if !is_name(name) {
        return Err(NoteError::BadKey("its name is empty or has blanks"));
    }
    let bytes = STANDARD.decode(key).map_err(|_| NoteError::BadKey("it is not in base64"))?;
    match bytes.as_slice() {
        [ED25519, key @ ..] => {
            let key = key.try_into().map_err(|_| NoteError::BadKey("it has another length"))?;
            Ok((name, hash, key))
        }
        _ => Err(NoteError::BadKey("it is of another kind than Ed25519")),
    }
}

impl VerifierKey {
    /// From `NAME+HASH+KEY`.
    ///
    /// # Errors
    /// When it is not written so.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, hash, bytes) = split_key(text)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| NoteError::BadKey("it is no point of the curve"))?;
        if hex_id(name, &key) != hash {
            return Err(NoteError::BadKey("its hash does not fit"));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// As `NAME+HASH+KEY`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        format!("{}+{}+{}", self.name, hex_id(&self.name, &self.key), STANDARD.encode(bytes))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A private key with its name: `PRIVATE+KEY+NAME+HASH+KEY`.
pub struct SignerKey {
    name: String,
    key: SigningKey,
}

impl SignerKey {
    const PREFIX: &str = "PRIVATE+KEY+";

    /// From random bytes.
    ///
    /// # Errors
    /// For a name that no note can carry.
    pub fn new(name: &str, seed: [u8; 32]) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::BadKey("its name is empty or has blanks"));
        }
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// From `PRIVATE+KEY+NAME+HASH+KEY`.
    ///
    /// # Errors
    /// When it is not written so.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(NoteError::BadKey("it is not private"))?;
        let (name, hash, seed) = split_key(rest)?;
        let signer = Self::new(name, seed)?;
        if hex_id(name, &signer.key.verifying_key()) != hash {
            return Err(NoteError::BadKey("its hash does not fit"));
        }
        Ok(signer)
    }

    /// As `PRIVATE+KEY+NAME+HASH+KEY`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        let hash = hex_id(&self.name, &self.key.verifying_key());
        format!("{}{}+{hash}+{}", Self::PREFIX, self.name, STANDARD.encode(bytes))
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The note over a text.
    ///
    /// # Errors
    /// For a text that no note can carry.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_text(text)?;
        let mut bytes = key_id(&self.name, &self.key.verifying_key()).to_vec();
        bytes.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        Ok(format!("{text}\n{SIGNATURE_MARK}{} {}\n", self.name, STANDARD.encode(bytes)))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("its text does not end with a line break"));
    }
    if text.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err(NoteError::Malformed("it holds control characters"));
    }
    Ok(())
}

/// One line of a signature: whose, and what.
struct SignatureLine<'a> {
    name: &'a str,
    id: [u8; 4],
    signature: Vec<u8>,
}

fn signature_line(line: &str) -> Result<SignatureLine<'_>, NoteError> {
    let malformed = NoteError::Malformed("a line behind its text is no signature");
    let rest = line.strip_prefix(SIGNATURE_MARK).ok_or(malformed.clone())?;
    let (name, encoded) = rest.split_once(' ').ok_or(malformed.clone())?;
    let bytes = STANDARD.decode(encoded).map_err(|_| malformed.clone())?;
    match bytes.split_first_chunk::<4>() {
        Some((id, signature)) if is_name(name) && !signature.is_empty() => {
            Ok(SignatureLine { name, id: *id, signature: signature.to_vec() })
        }
        _ => Err(malformed),
    }
}

/// The text of a note that at least one of the keys signed. Signatures of others are no harm, a wrong one of a
/// known key is.
///
/// # Errors
/// Why it can't be trusted.
pub fn open<'a>(note: &'a str, keys: &[VerifierKey]) -> Result<&'a str, NoteError> {
    let (text, lines) = split(note)?;
    let mut known = false;
    let mut names = Vec::new();
    for line in lines {
        let line = signature_line(line)?;
        let named =
            |key: &&VerifierKey| key.name == line.name && key_id(&key.name, &key.key) == line.id;
        let Some(key) = keys.iter().find(named) else {
            names.push(line.name.to_owned());
            continue;
        };
        let wrong = || NoteError::BadSignature(line.name.to_owned());
        let signature = Signature::from_slice(&line.signature).map_err(|_| wrong())?;
        key.key.verify_strict(text.as_bytes(), &signature).map_err(|_| wrong())?;
        known = true;
    }
    if known { Ok(text) } else { Err(NoteError::UnknownKey(names.join(", "))) }
}

/// The text, and the lines of signatures.
fn split(note: &str) -> Result<(&str, Vec<&str>), NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed("it is too long"));
    }
    let gap = note.rfind("\n\n").ok_or(NoteError::Malformed("it has no signature"))?;
    let text = &note[..=gap];
    check_text(text)?;
    let rest = note[gap + 2..].strip_suffix('\n');
    let rest = rest.ok_or(NoteError::Malformed("its last line is not whole"))?;
    let lines: Vec<&str> = rest.split('\n').collect();
    if lines.len() > MAX_SIGNATURES {
        return Err(NoteError::Malformed("it has too many signatures"));
    }
    Ok((text, lines))
}

/// The text of a note, whoever signed it: for saying what it claims, never for believing it.
///
/// # Errors
/// When it is not written as a note is.
pub fn claimed(note: &str) -> Result<&str, NoteError> {
    let (text, lines) = split(note)?;
    lines.into_iter().try_for_each(|line| signature_line(line).map(|_| ()))?;
    Ok(text)
}
