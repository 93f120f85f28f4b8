//! What the boot before this one left of its kernel log: told as events by the first agent of a boot, so that the ring
//! holds it even when somebody clears the place where it was found. Told once: an agent that is merely started again
//! finds frames of this boot in its ring and says nothing of it.
//!
//! How to add a place: a [`Look`] that gives the last lines, and its line in [`PLACES`]. What a crash left
//! in pstore is there; the window of an incident is cut out of the same places by the log sources.

use std::collections::VecDeque;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::ItemHead;
use casefile_proto::time::{Stamp, WallTime, Window};
use casefile_proto::units::Bytes;

use crate::host::Host;
use crate::logs::{self, LogAsk, LogConfig, LogSink, Selection, Stop, pstore};
use crate::sources::Measurement;

/// Lines that are taken along from all places together: what a kernel says while it dies, several times over.
pub(super) const MAX_LINES: usize = 384;

/// Bytes of these lines.
const MAX_BYTES: usize = 128 << 10;

/// Looks at a place where an earlier boot may have left something. A gap: it is there, or may be, and could not be read.
/// The time is that of this boot.
type Look = fn(&Host, Option<WallTime>) -> (Vec<Left>, Vec<Gap>);

/// What was left in one file of a place.
struct Left {
    found_in: String,
    /// What is known of its time, for people.
    written: String,
    /// Its lines in all.
    all: usize,
    /// The last of them, oldest first.
    lines: Vec<Line>,
}

/// One line, with its wall time where the place knows it.
struct Line {
    at: Option<WallTime>,
    text: String,
}

/// In the order in which they are told; each gets what those before it left of the caps.
const PLACES: &[Look] = &[in_pstore, in_journal];

/// Tells it all. `booted`: when the running kernel started. `now` is the time of what has none of its own.
pub(super) fn tell(host: &Host, booted: Option<WallTime>, now: Stamp, out: &mut Measurement) {
    let (mut lines_left, mut bytes_left) = (MAX_LINES, MAX_BYTES);
    for look in PLACES {
        let (found, gaps) = look(host, booted);
        // That there is no such place is how most machines are.
        gaps.into_iter().filter(|gap| gap.reason != GapReason::SourceAbsent).for_each(|gap| out.gap(gap));
        // The end of the last one is where the kernel died: filled from there.
        let mut taken = Vec::new();
        for left in found.iter().rev() {
            let mut begin = left.lines.len();
            while begin > 0 && lines_left > 1 && left.lines[begin - 1].text.len() <= bytes_left {
                begin -= 1;
                lines_left -= 1;
                bytes_left -= left.lines[begin].text.len();
            }
            lines_left = lines_left.saturating_sub(1);
            taken.push((left, begin));
        }
        for (left, begin) in taken.into_iter().rev() {
            let lines = &left.lines[begin..];
            let (told, all) = (lines.len(), left.all);
            let head = format!("{}; the last {told} of its {all} lines", left.written);
            let mut say = |wall: Option<WallTime>, text: String| {
                let at = Stamp { wall: wall.unwrap_or(now.wall), ..now };
                out.event(Event { at, kind: EventKind::PreviousBoot { found_in: left.found_in.clone() }, text });
            };
            say(None, head);
            lines.iter().for_each(|line| say(line.at, line.text.clone()));
        }
    }
}

fn in_pstore(host: &Host, booted: Option<WallTime>) -> (Vec<Left>, Vec<Gap>) {
    let (dumps, mut gaps) = pstore::find(host, booted);
    let mut dumps = pstore::of_previous_boot(dumps, booted);
    // The parts of the kernel's own dump, where there is one: a console kept in RAM, and the text that was put together
    // out of the parts, say the same once more.
    if dumps.iter().any(pstore::Dump::is_part) {
        dumps.retain(pstore::Dump::is_part);
    }
    let mut left = Vec::new();
    for dump in dumps {
        let (text, missing) = match dump.read(host) {
            Ok(read) => read,
            Err(gap) => {
                gaps.push(gap);
                continue;
            }
        };
        gaps.extend(missing);
        let lines = || text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        let all = lines().count();
        let line = |l: &[u8]| Line {
            at: None,
            text: String::from_utf8_lossy(&l[..l.len().min(Event::MAX_TEXT)]).into_owned(),
        };
        left.push(Left {
            found_in: format!("/{}", dump.path().display()),
            written: dump.written.describe(),
            all,
            lines: lines().skip(all.saturating_sub(MAX_LINES)).map(line).collect(),
        });
    }
    (left, gaps)
}

/// How far before the boot the journal is looked at: not farther than needed, because all of its entries are passed over.
/// A machine that was off for longer left its last words long before, and a window there finds them.
const REACH: [Duration; 2] = [Duration::from_mins(10), Duration::from_hours(1)];

/// The kernel's part of the journal, as the log source names it.
const KERNEL_LOG: &str = "logs/journal/kernel.log";

