//! The property that every log source has: given any records in any files that rotation may have made of them, and any
//! window, it gives exactly the records of the window, in order, once, to the byte. Whoever asks does so on a clock of his
//! own, from which the node's is apart; and a log source that is wrong by one record at one edge is found out.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use casefile_agent::logs::{Covered, LogAsk, LogSink, LogSource};
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};

use crate::journal_file::{COMPACT, REGULAR, Record, Writer};
use crate::tree::{Reading, Tree, ask, gather, gzip, open, window};

/// A log in a tree, and what it says.
struct Case {
    tree: Tree,
    source: &'static str,
    /// Its item, where the source gives others as well.
    item: Option<&'static str>,
    /// In the order in which they were begun.
    records: Vec<(WallTime, Vec<u8>)>,
}

impl Case {
    /// Panics where [`Case::wrong`] finds something, whatever the difference of the clocks is.
    fn check(&self, edges: &[(usize, i64)], ahead: i64) {
        for ahead in [0, ahead] {
            let wrong = self.wrong(edges, ahead, &|on_node| self.tree.read(self.source, &ask(on_node)));
            assert_eq!(wrong, None, "the node's clock is {ahead} ns ahead");
        }
    }

    /// Reads windows whose edges lie on, just before and just behind records, and away from them all; says what is wrong
    /// with what is given. The node's clock, with which the records were written, is ahead of the asker's by so much.
    fn wrong(&self, edges: &[(usize, i64)], ahead: i64, read: &dyn Fn(Window) -> Reading) -> Option<String> {
        // As the asker sees them.
        let times: Vec<WallTime> = self.records.iter().map(|(at, _)| at.offset(-ahead)).collect();
        let (first, last) = (*times.iter().min()?, *times.iter().max()?);
        let edge = |(which, by): &(usize, i64)| times[which % times.len()].offset(by % 2);
        let mut windows = vec![
            Window::new(first, last.offset(1)),
            Window::new(first.offset(-NANOS_PER_SEC), last),
            Window::new(last.offset(1), last.offset(NANOS_PER_SEC)),
            Window::new(first.offset(-NANOS_PER_SEC), first),
        ];
        windows.extend(edges.chunks_exact(2).map(|e| {
            let (a, b) = (edge(&e[0]), edge(&e[1]));
            Window::new(a.min(b), a.max(b))
        }));
        for window in windows.into_iter().flatten() {
            let inside = |at: &WallTime| window.contains(at.offset(-ahead));
            let expected: Vec<_> = self.records.iter().filter(|(at, _)| inside(at)).collect();
            let reading = read(window.shifted(ahead).unwrap());
            let items = reading.items.iter().filter(|i| self.item.is_none_or(|path| i.head.path.as_str() == path));
            let given: Vec<_> = items.flat_map(|i| i.records.clone()).collect();
            let same = expected.len() == given.len() && expected.iter().zip(&given).all(|(a, b)| **a == *b);
            if !same {
                let place = expected.iter().zip(&given).position(|(a, b)| **a != *b);
                let show = |(at, b): &(WallTime, Vec<u8>)| format!("{at} {}", b[..b.len().min(80)].escape_ascii());
                let at = place.unwrap_or(expected.len().min(given.len()));
                return Some(format!(
                    "{window}: {} records given for {}, the first other one is number {at}: {:?} for {:?}",
                    given.len(),
                    expected.len(),
                    given.get(at).map(show),
                    expected.get(at).map(|e| show(e)),
                ));
            }
            let gaps: Vec<_> = reading.items.iter().flat_map(|i| &i.gaps).chain(&reading.covered.gaps).collect();
            if window.from() >= first && !gaps.is_empty() {
                return Some(format!("{window}: {gaps:?}"));
            }
        }
        None
    }
}

/// One record to be written.
#[derive(Debug, Clone)]
struct Step {
    gap_millis: i64,
    /// How far behind the one before it may lie: writers race, clocks are corrected.
    back_millis: i64,
    parts: Vec<Vec<u8>>,
    padding: usize,
    kind: u8,
    /// Between this one and the next: 0 to 5 rotate, 6 restart.
    then: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = proptest::collection::vec(any::<u8>().prop_filter("no line feed", |b| *b != b'\n'), 0..12);
    let step = (
        0_i64..8_000,
        0_u8..20,
        0_i64..30_000,
        proptest::collection::vec(text, 1..4),
        0_usize..40,
        any::<u8>(),
        0_u8..250,
    );
    let step = step.prop_map(|(gap_millis, jumps, back, parts, padding, kind, then)| Step {
        gap_millis,
        back_millis: if jumps == 0 { back } else { 0 },
        parts,
        // Few are long, and some are longer than a probe.
        padding: if padding == 0 { 70_000 } else { padding * 40 },
        kind,
        then,
    });
    proptest::collection::vec(step, 1..300)
}

