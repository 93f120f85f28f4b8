//! The journal: which file and which line an entry becomes, several files as one, files of every layout, and what journald
//! says it dropped.

use std::ops::ControlFlow::{self, Break, Continue};
use std::os::unix::fs::{FileExt as _, symlink};

use casefile_agent::host::Host;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use crate::journal_file::{BEGIN, COMPACT, Layout, Packed, REGULAR, Record, Writer, record, said, text_of};
use crate::tree::{Reading, Tree, ask, at, whole_day, window};

const DIR: &str = "var/log/journal/0123456789abcdef0123456789abcdef";
const ENTRIES: &str = "logs/journal/entries.jsonl";
const A: &str = "logs/journal/a.service.log";

fn file(layout: Layout, records: &[Record]) -> Vec<u8> {
    let mut writer = Writer::new(layout, 9);
    records.iter().for_each(|r| writer.entry(r));
    writer.bytes
}

fn node(records: &[Record]) -> Tree {
    let tree = Tree::new();
    tree.write(&format!("{DIR}/system.journal"), file(COMPACT, records));
    tree
}

fn texts(reading: &Reading) -> Vec<(&str, String)> {
    reading.items.iter().map(|i| (i.head.path.as_str(), i.text())).collect()
}

#[test]
fn an_entry_is_one_line_in_one_text_file_and_one_of_json() {
    let sshd = ["_SYSTEMD_UNIT=sshd.service", "_COMM=sshd", "_PID=812", "_UID=0", "_TRANSPORT=syslog"];
    let with = |more: &[&'static str]| [&sshd[..], more].concat();
    let tree = node(&[
        record(1, 0, &with(&["SYSLOG_IDENTIFIER=sshd", "PRIORITY=3", "MESSAGE=no route\nto host \u{1b}[31m"])),
        record(2, 1, &["_TRANSPORT=kernel", "SYSLOG_IDENTIFIER=kernel", "PRIORITY=4", "MESSAGE=Out of memory"]),
        // systemd about a unit; and somebody who says that it is about one.
        record(3, 2, &["_PID=1", "_SYSTEMD_UNIT=init.scope", "UNIT=sshd.service", "_COMM=systemd", "MESSAGE=Started"]),
        record(4, 3, &["_PID=99", "_SYSTEMD_UNIT=evil.service", "UNIT=sshd.service", "MESSAGE=Forged"]),
        record(5, 4, &["_UID=0", "OBJECT_SYSTEMD_UNIT=sshd.service", "_SYSTEMD_UNIT=x.service", "MESSAGE=about it"]),
        record(
            6,
            5,
            &[
                "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1",
                "_UID=0",
                "COREDUMP_UNIT=sshd.service",
                "_SYSTEMD_UNIT=systemd-coredump@0.service",
                "MESSAGE=dumped core",
            ],
        ),
        record(7, 6, &["_UID=1000", "_SYSTEMD_USER_UNIT=sshd.service", "MESSAGE=of a user"]),
        record(8, 7, &["SYSLOG_IDENTIFIER=sshd.service", "SYSLOG_PID=5", "MESSAGE=not a unit"]),
        record(9, 8, &["SYSLOG_IDENTIFIER=two\nlines/..", "MESSAGE=x"]),
        record(10, 9, &["_COMM=c"]),
    ]);
    let reading = tree.read("journal", &whole_day());
    let sshd = "2026-11-23T02:44:10.000000Z <3> sshd[812]: no route\n to host \u{1b}[31m\n\
                2026-11-23T02:44:12.000000Z systemd[1]: Started\n\
                2026-11-23T02:44:14.000000Z -: about it\n\
                2026-11-23T02:44:15.000000Z -: dumped core\n";
    let mut given = texts(&reading);
    let entries = given.pop().unwrap();
    given.sort_unstable();
    assert_eq!(
        given,
        [
            ("logs/journal/evil.service.log", "2026-11-23T02:44:13.000000Z -[99]: Forged\n".to_owned()),
            (
                "logs/journal/identifier/sshd.service.log",
                "2026-11-23T02:44:17.000000Z sshd.service[5]: not a unit\n".to_owned()
            ),
            (
                "logs/journal/identifier/two=0Alines=2F...log",
                "2026-11-23T02:44:18.000000Z two\\x0alines/..: x\n".to_owned()
            ),
            ("logs/journal/kernel.log", "2026-11-23T02:44:11.000000Z <4> kernel: Out of memory\n".to_owned()),
            ("logs/journal/other.log", "2026-11-23T02:44:19.000000Z c: \n".to_owned()),
            ("logs/journal/sshd.service.log", sshd.to_owned()),
            ("logs/journal/user/sshd.service.log", "2026-11-23T02:44:16.000000Z -: of a user\n".to_owned()),
        ]
    );
    assert_eq!(entries.0, ENTRIES);
    let first = entries.1.lines().next().unwrap();
    assert_eq!(
        first,
        "{\"__REALTIME_TIMESTAMP\":\"1795401850000000\",\"__MONOTONIC_TIMESTAMP\":\"77\",\
         \"_BOOT_ID\":\"0f0e0d0c0b0a09080706050403020100\",\"__SEQNUM\":\"1\",\
         \"__SEQNUM_ID\":\"09090909090909090909090909090909\",\"_SYSTEMD_UNIT\":\"sshd.service\",\"_COMM\":\"sshd\",\
         \"_PID\":\"812\",\"_UID\":\"0\",\"_TRANSPORT\":\"syslog\",\"SYSLOG_IDENTIFIER\":\"sshd\",\"PRIORITY\":\"3\",\
         \"MESSAGE\":\"no route\\nto host \\u001b[31m\"}"
    );
    assert_eq!(entries.1.lines().count(), 10);
}

#[test]
fn fields_that_come_twice_and_bytes_that_are_no_text_stay_whole_and_can_be_searched() {
    let mut odd =
        record(1, 0, &["A=1", "MESSAGE=x", "A=two", "B=\"quoted\\\"\tü", "A=3", "__CURSOR=mine", "_BOOT_ID=0"]);
    odd.fields.push(b"C=caf\xe9 \\ \"\x00".to_vec());
    odd.fields.push(b"no equals".to_vec());
    let tree = node(&[odd]);
    let reading = tree.read("journal", &whole_day());
    let line = reading.item(ENTRIES).text();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["A"], serde_json::json!(["1", "two", "3"]));
    assert_eq!(json["B"], "\"quoted\\\"\tü");
    assert_eq!(json["C"], serde_json::json!({"escaped": "caf\\xe9 \\\\ \"\0"}));
    assert_eq!(json["data:__CURSOR"], "mine");
    assert_eq!(json[""], "no equals");
    assert_eq!(json["_BOOT_ID"], "0f0e0d0c0b0a09080706050403020100");
    assert!(line.contains("caf\\\\xe9"), "{line}");
}

