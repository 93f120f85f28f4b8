//! Tar headers: ustar, with a PAX header before it only for what ustar cannot say (a long name, more than 8 GiB).
//!
//! One name, size and time have exactly one form. Reading is therefore: take the three out, render them, compare; what
//! differs is damaged, and what is whole but none of ours (links, devices, other keywords) is refused with its reason.
//! Fields as in POSIX.1-2017, `pax`, "ustar Interchange Format". No I/O here.

/// Everything in a tar file comes in blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// The latest time and largest size that 11 octal digits can say.
pub(crate) const MAX_OCTAL: u64 = 0o777_7777_7777;

/// The most bytes that the body of a PAX header of ours can have, in whole blocks: a path of 1 KiB with the top
/// directory, and a size.
const MAX_PAX: u64 = 4 * BLOCK as u64;

/// What the entry that carries a PAX header is called; readers that know PAX never show it.
const PAX_NAME: &str = "PaxHeaders/entry";

/// How many zeros follow content of this size.
pub(crate) fn padding(size: u64) -> usize {
    // The remainder is below 512, so the conversion cannot fail.
    usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0)
}

/// How long [`header`] is.
pub(crate) fn header_len(name: &str, size: u64) -> usize {
    if size <= MAX_OCTAL && split(name).is_some() { BLOCK } else { header(name, size, 0).len() }
}

/// The header blocks of a regular file: one, or the PAX header with its body and then one. `mtime` in seconds, at most
/// [`MAX_OCTAL`].
pub(crate) fn header(name: &str, size: u64, mtime: u64) -> Vec<u8> {
    let split = split(name);
    let mut pax = Vec::new();
    if split.is_none() {
        pax_record("path", name, &mut pax);
    }
    if size > MAX_OCTAL {
        pax_record("size", &size.to_string(), &mut pax);
    }
    let mut out = Vec::with_capacity(BLOCK);
    if !pax.is_empty() {
        out.extend_from_slice(&block(b'x', "", PAX_NAME, pax.len() as u64, mtime));
        let padding = padding(pax.len() as u64);
        out.append(&mut pax);
        out.resize(out.len() + padding, 0);
    }
    // What the PAX header says is what counts; older readers see a cut name, and nothing of a content they cannot size.
    let (prefix, rest) = split.unwrap_or(("", name.get(..100).unwrap_or(PAX_NAME)));
    out.extend_from_slice(&block(b'0', prefix, rest, if size > MAX_OCTAL { 0 } else { size }, mtime));
    out
}

/// Prefix and name as ustar has them, when the name fits.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    // The first slash that leaves no more than 100 bytes behind it.
    let from = name.len() - 101;
    let slash = from + name.as_bytes().get(from..)?.iter().position(|b| *b == b'/')?;
    (slash <= 155).then(|| (&name[..slash], &name[slash + 1..]))
}

/// `length keyword=value\n`, where the length counts its own digits.
fn pax_record(keyword: &str, value: &str, out: &mut Vec<u8>) {
    let rest = format!(" {keyword}={value}\n");
    let mut len = rest.len() + 1;
    while rest.len() + len.to_string().len() != len {
        len = rest.len() + len.to_string().len();
    }
    out.extend_from_slice(format!("{len}{rest}").as_bytes());
}

fn block(kind: u8, prefix: &str, name: &str, size: u64, mtime: u64) -> [u8; BLOCK] {
    let mut b = [0u8; BLOCK];
    let mut put = |at: usize, text: &str| b[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{mtime:011o}"));
    put(148, "        ");
    put(257, "ustar\x0000");
    put(345, prefix);
    b[156] = kind;
    let sum: u32 = b.iter().copied().map(u32::from).sum();
    b[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    b
}

/// What a header block announces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// A regular file.
    File(Header),
    /// A PAX header with a body of this many bytes, at most [`MAX_PAX`]: read it and give it to [`read_file`].
    Pax(u64),
    /// A block of zeros: the end.
    End,
}

/// A regular file, with what a PAX header before it said already applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
}