fn edges() -> impl Strategy<Value = Vec<(usize, i64)>> {
    proptest::collection::vec((any::<usize>(), -1_i64..2), 8)
}

/// Clocks that are a little or an hour apart.
fn ahead() -> impl Strategy<Value = i64> {
    proptest::prop_oneof![-2_000_000_000_i64..2_000_000_000, proptest::strategy::Just(3600 * NANOS_PER_SEC)]
}

/// 2026-11-23T02:44:10Z
const BEGIN: i64 = 1_795_401_850 * NANOS_PER_SEC;

/// The times of records that are out of order by at most half a minute.
fn times(steps: &[Step]) -> Vec<WallTime> {
    let mut now = BEGIN;
    let mut next = |s: &Step| {
        now += s.gap_millis * 1_000_000 + 123_457;
        WallTime::from_nanos(now - s.back_millis * 1_000_000)
    };
    steps.iter().map(&mut next).collect()
}

fn stamp(at: WallTime, kind: u8) -> String {
    if kind.is_multiple_of(3) {
        at.offset(3600 * NANOS_PER_SEC).to_string().replace('Z', "+01:00")
    } else {
        at.to_string()
    }
}

/// The parts of a line may be a minute apart, and the next step is up to eight seconds away.
const STALLED: Duration = Duration::from_secs(50);

/// A container that restarts, whose runtime rotates and compresses, and that writes parts of two lines in turns.
fn container(steps: &[Step]) -> Case {
    let tree = Tree::new();
    let dir = "var/log/pods/shop_api_0a1b/app";
    let (mut records, mut file, mut restart, mut rotated) = (Vec::new(), Vec::new(), 0, 0);
    let mut open: [Option<(WallTime, Vec<Vec<u8>>)>; 2] = [None, None];
    let line = |file: &mut Vec<u8>, at: WallTime, kind: u8, stream: usize, tag: &str, text: &[u8]| {
        let name = ["stdout", "stderr"][stream];
        file.extend_from_slice(format!("{} {name} {tag} ", stamp(at, kind)).as_bytes());
        file.extend_from_slice(text);
        file.push(b'\n');
    };
    let end = |file: &mut Vec<u8>, at: WallTime, kind: u8, stream: usize, rest: &[Vec<u8>]| {
        for (i, part) in rest.iter().enumerate() {
            line(file, at, kind, stream, if i + 1 == rest.len() { "F" } else { "P" }, part);
        }
    };
    for (step, at) in steps.iter().zip(times(steps)) {
        let stream = usize::from(step.kind % 2);
        // What this stream had begun is ended first, and what the other one did so long ago that its rest is found no more.
        for (other, rest) in open.iter_mut().enumerate() {
            if let Some((_, rest)) = rest.take_if(|(begun, _)| other == stream || at > begun.after(STALLED)) {
                end(&mut file, at.offset(-1), step.kind, other, &rest);
            }
        }
        let mut parts = step.parts.clone();
        parts[0].extend(std::iter::repeat_n(b'x', step.padding));
        let text = parts.concat();
        records.push((
            at,
            [format!("{} {} ", stamp(at, step.kind), ["stdout", "stderr"][stream]).as_bytes(), &text, b"\n"].concat(),
        ));
        let tag = if parts.len() > 1 { "P" } else { "F:tag" };
        line(&mut file, at, step.kind, stream, tag, &parts.remove(0));
        if !parts.is_empty() {
            open[stream] = Some((at, parts));
        }
        if step.then > 6 {
            continue;
        }
        if step.then == 6 {
            for (stream, rest) in open.iter_mut().enumerate() {
                if let Some((_, rest)) = rest.take() {
                    end(&mut file, at, step.kind, stream, &rest);
                }
            }
            tree.write(&format!("{dir}/{restart}.log"), &file);
            restart += 1;
        } else if step.then % 2 == 0 {
            rotated += 1;
            tree.write(&format!("{dir}/{restart}.log.20261123-{rotated:06}"), &file);
        } else {
            rotated += 1;
            tree.write(&format!("{dir}/{restart}.log.20261123-{rotated:06}.gz"), gzip(&file));
        }
        file.clear();
    }
    for (stream, (_, rest)) in open.iter().enumerate().filter_map(|(stream, rest)| Some((stream, rest.as_ref()?))) {
        end(&mut file, times(steps)[steps.len() - 1], 1, stream, rest);
    }
    tree.write(&format!("{dir}/{restart}.log"), &file);
    Case { tree, source: "pods", item: None, records }
}

