//! Journal files that are cut, changed or made to mislead: reading ends, nothing is invented, and what is missing is said.

use std::time::Duration;

use casefile_proto::gap::GapReason;
use proptest::prelude::{ProptestConfig, any, proptest};

use crate::journal_file::{COMPACT, HEADER, Layout, Packed, REGULAR, Writer, record, said, text_of};
use crate::tree::{Reading, Tree, whole_day};

const PATH: &str = "var/log/journal/0123456789abcdef0123456789abcdef/system.journal";

fn read(bytes: &[u8]) -> Reading {
    let tree = Tree::new();
    tree.write(PATH, bytes);
    tree.read("journal", &whole_day())
}

/// Lines of all text files, sorted; every entry is one.
fn lines(reading: &Reading) -> Vec<String> {
    let texts = reading.items.iter().filter(|i| i.head.path.as_str().ends_with(".log"));
    let mut lines: Vec<_> =
        texts.flat_map(|i| i.records.iter().map(|r| String::from_utf8_lossy(&r.1).into_owned())).collect();
    lines.sort();
    lines
}

fn says_something(reading: &Reading) -> bool {
    let reasons = [GapReason::ParseFailed, GapReason::SourceFailed, GapReason::Budget];
    let mut gaps = reading.covered.gaps.iter().chain(reading.items.iter().flat_map(|i| &i.gaps));
    gaps.any(|g| reasons.contains(&g.reason))
}

fn writer(layout: Layout, count: u64) -> Writer {
    let mut writer = Writer::new(layout, 9);
    (0..count).for_each(|n| writer.entry(&said(n + 1, n, &format!("number {n}"))));
    writer
}

fn expected(count: u64) -> Vec<String> {
    let mut lines: Vec<_> = (0..count).map(|n| text_of(&said(n + 1, n, &format!("number {n}")))).collect();
    lines.sort();
    lines
}