#[test]
fn every_layout_reads_the_same() {
    let long = "of many words ".repeat(60);
    let records: Vec<_> = (0..50)
        .map(|n| said(n + 1, n, &if n % 3 == 0 { format!("{n} {long}") } else { format!("{n} short") }))
        .collect();
    let expected: String = records.iter().map(text_of).collect();
    for compact in [false, true] {
        for keyed in [false, true] {
            for packed in [Packed::No, Packed::Lz4, Packed::Zstd] {
                let layout = Layout { compact, keyed, packed };
                let tree = Tree::new();
                tree.write(&format!("{DIR}/system.journal"), file(layout, &records));
                let reading = tree.read("journal", &whole_day());
                assert_eq!(reading.item(A).text(), expected, "{layout:?}");
                assert_eq!(reading.item(ENTRIES).records.len(), 50);
                let gaps: Vec<_> = reading.item(ENTRIES).gaps.iter().map(|g| g.reason).collect();
                // The day began before the journal, which begins with number 1.
                assert_eq!(gaps, [GapReason::NotRecorded], "{layout:?}");
            }
        }
    }
}

#[test]
fn a_field_that_cannot_be_inflated_is_left_out_and_the_entry_is_kept() {
    let long = "y".repeat(500);
    let xz = Layout { packed: Packed::Xz, ..REGULAR };
    let tree = Tree::new();
    tree.write(&format!("{DIR}/system.journal"), file(xz, &[said(1, 0, &long), said(2, 1, "short")]));
    let reading = tree.read("journal", &whole_day());
    assert_eq!(
        reading.item(A).text(),
        "2026-11-23T02:44:10.000000Z <6> a[7]: \n2026-11-23T02:44:11.000000Z <6> a[7]: short\n"
    );
    let gap = reading.item(ENTRIES).gap(GapReason::ParseFailed).unwrap();
    assert!(gap.count == Some(1) && gap.detail.contains("compressed with XZ"), "{gap:?}");
}

