//! How plain files bear their times: what an operator says of them counts, and a log that goes over to another form in
//! its middle loses nothing.

use std::fs::File;
use std::time::{Duration, SystemTime};

use casefile_proto::gap::GapReason;

use crate::tree::{Tree, ask, at, gzip, whole_day, window};

const LOG: &str = "var/log/app.log";
const ITEM: &str = "logs/files/var/log/app.log";

fn log(text: impl AsRef<[u8]>) -> Tree {
    let tree = Tree::new();
    tree.write(LOG, text);
    tree
}

fn stanza(more: &str) -> String {
    format!("[[files]]\nglob = \"{LOG}\"\n{more}\n")
}

/// The times of the records of the one item.
fn times(reading: &crate::tree::Reading) -> Vec<String> {
    reading.item(ITEM).records.iter().map(|(at, _)| at.to_string()).collect()
}

#[test]
fn what_an_operator_says_of_a_file_counts_where_it_would_be_read_otherwise() {
    let tree = log("1795401850 2026-11-23 12:00:00 x\n1795401851 2026-11-23 12:00:01 y\n");
    assert_eq!(times(&tree.read("files", &whole_day())), ["2026-11-23T02:44:10Z", "2026-11-23T02:44:11Z"]);
    let said = tree.read_configured(&stanza("times = \"iso\"\nlead = \"word\"\nzone = \"+01:00\""), &whole_day());
    assert_eq!(times(&said), ["2026-11-23T11:00:00Z", "2026-11-23T11:00:01Z"]);
    assert!(said.item(ITEM).head.method.contains("+01:00 as configured"), "{}", said.item(ITEM).head.method);
    // The later of two stanzas.
    let twice = stanza("zone = \"+05:00\"\ntimes = \"iso\"") + &stanza("zone = \"-03:00\"\ntimes = \"iso\"");
    assert_eq!(times(&tree.read_configured(&twice, &whole_day()))[0], "2026-11-23T15:00:00Z");
}

#[test]
fn a_form_that_is_said_is_found_among_lines_of_which_hardly_any_bear_it() {
    let mut text = "no time\n".repeat(200);
    text.push_str("1795401850 x\n");
    let tree = log(&text);
    assert_eq!(
        tree.read("files", &whole_day()).gap(GapReason::ParseFailed).unwrap().detail,
        format!("/{LOG} bears no times that are understood")
    );
    assert_eq!(times(&tree.read_configured(&stanza("times = \"epoch\""), &whole_day())), ["2026-11-23T02:44:10Z"]);
    let other = tree.read_configured(&stanza("times = \"klog\""), &whole_day());
    assert!(
        other.gap(GapReason::ParseFailed).unwrap().detail.contains("no times of the form that the configuration names")
    );
}

#[test]
fn a_zone_whose_rules_are_not_there_is_a_gap_and_never_another_zone() {
    let tree = log("2026-11-23 02:44:10 x\n");
    let reading = tree.read_configured(&stanza("zone = \"Europe/Nowhere\""), &whole_day());
    assert!(reading.items.is_empty());
    let gap = reading.gap(GapReason::SourceFailed).unwrap();
    assert!(
        gap.detail.starts_with("/var/log/app.log was not read: the rules of zone Europe/Nowhere"),
        "{}",
        gap.detail
    );
}

