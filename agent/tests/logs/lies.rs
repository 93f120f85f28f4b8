//! Times that lie: a clock that was wrong for a moment costs no record of the window, whether it was ahead or behind, in the
//! middle of a log, at its beginning, or in a file of its own.

use casefile_proto::gap::GapReason;

use crate::tree::{Tree, ask, at, gzip, window};

const DIR: &str = "var/log/pods/shop_api_u/app";

fn line(second: usize, text: &str) -> String {
    format!("2026-11-23T{:02}:{:02}:{:02}Z stdout F {text}\n", second / 3600, second / 60 % 60, second % 60)
}

/// One record a second, so long that a file is worth bisecting.
fn seconds(range: std::ops::Range<usize>) -> String {
    range.map(|s| line(s, &"x".repeat(400))).collect()
}

/// Lines of a clock that was in another year for a moment.
fn wrong(year: &str, lines: usize) -> String {
    seconds(0..lines).replace("2026-11-23T", &format!("{year}-01-01T"))
}

/// How many records of the first quarter of an hour are given, and whether the trouble is named.
fn quarter(tree: &Tree) -> (usize, bool) {
    let reading = tree.read("pods", &ask(window("2026-11-23T00:00:00Z", "2026-11-23T00:15:00Z")));
    let item = &reading.items[0];
    assert!(item.records.iter().all(|(t, _)| *t < at("2026-11-23T00:15:00Z")));
    (item.records.len(), item.gap(GapReason::ClockUncertain).is_some())
}

#[test]
fn one_line_that_lies_in_a_small_log_costs_no_other() {
    for year in ["1970", "2199"] {
        let tree = Tree::new();
        tree.write(&format!("{DIR}/0.log"), [line(1, "a"), wrong(year, 1), line(2, "b")].concat());
        assert_eq!(quarter(&tree), (2, true), "{year}");
    }
}

#[test]
fn a_clock_that_was_wrong_for_a_moment_costs_no_record_of_a_large_log() {
    for year in ["1970", "2199"] {
        for (before, lines) in [(60, 1), (300, 20), (300, 250), (600, 280), (1, 1)] {
            let tree = Tree::new();
            let text = [seconds(0..before), wrong(year, lines), seconds(before..7200)].concat();
            tree.write(&format!("{DIR}/0.log"), text);
            // A step that lies before the window but for one second is none of it.
            let named = before > 1 || year == "2199";
            assert_eq!(quarter(&tree), (900, named), "{year}, {lines} lines after {before}");
        }
    }
}

#[test]
fn a_file_that_begins_with_a_lie_is_read_all_the_same() {
    for year in ["1970", "2199"] {
        let tree = Tree::new();
        tree.write(&format!("{DIR}/0.log.20261123-000500.gz"), gzip(seconds(0..300).as_bytes()));
        tree.write(&format!("{DIR}/0.log.20261123-001000"), [wrong(year, 3), seconds(300..600)].concat());
        tree.write(&format!("{DIR}/0.log"), [wrong(year, 3), seconds(600..1800)].concat());
        // A file that begins too early does not run back.
        assert_eq!(quarter(&tree), (900, year == "2199"), "{year}");
    }
}

#[test]
fn what_is_past_is_still_left_alone() {
    // A long log is not read to its end for the sake of what it might hold.
    let tree = Tree::new();
    tree.write(&format!("{DIR}/0.log"), seconds(0..20_000));
    let reading = tree.read("pods", &ask(window("2026-11-23T00:00:00Z", "2026-11-23T00:15:00Z")));
    let item = &reading.items[0];
    assert_eq!((item.records.len(), item.gaps.len()), (900, 0));
    assert!(item.head.method.ends_with("bisected by time"), "{}", item.head.method);
}
