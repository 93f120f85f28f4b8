//! The records of one log: where each begins, which time it bears, what of it is text. Pure; total on any bytes.
//!
//! A line that bears a time begins a record, one without belongs to the record before. Before the first time of a log every
//! line is a record by itself, without a time: none is invented for it.

use std::io::{self, BufRead};
use std::ops::ControlFlow;

use casefile_evidence::logtime::stamp::zoned;
use casefile_evidence::logtime::style::{Form, Style, detect};
use casefile_evidence::logtime::times::{Reader, Times};
use casefile_proto::time::{WallTime, Window};
use jiff::tz::TimeZone;

use super::origin::JOURNAL_ENTRIES;

/// The most of a record that is held at once, and shown as one: an agent cuts records at 1 MiB of text. A longer one comes in
/// parts that bear the same time.
pub const MAX_RECORD: usize = (1 << 20) + (64 << 10);

/// Which of a container's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the lines of a log bear their times.
#[derive(Debug)]
pub enum Grammar {
    /// `TIME STREAM TEXT`, as the agent writes container logs.
    Container(Minute),
    /// `TIME TEXT`, and lines that begin with a blank belong to the line before: kernel log and journal.
    Leading(Minute),
    /// Lines of the node, as they were, with times of their own.
    Own(Box<Reader>),
    /// JSON of the journal.
    Entries,
    /// Nothing is known of times in it.
    None,
}

/// The last minute that was read, which the next line usually repeats.
#[derive(Debug, Clone, Copy, Default)]
pub struct Minute {
    text: [u8; 16],
    nanos: i64,
}

impl Grammar {
    /// Of a log of this source. `times` is what the item says of itself; without it (it was written by an earlier agent)
    /// only times that need nothing else to be read are looked for in `sample`, the beginning of the log.
    pub fn new(source: &str, times: Option<&str>, sample: &[u8], window: Window) -> Self {
        match (source, times.map(str::parse::<Times>)) {
            (_, Some(Ok(times))) => Self::Own(Box::new(times.reader(window))),
            // Written by a later agent, in words that are not known here.
            (_, Some(Err(_))) => Self::None,
            ("pods", None) => Self::Container(Minute::default()),
            ("kernel" | "journal", None) => Self::Leading(Minute::default()),
            (JOURNAL_ENTRIES, None) => Self::Entries,
            (_, None) => {
                let says_all = |style: &Style| matches!(style.form, Form::Zoned | Form::Epoch);
                let style = detect(sample).filter(says_all);
                let times = Times::new(style, &TimeZone::UTC, window);
                times.map_or(Self::None, |times| Self::Own(Box::new(times.reader(window))))
            }
        }
    }

    /// The time that a line bears, where its text begins, and its stream.
    fn stamp(&mut self, line: &[u8]) -> Option<(WallTime, usize, Option<Stream>)> {
        match self {
            Self::Container(minute) => {
                let (at, used) = zoned(line, &mut minute.text, &mut minute.nanos)?;
                let (used, stream) = match &line[used..] {
                    [b' ', b's', b't', b'd', b'o', b'u', b't', b' ', ..] => (used + 8, Some(Stream::Stdout)),
                    [b' ', b's', b't', b'd', b'e', b'r', b'r', b' ', ..] => (used + 8, Some(Stream::Stderr)),
                    [b' ', ..] => (used + 1, None),
                    _ => (used, None),
                };
                Some((at, used, stream))
            }
            Self::Leading(minute) => {
                let (at, used) = zoned(line, &mut minute.text, &mut minute.nanos)?;
                Some((at, used + usize::from(line.get(used) == Some(&b' ')), None))
            }
            Self::Own(reader) => reader.stamp(line).map(|at| (at, 0, None)),
            Self::Entries => journal_time(line).map(|at| (at, 0, None)),
            Self::None => None,
        }
    }
}

/// `"__REALTIME_TIMESTAMP":"1795401850123456"`, in microseconds since 1970.
fn journal_time(line: &[u8]) -> Option<WallTime> {
    const KEY: &[u8] = b"\"__REALTIME_TIMESTAMP\":\"";
    // The writer puts it among the first fields; a message that quotes it has its quotes escaped.
    let head = &line[..line.len().min(4096)];
    let at = head.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let digits = head[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let micros: i64 = std::str::from_utf8(&head[at..at + digits]).ok()?.parse().ok()?;
    micros.checked_mul(1000).map(WallTime::from_nanos)
}

/// One record, or a part of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time that it bears, on the node's clock; `None`: none.
    pub at: Option<WallTime>,
    /// Its first line, from 1.
    pub line: u64,
    /// Where that line begins in the log, in bytes.
    pub offset: u64,
    /// Which stream, where the log says it.
    pub stream: Option<Stream>,
    /// Its text, without the time where the agent wrote the time, and without the last line end.
    pub text: &'a [u8],
    /// Whether it goes on with a record that was given before.
    pub continues: bool,
}