#[test]
fn files_of_all_directories_are_one_stream_and_what_is_in_two_is_given_once() {
    let tree = Tree::new();
    let all: Vec<_> = (0..60).map(|n| said(n + 1, n, &format!("number {n}"))).collect();
    let every = |step: usize, from: usize| all.iter().skip(from).step_by(step).cloned().collect::<Vec<_>>();
    // One row of numbers over rotated, user and runtime files, some of it in two of them.
    tree.write(&format!("{DIR}/system@0-1.journal"), file(REGULAR, &all[..20]));
    tree.write(&format!("{DIR}/system.journal"), file(COMPACT, &every(2, 15)));
    tree.write(&format!("{DIR}/user-1000.journal~"), file(COMPACT, &every(2, 16)));
    tree.write("run/log/journal/0123456789abcdef0123456789abcdef/system.journal", file(REGULAR, &all[30..40]));
    // The same entries as somebody received them: another row, other numbers.
    let mut copy = Writer::new(COMPACT, 3);
    all.iter().skip(10).for_each(|r| copy.entry(&Record { seqnum: r.seqnum + 500, ..r.clone() }));
    tree.write("var/log/journal/remote/remote-x.journal", &copy.bytes);
    // Of a namespace, at the same times.
    let other = record(1, 30, &["_SYSTEMD_UNIT=b.service", "MESSAGE=elsewhere"]);
    let mut namespace = Writer::new(COMPACT, 4);
    namespace.entry(&other);
    tree.write("var/log/journal/0123456789abcdef0123456789abcdef.ns/system.journal", &namespace.bytes);
    let reading = tree.read("journal", &whole_day());
    assert_eq!(reading.item(A).text(), all.iter().map(text_of).collect::<String>());
    assert_eq!(reading.item("logs/journal/b.service.log").records.len(), 1);
    assert_eq!(reading.item(ENTRIES).records.len(), 61);
    let times: Vec<_> = reading.item(ENTRIES).records.iter().map(|(at, _)| *at).collect();
    assert!(times.is_sorted());
    // Within one file two equal messages at one moment are two.
    let twice = [said(1, 0, "again"), said(2, 0, "again"), said(3, 0, "again")];
    let twice = twice.map(|r| Record { monotonic: 5, ..r });
    assert_eq!(node(&twice).read("journal", &whole_day()).item(A).records.len(), 3);
}

#[test]
fn what_journald_dropped_is_a_gap_of_that_unit_with_the_number() {
    let driver = ["_TRANSPORT=driver", "_UID=0", "_PID=300", "_SYSTEMD_UNIT=systemd-journald.service"];
    let suppressed = ["MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e", "MESSAGE=Suppressed 123 messages from a.service"];
    let missed = ["MESSAGE_ID=e9bf28e6e834481bb6f48f548ad13606", "MESSAGE=Missed 4 kernel messages"];
    let tree = node(&[
        said(1, 0, "flood"),
        said(2, 5, "flood"),
        record(3, 30, &[&driver[..], &suppressed, &["N_DROPPED=123", "OBJECT_SYSTEMD_UNIT=a.service"]].concat()),
        said(4, 31, "calm"),
        record(5, 40, &[&driver[..], &missed].concat()),
        // Not by journald.
        record(6, 41, &[&["_TRANSPORT=journal", "_SYSTEMD_UNIT=a.service"][..], &suppressed].concat()),
        // As it was before the unit had a field of its own.
        record(7, 50, &[&driver[..], &suppressed].concat()),
    ]);
    let reading = tree.read("journal", &whole_day());
    let gaps: Vec<_> = reading
        .item(A)
        .gaps
        .iter()
        .filter(|g| g.reason == GapReason::RateLimited)
        .map(|g| (g.count, g.interval))
        .collect();
    assert_eq!(
        gaps,
        [
            (Some(123), Some(window("2026-11-23T02:44:15Z", "2026-11-23T02:44:40.000000001Z"))),
            (Some(123), Some(window("2026-11-23T02:44:51Z", "2026-11-23T02:45:00.000000001Z"))),
        ]
    );
    assert_eq!(reading.item(A).records.len(), 6);
    let kernel = reading.item("logs/journal/kernel.log");
    assert_eq!(kernel.gap(GapReason::RotatedAway).unwrap().count, Some(4));
}

