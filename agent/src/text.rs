//! How the text of kernel files is cut: lines, fields, decimal and hexadecimal numbers, all borrowed from the bytes that
//! were read, and what becomes of a line that does not parse.
//!
//! Nothing here allocates unless a line is bad. What a field means is the business of the source that reads the file.

use std::fmt::Write as _;

use casefile_proto::gap::{Gap, GapReason};

/// A line that is not what its file's format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine<'a> {
    /// The line, without its end.
    pub line: &'a [u8],
    /// What was expected.
    pub why: &'static str,
}

/// The lines of a file, without their ends. A last line that has no end was cut off, perhaps inside a number: it is bad.
pub fn lines(text: &[u8]) -> Lines<'_> {
    Lines { rest: text }
}

/// See [`lines`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], BadLine<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.rest.iter().position(|b| *b == b'\n') {
            Some(end) => {
                let line = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                Some(Ok(line))
            }
            None => Some(Err(BadLine { line: std::mem::take(&mut self.rest), why: "the line is cut off" })),
        }
    }
}

/// The lines of a file after its heading, which must be there.
pub fn lines_after_heading(text: &[u8]) -> impl Iterator<Item = Result<&[u8], BadLine<'_>>> {
    let mut all = lines(text);
    let heading = all.next().unwrap_or(Err(BadLine { line: b"", why: "the file is empty" }));
    heading.err().map(Err).into_iter().chain(all)
}

/// The entries of a file with one entry a line: bad lines stay in their place, lines of which `entry` says `None` are
/// of no interest.
pub fn entries<'a, T>(
    text: &'a [u8],
    mut entry: impl FnMut(&'a [u8]) -> Result<Option<T>, BadLine<'a>>,
) -> impl Iterator<Item = Result<T, BadLine<'a>>> {
    lines(text).filter_map(move |line| line.and_then(&mut entry).transpose())
}

/// The fields of a line, apart by spaces and tabs.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    line: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// From the begin of the line.
    pub fn of(line: &'a [u8]) -> Self {
        Self { line, rest: line }
    }

    /// The next field, which must be there.
    pub fn word(&mut self) -> Result<&'a [u8], BadLine<'a>> {
        self.next().ok_or_else(|| self.bad("too few fields"))
    }

    /// The next field as text: a name that becomes a label. Control characters are no part of any name.
    pub fn name(&mut self) -> Result<&'a str, BadLine<'a>> {
        let word = self.word()?;
        name(word).ok_or_else(|| self.bad("not a name"))
    }

    /// The next field as a decimal number of at most 63 bits.
    pub fn number(&mut self) -> Result<i64, BadLine<'a>> {
        let word = self.word()?;
        number(word).map_err(|why| self.bad(why))
    }

    /// The next field as a hexadecimal number of at most 63 bits.
    pub fn hex(&mut self) -> Result<i64, BadLine<'a>> {
        let word = self.word()?;
        hex(word).map_err(|why| self.bad(why))
    }

    /// The next field as a decimal number, if there is one more.
    pub fn optional_number(&mut self) -> Result<Option<i64>, BadLine<'a>> {
        self.next().map(|word| number(word).map_err(|why| self.bad(why))).transpose()
    }

    /// This whole line as a bad one.
    pub fn bad(&self, why: &'static str) -> BadLine<'a> {
        BadLine { line: self.line, why }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let blank = |b: &u8| *b == b' ' || *b == b'\t';
        let begin = self.rest.iter().position(|b| !blank(b))?;
        let rest = &self.rest[begin..];
        let end = rest.iter().position(blank).unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

/// A decimal number without sign. One beyond 63 bits is refused rather than wrapped: readings are signed.
pub fn number(field: &[u8]) -> Result<i64, &'static str> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return Err("not a number");
    }
    field
        .iter()
        .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .ok_or("a number beyond 63 bits")
}

/// A decimal number that may be negative.
pub fn signed(field: &[u8]) -> Result<i64, &'static str> {
    match field.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|n| -n),
        None => number(field),
    }
}

/// A hexadecimal number, with or without `0x`.
pub fn hex(field: &[u8]) -> Result<i64, &'static str> {
    let digits = field.strip_prefix(b"0x").unwrap_or(field);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("not a hexadecimal number");
    }
    digits
        .iter()
        .try_fold(0_i64, |sum, digit| {
            let value = char::from(*digit).to_digit(16)?;
            sum.checked_mul(16)?.checked_add(i64::from(value))
        })
        .ok_or("a number beyond 63 bits")
}

/// A number with exactly two decimals, as hundredths: `1.16` is 116.
pub fn hundredths(field: &[u8]) -> Result<i64, &'static str> {
    let Some((whole, part)) = field.split_last_chunk::<3>() else { return Err("not a number with two decimals") };
    let [b'.', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = *part else { return Err("not a number with two decimals") };
    let part = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    number(whole)?.checked_mul(100).and_then(|n| n.checked_add(part)).ok_or("a number beyond 63 bits")
}

/// A field as a name: UTF-8 without control characters.
pub fn name(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok().filter(|s| !s.is_empty() && !s.chars().any(char::is_control))
}

