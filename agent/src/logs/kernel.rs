//! The kernel log of this boot, and what crashes of earlier boots left of theirs in persistent storage ([`pstore`]).
//!
//! This boot's is read from `dev/kmsg` below the host root, else by `syslog(2)` where the machine is the running
//! one (a container without the device).
//!
//! In the archive a record is `TIME facility=F level=L seq=N [caller=C] [fragment=true] user=B TEXT`, followed by its properties, each on a line that
//! begins with a blank, as `/dev/kmsg` has them. The caller (`T123`, a thread; `C0`, a CPU) is there where the kernel says it; a
//! fragment is a record whose text goes on in, or began in, another one: they stay apart, as the kernel numbers them. TEXT is in the kernel's own escaping (`\x1b`), so that it is always one line.
//! `user=true` says that a program wrote it, not the kernel. `seq=-` where `syslog(2)` gave none.
//!
//! The kernel counts microseconds since boot, suspend not included; the wall time of all records is computed with one
//! and the same difference of the two clocks, that of the time of reading.
//!
//! A dump is an item of its own, `logs/pstore/…`, its lines as they are. It is given when it was written in the window;
//! and the last one before this boot, when the window reaches back to where no other kernel log is: its lines have no
//! date, and its item covers nothing and says why.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow::{Break, Continue};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::lines::LINE_CAP;
use super::pstore::{self, Dump};
use super::sink::{Before, Flow, Giving, Item};
use super::{Covered, LogAsk, LogSink, LogSource, LogSpec, component, item_path, now, open};
use crate::host::Host;
use crate::kmsg::reader::{KmsgReader, Next};
use crate::kmsg::{Record, parse_record, parse_syslog_line};
use crate::{calls, text};

/// The log source.
pub(super) const SPEC: LogSpec = LogSpec {
    name: "kernel",
    about: "The kernel log of this boot, from /dev/kmsg or syslog(2), and what a crash left in pstore",
    open: |host, _config| Box::new(Kernel { host: host.clone() }),
};

/// As much of the log as `syslog(2)` is asked for: a log buffer of this size is unusual (`log_buf_len`), and of a larger
/// one the newest records are given.
const SYSLOG_BYTES: usize = 4 << 20;

/// What a log buffer of the usual size (up to 1 MiB) holds, with what stands before each record in the archive.
const USUAL_BYTES: u64 = 2 << 20;

/// `/proc/stat` of a machine with thousands of CPUs and interrupts.
const STAT_CAP: usize = 4 << 20;

/// A first record later than this after boot is not the first that there was.
const BOOT_BEGINS_WITHIN_MICROS: u64 = 1_000_000;

struct Kernel {
    host: Host,
}

impl LogSource for Kernel {
    fn needs(&mut self, _ask: &LogAsk, _out: &mut dyn LogSink) -> Vec<u64> {
        vec![USUAL_BYTES]
    }

    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let log = open_log(&self.host);
        let booted = booted(&self.host, log.as_ref().ok());
        let (dumps, gaps) = pstore::find(&self.host, booted.as_ref().ok().copied());
        let dumps = pstore::of_window(dumps, ask.window, booted.as_ref().ok().copied());
        let mut giving = Giving::new(SPEC.name, ask, now(&self.host), 1 + dumps.len(), out);
        // Where this boot's own log covers the window, nothing is missing because a dump is.
        if booted.as_ref().map_or(true, |booted| ask.window.from() < *booted) {
            gaps.into_iter().for_each(|gap| giving.gap(gap));
        }
        let mut unread = 1 + dumps.len();
        // They are small, and the log is not.
        for dump in &dumps {
            if giving.is_stopped() {
                return giving.finish(unread);
            }
            unread -= 1;
            give_dump(&self.host, dump, &mut giving);
        }
        let (mut log, booted) = match (log, booted) {
            (Ok(log), Ok(booted)) => (log, booted),
            (Err(gap), _) | (_, Err(gap)) => return giving.nothing(gap),
        };
        let path = item_path("kernel.log");
        let method = format!("{}, times computed from the time since boot", log.describe());
        let Some(mut item) = giving.item(path, method) else { return giving.finish(1) };
        let mut reading =
            Reading { booted, oldest: None, last: None, before: Before::NotRecorded, line: String::new() };
        // Whatever stopped it, the item knows.
        let _ = reading.run(&mut log, &mut item);
        item.end(reading.oldest, reading.before);
        giving.finish(0)
    }
}

