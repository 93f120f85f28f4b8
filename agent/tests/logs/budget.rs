//! The budget: shared fairly, small logs first, cut at the ends of records, and what was left out is said.

use std::ops::ControlFlow::{Break, Continue};

use casefile_agent::logs::{LogAsk, Stop};
use casefile_proto::gap::GapReason;
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;

use crate::tree::{Tree, at, whole_day, window};

/// One record a second from midnight on, 50 bytes each in the archive.
fn log(records: usize) -> String {
    (0..records)
        .map(|n| format!("2026-11-23T{:02}:{:02}:{:02}Z stdout F {n:021}\n", n / 3600, n / 60 % 60, n % 60))
        .collect()
}

fn node(sizes: &[(&str, usize)]) -> Tree {
    let tree = Tree::new();
    for (pod, records) in sizes {
        tree.write(&format!("var/log/pods/shop_{pod}_u/app/0.log"), log(*records));
    }
    tree
}

fn with_budget(bytes: u64) -> LogAsk {
    LogAsk { budget: Bytes(bytes), ..whole_day() }
}

#[test]
fn one_huge_log_costs_a_small_one_nothing_and_comes_last() {
    let tree = node(&[("a-huge", 20_000), ("b-small", 10), ("c-middle", 300)]);
    let reading = tree.read("pods", &with_budget(100_000));
    let sizes: Vec<_> = reading.items.iter().map(|i| (i.head.path.as_str(), i.records.len())).collect();
    assert_eq!(
        sizes,
        [
            ("logs/pods/shop_b-small_u/app.log", 10),
            ("logs/pods/shop_c-middle_u/app.log", 300),
            ("logs/pods/shop_a-huge_u/app.log", 2000 - 310)
        ]
    );
    let gap = reading.items[2].gap(GapReason::Budget).unwrap();
    assert_eq!(gap.count, Some(20_000 - 1_690));
    assert_eq!(gap.detail, "this log's part of the budget, 82.5 KiB, is used up: 18310 records, 894.0 KiB left out");
    let cut = at("2026-11-23T00:28:10Z");
    assert_eq!(gap.interval, Window::new(cut, whole_day().window.until()).ok());
    assert_eq!(reading.items[2].covered, Window::new(whole_day().window.from(), cut).ok());
    assert!(reading.items[..2].iter().all(|i| i.gaps.is_empty()));
}

#[test]
fn it_is_the_part_in_the_window_that_makes_a_log_small() {
    let tree = node(&[("long", 40_000), ("short", 3_000)]);
    let ask = LogAsk { window: window("2026-11-23T00:40:00Z", "2026-11-23T00:41:00Z"), ..with_budget(3_000 + 50 * 60) };
    let reading = tree.read("pods", &ask);
    assert!(reading.items.iter().all(|i| i.records.len() == 60 && i.gaps.is_empty()), "{:#?}", reading.covered);
}

#[test]
fn no_budget_at_all_still_says_what_there_is() {
    let reading = node(&[("a", 5), ("b", 7)]).read("pods", &with_budget(0));
    let counts: Vec<_> =
        reading.items.iter().map(|i| (i.records.len(), i.gap(GapReason::Budget).unwrap().count)).collect();
    assert_eq!(counts, [(0, Some(5)), (0, Some(7))]);
    assert!(reading.items.iter().all(|i| i.covered.is_none()));
}

#[test]
fn a_log_that_is_far_too_large_is_not_counted_to_its_end() {
    let tree = Tree::new();
    let record = format!("2026-11-23T00:00:00Z stdout F {}\n", "x".repeat(900_000));
    tree.write("var/log/pods/shop_a_u/app/0.log", record.repeat(100));
    let reading = tree.read("pods", &with_budget(1000));
    let gap = reading.items[0].gap(GapReason::Budget).unwrap();
    assert!(gap.count.is_none() && gap.detail.contains("at least 7"), "{}", gap.detail);
}

#[test]
fn a_sink_that_stops_ends_everything_and_what_was_not_read_is_said() {
    let tree = node(&[("a", 5), ("b", 7), ("c", 9)]);
    for (stop, reason) in [
        (Stop::Cancelled, GapReason::Cancelled),
        (Stop::Gone, GapReason::CollectorAway),
        (Stop::Budget, GapReason::Budget),
    ] {
        let mut left = 8;
        let reading = tree.read_with("pods", &whole_day(), &mut |_, _| {
            left -= 1;
            if left < 0 { Break(stop) } else { Continue(()) }
        });
        let counts: Vec<_> = reading.items.iter().map(|i| i.records.len()).collect();
        assert_eq!(counts, [5, 3]);
        let cut = reading.items[1].gap(reason).unwrap();
        assert_eq!(cut.interval.unwrap().from(), at("2026-11-23T00:00:03Z"));
        let rest = reading.gap(reason).unwrap();
        assert!(rest.detail.starts_with("1 logs were not read"), "{}", rest.detail);
    }
}
