//! The key that a fleet masks with, the tokens that secrets become under it, and how a token is known again.
//!
//! A token is `[redacted:RULE:0123456789abcdef]`: the rule that found the secret and the first 64 bits of
//! HMAC-SHA-256(key, secret). Nothing in it needs quoting in a JSON string, a URL or a shell word in quotes.

use std::fmt::{self, Write as _};
use std::ops::Range;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// How every token begins.
const OPENING: &[u8] = b"[redacted:";

/// Hex digits of a token.
const DIGITS: usize = 16;

/// The longest id of a rule, which bounds a token.
pub(crate) const MAX_ID: usize = 48;

/// The secret under which equal secrets become equal tokens, on every node that was given it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// These bytes, which should come from a good source of randomness.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A name for the key that can be shown: it says which key, and nothing of what the key is.
    pub fn id(&self) -> KeyId {
        let digest = Keyed::new(self).digest(b"name of the key", b"");
        KeyId([digest[0], digest[1], digest[2], digest[3]])
    }

    /// The bytes, for whoever stores or sends the key.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// Which key: eight hex digits, safe to show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// HMAC-SHA-256 with the key already taken in.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

impl Keyed {
    pub(crate) fn new(key: &Key) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Self(Hmac::new_from_slice(&key.0).expect("a key of 32 bytes"))
    }

    /// The digest of something that is not a secret out of a text, kept apart from those by its domain: no text that is
    /// looked at begins with a zero byte and a domain of ours by chance.
    pub(crate) fn digest(&self, domain: &[u8], bytes: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"\0");
        mac.update(domain);
        mac.update(b"\0");
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// The token of this secret.
    pub(crate) fn token(&self, rule: &str, secret: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(secret);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let mut token = String::with_capacity(OPENING.len() + rule.len() + DIGITS + 2);
        token.push_str("[redacted:");
        token.push_str(rule);
        token.push(':');
        for byte in &digest[..DIGITS / 2] {
            // Writing to a String never fails.
            let _ = write!(token, "{byte:02x}");
        }
        token.push(']');
        token
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

/// Whether this can be the id of a rule: what may stand in a token.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_id_byte)
}

fn is_id_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}

/// The length of the token that stands at the beginning of `text`.
pub(crate) fn token_at(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(OPENING)?;
    let id = rest.iter().take(MAX_ID + 1).position(|b| *b == b':')?;
    if id == 0 || !rest[..id].iter().copied().all(is_id_byte) {
        return None;
    }
    let digits = rest.get(id + 1..id + 1 + DIGITS)?;
    let whole = digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    (whole && rest.get(id + 1 + DIGITS) == Some(&b']')).then_some(OPENING.len() + id + DIGITS + 2)
}

/// Whether the last thing in `text` is a token.
pub(crate) fn ends_with_token(text: &[u8]) -> bool {
    let longest = OPENING.len() + MAX_ID + DIGITS + 2;
    let tail = &text[text.len().saturating_sub(longest)..];
    memchr::memmem::rfind(tail, OPENING).is_some_and(|at| token_at(&tail[at..]) == Some(tail.len() - at))
}

/// The next token in `text` at or after `from`.
pub(crate) fn next_token(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut from = from;
    loop {
        let at = from + memchr::memmem::find(text.get(from..)?, OPENING)?;
        match token_at(&text[at..]) {
            Some(length) => return Some(at..at + length),
            None => from = at + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_its_id_and_nothing_else() {
        let key = Key::new([7; 32]);
        assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
        assert_eq!(key.id().to_string().len(), 8);
        assert_ne!(key.id(), Key::new([8; 32]).id());
    }

    #[test]
    fn a_token_is_the_same_for_equal_secrets_and_is_known_again() {
        let keyed = Keyed::new(&Key::new([7; 32]));
        let (one, two) = (keyed.token("a-rule", b"hunter2"), keyed.token("other", b"hunter2"));
        assert_eq!(one[one.len() - 17..], two[two.len() - 17..]);
        assert_ne!(one, keyed.token("a-rule", b"hunter3"));
        assert_eq!(token_at(one.as_bytes()), Some(one.len()));
        let text = format!("x [redacted:no] {one} y");
        assert_eq!(next_token(text.as_bytes(), 0), Some(16..16 + one.len()));
    }

    #[test]
    fn what_only_resembles_a_token_is_none() {
        for text in [
            "[redacted:",
            "[redacted::0123456789abcdef]",
            "[redacted:a:0123456789abcde]",
            "[redacted:a:0123456789ABCDEF]",
            "[redacted:A:0123456789abcdef]",
            "[redacted:a:0123456789abcdef",
            "[redacted:a b:0123456789abcdef]",
        ] {
            assert_eq!(token_at(text.as_bytes()), None, "{text}");
        }
    }
}
