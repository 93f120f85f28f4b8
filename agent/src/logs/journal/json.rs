//! An entry as one line of JSON with all of its fields, named as `journalctl -o json` names them.
//!
//! A field that occurs more than once is an array of its values. A value that is not UTF-8 is not an array of numbers, in
//! which nobody could search and no secret be found, but `{"escaped":"caf\\xe9"}`: what is text as it is, every other byte as
//! `\xNN`, every backslash doubled.

use super::super::lines::LINE_CAP;
use crate::journal::{Entry, Form, Fragment, Id, Rendered, decimal};

/// The most bytes of a record, without its braces and what is added to it.
const RECORD_CAP: usize = LINE_CAP - (8 << 10);

/// Renders `"NAME":value`; the tag is a hash of the name, the second part the value.
pub(super) struct Json;

impl Form for Json {
    fn render(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Rendered {
        // Without a name: nothing that journald writes, but nothing to be lost.
        let (name, value) = match payload.iter().position(|b| *b == b'=') {
            Some(equals) => (&payload[..equals], &payload[equals + 1..]),
            None => (&payload[..0], payload),
        };
        if name == b"_BOOT_ID" {
            return Rendered::default();
        }
        let escaped: Vec<u8>;
        let name = if std::str::from_utf8(name).is_ok() {
            name
        } else {
            escaped = name.escape_ascii().collect();
            &escaped
        };
        let begin = out.len();
        out.push(b'"');
        if name.starts_with(b"__") {
            // Names like these are those of what is added to an entry, and nobody else's.
            out.extend_from_slice(b"data:");
        }
        let cut_name = name.len() - escape(name, out, begin + RECORD_CAP / 2);
        out.extend_from_slice(b"\":");
        let split = out.len() - begin;
        let left_out = value_of(value, out, begin + RECORD_CAP);
        let tag = name.iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
        let left_out = left_out + cut_name as u64;
        Rendered { tag: tag.max(1), split: u32::try_from(split).unwrap_or(0), left_out }
    }
}

/// A value as JSON, not beyond the limit. Gives how many bytes of it are left out.
fn value_of(value: &[u8], out: &mut Vec<u8>, limit: usize) -> u64 {
    let is_text = std::str::from_utf8(value).is_ok();
    out.extend_from_slice(if is_text { b"\"" } else { br#"{"escaped":""# });
    let used = if is_text { escape(value, out, limit) } else { escape_bytes(value, out, limit) };
    out.extend_from_slice(if is_text { b"\"" } else { b"\"}" });
    (value.len() - used) as u64
}

/// Text within a JSON string, as far as the limit. Gives how many bytes of it were used.
fn escape(text: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
    let mut at = 0;
    while at < text.len() {
        let plain = plain(&text[at..]);
        let room = limit.saturating_sub(out.len());
        out.extend_from_slice(&text[at..at + plain.min(room)]);
        at += plain.min(room);
        if plain > room || at == text.len() || out.len() + 6 > limit {
            break;
        }
        match text[at] {
            b @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b @ 0..0x20 => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(b >> 4), hex(b)]);
            }
            _ => {
                // A character of several bytes, whole.
                let width = match text[at] {
                    0xc0..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    0xf0.. => 4,
                    _ => 1,
                };
                let char = &text[at..(at + width).min(text.len())];
                match std::str::from_utf8(char) {
                    Ok(_) => {
                        out.extend_from_slice(char);
                        at += char.len() - 1;
                    }
                    Err(_) => out.push(b'?'),
                }
            }
        }
        at += 1;
    }
    at
}

/// How many bytes at the begin need no escape. Blocks at a time, without a branch for each byte: this is most of the work.
fn plain(text: &[u8]) -> usize {
    let special = |b: u8| !(0x20..0x80).contains(&b) | (b == b'"') | (b == b'\\');
    let blocks = text.chunks_exact(16).take_while(|block| !block.iter().fold(false, |found, b| found | special(*b)));
    let before = blocks.count() * 16;
    text[before..].iter().position(|b| special(*b)).map_or(text.len(), |at| before + at)
}

/// Bytes that are not all text, as said above.
fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        for (i, part) in chunk.valid().split('\\').enumerate() {
            if i > 0 {
                if out.len() + 4 > limit {
                    return used;
                }
                out.extend_from_slice(br"\\\\");
                used += 1;
            }
            let taken = escape(part.as_bytes(), out, limit);
            used += taken;
            if taken < part.len() {
                return used;
            }
        }
        for b in chunk.invalid() {
            if out.len() + 5 > limit {
                return used;
            }
            let hex = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
            out.extend_from_slice(&[b'\\', b'\\', b'x', hex(b >> 4), hex(*b)]);
            used += 1;
        }
    }
    used
}