fn give_dump(host: &Host, dump: &Dump, giving: &mut Giving<'_>) {
    let (text, missing) = match dump.read(host) {
        Ok(read) => read,
        Err(gap) => return giving.gap(gap),
    };
    let path = dump.place().fold(item_path("pstore"), |path, part| path.child(&component(part)));
    let written = dump.written.describe();
    let method = format!("/{}, {written}, its lines as they are", dump.path().display());
    let Some(mut item) = giving.item(path, method) else { return };
    missing.into_iter().for_each(|gap| item.gap(gap));
    let window = item.window();
    // Its records are filed under the instant of the window that is nearest to when it was written.
    let at = dump.written.latest().clamp(window.from(), window.until().offset(-1));
    let mut record = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        let kept = &line[..line.len().min(LINE_CAP)];
        record.clear();
        record.extend_from_slice(kept.strip_suffix(b"\n").unwrap_or(kept));
        record.push(b'\n');
        item.cut_record(at, (line.len() - kept.len()) as u64);
        // Whatever stopped it, the item knows.
        if item.record(at, &record).is_break() {
            break;
        }
    }
    item.end_undated(format!("a kernel's last words, {written}: its lines bear seconds since its boot and no date"));
}

/// Where the records come from.
enum Log {
    Kmsg(KmsgReader),
    Syslog(Vec<u8>),
}

impl Log {
    fn describe(&self) -> &'static str {
        match self {
            Self::Kmsg(_) => "/dev/kmsg",
            Self::Syslog(_) => "syslog(2)",
        }
    }
}

fn open_log(host: &Host) -> Result<Log, Gap> {
    let error = match KmsgReader::open(host) {
        Ok(reader) => return Ok(Log::Kmsg(reader)),
        Err(e) => e,
    };
    if !host.is_live() || !(error.is_not_found() || error.is_permission()) {
        return Err(open::gap(&error));
    }
    let mut buf = vec![0; SYSLOG_BYTES];
    match calls::kernel_log(&mut buf) {
        Ok(got) => {
            buf.truncate(got);
            Ok(Log::Syslog(buf))
        }
        Err(e) => {
            let denied = e.kind() == io::ErrorKind::PermissionDenied;
            let reason = if denied { GapReason::PermissionDenied } else { GapReason::SourceFailed };
            Err(Gap::new(reason, format!("{}; syslog(2): {e}", open::gap(&error).detail)))
        }
    }
}

/// The wall time at which the clock of the records was zero.
fn booted(host: &Host, log: Option<&Log>) -> Result<WallTime, Gap> {
    let in_a_tree = match log {
        Some(Log::Kmsg(reader)) => !reader.is_device(),
        Some(Log::Syslog(_)) => false,
        None => !host.is_live(),
    };
    if in_a_tree {
        // A tree of files: the time of boot is what it says, to the second.
        let mut stat = Vec::new();
        host.read("proc/stat", &mut stat, STAT_CAP).map_err(|e| open::gap(&e))?;
        let seconds = stat.split(|b| *b == b'\n').find_map(|line| text::number(line.strip_prefix(b"btime ")?).ok());
        return seconds.map(WallTime::from_secs).ok_or_else(|| {
            Gap::new(GapReason::ParseFailed, "/proc/stat has no btime: the kernel's times have no date")
        });
    }
    let nanos = |t: Timespec| t.tv_sec.saturating_mul(NANOS_PER_SEC).saturating_add(t.tv_nsec);
    let (wall, since_boot) = (nanos(clock_gettime(ClockId::Realtime)), nanos(clock_gettime(ClockId::Monotonic)));
    Ok(WallTime::from_nanos(wall.saturating_sub(since_boot)))
}

struct Reading {
    booted: WallTime,
    oldest: Option<WallTime>,
    /// Sequence number and time of the record before.
    last: Option<(Option<u64>, WallTime)>,
    before: Before,
    line: String,
}