#[test]
fn a_selection_names_units_and_namespaces_select_nothing_here() {
    let tree = node(&[
        said(1, 0, "a"),
        record(2, 1, &["_SYSTEMD_UNIT=b.service", "MESSAGE=b"]),
        record(3, 2, &["_TRANSPORT=kernel", "MESSAGE=k"]),
        record(4, 3, &["SYSLOG_IDENTIFIER=sudo", "MESSAGE=s"]),
    ]);
    let counts = |select: Selection| {
        let reading = tree.read("journal", &LogAsk { select, ..whole_day() });
        reading.items.iter().map(|i| (i.head.path.as_str()[13..].to_owned(), i.records.len())).collect::<Vec<_>>()
    };
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let units = |names: &[&str]| Selection { units: owned(names), ..Selection::default() };
    let pair = |name: &str, n| (name.to_owned(), n);
    assert_eq!(counts(units(&["a"])), [pair("a.service.log", 1), pair("entries.jsonl", 1)]);
    assert_eq!(counts(units(&["a.service", "kernel", "none"])).last(), Some(&pair("entries.jsonl", 2)));
    assert_eq!(counts(units(&["a.serv"])), [pair("entries.jsonl", 0)]);
    assert_eq!(counts(units(&["sudo"])), [pair("identifier/sudo.log", 1), pair("entries.jsonl", 1)]);
    let pods = Selection { namespaces: owned(&["shop"]), pods: owned(&["x"]), units: Vec::new() };
    assert_eq!(counts(pods).last(), Some(&pair("entries.jsonl", 4)));
}

#[test]
fn a_machine_without_a_journal_says_so_once_and_one_that_was_silent_shows_it() {
    let reading = Tree::new().read("journal", &whole_day());
    assert_eq!(reading.covered.gaps.len(), 1, "{:?}", reading.covered.gaps);
    assert!(reading.gap(GapReason::SourceAbsent).is_some() && reading.items.is_empty());
    let tree = node(&[said(1, 0, "a"), said(2, 7200, "b")]);
    let hour = ask(window("2026-11-23T03:00:00Z", "2026-11-23T04:00:00Z"));
    let reading = tree.read("journal", &hour);
    assert_eq!(texts(&reading), [(ENTRIES, String::new())]);
    assert!(reading.item(ENTRIES).gaps.is_empty() && reading.item(ENTRIES).covered == Some(hour.window));
}

#[test]
fn before_the_oldest_entry_of_the_system_there_was_more_or_there_was_nothing() {
    let first = |seqnum| {
        let tree = node(&[said(seqnum, 0, "a")]);
        // Users' files begin when they like.
        tree.write(&format!("{DIR}/user-1000.journal"), file(COMPACT, &[said(1, 900, "u")]));
        tree.read("journal", &whole_day()).item(A).gaps.clone()
    };
    for (seqnum, reason) in [(4711, GapReason::RotatedAway), (1, GapReason::NotRecorded)] {
        let gaps = first(seqnum);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(
            (gaps[0].reason, gaps[0].interval),
            (reason, Some(window("2026-11-23T00:00:00Z", "2026-11-23T02:44:10Z")))
        );
    }
}