/// A log of many forms that logrotate rotates, with records of many lines.
fn text_log(steps: &[Step]) -> Case {
    let tree = Tree::new();
    let form = steps[0].kind % 4;
    let (mut records, mut file, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (step, at) in steps.iter().zip(times(steps)) {
        // As exact as the form can say it.
        let at = WallTime::from_nanos(match form {
            0 => at.nanos(),
            1 | 2 => at.nanos() / 1000 * 1000,
            _ => at.nanos() / NANOS_PER_SEC * NANOS_PER_SEC,
        });
        let time = match form {
            0 => stamp(at, step.kind),
            1 => format!("{}.{:06}", at.nanos() / NANOS_PER_SEC, at.nanos() % NANOS_PER_SEC / 1000),
            2 => at.to_string().replace('T', " ").replace('.', ",").replace('Z', ""),
            _ => format!("Nov 23 {}", &at.to_string()[11..19]),
        };
        let mut record = format!("{time} node app: {}", "x".repeat(step.padding)).into_bytes();
        for part in &step.parts {
            record.extend_from_slice(b"\n\t");
            record.extend_from_slice(part);
        }
        record.push(b'\n');
        if step.then <= 6 && !step.kind.is_multiple_of(5) {
            // Rotated in the middle of a record.
            let middle = record.iter().position(|b| *b == b'\n').unwrap() + 1;
            file.extend_from_slice(&record[..middle]);
            files.push(std::mem::replace(&mut file, record[middle..].to_vec()));
        } else {
            file.extend_from_slice(&record);
            if step.then <= 6 {
                files.push(std::mem::take(&mut file));
            }
        }
        records.push((at, record));
    }
    // Not every writer ends its last line.
    if steps[0].kind.is_multiple_of(2) && !file.is_empty() {
        file.pop();
    }
    tree.write("var/log/syslog", &file);
    let count = files.len();
    for (i, file) in files.iter().enumerate() {
        let number = count - i;
        if number > 1 && number % 2 == 0 {
            tree.write(&format!("var/log/syslog.{number}.gz"), gzip(file));
        } else {
            tree.write(&format!("var/log/syslog.{number}"), file);
        }
    }
    // Without a year in the log, that of its last change counts.
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs((BEGIN / NANOS_PER_SEC) as u64 + 36_000);
    for file in fs::read_dir(tree.path("var/log").join(".")).unwrap() {
        File::options().write(true).open(file.unwrap().path()).unwrap().set_modified(changed).unwrap();
    }
    Case { tree, source: "files", item: None, records }
}

/// A kernel log in the text of `/dev/kmsg`.
fn kernel_log(steps: &[Step]) -> Case {
    let tree = Tree::new();
    let booted = BEGIN - 5_000 * NANOS_PER_SEC;
    tree.write("proc/stat", format!("cpu 1 2 3\nbtime {}\n", booted / NANOS_PER_SEC));
    let (mut records, mut kmsg) = (Vec::new(), Vec::new());
    for (seq, (step, at)) in steps.iter().zip(times(steps)).enumerate() {
        let micros = (at.nanos() - booted) / 1000;
        let at = WallTime::from_nanos(booted + micros * 1000);
        let text = format!("{}{}", step.parts[0].escape_ascii(), "x".repeat(step.padding.min(900)));
        let properties = if step.kind % 7 == 0 { " SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.2\n" } else { "" };
        let (facility, level) = (step.kind % 3, step.kind % 8);
        kmsg.extend_from_slice(
            format!("{},{seq},{micros},-,caller=T1;{text}\n{properties}", facility * 8 + level).as_bytes(),
        );
        let level = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"][usize::from(level)];
        let name = ["kern", "user", "mail"][usize::from(facility)];
        let time = format!("{}.{:06}Z", &at.to_string()[..19], at.nanos() % NANOS_PER_SEC / 1000);
        let line = format!(
            "{time} facility={name} level={level} seq={seq} caller=T1 user={} {text}\n{properties}",
            facility > 0
        );
        records.push((at, line.into_bytes()));
    }
    tree.write("dev/kmsg", &kmsg);
    Case { tree, source: "kernel", item: None, records }
}

/// A journal of one unit, rotated to files of both layouts and left by a crash now and then.
fn journal(steps: &[Step]) -> Case {
    let tree = Tree::new();
    let dir = "var/log/journal/0123456789abcdef0123456789abcdef";
    let layout = |kind: u8| if kind.is_multiple_of(2) { COMPACT } else { REGULAR };
    let (mut records, mut file, mut rotated) = (Vec::new(), Writer::new(layout(steps[0].kind), 9), 0);
    for (seqnum, (step, at)) in (1..).zip(steps.iter().zip(times(steps))) {
        let realtime = at.nanos() as u64 / 1000;
        let at = WallTime::from_nanos(realtime.cast_signed() * 1000);
        let mut parts = step.parts.clone();
        parts[0].extend(std::iter::repeat_n(b'x', step.padding));
        let message = [&b"MESSAGE="[..], &parts.join(&b'\n')].concat();
        let mut fields: Vec<_> = ["_SYSTEMD_UNIT=a.service", "SYSLOG_IDENTIFIER=a", "_PID=7", "PRIORITY=6"]
            .map(|f| f.as_bytes().to_vec())
            .into();
        fields.push(message);
        file.entry(&Record { realtime, monotonic: seqnum * 1000, seqnum, fields });
        let time = format!("{}.{:06}Z", &at.to_seconds_text()[..19], realtime % 1_000_000);
        records.push((at, [format!("{time} <6> a[7]: ").as_bytes(), &parts.join(&b"\n "[..]), b"\n"].concat()));
        if step.then <= 6 {
            rotated += 1;
            let (name, online) = if step.then == 0 { ("journal~", true) } else { ("journal", false) };
            let next = Writer::new(layout(step.kind / 2), 9);
            let whole = std::mem::replace(&mut file, next);
            let whole = if online { whole.online() } else { whole };
            tree.write(&format!("{dir}/system@{rotated:06}.{name}"), whole.bytes);
        }
    }
    tree.write(&format!("{dir}/system.journal"), file.online().bytes);
    Case { tree, source: "journal", item: Some("logs/journal/a.service.log"), records }
}

#[test]
fn the_rest_of_a_record_is_read_from_a_file_that_holds_nothing_else_of_the_window() {
    let tree = Tree::new();
    tree.write("var/log/pods/shop_api_u/app/0.log.20261123-000100", "2026-11-23T00:00:59Z stdout P half \n");
    tree.write(
        "var/log/pods/shop_api_u/app/0.log",
        "2026-11-23T00:30:00Z stderr F other\n2026-11-23T00:30:01Z stdout F a line\n2026-11-23T00:30:02Z stdout F x\n",
    );
    tree.write("var/log/syslog.2", "2026-11-23T00:00:59Z half\n");
    // Short, and not binary for the sake of a zero.
    tree.write("var/log/syslog.1", "\ta \0 of\n");
    tree.write("var/log/syslog", "\ta record\n2026-11-23T00:30:02Z x\n");
    let minute = ask(window("2026-11-23T00:00:00Z", "2026-11-23T00:01:00Z"));
    let given = |source| tree.read(source, &minute).items[0].text();
    assert_eq!(given("pods"), "2026-11-23T00:00:59Z stdout half a line\n");
    assert_eq!(given("files"), "2026-11-23T00:00:59Z half\n\ta \0 of\n\ta record\n");
}

#[test]
fn the_rest_of_a_line_that_was_begun_before_the_window_is_not_a_record_of_the_window() {
    let tree = Tree::new();
    tree.write("var/log/pods/shop_api_u/app/0.log.20261123-000001", "2026-11-23T00:00:00.1Z stdout P half \n");
    tree.write(
        "var/log/pods/shop_api_u/app/0.log",
        "2026-11-23T00:00:00.2Z stderr F other\n2026-11-23T00:01:01Z stdout F a line\n2026-11-23T00:01:02Z stdout F x\n",
    );
    let minute = ask(window("2026-11-23T00:01:01Z", "2026-11-23T00:02:00Z"));
    assert_eq!(tree.read("pods", &minute).items[0].text(), "2026-11-23T00:01:02Z stdout x\n");
}

/// A log source that is wrong: it asks the one inside for a window of which one edge lies one record farther.
struct Mutant {
    inside: Box<dyn LogSource>,
    /// Times of the records, in order.
    times: Vec<WallTime>,
    edge: Edge,
}

#[derive(Debug, Clone, Copy)]
enum Edge {
    /// The first record of the window is left out.
    FromLater,
    /// The record before the window is given too.
    FromEarlier,
    /// The record behind the window is given too.
    UntilLater,
    /// The last record of the window is left out.
    UntilEarlier,
}

impl Mutant {
    fn mutated(&self, window: Window) -> Option<Window> {
        let (from, until) = (window.from(), window.until());
        let before = |t: WallTime| self.times.iter().rev().find(|at| **at < t);
        let since = |t: WallTime| self.times.iter().find(|at| **at >= t);
        let (from, until) = match self.edge {
            Edge::FromLater => (since(from)?.offset(1), until),
            Edge::FromEarlier => (*before(from)?, until),
            Edge::UntilLater => (from, since(until)?.offset(1)),
            Edge::UntilEarlier => (from, *before(until)?),
        };
        Window::new(from, until).ok()
    }
}

impl LogSource for Mutant {
    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let window = self.mutated(ask.window).unwrap_or(ask.window);
        self.inside.read(&LogAsk { window, ..ask.clone() }, out)
    }
}

