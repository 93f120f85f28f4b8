//! The alphabet of the format: varints, zigzag, text, and records with length and checksum.
//!
//! Reading is total: every read says what is wrong instead of panicking, and nothing is allocated for a length that the
//! bytes do not have.

use super::delta::DecodeError;

/// The most bytes that the body of one record may have.
pub const MAX_RECORD: usize = 8 << 20;

/// Bytes before the body of a record: length, type, checksum.
pub(crate) const RECORD_HEAD: usize = 9;

/// The type of a record; the number is what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordType {
    Header = 1,
    Key = 2,
    Delta = 3,
    Block = 4,
    Hole = 5,
}

impl RecordType {
    const ALL: [Self; 5] = [Self::Header, Self::Key, Self::Delta, Self::Block, Self::Hole];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == number)
    }
}

fn checksum(kind: u8, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(body);
    crc.finalize()
}

/// Appends a record whose body `fill` writes. `None`, and nothing appended, when `fill` gave up or the body grew above
/// [`MAX_RECORD`].
pub(crate) fn put_record(
    out: &mut Vec<u8>,
    kind: RecordType,
    fill: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let start = out.len();
    out.resize(start + RECORD_HEAD, 0);
    let filled = fill(out);
    let body = out.len() - start - RECORD_HEAD;
    if filled.is_none() || body > MAX_RECORD {
        out.truncate(start);
        return None;
    }
    let crc = checksum(kind as u8, &out[start + RECORD_HEAD..]);
    let length = u32::try_from(body).ok()?;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4] = kind as u8;
    out[start + 5..start + 9].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// What the head of a record says; its checksum is not yet checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordType,
    pub(crate) length: usize,
    crc: u32,
}

impl RecordHead {
    /// From the first [`RECORD_HEAD`] bytes of a record.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, DecodeError> {
        let mut at = Cursor::new(head);
        let length = at.u32_le()? as usize;
        let number = at.byte()?;
        let crc = at.u32_le()?;
        let kind = RecordType::from_number(number).ok_or(DecodeError::Malformed("a record of an unknown type"))?;
        if length > MAX_RECORD {
            return Err(DecodeError::Malformed("a record above 8 MiB"));
        }
        Ok(Self { kind, length, crc })
    }

    /// Whether the body is the one that was written.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), DecodeError> {
        if checksum(self.kind as u8, body) == self.crc { Ok(()) } else { Err(DecodeError::Checksum) }
    }

    /// Bytes of the whole record.
    pub(crate) fn total(&self) -> usize {
        RECORD_HEAD + self.length
    }
}

/// The first record of `bytes`, checked: its type and its body.
pub(crate) fn split_record(bytes: &[u8]) -> Result<(RecordHead, &[u8]), DecodeError> {
    if bytes.len() < RECORD_HEAD {
        return Err(DecodeError::Torn);
    }
    let head = RecordHead::parse(&bytes[..RECORD_HEAD])?;
    let body = bytes.get(RECORD_HEAD..head.total()).ok_or(DecodeError::Torn)?;
    head.check(body)?;
    Ok((head, body))
}

/// Appends a LEB128 varint.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are what is meant")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80 here")]
    out.push(value as u8);
}

/// Appends a length or a count.
pub(crate) fn put_len(out: &mut Vec<u8>, length: usize) {
    put_u64(out, length as u64);
}

/// Appends a signed number as a zigzag varint.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Appends text of at most `max` bytes; a longer one is cut at a character.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    let kept = &text[..text.floor_char_boundary(max)];
    put_len(out, kept.len());
    out.extend_from_slice(kept.as_bytes());
}

/// 0, -1, 1, -2 … as 0, 1, 2, 3 ….
pub(crate) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The reverse of [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Bytes that a varint takes.
pub(crate) const fn varint_len(value: u64) -> u64 {
    (70 - (value | 1).leading_zeros() as u64) / 7
}

/// Reads bytes from front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

const SHORT: DecodeError = DecodeError::Malformed("its body ends early");

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.bytes.split_first().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64_le(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Sixteen bytes: a boot id.
    pub(crate) fn id(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    /// A LEB128 varint of at most 64 bits.
    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Malformed("a varint above 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A zigzag varint.
    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.u64().map(unzigzag)
    }

    /// A count or length of at most `max`.
    pub(crate) fn len(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        let value = self.u64()?;
        usize::try_from(value).ok().filter(|n| *n <= max).ok_or(DecodeError::Malformed(what))
    }

    /// Text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: usize) -> Result<&'a str, DecodeError> {
        let length = self.len(max, "a text that is too long")?;
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Malformed("a text that is not UTF-8"))
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_reads_as_it_was_written_and_has_the_length_that_was_said() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            assert_eq!(out.len() as u64, varint_len(value), "{value}");
            let mut at = Cursor::new(&out);
            assert_eq!(at.u64().unwrap(), value);
            at.end().unwrap();
        }
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_varint_above_64_bits_is_refused() {
        assert!(Cursor::new(&[0xff; 9]).u64().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).u64().is_err());
        assert!(Cursor::new(&[0x80; 11]).u64().is_err());
    }

    #[test]
    fn a_body_above_the_limit_is_not_written() {
        let mut out = vec![7];
        let too_much = |body: &mut Vec<u8>| {
            body.resize(MAX_RECORD + 11, 0);
            Some(())
        };
        assert_eq!(put_record(&mut out, RecordType::Key, too_much), None);
        assert_eq!(put_record(&mut out, RecordType::Key, |_| None), None);
        assert_eq!(out, [7]);
    }
}