/// Why a header is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Its bytes were changed: the checksum or the form is wrong.
    Damaged,
    /// It is whole, and says what an archive of ours never says.
    Refused(String),
}

/// What this block announces, when no PAX header came before it.
pub(crate) fn read(block: &[u8; BLOCK]) -> Result<Announced, HeaderError> {
    if block.iter().all(|b| *b == 0) {
        return Ok(Announced::End);
    }
    if kind(block)? == b'x' {
        let size = octal(&block[124..136])?;
        if size == 0 || size > MAX_PAX {
            return Err(HeaderError::Refused(format!("a PAX header of {size} bytes")));
        }
        return Ok(Announced::Pax(size));
    }
    read_file(block, None).map(Announced::File)
}

/// The regular file that this block announces; `pax`: the first block of the PAX header before it, and its body in whole
/// blocks.
pub(crate) fn read_file(block: &[u8; BLOCK], pax: Option<(&[u8; BLOCK], &[u8])>) -> Result<Header, HeaderError> {
    match kind(block)? {
        b'0' => {}
        b'x' => return Err(HeaderError::Refused("two PAX headers for one entry".to_owned())),
        other => return Err(HeaderError::Refused(format!("{} ({})", what(other), shown(&field_name(block))))),
    }
    let mut header = Header {
        name: String::from_utf8(field_name(block)).map_err(|e| refused_name(e.as_bytes()))?,
        size: octal(&block[124..136])?,
        mtime: octal(&block[136..148])?,
    };
    if let Some((first, body)) = pax {
        let len = usize::try_from(octal(&first[124..136])?).unwrap_or(usize::MAX);
        apply_pax(body.get(..len).unwrap_or(body), &mut header)?;
    }
    if !header.name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refused_name(header.name.as_bytes()));
    }
    let expected = self::header(&header.name, header.size, header.mtime);
    let mut found = Vec::with_capacity(expected.len());
    if let Some((first, body)) = pax {
        found.extend_from_slice(first);
        found.extend_from_slice(body);
    }
    found.extend_from_slice(block);
    if expected != found {
        // Another writer's modes, owners or needless keywords: the checksum is right, so it is no damage.
        return Err(HeaderError::Refused(format!(
            "{} has a header that Casefile does not write",
            shown(header.name.as_bytes())
        )));
    }
    Ok(header)
}

/// The type of an entry whose checksum is right.
fn kind(block: &[u8; BLOCK]) -> Result<u8, HeaderError> {
    let sum: u64 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
    let claimed = std::str::from_utf8(&block[148..154]).ok().and_then(|t| u64::from_str_radix(t, 8).ok());
    if claimed != Some(sum) || &block[154..156] != b"\0 " {
        return Err(HeaderError::Damaged);
    }
    if &block[257..265] != b"ustar\x0000" {
        return Err(HeaderError::Refused("a tar header that is not ustar".to_owned()));
    }
    Ok(block[156])
}

fn octal(field: &[u8]) -> Result<u64, HeaderError> {
    let digits = field.strip_suffix(b"\0").filter(|d| d.iter().all(|b| matches!(b, b'0'..=b'7')));
    digits
        .and_then(|d| std::str::from_utf8(d).ok())
        .and_then(|d| u64::from_str_radix(d, 8).ok())
        .ok_or_else(|| HeaderError::Refused("a number that is not plain octal".to_owned()))
}

fn field_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let text = |field: &[u8]| field.split(|b| *b == 0).next().unwrap_or_default().to_vec();
    let (name, mut whole) = (text(&block[..100]), text(&block[345..500]));
    if !whole.is_empty() {
        whole.push(b'/');
    }
    whole.extend_from_slice(&name);
    whole
}