#[test]
fn a_zone_that_is_said_is_read_from_the_rules_of_the_host() {
    let tree = log("2026-07-23 02:44:10 summer\n2026-11-23 02:44:10 winter\n");
    // The rules of the one zone that is needed, in the oldest form of such a file: one change, to +1 h.
    let mut rules = b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let counts = [0_u32, 0, 0, 0, 1, 4];
    for _ in 0..2 {
        rules.extend(counts.iter().flat_map(|n| n.to_be_bytes()));
        rules.extend([0, 0, 0x0e, 0x10, 0, 0]);
        rules.extend(b"CET\0");
        if rules.len() < 60 {
            rules.extend(b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
    }
    rules.extend(b"\nCET-1CEST,M3.5.0,M10.5.0/3\n");
    tree.write("usr/share/zoneinfo/Europe/Berlin", rules);
    let year = ask(window("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"));
    let reading = tree.read_configured(&stanza("zone = \"Europe/Berlin\""), &year);
    assert_eq!(times(&reading), ["2026-07-23T00:44:10Z", "2026-11-23T01:44:10Z"]);
}

#[test]
fn lines_that_end_as_windows_ends_them_are_whole_records_to_the_byte() {
    let text = "2026-11-23T02:44:10Z one\r\n\ttrace\r\n\r\n2026-11-23T02:44:11Z two\r\n2026-11-23T02:44:12Z\r\n";
    let reading = log(text).read("files", &whole_day());
    assert_eq!(reading.item(ITEM).text(), text);
    assert_eq!(times(&reading), ["2026-11-23T02:44:10Z", "2026-11-23T02:44:11Z", "2026-11-23T02:44:12Z"]);
    for (line, lead) in
        [("1795401850\r\n", "epoch"), ("Nov 23 02:44:10\r\n", "syslog"), ("2026-11-23 02:44:10,5\r\n", "iso")]
    {
        let tree = log(line.repeat(3));
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_450_000);
        File::options().write(true).open(tree.path(LOG)).unwrap().set_modified(changed).unwrap();
        assert_eq!(tree.read("files", &whole_day()).item(ITEM).records.len(), 3, "{lead}");
    }
}

#[test]
fn a_leap_second_lies_between_the_seconds_around_it() {
    let text = "2026-11-23T23:59:59.9Z a\n2026-11-23T23:59:60.2Z b\n2026-11-24T00:00:00.1Z c\n";
    let tree = log(text);
    let day = tree.read("files", &ask(window("2026-11-23T23:59:59.9Z", "2026-11-24T01:00:00Z")));
    assert_eq!(day.item(ITEM).text(), text);
    assert!(day.item(ITEM).gaps.is_empty());
    assert_eq!(times(&day)[1], "2026-11-24T00:00:00.2Z");
}

#[test]
fn a_leap_day_without_a_year_is_one_of_the_last_leap_year() {
    let tree = log("Feb 28 23:59:59 node x\nFeb 29 02:44:10 node y\nMar  1 00:00:00 node z\n");
    let changed = SystemTime::UNIX_EPOCH + Duration::from_nanos(at("2028-03-01T00:00:01Z").nanos().unsigned_abs());
    File::options().write(true).open(tree.path(LOG)).unwrap().set_modified(changed).unwrap();
    let reading = tree.read("files", &ask(window("2028-02-01T00:00:00Z", "2028-04-01T00:00:00Z")));
    assert_eq!(times(&reading), ["2028-02-28T23:59:59Z", "2028-02-29T02:44:10Z", "2028-03-01T00:00:00Z"]);
}

/// A log of a program that was upgraded at noon: a line a minute, first as `old` has it, then as `new` has it.
fn upgraded(old: &str, new: &str, padding: usize) -> Vec<(String, String)> {
    let minute = |n: i64| {
        let time = at("2026-11-23T06:00:00Z").offset(n * 60_000_000_000);
        let form = if n < 360 { old } else { new };
        (time.to_string(), format!("{} {}\n\tmore\n", time.to_timestamp(form), "x".repeat(padding)))
    };
    (0..720).map(minute).collect()
}

trait InForm {
    fn to_timestamp(&self, form: &str) -> String;
}

impl InForm for casefile_proto::time::WallTime {
    fn to_timestamp(&self, form: &str) -> String {
        let text = self.to_string();
        match form {
            "syslog" => format!("Nov 23 {} node app:", &text[11..19]),
            "zoned" => text,
            "local" => text.replace('T', " ").replace('Z', ""),
            _ => format!("{}", self.nanos() / 1_000_000_000),
        }
    }
}

#[test]
fn a_log_that_goes_over_to_another_form_keeps_every_record_at_its_own_time() {
    let edges = ["2026-11-23T05:00:00Z", "2026-11-23T07:30:00Z", "2026-11-23T16:01:00Z", "2026-11-23T19:00:00Z"];
    for (old, new, padding) in [("syslog", "zoned", 400), ("zoned", "local", 3), ("epoch", "syslog", 100)] {
        let records = upgraded(old, new, padding);
        let text: String = records.iter().map(|(_, record)| record.as_str()).collect();
        for packed in [false, true] {
            let tree = Tree::new();
            let newest = format!("{} after\n", at("2026-11-23T18:30:00Z").to_timestamp(new));
            let path = format!("{LOG}.1");
            if packed {
                tree.write(&format!("{path}.gz"), gzip(text.as_bytes()));
            } else {
                tree.write(&path, &text);
            }
            tree.write(LOG, &newest);
            let changed =
                SystemTime::UNIX_EPOCH + Duration::from_nanos(at("2026-11-23T18:31:00Z").nanos().unsigned_abs());
            for file in [LOG.to_owned(), if packed { format!("{path}.gz") } else { path.clone() }] {
                File::options().write(true).open(tree.path(&file)).unwrap().set_modified(changed).unwrap();
            }
            for (i, from) in edges.iter().enumerate() {
                for until in &edges[i + 1..] {
                    let window = window(from, until);
                    let mut expected: String =
                        records.iter().filter(|(time, _)| window.contains(at(time))).map(|(_, r)| r.as_str()).collect();
                    if window.contains(at("2026-11-23T18:30:00Z")) {
                        expected.push_str(&newest);
                    }
                    let reading = tree.read("files", &ask(window));
                    assert!(
                        reading.item(ITEM).text() == expected,
                        "{old} to {new}, packed {packed}, {window}: {} records of {}",
                        reading.item(ITEM).records.len(),
                        expected.lines().count() / 2
                    );
                }
            }
        }
    }
}

#[test]
fn a_record_that_quotes_another_log_stays_whole() {
    let quoted = "2026-11-23T02:44:10Z ERROR what it said:\nNov 23 02:00:00 node app: a\nNov 23 02:00:01 node app: b\n";
    let text = format!("2026-11-23T02:44:09Z before\n{quoted}2026-11-23T02:44:11Z after\n");
    let reading = log(&text).read("files", &whole_day());
    assert_eq!(reading.item(ITEM).records.len(), 3);
    assert_eq!(String::from_utf8_lossy(&reading.item(ITEM).records[1].1), quoted);
}