/// A file that holds one value and a line end, such as most of sysfs: the value.
pub fn single(text: &[u8]) -> Result<&[u8], BadLine<'_>> {
    let mut all = lines(text);
    let line = all.next().ok_or(BadLine { line: b"", why: "the file is empty" })??;
    match all.next() {
        None => Ok(line),
        Some(_) => Err(BadLine { line, why: "more than one line" }),
    }
}

/// A file that holds one decimal number and a line end.
pub fn single_number(text: &[u8]) -> Result<i64, BadLine<'_>> {
    let line = single(text)?;
    signed(line.trim_ascii()).map_err(|why| BadLine { line, why })
}

/// Collects what did not parse of one file and makes one gap of it: the first offending line, and how many more.
#[derive(Debug, Default)]
pub struct Unparsed {
    first: Option<String>,
    count: u64,
}

impl Unparsed {
    /// How much of a bad line is shown.
    const MAX_SHOWN: usize = 200;

    /// One more.
    pub fn add(&mut self, bad: BadLine<'_>) {
        self.count += 1;
        if self.first.is_none() {
            let shown = &bad.line[..bad.line.len().min(Self::MAX_SHOWN)];
            self.first = Some(format!("cannot parse {:?}: {}", String::from_utf8_lossy(shown), bad.why));
        }
    }

    /// Something that every such file has and this one has not.
    pub fn lacks(&mut self, what: &str) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("has no {what}"));
        }
    }

    /// The entry, or `None` after noting that it was bad.
    pub fn keep<T>(&mut self, entry: Result<T, BadLine<'_>>) -> Option<T> {
        entry.map_err(|bad| self.add(bad)).ok()
    }

    /// Whether nothing was bad.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The gap, if anything was bad.
    pub fn gap(self, file: &str) -> Option<Gap> {
        let mut detail = format!("{file}: {}", self.first?);
        if self.count > 1 {
            // Writing to a String cannot fail.
            let _ = write!(detail, " (and {} more)", self.count - 1);
        }
        Some(Gap::new(GapReason::ParseFailed, detail).counting(self.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_last_line_without_an_end_is_bad() {
        let got: Vec<_> = lines(b"a 1\n\nb 2").collect();
        assert_eq!(got, [Ok(&b"a 1"[..]), Ok(b""), Err(BadLine { line: b"b 2", why: "the line is cut off" })]);
        assert_eq!(lines(b"").count(), 0);
    }

    #[test]
    fn a_heading_that_is_missing_or_cut_is_bad() {
        assert!(lines_after_heading(b"").next().unwrap().is_err());
        assert_eq!(lines_after_heading(b"headi").map(|l| l.is_err()).collect::<Vec<_>>(), [true]);
        assert_eq!(lines_after_heading(b"heading\na\n").collect::<Vec<_>>(), [Ok(&b"a"[..])]);
    }

    #[test]
    fn a_number_is_digits_and_fits_in_63_bits() {
        assert_eq!(number(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(number(b"9223372036854775808"), Err("a number beyond 63 bits"));
        assert_eq!(number(b"007"), Ok(7));
        for bad in [&b""[..], b"-1", b"+1", b"1.5", b"0x1", b"1 ", b"\xff"] {
            assert_eq!(number(bad), Err("not a number"), "{bad:?}");
        }
        assert_eq!(signed(b"-1"), Ok(-1));
        assert_eq!(hex(b"0x1f"), Ok(31));
        assert_eq!(hex(b"7fffffffffffffff"), Ok(i64::MAX));
        assert!(hex(b"8000000000000000").is_err() && hex(b"").is_err() && hex(b"0x").is_err() && hex(b"g").is_err());
    }

    #[test]
    fn two_decimals_become_hundredths() {
        assert_eq!(hundredths(b"0.00"), Ok(0));
        assert_eq!(hundredths(b"12.34"), Ok(1234));
        for bad in [&b""[..], b".12", b"1.2", b"1.234", b"1,23", b"-1.00"] {
            assert!(hundredths(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_did_not_parse_is_one_gap_with_the_first_line_and_a_count() {
        let mut bad = Unparsed::default();
        assert_eq!(Unparsed::default().gap("proc/x"), None);
        bad.add(BadLine { line: b"a\x00b", why: "not a number" });
        bad.add(BadLine { line: b"c", why: "not a number" });
        let gap = bad.gap("proc/x").unwrap();
        assert_eq!(gap.detail, "proc/x: cannot parse \"a\\0b\": not a number (and 1 more)");
        assert_eq!((gap.reason, gap.count), (GapReason::ParseFailed, Some(2)));
    }

    proptest! {
        #[test]
        fn every_number_that_fits_is_read_back(n in 0..=i64::MAX) {
            prop_assert_eq!(number(n.to_string().as_bytes()), Ok(n));
            prop_assert_eq!(hex(format!("{n:08x}").as_bytes()), Ok(n));
            prop_assert_eq!(signed((-n).to_string().as_bytes()), Ok(-n));
        }

        #[test]
        fn any_bytes_are_cut_without_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            for line in lines(&text) {
                let line = line.unwrap_or_else(|bad| bad.line);
                for field in Fields::of(line) {
                    let _ = (number(field), signed(field), hex(field), hundredths(field), name(field));
                }
            }
            let _ = single_number(&text);
        }
    }
}
