//! Names and numbers that must not be confused: one newtype each, checked where they are made.
//!
//! Identities of machines and incidents live here; times are in [`crate::time`], quantities in [`crate::units`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not the name or number that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?}: {why}")]
pub struct InvalidId {
    /// What it should have been, as a user would call it.
    pub what: &'static str,
    /// What was given, cut at 64 characters.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, given: &str, why: &'static str) -> Self {
        Self { what, given: given.chars().take(64).collect(), why }
    }
}

/// The name of a node: a host name as Kubernetes or `uname` gives it.
///
/// 1 to 253 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit and without `..`; therefore always one safe
/// path component inside an archive. The collector still never builds a path on its own disk from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The longest name that DNS allows.
    pub const MAX_LEN: usize = 253;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let bad = |why| Err(InvalidId::new("node name", s, why));
        if s.is_empty() {
            return bad("is empty");
        }
        if s.len() > Self::MAX_LEN {
            return bad("is longer than 253 characters");
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return bad("has a character other than letters, digits, '.', '_' and '-'");
        }
        if !s.as_bytes()[0].is_ascii_alphanumeric() {
            return bad("does not begin with a letter or digit");
        }
        if s.contains("..") {
            return bad("contains '..'");
        }
        Ok(Self(s.to_owned()))
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One boot of one machine: `/proc/sys/kernel/random/boot_id`, 16 bytes, printed as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId([u8; 16]);

impl BootId {
    /// From the 16 bytes that it is on the wire and at rest.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for BootId {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let bad = || InvalidId::new("boot id", s, "is not a UUID");
        let text = s.trim();
        if text.len() != 36 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0u8; 16];
        let mut digits = text.bytes().enumerate().filter_map(|(i, b)| match (i, b) {
            (8 | 13 | 18 | 23, b'-') => None,
            _ => Some(char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())),
        });
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(bad()) };
            *byte = high << 4 | low;
        }
        if digits.next().is_some() {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for BootId {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The number of a frame within one boot of one node: contiguous, from 1, going on when the agent restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FrameSeq(pub u64);

impl FrameSeq {
    /// The first frame of a boot.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FrameSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An incident of one collector, printed as `INC-000123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(pub u64);

impl FromStr for IncidentId {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let bad = |why| InvalidId::new("incident", s, why);
        let digits = s.get(..4).filter(|p| p.eq_ignore_ascii_case("INC-")).map_or(s, |_| &s[4..]);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("is not of the form INC-000123"));
        }
        match digits.parse() {
            Ok(0) | Err(_) => Err(bad("is no number from 1 up")),
            Ok(n) => Ok(Self(n)),
        }
    }
}

impl TryFrom<String> for IncidentId {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INC-{:06}", self.0)
    }
}

/// One request of the collector to one agent for one window, unique within a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One evidence item within one request, numbered by the agent from 0 in the order in which it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemNumber(pub u32);

impl fmt::Display for ItemNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_always_one_safe_path_component() {
        for good in ["a", "ip-10-0-0-1.eu-west-1.compute.internal", "Node_7", &"x".repeat(253)] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a..b", "-a", "a/b", "a\\b", "a\0b", "ä", "a b", "a\n", &"x".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_boot_id_prints_as_it_was_read() {
        let text = "2b1c9a34-7d0e-4f5a-9c3b-0123456789ab";
        assert_eq!(format!("{text}\n").parse::<BootId>().unwrap().to_string(), text);
        for bad in ["", "2b1c9a34", "2b1c9a34-7d0e-4f5a-9c3b-0123456789ag", "2b1c9a3447d0e-4f5a-9c3b-0123456789ab"] {
            assert!(bad.parse::<BootId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_incident_is_named_with_or_without_its_prefix() {
        assert_eq!("INC-000123".parse::<IncidentId>().unwrap(), IncidentId(123));
        assert_eq!("inc-7".parse::<IncidentId>().unwrap(), IncidentId(7));
        assert_eq!("7".parse::<IncidentId>().unwrap().to_string(), "INC-000007");
        for bad in ["", "INC-", "INC-0", "INC--1", "INC-1a", "+7", "99999999999999999999999"] {
            assert!(bad.parse::<IncidentId>().is_err(), "{bad:?}");
        }
    }
}
