//! An entry as text: `2026-11-23T02:44:10.123456Z <3> sshd[812]: message`.
//!
//! The number in angle brackets is the syslog priority, 0 (emergency) to 7 (debug). Further lines of a message begin with a
//! blank, so that a line that begins with a time is always a record of its own. The message's bytes are kept as they are.

use casefile_proto::time::{NANOS_PER_SEC, WallTime};

use super::super::lines::LINE_CAP;
use super::fields::Field::{Comm, Identifier, Message, Pid, Priority, SyslogPid};
use super::fields::Seen;
use crate::journal::Entry;

/// An identifier is a program's name; a longer one is cut, and is whole in the entries.
const NAME_CAP: usize = 128;

/// Writes times; most have the second of the one before.
#[derive(Default)]
pub(super) struct Clock {
    second: Option<i64>,
    text: String,
}

impl Clock {
    fn write(&mut self, at: WallTime, out: &mut Vec<u8>) {
        let second = at.nanos().div_euclid(NANOS_PER_SEC);
        if self.second != Some(second) {
            self.text = at.to_seconds_text();
            self.text.pop();
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let micros = at.nanos().rem_euclid(NANOS_PER_SEC) / 1000;
        let digit = |unit: i64| b"0123456789"[usize::try_from(micros / unit % 10).unwrap_or(0)];
        out.push(b'.');
        out.extend([100_000, 10_000, 1_000, 100, 10, 1].map(digit));
        out.push(b'Z');
    }
}

/// Writes the record of an entry to `out` (cleared first), and gives how many bytes of its message are left out.
pub(super) fn line(entry: &Entry, seen: &Seen, clock: &mut Clock, out: &mut Vec<u8>) -> u64 {
    out.clear();
    clock.write(super::found::wall(entry.realtime), out);
    if let Some([priority @ b'0'..=b'7']) = seen.get(Priority) {
        out.extend_from_slice(&[b' ', b'<', *priority, b'>']);
    }
    out.push(b' ');
    word(seen.get(Identifier).or(seen.get(Comm)).unwrap_or(b"-"), out);
    if let Some(pid) = seen.get(Pid).or(seen.get(SyslogPid)) {
        out.push(b'[');
        word(pid, out);
        out.push(b']');
    }
    out.extend_from_slice(b": ");
    let message = seen.get(Message).unwrap_or_default();
    let mut rest = message;
    // Most are of one line, and looking for a byte is faster than asking where it is.
    while rest.contains(&b'\n')
        && let Some(at) = rest.iter().position(|b| *b == b'\n')
    {
        out.extend_from_slice(&rest[..=at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    // Many short lines have many blanks.
    let more = out.len().saturating_sub(LINE_CAP);
    out.truncate(LINE_CAP);
    out.push(b'\n');
    seen.left_out.saturating_add(more as u64)
}

/// Something that stands before the message: on one line whatever it is.
fn word(text: &[u8], out: &mut Vec<u8>) {
    for b in &text[..text.len().min(NAME_CAP)] {
        match b {
            b'\n' => out.extend_from_slice(b"\\x0a"),
            b => out.push(*b),
        }
    }
}
