//! Which text file an entry belongs to. Pure.
//!
//! Each entry is in exactly one, and where `journalctl -u` would show it: with the unit that it is *about* if someone may say
//! so whom it takes for true (systemd itself, a coredump handler, root's own services), else with the unit that wrote it.
//! What everyone could write into a field never puts an entry into a unit's file.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use casefile_proto::item::EntryPath;
use sha2::{Digest as _, Sha256};

use super::fields::Field::{
    CoredumpUnit, Identifier, Message, MessageId, ObjectUnit, Pid, SystemUnit, Transport, Uid, Unit, UserUnit,
};
use super::fields::{Field, Seen};

/// journald: "Suppressed N messages from UNIT".
pub(super) const SUPPRESSED: &[u8] = b"a596d6fe7bfa4994828e72309e95d61e";
/// journald: "Missed N kernel messages".
pub(super) const MISSED: &[u8] = b"e9bf28e6e834481bb6f48f548ad13606";
/// systemd-coredump: "Process N dumped core".
const COREDUMP: &[u8] = b"fc2e22bc6ee647b6b90729ab34a250b1";

/// The most text files; entries of further units go to [`OTHER`], and that is said.
pub(super) const MAX_UNITS: usize = 4000;

/// As long as a name of systemd's can be; of longer ones, this much and a digest.
const LONGEST: usize = 255;

/// Kinds of text files: the first byte of a key. Behind it stands the name.
const KERNEL: u8 = b'k';
const UNIT: u8 = b'u';
const USER_UNIT: u8 = b's';
const IDENTIFIER: u8 = b'i';
/// What has no name at all.
const OTHER: u8 = b'o';

/// Whether journald says this itself: of all transports only it can have this one.
pub(super) fn is_of_journald(seen: &Seen, message: &[u8]) -> bool {
    seen.is(Transport, b"driver") && seen.is(MessageId, message)
}

/// Writes the key of the entry's text file.
pub(super) fn key(seen: &Seen, out: &mut Vec<u8>) {
    let mut set = |kind, name: &[u8]| {
        out.clear();
        out.push(kind);
        if name.len() <= LONGEST {
            return out.extend_from_slice(name);
        }
        // A few thousand names of kilobytes would be megabytes: of these a digest is kept, which no two share.
        out.extend_from_slice(&name[..LONGEST]);
        out.extend(
            Sha256::digest(name).iter().flat_map(|b| [b >> 4, b & 15]).map(|n| b"0123456789abcdef"[usize::from(n)]),
        );
    };
    if seen.is(Transport, b"kernel") || is_of_journald(seen, MISSED) {
        return set(KERNEL, b"");
    }
    let about = |by: Field, who: &[u8], unit: Field| seen.get(unit).filter(|_| seen.is(by, who));
    let coredump = || about(Uid, b"0", CoredumpUnit).filter(|_| seen.is(MessageId, COREDUMP));
    let suppressed = || is_of_journald(seen, SUPPRESSED).then(|| suppressed_unit(seen)).flatten();
    let unit = about(Pid, b"1", Unit)
        .or_else(coredump)
        .or_else(suppressed)
        .or_else(|| about(Uid, b"0", ObjectUnit))
        .or_else(|| seen.get(SystemUnit));
    match (unit, seen.get(UserUnit), seen.get(Identifier)) {
        (Some(unit), ..) => set(UNIT, unit),
        (_, Some(unit), _) => set(USER_UNIT, unit),
        (.., Some(identifier)) => set(IDENTIFIER, identifier),
        _ => set(OTHER, b""),
    }
}

/// Older journald names the unit in the message alone.
fn suppressed_unit(seen: &Seen) -> Option<&[u8]> {
    const FROM: &[u8] = b" messages from ";
    let message = seen.get(Message)?;
    let at = message.windows(FROM.len()).position(|w| w == FROM)?;
    seen.get(ObjectUnit).or(Some(&message[at + FROM.len()..])).filter(|unit| !unit.is_empty())
}

/// How many records journald says it dropped: by field, or by message.
pub(super) fn dropped(seen: &Seen) -> u64 {
    let digits = |text: &[u8]| {
        let number = text.iter().map_while(|b| b.is_ascii_digit().then(|| u64::from(b - b'0')));
        number.fold(0_u64, |n, digit| n.saturating_mul(10).saturating_add(digit))
    };
    let message = seen.get(Message).unwrap_or_default();
    let in_message = message.iter().position(u8::is_ascii_digit).map(|at| digits(&message[at..]));
    seen.get(Field::Dropped).map(digits).or(in_message).unwrap_or(0)
}

/// Whether a selection by name means this file. An empty selection means all.
pub(super) fn is_selected(key: &[u8], units: &[String]) -> bool {
    let Some((kind, name)) = key.split_first() else { return true };
    let name: &[u8] = match *kind {
        KERNEL => b"kernel",
        OTHER => b"other",
        _ => name,
    };
    let same = |unit: &String| unit.as_bytes() == name || name.strip_suffix(b".service") == Some(unit.as_bytes());
    units.is_empty() || units.iter().any(same)
}

/// The key of what is left when there are too many units.
pub(super) fn other() -> Vec<u8> {
    vec![OTHER]
}

/// Paths of text files, of which no two are the same whatever the names are.
pub(super) struct Paths {
    base: EntryPath,
    given: HashSet<String>,
}

impl Paths {
    /// Below `logs/journal`.
    pub(super) fn new(base: EntryPath) -> Self {
        Self { base, given: HashSet::new() }
    }

    /// For a key. A unit's name has a dot (`sshd.service`), and only those stand at the top: names that anyone can choose
    /// stand below directories of their own, so that none passes for a unit, for `kernel.log` or for the entries.
    pub(super) fn of(&mut self, key: &[u8]) -> EntryPath {
        let (kind, name) = key.split_first().map_or((OTHER, key), |(kind, name)| (*kind, name));
        let text = match std::str::from_utf8(name) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(name.escape_ascii().to_string()),
        };
        let dir = match kind {
            KERNEL => return self.base.child("kernel.log"),
            OTHER => return self.base.child("other.log"),
            UNIT if text.contains('.') => self.base.clone(),
            UNIT => self.base.child("unit"),
            USER_UNIT => self.base.child("user"),
            _ => self.base.child("identifier"),
        };
        let mut path = dir.child(&format!("{text}.log"));
        // Names too long to be paths are cut and told apart by a hash that can be forged; escaped ones may look alike.
        let mut number = 1;
        while !self.given.insert(path.as_str().to_owned()) {
            number += 1;
            path = dir.child(&format!("{number}={text}.log"));
        }
        path
    }
}

/// Numbers of text files by their keys.
#[derive(Default)]
pub(super) struct Numbers {
    by_key: HashMap<Vec<u8>, usize>,
    /// Keys by their numbers.
    pub(super) keys: Vec<Vec<u8>>,
    /// Whether there were more than [`MAX_UNITS`].
    pub(super) overflow: bool,
}

impl Numbers {
    /// The number of a key; a new one is given the next.
    pub(super) fn of(&mut self, key: &[u8]) -> usize {
        if let Some(number) = self.by_key.get(key) {
            return *number;
        }
        let key = if self.keys.len() >= MAX_UNITS {
            self.overflow = true;
            other()
        } else {
            key.to_vec()
        };
        let next = self.keys.len();
        let number = *self.by_key.entry(key.clone()).or_insert(next);
        if number == next {
            self.keys.push(key);
        }
        number
    }
}
