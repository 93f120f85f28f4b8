//! Records of the kernel log: the two texts in which the kernel gives them, `/dev/kmsg` and `syslog(2)`, as one type.
//!
//! Pure: bytes in, records out. Where the bytes come from is [`reader`]; what becomes of a record is the business of the
//! `kernel` source and of the `kernel` log source.

pub mod reader;

use crate::text::{self, BadLine};

/// One record of the kernel log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The kernel's sequence number: counts every record since boot. `syslog(2)` does not give it.
    pub seq: Option<u64>,
    /// The syslog facility: 0 is the kernel itself; above 0 a program wrote it to `/dev/kmsg`, whatever it says.
    pub facility: u8,
    /// The syslog level, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Microseconds of the kernel's own clock since boot, suspend not included. `None` where `printk.time` is off and
    /// the log is read through `syslog(2)`.
    pub micros: Option<u64>,
    /// Whether the text goes on in (or is the rest of) another record: a line that was printed in pieces.
    pub fragment: bool,
    /// The thread or CPU that printed it (`T123`, `C0`), with `CONFIG_PRINTK_CALLER`.
    pub caller: Option<String>,
    /// What it says, unescaped; bytes that are not UTF-8 are replaced. Several lines are apart by `\n`.
    pub text: String,
}

/// One record as `/dev/kmsg` gives it: `priority,sequence,microseconds,flags[,…];text`, then lines of properties, each
/// begun by a blank (`Documentation/ABI/testing/dev-kmsg`).
pub fn parse_record(bytes: &[u8]) -> Result<Record, BadLine<'_>> {
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or(bytes);
    let bad = |why| BadLine { line: first, why };
    let semicolon = first.iter().position(|b| *b == b';').ok_or(bad("no `;` after the prefix"))?;
    let (prefix, message) = (&first[..semicolon], &first[semicolon + 1..]);

    let mut prefix = prefix.split(|b| *b == b',');
    let mut field = |why| prefix.next().ok_or(bad(why));
    let (facility, level) = priority(field("no priority")?).map_err(bad)?;
    let seq = unsigned(field("no sequence number")?).map_err(bad)?;
    let micros = unsigned(field("no time")?).map_err(bad)?;
    let fragment = prefix.next().is_some_and(|flags| matches!(flags, b"c" | b"+"));
    let caller = prefix.find_map(|f| f.strip_prefix(b"caller=")).and_then(text::name).map(str::to_owned);
    Ok(Record { seq: Some(seq), facility, level, micros: Some(micros), fragment, caller, text: unescape(message) })
}

/// One line as `syslog(2)` gives it: `<priority>[ seconds.micros] text`, the time only with `printk.time`, then with
/// `CONFIG_PRINTK_CALLER` `[   T123]`. A record of several lines comes as several, each with the same prefix.
pub fn parse_syslog_line(line: &[u8]) -> Result<Record, BadLine<'_>> {
    let bad = |why| BadLine { line, why };
    let rest = line.strip_prefix(b"<").ok_or(bad("no `<` before the priority"))?;
    let end = rest.iter().position(|b| *b == b'>').ok_or(bad("no `>` after the priority"))?;
    let (facility, level) = priority(&rest[..end]).map_err(bad)?;
    let mut rest = &rest[end + 1..];

    let mut micros = None;
    let mut caller = None;
    if let Some((inside, after)) = bracketed(rest)
        && let Some(time) = seconds_with_micros(inside)
    {
        micros = Some(time);
        rest = after;
        if let Some((inside, after)) = bracketed(rest)
            && let Some(who) = caller_of(inside)
        {
            caller = Some(who.to_owned());
            rest = after;
        }
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    let text = String::from_utf8_lossy(rest).into_owned();
    Ok(Record { seq: None, facility, level, micros, fragment: false, caller, text })
}

/// `facility * 8 + level`, as both texts have it.
fn priority(field: &[u8]) -> Result<(u8, u8), &'static str> {
    let number = text::number(field)?;
    let level = u8::try_from(number & 7).map_err(|_| "no priority")?;
    let facility = u8::try_from(number >> 3).map_err(|_| "a priority beyond 2047")?;
    Ok((facility, level))
}

fn unsigned(field: &[u8]) -> Result<u64, &'static str> {
    text::number(field).map(i64::unsigned_abs)
}

/// `[inside]rest`, apart.
fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(b"[")?;
    let end = rest.iter().position(|b| *b == b']')?;
    Some((&rest[..end], &rest[end + 1..]))
}