#[test]
fn a_header_cut_or_changed_at_any_byte_never_costs_an_entry_unsaid() {
    for layout in [COMPACT, REGULAR] {
        let whole = writer(layout, 20).bytes;
        for at in 0..HEADER {
            let cut = read(&whole[..at]);
            assert!(cut.items.iter().all(|i| i.records.is_empty() && i.covered.is_none()), "cut at {at}");
            assert!(says_something(&cut), "cut at {at}");
            for change in [0x01, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                let reading = read(&changed);
                let given = lines(&reading);
                assert!(given == expected(20) || says_something(&reading), "byte {at} ^ {change:#x}: {reading:#?}");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_gives_what_is_left_and_says_that_there_was_more() {
    for layout in [COMPACT, REGULAR] {
        let whole = writer(layout, 12).bytes;
        let expected = expected(12);
        for at in (0..whole.len()).step_by(8) {
            let reading = read(&whole[..at]);
            let given = lines(&reading);
            assert!(given.len() < 12 || at + 8 >= whole.len() || says_something(&reading), "cut at {at}");
            assert!(given == expected || says_something(&reading), "cut at {at}: {reading:#?}");
            // Whole entries, or without the field that was cut off.
            for line in given {
                let head = line.split(": ").next().unwrap_or_default();
                assert!(expected.iter().any(|e| e.starts_with(&head[..head.len().min(27)])), "cut at {at}: {line:?}");
            }
        }
    }
}

#[test]
fn loops_and_lies_in_the_index_lead_to_a_walk_over_the_objects() {
    type Damage<'a> = (&'a str, &'a dyn Fn(&mut Writer));
    let damage: [Damage<'_>; 9] = [
        ("an array that is followed by itself", &|w| w.put(w.arrays[0] + 16, w.arrays[0] as u64)),
        ("an array that is followed by the one before", &|w| w.put(w.arrays[2] + 16, w.arrays[1] as u64)),
        ("an array that is followed by an entry", &|w| w.put(w.arrays[1] + 16, w.entries[3] as u64)),
        ("an array that leads out of the file", &|w| w.put(w.arrays[1] + 16, u64::MAX - 7)),
        ("an array without an end", &|w| w.put(w.arrays[1] + 8, u64::MAX)),
        ("an array of no size", &|w| w.put(w.arrays[1] + 8, 0)),
        ("no first array", &|w| w.put(176, 0)),
        ("more entries than places", &|w| w.put(152, u64::MAX)),
        ("a place that points to a field", &|w| {
            let field = w.field(b"PRIORITY=6") as u64;
            w.put(w.arrays[0] + 24 + 8, field);
        }),
    ];
    for (what, damage) in damage {
        let mut file = writer(REGULAR, 30);
        damage(&mut file);
        let reading = read(&file.bytes);
        assert_eq!(lines(&reading), expected(30), "{what}");
        let item = reading.item("logs/journal/entries.jsonl");
        let gap = item.gap(GapReason::ParseFailed).unwrap_or_else(|| panic!("{what}: {item:#?}"));
        assert!(gap.detail.contains("from object to object"), "{what}: {gap:?}");
    }
}

#[test]
fn fewer_entries_counted_than_linked_cost_none() {
    // As after a crash: the entries are there and linked, and the header is older.
    let mut file = writer(COMPACT, 30).online();
    file.put(152, 7);
    file.put(160, 7);
    let reading = read(&file.bytes);
    assert_eq!(lines(&reading), expected(30));
    assert!(!says_something(&reading));
}

#[test]
fn one_bad_entry_costs_itself_alone() {
    let mut file = writer(COMPACT, 30);
    let at = file.entries[12];
    file.bytes[at..at + 16].fill(0xee);
    let reading = read(&file.bytes);
    let mut rest = expected(30);
    rest.retain(|l| !l.contains("number 12\n"));
    assert_eq!(lines(&reading), rest);
    let gap = reading.item("logs/journal/entries.jsonl").gap(GapReason::ParseFailed).unwrap();
    assert_eq!(gap.count, Some(1), "{gap:?}");
    let around = gap.interval.unwrap();
    assert!(
        around.contains("2026-11-23T02:44:22Z".parse().unwrap())
            && around.from() >= "2026-11-23T02:44:21Z".parse().unwrap()
    );
}

#[test]
fn a_field_of_no_size_or_of_too_much_costs_itself_alone() {
    for (size, flags) in [(0, 0), (u64::MAX, 0), (1 << 40, 0), (72, 0), (16, 4), (80, 7), (80, 4)] {
        let mut file = writer(COMPACT, 10);
        let at = file.field(b"MESSAGE=number 4");
        file.put(at + 8, size);
        file.bytes[at + 1] = flags;
        let reading = read(&file.bytes);
        assert_eq!(lines(&reading).len(), 10, "{size} {flags}");
        assert!(says_something(&reading), "{size} {flags}");
    }
}

#[test]
fn bombs_are_left_out_within_little_memory_and_time() {
    let mut file = Writer::new(COMPACT, 9);
    // A gigabyte of zeros by what it says of itself; a mebibyte of blocks that repeat one byte 128 KiB times each.
    let claims = [&(1_u64 << 30).to_le_bytes()[..], &[0x1f, 0x4d, 0x01, 0x00, 0xff, 0xff]].concat();
    let mut blocks = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for n in 0..9000_u32 {
        let header = (0x1_ffff << 3) | (1 << 1) | u32::from(n == 8999);
        blocks.extend_from_slice(&header.to_le_bytes()[..3]);
        blocks.push(b'x');
    }
    for (flags, bytes, name) in [(2, &claims, "one"), (4, &blocks, "two")] {
        let field = format!("MESSAGE={name}");
        let at = file.data_object(flags, 0, bytes);
        file.replace(field.as_bytes(), at);
        let seqnum = file.entries.len() as u64 + 1;
        file.entry(&said(seqnum, seqnum, name));
    }
    let reading = read(&file.bytes);
    assert_eq!(lines(&reading).len(), 2);
    assert!(says_something(&reading), "{reading:#?}");
}

#[test]
fn an_entry_that_refers_to_a_thousand_bombs_costs_no_more_than_a_few() {
    let mut file = Writer::new(REGULAR, 9);
    let bomb = lz4_flex::block::compress(&vec![b'x'; 4 << 20]);
    let packed = [&(4_u64 << 20).to_le_bytes()[..], &bomb].concat();
    let names: Vec<_> = (0..1000).map(|n| format!("BOMB{n}=x")).collect();
    let at = file.data_object(2, 0, &packed);
    names.iter().for_each(|n| file.replace(n.as_bytes(), at));
    let mut fields: Vec<&str> = vec!["_SYSTEMD_UNIT=a.service"];
    fields.extend(names.iter().map(String::as_str));
    file.entry(&record(1, 0, &fields));
    let reading = read(&file.bytes);
    let gap = reading.item("logs/journal/entries.jsonl").gap(GapReason::ParseFailed).unwrap();
    assert!(gap.count.is_some_and(|n| n > 990), "{gap:?}");
}

#[test]
fn what_is_no_journal_or_of_a_later_systemd_is_named() {
    let tree = Tree::new();
    tree.write(PATH, writer(COMPACT, 3).bytes);
    let dir = PATH.rsplit_once('/').unwrap().0;
    let mut newer = writer(COMPACT, 3).bytes;
    newer[13] = 1;
    tree.write(&format!("{dir}/newer.journal"), &newer);
    tree.write(&format!("{dir}/foreign.journal"), "a text that somebody keeps here");
    tree.write(&format!("{dir}/short.journal"), &newer[..100]);
    tree.write(&format!("{dir}/empty.journal~"), "");
    let reading = tree.read("journal", &whole_day());
    assert_eq!(lines(&reading), expected(3));
    for (name, why) in [
        ("newer", "written by a newer systemd"),
        ("foreign", "no journal file"),
        ("short", "cut within its header"),
        ("empty", "cut within its header"),
    ] {
        let gap = reading.covered.gaps.iter().find(|g| g.detail.contains(name)).unwrap();
        assert!(gap.reason == GapReason::ParseFailed && gap.detail.contains(why), "{gap:?}");
    }
    // With nothing else, nothing is covered.
    let alone = Tree::new();
    alone.write(&format!("{dir}/newer.journal"), &newer);
    let reading = alone.read("journal", &whole_day());
    assert!(reading.covered.covered.is_empty() && says_something(&reading));
}

#[test]
fn zeros_behind_the_last_object_are_no_damage() {
    let mut file = writer(COMPACT, 30);
    file.bytes.resize(file.bytes.len() + (1 << 20), 0);
    let reading = read(&file.bytes);
    assert_eq!(lines(&reading), expected(30));
    assert!(!says_something(&reading));
}

fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 }, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_changed_anywhere_reading_ends(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..40),
        compact in any::<bool>(), zstd in any::<bool>(), cut in any::<usize>(),
    ) {
        let packed = if zstd { Packed::Zstd } else { Packed::Lz4 };
        let mut file = Writer::new(Layout { compact, keyed: true, packed }, 9);
        for n in 0..40 {
            let words = "w".repeat(if n % 5 == 0 { 400 } else { 10 });
            file.entry(&record(n + 1, n, &["_SYSTEMD_UNIT=a.service", &format!("MESSAGE={n} {words}"), "A=1", "A=2"]));
        }
        let mut bytes = file.bytes;
        for (at, to) in changes {
            let at = at % bytes.len();
            bytes[at] = to;
        }
        bytes.truncate(bytes.len() - cut % 3 * (cut % bytes.len()) / 4);
        let began = std::time::Instant::now();
        let reading = read(&bytes);
        // Not a measurement: what has a loop in it never ends.
        assert!(began.elapsed() < Duration::from_secs(60));
        for item in reading.items.iter().filter(|i| i.head.path.as_str().ends_with("jsonl")) {
            assert!(item.records.iter().all(|r| serde_json::from_slice::<serde_json::Value>(&r.1).is_ok()));
        }
    }
}