/// Where in a record a field stands, and where its value begins.
#[derive(Clone, Copy)]
struct Part {
    tag: u32,
    begin: usize,
    value: usize,
    end: usize,
}

/// A record in the making.
#[derive(Default)]
pub(super) struct Record {
    line: Vec<u8>,
    parts: Vec<Part>,
    /// Bits of the tags so far.
    tags: u64,
    twice: bool,
    left_out: u64,
}

impl Record {
    /// Begins a record with what is known of the entry itself.
    pub(super) fn begin(&mut self, entry: &Entry, seqnum_id: Id) {
        self.line.clear();
        self.parts.clear();
        (self.tags, self.twice, self.left_out) = (0, false, 0);
        let line = &mut self.line;
        line.extend_from_slice(b"{\"__REALTIME_TIMESTAMP\":\"");
        decimal(entry.realtime, line);
        line.extend_from_slice(b"\",\"__MONOTONIC_TIMESTAMP\":\"");
        decimal(entry.monotonic, line);
        line.extend_from_slice(b"\",\"_BOOT_ID\":\"");
        line.extend_from_slice(&entry.boot.hex());
        line.extend_from_slice(b"\",\"__SEQNUM\":\"");
        decimal(entry.seqnum, line);
        line.extend_from_slice(b"\",\"__SEQNUM_ID\":\"");
        line.extend_from_slice(&seqnum_id.hex());
        line.push(b'"');
    }

    /// Adds a field.
    pub(super) fn add(&mut self, field: Fragment<'_>) {
        if field.bytes.is_empty() {
            return;
        }
        self.left_out = self.left_out.saturating_add(field.left_out);
        let room = RECORD_CAP.saturating_sub(self.line.len());
        let split = usize::try_from(field.split).unwrap_or(0);
        let cut = if field.bytes.len() < room {
            field.bytes.len()
        } else {
            // Whole escapes only; where not even its name fits, all of it is left out.
            let is_object = field.bytes.get(split) == Some(&b'{');
            let text = split + if is_object { br#"{"escaped":""#.len() } else { 1 };
            let cut = whole(field.bytes, text, room.saturating_sub(4));
            self.left_out = self.left_out.saturating_add((field.bytes.len() - cut) as u64);
            if cut <= text {
                return;
            }
            cut
        };
        self.line.push(b',');
        let begin = self.line.len();
        self.line.extend_from_slice(&field.bytes[..cut]);
        if cut < field.bytes.len() {
            let is_object = field.bytes.get(split) == Some(&b'{');
            self.line.extend_from_slice(if is_object { b"\"}" } else { b"\"" });
        }
        let bit = 1 << (field.tag & 63);
        if self.tags & bit != 0 {
            let name = &self.line[begin..begin + split];
            self.twice |= self.parts.iter().any(|p| p.tag == field.tag && self.line[p.begin..p.value] == *name);
        }
        self.tags |= bit;
        self.parts.push(Part { tag: field.tag, begin, value: begin + split, end: self.line.len() });
    }

    /// The record, with its line end, and how many bytes of the entry are not in it.
    pub(super) fn finish(&mut self) -> (&[u8], u64) {
        if self.twice {
            self.gather();
        }
        self.line.extend_from_slice(b"}\n");
        (&self.line, self.left_out)
    }

    /// Puts the values of each name together, where it stood first.
    fn gather(&mut self) {
        let first = self.parts.first().map_or(self.line.len(), |p| p.begin - 1);
        let mut line = self.line[..first].to_vec();
        for (i, part) in self.parts.iter().enumerate() {
            let name = &self.line[part.begin..part.value];
            let same = |p: &&Part| p.tag == part.tag && self.line[p.begin..p.value] == *name;
            if self.parts[..i].iter().any(|p| same(&p)) {
                continue;
            }
            let mut values = self.parts[i..].iter().filter(same);
            line.push(b',');
            line.extend_from_slice(name);
            let many = values.clone().count() > 1;
            if many {
                line.push(b'[');
            }
            if let Some(value) = values.next() {
                line.extend_from_slice(&self.line[value.value..value.end]);
            }
            for value in values {
                line.push(b',');
                line.extend_from_slice(&self.line[value.value..value.end]);
            }
            if many {
                line.push(b']');
            }
        }
        self.line = line;
    }
}

/// The end of the last whole character or escape of the JSON string that begins at `at` and has to end before `limit`.
fn whole(json: &[u8], mut at: usize, limit: usize) -> usize {
    while at < json.len() {
        let next = match json[at] {
            b'\\' if json.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            b'"' => return at,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        if at + next > limit {
            break;
        }
        at += next;
    }
    at
}