#[test]
fn a_clock_that_was_set_back_costs_no_entry() {
    // An hour, back by half of it, and another one.
    let seconds = (0..3600).chain(1800..5400).step_by(3);
    let records: Vec<_> = seconds.enumerate().map(|(n, s)| said(n as u64 + 1, s, &format!("{n}"))).collect();
    let tree = node(&records);
    for (from, until) in [(0, 5400), (1700, 1900), (2000, 2100), (3500, 3700), (100, 200), (5000, 5100), (3600, 3601)] {
        let [from, until] = [from, until].map(|s: i64| at("2026-11-23T02:44:10Z").offset(s * 1_000_000_000));
        let asked = ask(Window::new(from, until).unwrap());
        let inside =
            |r: &&Record| asked.window.contains(at("1970-01-01T00:00:00Z").offset(r.realtime.cast_signed() * 1000));
        let expected: String = records.iter().filter(inside).map(text_of).collect();
        let reading = tree.read("journal", &asked);
        assert_eq!(reading.item(A).text(), expected, "{}", asked.window);
        let twice = asked.window.intersect(&window("2026-11-23T03:14:10Z", "2026-11-23T03:44:07Z"));
        let told = reading.item(ENTRIES).gap(GapReason::ClockUncertain).and_then(|g| g.interval);
        assert_eq!(told, twice, "{}", asked.window);
    }
}

#[test]
fn a_live_file_that_grows_while_it_is_read_gives_what_was_there_at_first() {
    let mut writer = Writer::new(COMPACT, 9).online();
    let records: Vec<_> = (0..200).map(|n| said(n + 1, n, &format!("number {n}"))).collect();
    records[..100].iter().for_each(|r| writer.entry(r));
    let tree = node(&[]);
    let path = format!("{DIR}/system.journal");
    tree.write(&path, &writer.bytes);
    let mut rest = records[100..].iter();
    let reading = tree.read_with("journal", &whole_day(), &mut |_, _| {
        if let Some(record) = rest.next() {
            writer.entry(record);
            // In place, as journald does it.
            let file = std::fs::OpenOptions::new().write(true).open(tree.path(&path)).unwrap();
            file.write_all_at(&writer.bytes, 0).unwrap();
        }
        Continue(())
    });
    assert_eq!(reading.item(A).text(), records[..100].iter().map(text_of).collect::<String>());
    assert_eq!(reading.item(ENTRIES).records.len(), 100);
    assert!(reading.item(ENTRIES).gap(GapReason::ParseFailed).is_none());
    let again = tree.read("journal", &whole_day());
    assert_eq!(again.item(A).text(), records.iter().map(text_of).collect::<String>());
}

#[test]
fn a_message_of_three_mebibytes_is_cut_in_both_forms_and_said() {
    for layout in [Layout { packed: Packed::No, ..COMPACT }, COMPACT, REGULAR] {
        let tree = Tree::new();
        let records = [said(1, 0, "before"), said(2, 1, &"z".repeat(3 << 20)), said(3, 2, "after")];
        tree.write(&format!("{DIR}/system.journal"), file(layout, &records));
        let reading = tree.read("journal", &whole_day());
        for path in [A, ENTRIES] {
            let item = reading.item(path);
            let sizes: Vec<_> = item.records.iter().map(|(_, b)| b.len()).collect();
            assert!(sizes.len() == 3 && sizes[1] > 1_000_000 && sizes[1] <= (1 << 20) + 1, "{path} {sizes:?}");
            let gap = item.gap(GapReason::Budget).unwrap();
            assert!(gap.detail.contains("longer than 1 MiB") && gap.count == Some(1), "{gap:?}");
        }
        let line = &reading.item(ENTRIES).records[1].1;
        assert!(serde_json::from_slice::<serde_json::Value>(line).unwrap()["MESSAGE"].is_string());
    }
}

#[test]
fn more_than_is_held_is_read_again_and_nothing_is_different() {
    for (words, count) in [(8_000, 2_000), (27_000, 2_000)] {
        more_than_is_held(&"x".repeat(words), count);
    }
}

