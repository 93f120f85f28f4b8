//! Entries as `journalctl -o export` writes them: the Journal Export Format, byte for byte that of systemd 252.

use super::fragments::{Form, Rendered};
use super::header::Id;
use super::object::Entry;

/// Renders fields for an export: put them one behind the other, after [`Export::begin`] and before an empty line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Export;

impl Form for Export {
    fn render(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Rendered {
        // It is said before the fields.
        if payload.starts_with(b"_BOOT_ID=") {
            return Rendered::default();
        }
        if is_printable(payload) {
            out.extend_from_slice(payload);
        } else if let Some(equals) = payload.iter().position(|b| *b == b'=') {
            let (name, value) = (&payload[..equals], &payload[equals + 1..]);
            out.extend_from_slice(name);
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(value);
        } else {
            return Rendered::default();
        }
        out.push(b'\n');
        Rendered::default()
    }
}

impl Export {
    /// What stands before the fields.
    pub fn begin(entry: &Entry, seqnum_id: Id, out: &mut Vec<u8>) {
        let boot = entry.boot.hex();
        out.extend_from_slice(b"__CURSOR=s=");
        out.extend_from_slice(&seqnum_id.hex());
        for (name, number) in [(b";i=", entry.seqnum), (b";b=", 0), (b";m=", entry.monotonic), (b";t=", entry.realtime)]
        {
            out.extend_from_slice(name);
            if name == b";b=" {
                out.extend_from_slice(&boot);
            } else {
                hex(number, out);
            }
        }
        out.extend_from_slice(b";x=");
        hex(entry.xor_hash, out);
        out.extend_from_slice(b"\n__REALTIME_TIMESTAMP=");
        decimal(entry.realtime, out);
        out.extend_from_slice(b"\n__MONOTONIC_TIMESTAMP=");
        decimal(entry.monotonic, out);
        out.extend_from_slice(b"\n_BOOT_ID=");
        out.extend_from_slice(&boot);
        out.push(b'\n');
    }
}

/// Text of one line without control characters, tabs excepted, as systemd sees it.
fn is_printable(payload: &[u8]) -> bool {
    // Without a branch for each byte: this is asked of everything.
    if payload.iter().fold(true, |plain, b| plain & (((*b >= b' ') & (*b <= b'~')) | (*b == b'\t'))) {
        return true;
    }
    let control = |c: char| (c < ' ' && c != '\t') || ('\u{7f}'..='\u{9f}').contains(&c);
    std::str::from_utf8(payload).is_ok_and(|text| !text.chars().any(control))
}

/// A number, in decimal digits.
pub(crate) fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

fn hex(number: u64, out: &mut Vec<u8>) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    let digit = |i: u32| b"0123456789abcdef"[usize::try_from(number >> (4 * i) & 15).unwrap_or(0)];
    out.extend((0..digits).rev().map(digit));
}