/// `   12.345678`, as microseconds.
fn seconds_with_micros(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let dot = text.iter().position(|b| *b == b'.')?;
    let (secs, micros) = (unsigned(&text[..dot]).ok()?, &text[dot + 1..]);
    if micros.len() != 6 {
        return None;
    }
    secs.checked_mul(1_000_000)?.checked_add(unsigned(micros).ok()?)
}

/// `   T123` or `  C0`.
fn caller_of(inside: &[u8]) -> Option<&str> {
    let who = inside.trim_ascii_start();
    let (kind, number) = who.split_first()?;
    (matches!(kind, b'T' | b'C') && text::number(number).is_ok()).then_some(())?;
    std::str::from_utf8(who).ok()
}

/// The kernel writes what is not printable, and the backslash, as `\xNN`.
fn unescape(message: &[u8]) -> String {
    if !message.contains(&b'\\') {
        return String::from_utf8_lossy(message).into_owned();
    }
    let mut bytes = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [b'x', high, low, ..] if first == b'\\' => {
                text::hex(&[*high, *low]).ok().and_then(|n| u8::try_from(n).ok())
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_kmsg_record_is_taken_apart() {
        let record = parse_record(b"6,339,5140900,-,caller=T1;NET: Registered\n SUBSYSTEM=net\n DEVICE=n2\n").unwrap();
        assert_eq!(
            record,
            Record {
                seq: Some(339),
                facility: 0,
                level: 6,
                micros: Some(5_140_900),
                fragment: false,
                caller: Some("T1".to_owned()),
                text: "NET: Registered".to_owned(),
            }
        );
    }

    #[test]
    fn what_a_program_wrote_keeps_its_facility() {
        let record = parse_record(b"12,1,2,-;Out of memory: Killed process 1 (fake)").unwrap();
        assert_eq!((record.facility, record.level), (1, 4));
    }

    #[test]
    fn escapes_of_the_kernel_are_undone_once() {
        let text = |message: &str| parse_record(format!("6,1,2,-;{message}").as_bytes()).unwrap().text;
        assert_eq!(text(r"a\x1b[31mb\x0ac"), "a\u{1b}[31mb\nc");
        assert_eq!(text(r"back\x5cx41"), r"back\x41");
        assert_eq!(text(r"\x c:\dir\x4"), r"\x c:\dir\x4");
        assert_eq!(text(r"\xc3\xa4"), "ä");
        assert_eq!(text(r"\xff"), "\u{fffd}");
        assert_eq!(text("with;semicolon, and comma"), "with;semicolon, and comma");
    }

    #[test]
    fn a_fragment_is_marked() {
        assert!(parse_record(b"6,1,2,c;part").unwrap().fragment);
        assert!(!parse_record(b"6,1,2,-;whole").unwrap().fragment);
    }

    #[test]
    fn a_syslog_line_is_taken_apart_with_and_without_time() {
        let line = parse_syslog_line(b"<4>[ 6860.814103] yes invoked oom-killer: order=0").unwrap();
        assert_eq!((line.level, line.micros, line.seq), (4, Some(6_860_814_103), None));
        assert_eq!(line.text, "yes invoked oom-killer: order=0");
        let line = parse_syslog_line(b"<6>[    0.000001][    T0] Linux").unwrap();
        assert_eq!((line.caller.as_deref(), line.text.as_str()), (Some("T0"), "Linux"));
        let line = parse_syslog_line(b"<13>[sda] no time here").unwrap();
        assert_eq!((line.facility, line.level, line.micros), (1, 5, None));
        assert_eq!(line.text, "[sda] no time here");
    }

    #[test]
    fn a_record_that_is_none_says_why() {
        for (bad, why) in [
            (&b""[..], "no `;` after the prefix"),
            (b"6,1,2,-", "no `;` after the prefix"),
            (b"x,1,2,-;t", "not a number"),
            (b"6;t", "no sequence number"),
            (b"6,1;t", "no time"),
            (b"99999,1,2,-;t", "a priority beyond 2047"),
        ] {
            assert_eq!(parse_record(bad).unwrap_err().why, why, "{bad:?}");
        }
        assert!(parse_syslog_line(b"no prefix").is_err() && parse_syslog_line(b"<6 text").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_record(&bytes);
            let _ = parse_syslog_line(&bytes);
            let _ = parse_record(&[b"6,1,2,-;", &bytes[..]].concat());
            let _ = parse_syslog_line(&[b"<6>[    1.000000] ", &bytes[..]].concat());
        }
    }
}
