//! What is new in the kernel log when it is read through `syslog(2)`, which has no position and no numbers: what comes
//! after the last line that was seen. As little of the log is copied as reaches back to that line.

use std::io;

use super::Heard;
use crate::calls;
use crate::kmsg::parse_syslog_line;
use crate::sources::SourceError;
use crate::text::{Unparsed, lines};

/// First the last few lines, and more only if the one that was seen last is not among them. The last is the largest
/// log buffer that can be had from a boot parameter on usual machines (`log_buf_len`, a few MiB at most).
const PIECES: [usize; 3] = [8 << 10, 128 << 10, 4 << 20];

/// Where reading has come to.
#[derive(Debug, Default)]
pub(super) struct Syslog {
    /// The last line that was given out, whole; `None` before the first reading.
    last: Option<Vec<u8>>,
    buf: Vec<u8>,
}

/// What a piece of the log tells of the lines after the last one that was seen.
#[derive(Debug, PartialEq, Eq)]
enum New<'a> {
    /// These, oldest first.
    Lines(Vec<&'a [u8]>),
    /// The last one seen is not in this piece: it begins too late, or the log was overwritten.
    NotReached,
}

impl Syslog {
    /// Up to `room` new records, and whether these are all. Records of several lines come as several records.
    pub(super) fn hear(&mut self, room: usize, bad: &mut Unparsed) -> Result<(Vec<Heard>, bool), SourceError> {
        self.hear_from(&mut |buf| calls::kernel_log(buf), room, bad)
    }

    fn hear_from(
        &mut self,
        read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
        room: usize,
        bad: &mut Unparsed,
    ) -> Result<(Vec<Heard>, bool), SourceError> {
        let mut buf = std::mem::take(&mut self.buf);
        let mut heard = Vec::new();
        let mut whole = true;
        let sizes = if self.last.is_none() { &PIECES[2..] } else { &PIECES[..] };
        for (i, size) in sizes.iter().enumerate() {
            buf.resize(*size, 0);
            let got = read(&mut buf).map_err(|source| SourceError::Call { call: "syslog", source })?;
            let text = buf.get(..got).unwrap_or(&buf);
            let (mut new, overrun) = match news(text, self.last.as_deref()) {
                New::Lines(lines) => (lines, false),
                New::NotReached if i + 1 < sizes.len() => continue,
                // The line that was seen last is gone: so may be others. What there is, is new.
                New::NotReached => (all(text), true),
            };
            if overrun {
                heard.push(Heard::Overrun);
            }
            if new.len() > room && self.last.is_some() {
                new.truncate(room);
                whole = false;
            }
            if let Some(last) = new.last() {
                self.last = Some(last.to_vec());
            } else {
                self.last.get_or_insert_default();
            }
            heard.extend(new.into_iter().filter_map(|line| bad.keep(parse_syslog_line(line))).map(Heard::Record));
            break;
        }
        // The large pieces are needed at the start and in a flood only.
        buf.truncate(PIECES[0]);
        buf.shrink_to_fit();
        self.buf = buf;
        Ok((heard, whole))
    }
}

fn all(text: &[u8]) -> Vec<&[u8]> {
    lines(text).map(|line| line.unwrap_or_else(|cut| cut.line)).collect()
}

fn news<'a>(text: &'a [u8], last: Option<&[u8]>) -> New<'a> {
    let mut lines = all(text);
    match last {
        None | Some(b"") => New::Lines(lines),
        Some(last) => match lines.iter().rposition(|line| *line == last) {
            Some(at) => New::Lines(lines.split_off(at + 1)),
            None => New::NotReached,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel log that gives its last bytes, whole lines only, as the kernel does.
    fn reader(log: &str) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        move |buf| {
            let mut begin = log.len().saturating_sub(buf.len());
            while begin > 0 && begin < log.len() && log.as_bytes()[begin - 1] != b'\n' {
                begin += 1;
            }
            let tail = &log.as_bytes()[begin..];
            buf[..tail.len()].copy_from_slice(tail);
            Ok(tail.len())
        }
    }

    fn texts(heard: &[Heard]) -> Vec<String> {
        let text = |heard: &Heard| match heard {
            Heard::Record(record) => record.text.clone(),
            Heard::Overrun => "OVERRUN".to_owned(),
        };
        heard.iter().map(text).collect()
    }

    fn log(range: std::ops::Range<u32>) -> String {
        range.map(|i| format!("<6>[{i:5}.000000] line {i}\n")).collect()
    }

    fn hear(syslog: &mut Syslog, log: &str, room: usize) -> (Vec<String>, bool) {
        let mut bad = Unparsed::default();
        let (heard, whole) = syslog.hear_from(&mut reader(log), room, &mut bad).unwrap();
        assert!(bad.gap("x").is_none());
        (texts(&heard), whole)
    }

    #[test]
    fn only_what_came_after_the_last_line_is_new() {
        let mut syslog = Syslog::default();
        assert_eq!(hear(&mut syslog, &log(1..3), 100).0, ["line 1", "line 2"]);
        assert_eq!(hear(&mut syslog, &log(1..3), 100), (vec![], true));
        assert_eq!(hear(&mut syslog, &log(1..5), 100).0, ["line 3", "line 4"]);
        // Far more than the first piece holds.
        assert_eq!(hear(&mut syslog, &log(1..3000), 9999).0.len(), 2995);
    }

    #[test]
    fn what_has_no_room_is_given_at_the_next_reading() {
        let mut syslog = Syslog::default();
        hear(&mut syslog, &log(1..2), 100);
        assert_eq!(hear(&mut syslog, &log(1..5), 2), (vec!["line 2".to_owned(), "line 3".to_owned()], false));
        assert_eq!(hear(&mut syslog, &log(1..5), 2), (vec!["line 4".to_owned()], true));
    }

    #[test]
    fn a_log_that_was_overwritten_is_an_overrun() {
        let mut syslog = Syslog::default();
        hear(&mut syslog, &log(1..3), 100);
        assert_eq!(hear(&mut syslog, &log(50..52), 100).0, ["OVERRUN", "line 50", "line 51"]);
    }

    #[test]
    fn an_empty_log_is_read_again() {
        let mut syslog = Syslog::default();
        assert_eq!(hear(&mut syslog, "", 100), (vec![], true));
        assert_eq!(hear(&mut syslog, &log(1..2), 100).0, ["line 1"]);
    }
}