fn in_journal(host: &Host, booted: Option<WallTime>) -> (Vec<Left>, Vec<Gap>) {
    let journal = logs::ALL.iter().find(|spec| spec.name == "journal");
    let (Some(booted), Some(journal)) = (booted, journal) else { return (Vec::new(), Vec::new()) };
    for reach in REACH {
        let Ok(window) = Window::new(booted.before(reach), booted) else { break };
        let select = Selection { units: vec!["kernel".to_owned()], ..Selection::default() };
        let mut tail = Tail::default();
        let ask = LogAsk { window, budget: Bytes::mib(64), select };
        let covered = (journal.open)(host, &LogConfig::default()).read(&ask, &mut tail);
        if tail.all > 0 {
            let left = Left {
                found_in: KERNEL_LOG.to_owned(),
                written: format!("in the journal, before the boot at {booted}"),
                all: tail.all,
                lines: tail.lines.into(),
            };
            // That the journal was not read on to its other entries is our own doing.
            let gaps = covered.gaps.into_iter().filter(|gap| gap.reason != GapReason::Cancelled);
            return (vec![left], gaps.collect());
        }
    }
    (Vec::new(), Vec::new())
}

/// Keeps the last lines of the kernel's part.
#[derive(Default)]
struct Tail {
    is_kernel: bool,
    all: usize,
    lines: VecDeque<Line>,
}

impl LogSink for Tail {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        // A program that calls itself kernel has a log of its own.
        self.is_kernel = head.path.as_str() == KERNEL_LOG;
        if self.all > 0 { Break(Stop::Cancelled) } else { Continue(()) }
    }

    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        if !self.is_kernel {
            return Continue(());
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.all += 1;
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = String::from_utf8_lossy(&text[..text.len().min(Event::MAX_TEXT)]).into_owned();
        self.lines.push_back(Line { at: Some(at), text });
        Continue(())
    }

    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sources::SourceSpec;

    static SPEC: &SourceSpec = &super::super::SPEC;

    fn told(dumps: &[(&str, String)]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let pstore = dir.path().join("sys/fs/pstore");
        fs::create_dir_all(&pstore).unwrap();
        for (name, text) in dumps {
            fs::write(pstore.join(name), text).unwrap();
        }
        let mut out = Measurement::new(SPEC.metrics);
        out.begin();
        let booted = WallTime::from_secs(1_795_500_000);
        let now = Stamp { wall: booted, boot: casefile_proto::time::BootTime::from_nanos(5) };
        tell(&Host::new(dir.path()).unwrap(), Some(booted), now, &mut out);
        assert!(out.gaps().is_empty() && out.events().iter().all(|e| e.at == now));
        let event = |e: &Event| match &e.kind {
            EventKind::PreviousBoot { found_in } => (found_in.rsplit('/').next().unwrap().to_owned(), e.text.clone()),
            other => panic!("{other:?}"),
        };
        out.events().iter().map(event).collect()
    }

    #[test]
    fn the_parts_of_the_last_crash_are_told_in_the_order_of_the_log_and_nothing_twice() {
        let told = told(&[
            ("dmesg-efi-179540185001001", "Panic#1 Part1\n<0>[ 9.2] Kernel panic\n".to_owned()),
            ("dmesg-efi-179540185002001", "Panic#1 Part2\n<4>[ 9.1] before\n".to_owned()),
            ("dmesg-efi-170000000001001", "Panic#1 Part1\n<4>[ 1.0] long ago\n".to_owned()),
            ("console-ramoops-0", "[ 9.2] Kernel panic\n".to_owned()),
        ]);
        let texts: Vec<_> = told.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "written at 2026-11-23T02:44:10Z; the last 2 of its 2 lines",
                "Panic#1 Part2",
                "<4>[ 9.1] before",
                "written at 2026-11-23T02:44:10Z; the last 2 of its 2 lines",
                "Panic#1 Part1",
                "<0>[ 9.2] Kernel panic",
            ]
        );
        assert_eq!(told[5].0, "dmesg-efi-179540185001001");
    }

    #[test]
    fn of_a_long_dump_the_end_is_told_within_the_caps() {
        let long: String = (0..5000).map(|n| format!("[ {n}.0] line\n")).collect();
        let told = told(&[("console-ramoops-0", long)]);
        assert_eq!(told.len(), MAX_LINES);
        assert_eq!(told.last().unwrap().1, "[ 4999.0] line");
        assert!(told[0].1.contains("the last 383 of its 5000 lines"), "{}", told[0].1);
        let wide = vec!["x".repeat(8000); 100].join("\n");
        let told = self::told(&[("console-ramoops-0", wide)]);
        assert!(told.iter().map(|(_, text)| text.len()).sum::<usize>() < MAX_BYTES + 100);
    }

    #[test]
    fn a_machine_without_dumps_says_nothing() {
        assert_eq!(told(&[]), []);
    }
}