/// Calls `each` for every record of a log. An error means that the log ends early; what was whole of it was given.
pub fn records(
    from: &mut dyn BufRead,
    grammar: &mut Grammar,
    each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut gathered = Gathered::default();
    let (mut line, mut number, mut at_line_begin) = (Vec::new(), 0, true);
    let mut next = 0;
    loop {
        line.clear();
        let read = read_line(from, &mut line);
        let offset = next;
        next += line.len() as u64;
        if line.is_empty() {
            let flow = gathered.give(each);
            return read.map(|()| flow);
        }
        let begins = std::mem::replace(&mut at_line_begin, line.ends_with(b"\n"));
        if begins {
            number += 1;
            let content = line.strip_suffix(b"\n").unwrap_or(&line);
            let stamp = grammar.stamp(content);
            if stamp.is_some() || gathered.at.is_none() {
                if gathered.give(each).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                gathered.begin(number, offset, stamp);
            }
        }
        if gathered.add(&line, each).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if let Err(error) = read {
            // Half a line that damage left is shown, and the error is told.
            let _ = gathered.give(each);
            return Err(error);
        }
    }
}

/// Up to the line end, or as much of a line as one record may have.
fn read_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    while line.len() < MAX_RECORD {
        let buffer = match from.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        let room = buffer.len().min(MAX_RECORD - line.len());
        let end = buffer[..room].iter().position(|b| *b == b'\n').map(|at| at + 1);
        line.extend_from_slice(&buffer[..end.unwrap_or(room)]);
        from.consume(end.unwrap_or(room));
        if end.is_some() || room == 0 {
            return Ok(());
        }
    }
    // A line that fills the room is whole when its end follows at once: no part of it may be a line end alone.
    if from.fill_buf()?.first() == Some(&b'\n') {
        line.push(b'\n');
        from.consume(1);
    }
    Ok(())
}

/// The record that is being gathered.
#[derive(Debug, Default)]
struct Gathered {
    at: Option<WallTime>,
    line: u64,
    offset: u64,
    stream: Option<Stream>,
    /// What is before the text in the first line.
    skip: usize,
    bytes: Vec<u8>,
    continues: bool,
}

impl Gathered {
    fn begin(&mut self, line: u64, offset: u64, stamp: Option<(WallTime, usize, Option<Stream>)>) {
        let (at, skip, stream) = stamp.map_or((None, 0, None), |(at, skip, stream)| (Some(at), skip, stream));
        *self = Self { at, line, offset, stream, skip, bytes: std::mem::take(&mut self.bytes), continues: false };
        self.bytes.clear();
    }

    fn add(&mut self, line: &[u8], each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if !self.bytes.is_empty() && self.bytes.len() + line.len() > MAX_RECORD {
            self.give(each)?;
            self.continues = true;
            self.skip = 0;
        }
        self.bytes.extend_from_slice(line);
        ControlFlow::Continue(())
    }

    fn give(&mut self, each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.bytes.is_empty() {
            return ControlFlow::Continue(());
        }
        let text = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let record = Record {
            at: self.at,
            line: self.line,
            offset: self.offset,
            stream: self.stream,
            text: text.get(self.skip..).unwrap_or_default(),
            continues: self.continues,
        };
        let flow = each(&record);
        self.bytes.clear();
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new("2026-11-23T02:00:00Z".parse().unwrap(), "2026-11-23T03:00:00Z".parse().unwrap()).unwrap()
    }