fn apply_pax(body: &[u8], header: &mut Header) -> Result<(), HeaderError> {
    let bad = || HeaderError::Refused("a PAX header that Casefile does not write".to_owned());
    let mut rest = std::str::from_utf8(body).map_err(|_| bad())?;
    while !rest.is_empty() {
        let (len, _) = rest.split_once(' ').ok_or_else(bad)?;
        let len: usize = len.parse().map_err(|_| bad())?;
        let record = rest.get(..len).and_then(|r| r.strip_suffix('\n')).ok_or_else(bad)?;
        let (keyword, value) = record.split_once(' ').and_then(|(_, r)| r.split_once('=')).ok_or_else(bad)?;
        match keyword {
            "path" => value.clone_into(&mut header.name),
            "size" => header.size = value.parse().map_err(|_| bad())?,
            _ => return Err(bad()),
        }
        rest = rest.get(len..).ok_or_else(bad)?;
    }
    Ok(())
}

/// Types of POSIX and of GNU tar that people know by name.
fn what(kind: u8) -> &'static str {
    match kind {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' => "a character device",
        b'4' => "a block device",
        b'5' => "a directory",
        b'6' => "a FIFO",
        b'g' => "a global PAX header",
        b'L' | b'K' => "a GNU long name",
        b'S' => "a sparse file",
        _ => "an entry of an unknown type",
    }
}

fn refused_name(name: &[u8]) -> HeaderError {
    HeaderError::Refused(format!("the name {}", shown(name)))
}

/// A name from outside in a message: escaped, and cut at 100 bytes.
fn shown(name: &[u8]) -> String {
    format!("\"{}\"", name[..name.len().min(100)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let block = |at: usize| <&[u8; BLOCK]>::try_from(&bytes[at..at + BLOCK]).unwrap();
        match read(block(0))? {
            Announced::File(header) => {
                assert_eq!(bytes.len(), BLOCK);
                Ok(header)
            }
            Announced::Pax(size) => {
                assert!(usize::try_from(size).unwrap() <= bytes.len() - 2 * BLOCK);
                read_file(block(bytes.len() - BLOCK), Some((block(0), &bytes[BLOCK..bytes.len() - BLOCK])))
            }
            Announced::End => panic!("no header"),
        }
    }

    proptest! {
        #[test]
        fn a_header_says_what_was_put_in(name in "[a-z0-9]{1,40}(/[a-zA-Z0-9._-]{1,120}){0,9}", size: u64, mtime in 0..=MAX_OCTAL) {
            let bytes = header(&name, size, mtime);
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            prop_assert_eq!(bytes.len(), header_len(&name, size));
            prop_assert_eq!(parse(&bytes), Ok(Header { name, size, mtime }));
        }

        #[test]
        fn any_changed_byte_of_a_header_is_noticed(at in 0usize..BLOCK, change in 1u8..) {
            let mut bytes = header("top/data/coverage.json", 12345, 1_795_405_450);
            bytes[at] ^= change;
            prop_assert!(parse(&bytes).is_err());
        }
    }

    #[test]
    fn pax_is_used_only_where_ustar_is_too_small() {
        let long = format!("top/{}/{}", "d".repeat(150), "f".repeat(100));
        assert_eq!(header(&long, MAX_OCTAL, 0).len(), BLOCK);
        assert_eq!(header(&format!("top/{}", "f".repeat(101)), 0, 0).len(), 3 * BLOCK);
        let huge = header("top/huge", MAX_OCTAL + 1, 0);
        assert_eq!(huge.len(), 3 * BLOCK);
        assert!(huge[BLOCK..].starts_with(b"19 size=8589934592\n"));
    }

    #[test]
    fn the_length_of_a_pax_record_counts_its_own_digits() {
        for value in 0..1200 {
            let mut out = Vec::new();
            pax_record("path", &"x".repeat(value), &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0.parse::<usize>().unwrap(), text.len());
        }
    }
}