/// Thirty records of different times, without rotation: no reason to find the mutant but its edge.
fn plain_steps() -> Vec<Step> {
    let step = |n| Step {
        gap_millis: 1000,
        back_millis: 0,
        parts: vec![format!("record {n}").into_bytes()],
        padding: 20,
        kind: 1,
        then: 200,
    };
    (0..30).map(step).collect()
}

#[test]
fn a_log_source_that_is_wrong_by_one_record_at_one_edge_is_found_out() {
    let edges = [(5, 0), (20, 0), (7, 1), (12, -1)];
    for case in
        [container(&plain_steps()), text_log(&plain_steps()), kernel_log(&plain_steps()), journal(&plain_steps())]
    {
        let open = || open(case.tree.root(), case.source);
        let read = |opened: &mut dyn LogSource, window| {
            let mut reading = gather(opened, &ask(window), &mut |_, _| std::ops::ControlFlow::Continue(()));
            // Whatever it says of itself: its records must give it away.
            reading.items.iter_mut().for_each(|i| i.gaps.clear());
            reading
        };
        let times: Vec<_> = case.records.iter().map(|(at, _)| *at).collect();
        for ahead in [0, 1_500_000_000] {
            assert_eq!(case.wrong(&edges, ahead, &|window| read(&mut *open(), window)), None, "{}", case.source);
            for edge in [Edge::FromLater, Edge::FromEarlier, Edge::UntilLater, Edge::UntilEarlier] {
                let mutant = || Mutant { inside: open(), times: times.clone(), edge };
                let found = case.wrong(&edges, ahead, &|window| read(&mut mutant(), window));
                assert!(found.is_some_and(|f| f.contains("records given")), "{}: {edge:?} was not found", case.source);
            }
        }
    }
}

/// Each case writes a few hundred kilobytes and reads them a dozen times; `PROPTEST_CASES` asks for more of them.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 16 }, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pods_gives_exactly_the_window(steps in steps(), edges in edges(), ahead in ahead()) {
        container(&steps).check(&edges, ahead);
    }

    #[test]
    fn files_gives_exactly_the_window(steps in steps(), edges in edges(), ahead in ahead()) {
        text_log(&steps).check(&edges, ahead);
    }

    #[test]
    fn journal_gives_exactly_the_window(steps in steps(), edges in edges(), ahead in ahead()) {
        journal(&steps).check(&edges, ahead);
    }

    #[test]
    fn kernel_gives_exactly_the_window(steps in steps(), edges in edges(), ahead in ahead()) {
        kernel_log(&steps).check(&edges, ahead);
    }
}