    fn of(source: &str, times: Option<&str>, log: &[u8]) -> Vec<(String, u64, Option<Stream>, String)> {
        let mut grammar = Grammar::new(source, times, log, window());
        let mut out = Vec::new();
        // A small buffer, so that lines and times lie across its borders.
        let mut read = io::BufReader::with_capacity(7, log);
        let flow = records(&mut read, &mut grammar, &mut |r| {
            let at = r.at.map_or("-".to_owned(), |at| at.to_string());
            out.push((at, r.line, r.stream, String::from_utf8_lossy(r.text).into_owned()));
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        out
    }

    fn lines_at(source: &str, times: Option<&str>, mut log: &[u8]) -> Vec<(usize, usize)> {
        let mut grammar = Grammar::new(source, times, log, window());
        let mut out = Vec::new();
        let flow = records(&mut log, &mut grammar, &mut |r| {
            out.push((usize::try_from(r.line).unwrap(), usize::try_from(r.offset).unwrap()));
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        out
    }

    #[test]
    fn a_container_log_has_its_stream_and_its_text() {
        let log = b"2026-11-23T02:44:10.000000001Z stdout one\n2026-11-23T02:44:11Z stderr two\n2026-11-23T02:44:12Z stdout \n";
        let [one, two, three] = &of("pods", None, log)[..] else { panic!() };
        assert_eq!(*one, ("2026-11-23T02:44:10.000000001Z".to_owned(), 1, Some(Stream::Stdout), "one".to_owned()));
        assert_eq!((two.2, two.3.as_str(), three.3.as_str()), (Some(Stream::Stderr), "two", ""));
    }

    #[test]
    fn lines_that_begin_with_a_blank_belong_to_the_record_before() {
        let log = b"2026-11-23T02:44:10.5Z facility=0 usb\n SUBSYSTEM=usb\n2026-11-23T02:44:11Z facility=0 two";
        let [one, two] = &of("kernel", None, log)[..] else { panic!() };
        assert_eq!((one.3.as_str(), one.1), ("facility=0 usb\n SUBSYSTEM=usb", 1));
        assert_eq!((two.3.as_str(), two.1), ("facility=0 two", 3));
    }

    #[test]
    fn a_stack_trace_stays_with_the_line_that_it_belongs_to() {
        let log = b"2026-11-23 03:44:10,5 ERROR x\n\tat a.b(C.java:1)\n\nCaused by: y\n2026-11-23 03:44:11,0 INFO z\n";
        let [one, two] = &of("files", Some("local lead=none zone=+01:00"), log)[..] else { panic!() };
        assert_eq!(one.0, "2026-11-23T02:44:10.5Z");
        assert!(one.3.ends_with("Caused by: y"), "{one:?}");
        assert_eq!((two.0.as_str(), two.1), ("2026-11-23T02:44:11Z", 5));
    }

    #[test]
    fn without_word_on_its_times_only_a_time_that_says_all_is_believed() {
        let zoned = of("files", None, b"2026-11-23T02:44:10Z a\n b\n");
        assert_eq!((zoned.len(), zoned[0].0.as_str()), (1, "2026-11-23T02:44:10Z"));
        let syslog = of("files", None, b"Nov 23 02:44:10 n a\nNov 23 02:44:11 n b\n");
        assert!(syslog.len() == 2 && syslog.iter().all(|r| r.0 == "-"), "{syslog:?}");
        let later = of("files", Some("stardate lead=none"), b"2026-11-23T02:44:10Z a\n");
        assert_eq!(later[0].0, "-");
    }

    #[test]
    fn a_journal_entry_has_the_time_of_its_field() {
        let log = b"{\"__SEQNUM\":\"1\",\"__REALTIME_TIMESTAMP\":\"1795401850123456\",\"MESSAGE\":\"x\"}\n";
        assert_eq!(of(JOURNAL_ENTRIES, None, log)[0].0, "2026-11-23T02:44:10.123456Z");
    }

    #[test]
    fn a_record_longer_than_the_cap_comes_in_parts_of_one_time() {
        let mut log = b"2026-11-23T02:44:10Z stdout ".to_vec();
        log.resize(3 * MAX_RECORD, b'x');
        log.extend_from_slice(b"\n2026-11-23T02:44:11Z stdout end\n");
        let mut grammar = Grammar::new("pods", None, &[], window());
        let mut seen = Vec::new();
        records(&mut &log[..], &mut grammar, &mut |r| {
            seen.push((r.at.unwrap().to_string(), r.text.len(), r.continues, r.line));
            ControlFlow::Continue(())
        })
        .unwrap()
        .is_continue();
        let (last, parts) = seen.split_last().unwrap();
        assert_eq!((last.0.as_str(), last.1, last.3), ("2026-11-23T02:44:11Z", 3, 2));
        assert!(parts.iter().all(|p| p.0 == "2026-11-23T02:44:10Z" && p.1 <= MAX_RECORD && p.3 == 1));
        assert_eq!(parts.iter().map(|p| p.2).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(parts.iter().map(|p| p.1).sum::<usize>(), 3 * MAX_RECORD - 28);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_records_in_order_of_their_lines(
            bytes in proptest::collection::vec(proptest::sample::select(&b"2026-11-23T02:4Zstdoutre {}\"\n\n\0\xff"[..]), 0..400),
        ) {
            for (source, times) in [("pods", None), ("kernel", None), ("files", None), ("files", Some("syslog lead=none zone=+01:00")), (JOURNAL_ENTRIES, None)] {
                let given = of(source, times, &bytes);
                assert!(given.is_sorted_by(|a, b| a.1 < b.1), "{given:?}");
                assert!(lines_at(source, times, &bytes).iter().all(|(line, offset)| {
                    bytes[..*offset].iter().filter(|b| **b == b'\n').count() + 1 == *line
                        && (*offset == 0 || bytes[*offset - 1] == b'\n')
                }));
                let lines = bytes.split_inclusive(|b| *b == b'\n').count() as u64;
                assert!(given.last().is_none_or(|last| last.1 <= lines), "{given:?}");
                // Nothing but the times that the agent wrote is left out.
                assert!(source != "files" || given.iter().map(|r| r.3.matches('o').count()).sum::<usize>() == bytes.iter().filter(|b| **b == b'o').count());
            }
        }
    }

    #[test]
    fn hostile_bytes_are_records_or_parts_of_one_and_nothing_is_lost() {
        for source in ["pods", "kernel", "journal", "files", JOURNAL_ENTRIES, "pstore"] {
            let log = b"\0\xff\xfe\r\n\n2026-11-23T02:44:10Z stdout \x1b[2J\xff\n2026-99-99T stdout x\n\n";
            let texts = of(source, None, log).into_iter().map(|r| r.3).collect::<String>();
            for piece in ["\0\u{fffd}\u{fffd}\r", "\u{1b}[2J\u{fffd}", "2026-99-99T stdout x"] {
                assert!(texts.contains(piece), "{source}: {texts:?}");
            }
        }
    }
}
