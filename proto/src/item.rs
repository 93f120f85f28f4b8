//! Evidence items: one file of an archive each, with where it came from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gap::Gap;
use crate::time::Window;

/// A SHA-256 digest, printed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for Digest {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{:?} is no SHA-256 digest", s.chars().take(80).collect::<String>());
        if s.len() != 64 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut out = [0u8; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.to_string()
    }
}

/// Why a text is no path of an archive entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("archive path {given:?}: {why}")]
pub struct InvalidPath {
    /// What was given, cut at 200 characters.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The path of an archive entry below the archive's top directory: relative, `/` between components, only printable
/// ASCII, no `.`, `..` or empty component, no backslash, colon, quote or space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryPath(String);

impl EntryPath {
    /// The longest whole path in bytes: leaves room for the directory that somebody unpacks into.
    pub const MAX_LEN: usize = 1024;
    /// The longest component in bytes: `NAME_MAX` of Linux file systems.
    pub const MAX_COMPONENT: usize = 255;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This path with one more component, made safe by [`safe_component`].
    #[must_use]
    pub fn child(&self, component: &str) -> Self {
        let joined = format!("{}/{}", self.0, safe_component(component));
        // Too deep a tree of long names: the digest keeps two such paths apart and the whole path short enough.
        if joined.len() > Self::MAX_LEN {
            Self(format!(
                "{}/{}",
                &self.0[..self.0.floor_char_boundary(256)].trim_end_matches('/'),
                safe_component(&joined)
            ))
        } else {
            Self(joined)
        }
    }

    fn allowed(b: u8) -> bool {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'@' | b',' | b'~')
    }
}

/// Any bytes as one safe path component: what is not letter, digit or one of `._-+@,~` becomes `=XX`, a leading dot too;
/// a longer one than [`EntryPath::MAX_COMPONENT`] is cut and ends in `~` and 16 hexadecimal digits of its own hash.
///
/// Not `%XX`: a bag's manifest must write a percent sign as `%25` (RFC 8493 §2.1.3), and then `sha256sum -c` no longer
/// finds the file.
pub fn safe_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, b) in text.bytes().enumerate() {
        if EntryPath::allowed(b) && !(i == 0 && matches!(b, b'.' | b'-' | b'~')) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("={b:02X}"));
        }
    }
    if out.is_empty() {
        out.push('_');
    }
    if out.len() > EntryPath::MAX_COMPONENT {
        // FNV-1a, 64 bits: names apart that were cut at the same place; nothing rests on it being unforgeable,
        // because the archive writer refuses a path twice.
        let hash =
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        out.truncate(EntryPath::MAX_COMPONENT - 17);
        while out.ends_with('=') || out.get(out.len().saturating_sub(2)..).is_some_and(|t| t.starts_with('=')) {
            out.pop();
        }
        out.push_str(&format!("~{hash:016x}"));
    }
    out
}

impl FromStr for EntryPath {
    type Err = InvalidPath;
    fn from_str(s: &str) -> Result<Self, InvalidPath> {
        let bad = |why| Err(InvalidPath { given: s.chars().take(200).collect(), why });
        if s.len() > Self::MAX_LEN {
            return bad("is longer than 1024 bytes");
        }
        for component in s.split('/') {
            if component.is_empty() {
                return bad("is absolute, empty, or has an empty component");
            }
            if component == "." || component == ".." {
                return bad("has a component that points elsewhere");
            }
            if component.len() > Self::MAX_COMPONENT {
                return bad("has a component longer than 255 bytes");
            }
            if !component.bytes().all(|b| Self::allowed(b) || b == b'=') {
                return bad("has a character that is not allowed");
            }
        }
        Ok(Self(s.to_owned()))
    }
}

impl TryFrom<String> for EntryPath {
    type Error = InvalidPath;
    fn try_from(s: String) -> Result<Self, InvalidPath> {
        s.parse()
    }
}

impl From<EntryPath> for String {
    fn from(p: EntryPath) -> Self {
        p.0
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an evidence item is. The closed list of read-only collections that a collector may ask an agent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// The frames of the window, as recorded: one standalone segment.
    Recording,
    /// Lines of one log in the window.
    Log,
    /// A table of the machine's state at collection time.
    State,
    /// What the machine is: `node.json`.
    Inventory,
}

impl ItemKind {
    /// Every kind; the position plus one is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Recording, Self::Log, Self::State, Self::Inventory];
}

/// Where an evidence item comes from and what it covers, said before its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemHead {
    /// What it is.
    pub kind: ItemKind,
    /// Where it goes below `data/nodes/<node>/`: `logs/kernel.log`, `state/processes.jsonl`.
    pub path: EntryPath,
    /// The source or log source that made it: `pods`, `kernel`, `recording`, `state`, `inventory`.
    pub source: String,
    /// What was read and how, for a person: `/var/log/pods/…, CRI format, bisected by time`.
    pub method: String,
    /// How the lines of a log bear their times, as `casefile_evidence::logtime` reads and writes it; `None`: each line begins
    /// with its time, or it has none. At most [`ItemHead::MAX_TIMES`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<String>,
}

impl ItemHead {
    /// The most bytes of [`Self::times`]: a zone that changes often in a long window has the longest.
    pub const MAX_TIMES: usize = 4096;
}

/// What is known of an evidence item after its last byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemTail {
    /// The size of the content.
    pub size: u64,
    /// The digest of the content.
    pub sha256: Digest,
    /// Records in it: lines, frames, rows.
    pub records: u64,
    /// The interval that was really read; `None` for what has no time, or when nothing was covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Window>,
    /// What is missing from it.
    pub gaps: Vec<Gap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_points_elsewhere_is_refused() {
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a\\b",
            "a b",
            "a\nb",
            "c:x",
            "a%2Fb",
            "ä",
            &"x/".repeat(600),
        ] {
            assert!(bad.parse::<EntryPath>().is_err(), "{bad:?}");
        }
        assert!("data/nodes/n-1/logs/kernel.log".parse::<EntryPath>().is_ok());
    }

    #[test]
    fn any_text_becomes_one_safe_component() {
        let long = "é".repeat(300);
        for text in ["", ".", "..", "../x", "-rf", "a/b", "\u{202e}evil\n", "ok-1.log", long.as_str(), &"=".repeat(300)]
        {
            let safe = safe_component(text);
            assert!(safe.len() <= EntryPath::MAX_COMPONENT, "{safe}");
            assert!(!safe.contains('/') && safe.parse::<EntryPath>().is_ok(), "{text:?} → {safe}");
        }
        assert_eq!(safe_component("ok-1.log"), "ok-1.log");
        assert_eq!(safe_component("a=b c"), "a=3Db=20c");
        assert_ne!(safe_component(&"a".repeat(300)), safe_component(&"a".repeat(301)));
    }

    #[test]
    fn a_child_of_a_deep_path_stays_within_the_limit() {
        let mut path: EntryPath = "logs".parse().unwrap();
        for _ in 0..40 {
            path = path.child(&"x".repeat(200));
            assert!(path.as_str().parse::<EntryPath>().is_ok());
        }
    }
}