/// Text of 14 or of 55 MiB over three units: more than is held, and more than is read again for its lines. The largest alone
/// is more than is held.
fn more_than_is_held(words: &str, count: u64) {
    let unit = |n: u64| {
        if n % 10 < 7 {
            "large"
        } else if n % 10 < 9 {
            "middle"
        } else {
            "small"
        }
    };
    let records: Vec<_> = (0..count)
        .map(|n| {
            let unit = unit(n);
            record(n + 1, n, &[&format!("_SYSTEMD_UNIT={unit}.service"), &format!("MESSAGE={n} {words}")])
        })
        .collect();
    let tree = Tree::new();
    tree.write(&format!("{DIR}/system.journal"), file(Layout { packed: Packed::No, ..COMPACT }, &records));
    let reading = tree.read("journal", &whole_day());
    let paths: Vec<_> = reading.items.iter().map(|i| (i.head.path.as_str(), i.records.len() as u64)).collect();
    assert_eq!(
        paths,
        [
            ("logs/journal/small.service.log", count / 10),
            ("logs/journal/middle.service.log", count / 5),
            ("logs/journal/large.service.log", count / 10 * 7),
            (ENTRIES, count)
        ]
    );
    for item in &reading.items[..3] {
        let name = &item.head.path.as_str()[13..item.head.path.as_str().len() - 12];
        let expected = (0..count).filter(|n| unit(*n) == name).map(|n| n.to_string());
        let given = item.records.iter().map(|(_, b)| String::from_utf8_lossy(b).split(' ').nth(2).unwrap().to_owned());
        assert!(given.eq(expected), "{name}");
    }
}

#[test]
fn a_budget_cuts_the_entries_first_and_a_stop_is_told() {
    let records: Vec<_> = (0..100).map(|n| said(n + 1, n, "of some length, to be counted")).collect();
    let tree = node(&records);
    let text: usize = records.iter().map(|r| text_of(r).len()).sum();
    let budget = Bytes(2 * text as u64);
    let reading = tree.read("journal", &LogAsk { budget, ..whole_day() });
    assert_eq!(reading.item(A).records.len(), 100);
    let entries = reading.item(ENTRIES);
    assert!(entries.records.len() < 40 && entries.gap(GapReason::Budget).is_some());
    let reading = tree.read_with("journal", &whole_day(), &mut |_, _| Break(Stop::Cancelled));
    assert!(reading.item(A).gap(GapReason::Cancelled).is_some());
    assert!(reading.gap(GapReason::Cancelled).unwrap().detail.starts_with("1 logs were not read"));
}

#[test]
fn links_and_what_may_not_be_read_are_told_and_cost_no_other_file() {
    let tree = node(&[said(1, 0, "mine")]);
    tree.write("elsewhere/x.journal", file(COMPACT, &[said(1, 0, "foreign")]));
    symlink(tree.path("elsewhere/x.journal"), tree.path(&format!("{DIR}/user-1.journal"))).unwrap();
    symlink(tree.path("elsewhere"), tree.path("var/log/journal/linked")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path(&format!("{DIR}/pipe.journal")), rustix::fs::Mode::RUSR).unwrap();
    let reading = tree.read("journal", &whole_day());
    assert_eq!(reading.item(A).text(), text_of(&said(1, 0, "mine")));
    let refused = reading.covered.gaps.iter().filter(|g| g.reason == GapReason::RefusedUnsafePath).count();
    assert_eq!(refused, 3, "{:?}", reading.covered.gaps);
    assert_eq!(BEGIN % 1_000_000, 0);
}

#[test]
fn a_journal_of_which_nothing_may_be_read_is_not_called_empty() {
    let tree = Tree::new();
    tree.write("elsewhere/x.journal", file(COMPACT, &[said(1, 0, "foreign")]));
    std::fs::create_dir_all(tree.path(DIR)).unwrap();
    symlink(tree.path("elsewhere/x.journal"), tree.path(&format!("{DIR}/system.journal"))).unwrap();
    let reading = tree.read("journal", &whole_day());
    let reasons: Vec<_> = reading.covered.gaps.iter().map(|g| g.reason).collect();
    assert_eq!((reasons.as_slice(), reading.items.len()), ([GapReason::RefusedUnsafePath].as_slice(), 0));
}

