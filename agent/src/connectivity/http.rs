//! One GET, and the head of what answers: the status and the Date. The body is never read.

use std::io;

use casefile_proto::connectivity::target::Target;
use casefile_proto::time::WallTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes of heads that are read, those of interim answers included.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// 100 to 999.
    pub status: u16,
    /// The `Date`; `None`: none that can be read.
    pub date: Option<WallTime>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoHead {
    /// It is no HTTP/1.1, or has no end.
    Malformed(&'static str),
    /// The connection was closed before one was there.
    Closed,
    /// It failed.
    Io(io::Error),
}

/// What is sent. All of it is checked text of ours.
fn request(target: &Target) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: casefile-agent/{} (test of connectivity)\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        target.path(),
        target.authority(),
        crate::VERSION
    )
}

/// Asks, and reads until the head is there; `first_byte` is called when its first byte is.
pub(super) async fn get(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &Target,
    mut first_byte: impl FnMut(),
) -> Result<Head, NoHead> {
    stream.write_all(request(target).as_bytes()).await.map_err(NoHead::Io)?;
    stream.flush().await.map_err(NoHead::Io)?;
    let mut read = Vec::with_capacity(1 << 10);
    loop {
        match parse(&read) {
            Ok(Some(head)) => return Ok(head),
            Ok(None) if read.len() >= MAX_HEAD => {
                return Err(NoHead::Malformed("its head does not end within 16 KiB"));
            }
            Ok(None) => {}
            Err(why) => return Err(NoHead::Malformed(why)),
        }
        let before = read.len();
        let left = u64::try_from(MAX_HEAD - before).unwrap_or(0);
        let got = (&mut *stream).take(left).read_buf(&mut read).await.map_err(NoHead::Io)?;
        if got == 0 {
            return Err(NoHead::Closed);
        }
        if before == 0 {
            first_byte();
        }
    }
}

/// The head of the final answer in these bytes (RFC 9112 §2); `None`: it is not whole yet.
///
/// # Errors
/// When it is no head of HTTP/1.1, and never will be.
pub fn parse(mut bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    loop {
        let line = match bytes.iter().position(|b| *b == b'\n') {
            Some(end) => &bytes[..end],
            None => bytes,
        };
        let whole = line.len() < bytes.len();
        let version = b"HTTP/1.";
        let known = line.len().min(version.len());
        if line[..known] != version[..known] {
            return Err("what answers does not speak HTTP/1.1");
        }
        if !whole {
            return Ok(None);
        }
        let status = status(line).ok_or("its first line is no status")?;
        let Some(end) = end_of_head(bytes) else { return Ok(None) };
        match status {
            // It changes the protocol, which nobody asked for.
            101 => return Err("it changes to another protocol"),
            // Interim: the real one follows.
            100..=199 => bytes = &bytes[end..],
            _ => return Ok(Some(Head { status, date: date(&bytes[line.len() + 1..end]) })),
        }
    }
}

/// `HTTP/1.1 204 No Content`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor, b' ', digits @ ..] = rest else { return None };
    let (digits, behind) = digits.split_at_checked(3)?;
    let plain = minor.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit);
    let ends = matches!(behind.first(), None | Some(b' ' | b'\r'));
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    (plain && ends && number >= 100).then_some(number)
}

/// Where the empty line behind the head ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = bytes[at..].iter().position(|b| *b == b'\n')?;
        let line = &bytes[at..at + len];
        at += len + 1;
        if line.is_empty() || line == b"\r" {
            return Some(at);
        }
    }
}

/// The one `Date` of these lines, in the form that servers must write (RFC 9110 §5.6.7).
fn date(lines: &[u8]) -> Option<WallTime> {
    let mut dates = lines.split(|b| *b == b'\n').filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        line[..colon].eq_ignore_ascii_case(b"date").then(|| line[colon + 1..].trim_ascii())
    });
    let date = dates.next().filter(|date| date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len())?;
    if dates.next().is_some() {
        return None;
    }
    let stamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(WallTime::from_secs(stamp.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, date: Option<&str>) -> Head {
        Head { status, date: date.map(|date| date.parse().unwrap()) }
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_wherever_it_is_cut() {
        let text = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 Busy\r\nX: y\r\ndate:  Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nbody";
        let ends = text.len() - 4;
        for cut in 0..ends {
            assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
        }
        for cut in ends..=text.len() {
            assert_eq!(parse(&text[..cut]), Ok(Some(head(503, Some("1994-11-06T08:49:37Z")))));
        }
        assert_eq!(parse(b"HTTP/1.0 200\n\n"), Ok(Some(head(200, None))));
        assert_eq!(parse(b"HTTP/1.1 999 \r\n\r\n"), Ok(Some(head(999, None))));
    }

    #[test]
    fn what_is_no_http_is_known_by_its_first_bytes() {
        for bad in [
            &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
            b"\x15\x03\x03\x00\x02",
            b"HTTP/2.0 200 OK\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_date_that_is_none_or_is_there_twice_is_none() {
        let of = |lines: &str| date(lines.as_bytes());
        assert!(of("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n").is_some());
        for bad in [
            "Date: now\r\n",
            "Date: 1994-11-06T08:49:37Z\r\n",
            "X-Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_head_or_none(bytes: Vec<u8>, cut in 0..40_usize) {
            let text = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
            let mixed = [&text[..cut], &bytes[..]].concat();
            if let Ok(Some(head)) = parse(&mixed) {
                proptest::prop_assert!((100..=999).contains(&head.status));
            }
        }
    }
}