impl Reading {
    fn run(&mut self, log: &mut Log, item: &mut Item<'_, '_>) -> Flow {
        match log {
            Log::Kmsg(reader) => loop {
                item.check()?;
                match reader.next() {
                    Ok(Next::Record(bytes)) => match parse_record(bytes) {
                        Ok(record) => {
                            let (message, properties) = message(bytes);
                            self.record(&record, item, |line| {
                                line.push_str(&String::from_utf8_lossy(message));
                                line.push('\n');
                                line.push_str(&String::from_utf8_lossy(properties));
                            })?;
                        }
                        Err(_) => item.damaged(self.last.map(|(_, at)| at), bytes.len() as u64),
                    },
                    // What was dropped shows in the next sequence number.
                    Ok(Next::Overrun) => {}
                    Ok(Next::End) => return Continue(()),
                    Err(e) => {
                        let gap = Gap::new(GapReason::SourceFailed, format!("read /dev/kmsg: {e}"));
                        item.gap(match self.last.map(|(_, at)| item.window().from().max(at)) {
                            Some(from) => Window::new(from, item.window().until()).map_or(gap.clone(), |w| gap.over(w)),
                            None => gap.over(item.window()),
                        });
                        return Continue(());
                    }
                }
            },
            Log::Syslog(text) => {
                for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                    match parse_syslog_line(line) {
                        Ok(record) if record.micros.is_some() => {
                            self.record(&record, item, |line| {
                                escape(&record.text, line);
                                line.push('\n');
                            })?;
                        }
                        // Without a time (printk.time is off) it cannot be said whether it belongs to the window.
                        _ => item.damaged(self.last.map(|(_, at)| at), line.len() as u64),
                    }
                }
                item.check()
            }
        }
    }

    fn record(&mut self, record: &Record, item: &mut Item<'_, '_>, text: impl FnOnce(&mut String)) -> Flow {
        let micros = record.micros.unwrap_or(0);
        let at = self.booted.offset(i64::try_from(micros).unwrap_or(i64::MAX).saturating_mul(1000));
        match self.last {
            None => {
                let first = record.seq.map_or(micros < BOOT_BEGINS_WITHIN_MICROS, |seq| seq == 0);
                self.before = if first { Before::NodeRebooted } else { Before::RotatedAway };
            }
            Some((last, before)) => lost(last, before, record.seq, at, item),
        }
        self.last = Some((record.seq, at));
        self.oldest = Some(self.oldest.map_or(at, |t| t.min(at)));
        if !item.wants(at) {
            return Continue(());
        }
        let line = &mut self.line;
        line.clear();
        begin(record, at, line);
        text(line);
        match item.record(at, line.as_bytes()) {
            Continue(()) => Continue(()),
            Break(halt) => Break(halt),
        }
    }
}

/// Records that the kernel had dropped between two that were read.
fn lost(last: Option<u64>, before: WallTime, seq: Option<u64>, at: WallTime, item: &mut Item<'_, '_>) {
    let (Some(last), Some(seq)) = (last, seq) else { return };
    let missing = seq.saturating_sub(last).saturating_sub(1);
    let between = Window::new(before.min(at), at.max(before).offset(1)).ok().and_then(|w| w.intersect(&item.window()));
    if let (1.., Some(between)) = (missing, between) {
        let why = format!("{missing} records were overwritten before they could be read");
        item.gap(Gap::new(GapReason::RotatedAway, why).counting(missing).over(between));
    }
}

/// All of a record that stands before its text.
fn begin(record: &Record, at: WallTime, line: &mut String) {
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    const FACILITIES: [&str; 12] =
        ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    let seconds = at.to_seconds_text();
    let micros = at.nanos().rem_euclid(NANOS_PER_SEC) / 1000;
    // Writing to a String cannot fail, here and below.
    let _ = write!(line, "{}.{micros:06}Z facility=", seconds.trim_end_matches('Z'));
    let _ = match record.facility {
        f @ 0..12 => write!(line, "{}", FACILITIES[usize::from(f)]),
        f @ 16..24 => write!(line, "local{}", f - 16),
        f => write!(line, "{f}"),
    };
    let _ = write!(line, " level={} seq=", LEVELS[usize::from(record.level & 7)]);
    let _ = match record.seq {
        Some(seq) => write!(line, "{seq}"),
        None => write!(line, "-"),
    };
    if let Some(caller) = &record.caller {
        let _ = write!(line, " caller={caller}");
    }
    if record.fragment {
        line.push_str(" fragment=true");
    }
    let _ = write!(line, " user={} ", record.facility > 0);
}

/// The text of a record of `/dev/kmsg`, and the lines of properties behind it.
fn message(record: &[u8]) -> (&[u8], &[u8]) {
    let text = record.iter().position(|b| *b == b';').map_or(record, |at| &record[at + 1..]);
    match text.iter().position(|b| *b == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}

/// As the kernel escapes what is not printable in `/dev/kmsg`.
fn escape(text: &str, line: &mut String) {
    for b in text.bytes() {
        match b {
            b' '..=b'~' if b != b'\\' => line.push(char::from(b)),
            _ => {
                let _ = write!(line, "\\x{b:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_syslog_is_escaped_as_kmsg_escapes_it() {
        let mut line = String::new();
        escape("a\u{1b}[31m\\ ä", &mut line);
        assert_eq!(line, r"a\x1b[31m\x5c \xc3\xa4");
        let record = parse_record(format!("4,1,2,-;{line}").as_bytes()).unwrap();
        assert_eq!(record.text, "a\u{1b}[31m\\ ä");
    }

    #[test]
    fn text_and_properties_are_told_apart() {
        assert_eq!(message(b"6,1,2,-;a;b\n K=v\n L=w\n"), (&b"a;b"[..], &b" K=v\n L=w\n"[..]));
        assert_eq!(message(b"6,1,2,-;a"), (&b"a"[..], &b""[..]));
    }
}