/// Does something to the files when it is asked for the first time whether to go on: between listing and opening.
struct Meddling<F> {
    meddle: Option<F>,
    text: Vec<u8>,
}

impl<F: FnOnce()> LogSink for Meddling<F> {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        Continue(())
    }
    fn record(&mut self, _at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        self.text.extend_from_slice(bytes);
        Continue(())
    }
    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        Continue(())
    }
    fn check(&mut self) -> ControlFlow<Stop> {
        if let Some(meddle) = self.meddle.take() {
            meddle();
        }
        Continue(())
    }
}

#[test]
fn a_rotation_between_listing_and_opening_loses_nothing_and_doubles_nothing() {
    let tree = Tree::new();
    let records: Vec<_> = (0..30).map(|n| said(n + 1, n, &format!("number {n}"))).collect();
    tree.write(&format!("{DIR}/system@0.journal"), file(COMPACT, &records[..10]));
    tree.write(&format!("{DIR}/system.journal"), file(COMPACT, &records[10..20]));
    let rotate = || {
        let current = tree.path(&format!("{DIR}/system.journal"));
        std::fs::rename(&current, tree.path(&format!("{DIR}/system@1.journal"))).unwrap();
        std::fs::write(&current, file(REGULAR, &records[20..])).unwrap();
    };
    let mut sink = Meddling { meddle: Some(rotate), text: Vec::new() };
    let host = Host::new(tree.path("var").parent().unwrap()).unwrap();
    let spec = ALL.iter().find(|s| s.name == "journal").unwrap();
    let covered = (spec.open)(&host, &LogConfig::default()).read(&whole_day(), &mut sink);
    let text: String = records.iter().map(text_of).collect();
    assert!(sink.text.starts_with(text.as_bytes()), "{}", String::from_utf8_lossy(&sink.text));
    assert_eq!(covered.records, 60);
}

#[test]
fn names_that_differ_only_far_behind_have_files_of_their_own() {
    let name = |end: &str| format!("_SYSTEMD_UNIT={}{end}.service", "n".repeat(3000));
    let tree = node(&[
        record(1, 0, &[&name("a"), "MESSAGE=1"]),
        record(2, 1, &[&name("b"), "MESSAGE=2"]),
        record(3, 2, &["_SYSTEMD_UNIT=kernel", "MESSAGE=3"]),
        record(4, 3, &["_SYSTEMD_UNIT=../../x.service", "MESSAGE=4"]),
    ]);
    let reading = tree.read("journal", &whole_day());
    assert_eq!(reading.items.len(), 5);
    assert!(reading.items.iter().all(|i| i.head.path.as_str().starts_with("logs/journal/")));
    assert_eq!(reading.item("logs/journal/unit/kernel.log").records.len(), 1);
    assert_eq!(reading.item("logs/journal/=2E.=2F..=2Fx.service.log").records.len(), 1);
}

#[test]
fn a_unit_of_which_not_even_the_places_fit_is_read_by_walking() {
    let mut writer = Writer::new(COMPACT, 9);
    let count = 351_000;
    for n in 0..count {
        let words = if n % 1000 == 0 { "long ".repeat(900) } else { String::new() };
        writer.entry(&record(n + 1, n / 100, &["_SYSTEMD_UNIT=a.service", &format!("MESSAGE={} {words}", n % 50)]));
    }
    writer.entry(&record(count + 1, 3000, &["_SYSTEMD_UNIT=b.service", "MESSAGE=b"]));
    let tree = Tree::new();
    tree.write(&format!("{DIR}/system.journal"), &writer.bytes);
    let (mut next, mut of_b) = (0, 0);
    let reading =
        tree.read_with("journal", &ask(window("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z")), &mut |_, b| {
            if b.starts_with(b"{") {
                return Break(Stop::Gone);
            }
            let number = b.split(|b| *b == b' ').nth(2).unwrap();
            if number == b"b\n" {
                of_b += 1;
            } else {
                assert_eq!(std::str::from_utf8(number).unwrap().trim_end(), (next % 50).to_string());
                next += 1;
            }
            Continue(())
        });
    assert_eq!((next, of_b, reading.items.len()), (count, 1, 3));
}
