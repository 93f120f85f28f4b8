//! Very many names, names of one file, and names that say nothing of what a file holds.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};

use casefile_proto::gap::GapReason;

use crate::tree::{Tree, whole_day};

const LINE: &str = "2026-11-23T00:00:01Z stdout F x\n";

/// As many names as make a directory large, and are made in a second or two; `CASEFILE_NAMES` asks for more.
fn very_many() -> usize {
    std::env::var("CASEFILE_NAMES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

/// Names of one and the same empty file.
fn litter(tree: &Tree, dir: &str, name: impl Fn(usize) -> String) {
    let (mut first, mut links) = (tree.path(&format!("{dir}/{}", name(0))), 0);
    File::create(&first).unwrap();
    for n in 1..very_many() {
        let path = tree.path(dir).join(name(n));
        // A file system allows a file so many names only.
        if links > 50_000 || fs::hard_link(&first, &path).is_err() {
            File::create(&path).unwrap();
            (first, links) = (path, 0);
        }
        links += 1;
    }
}

#[test]
fn a_hundred_thousand_names_of_no_log_cost_the_logs_among_them_nothing() {
    let tree = Tree::new();
    litter(&tree, "var/log", |n| format!("{n:07}.junk"));
    litter(&tree, "var/log/pods/shop_api_u/app", |n| format!("{n}.junk"));
    tree.write("var/log/syslog", LINE);
    tree.write("var/log/syslog.1", LINE.replace(":01Z", ":00Z"));
    tree.write("var/log/pods/shop_api_u/app/0.log", LINE);
    let files = tree.read("files", &whole_day());
    assert_eq!(files.item("logs/files/var/log/syslog").records.len(), 2);
    assert!(files.covered.gaps.is_empty(), "{:?}", files.covered.gaps);
    let pods = tree.read("pods", &whole_day());
    assert_eq!((pods.items.len(), pods.items[0].records.len()), (1, 1));
    assert!(pods.items[0].gap(GapReason::Budget).is_none() && pods.covered.gaps.is_empty());
}

#[test]
fn very_many_logs_are_read_up_to_the_cap_and_the_rest_is_said() {
    let tree = Tree::new();
    litter(&tree, "var/log", |n| format!("{n:07}.log"));
    let reading = tree.read("files", &whole_day());
    // The names beyond those that are taken from one directory, and beyond the logs of one source.
    let budget: Vec<_> = reading.covered.gaps.iter().filter(|g| g.reason == GapReason::Budget).collect();
    assert!(budget.iter().any(|g| g.detail.contains("too many names")), "{budget:?}");
    assert!(budget.iter().any(|g| g.detail.contains("more than 4096 files")), "{budget:?}");
    assert!(reading.covered.gaps.len() < 300, "{} gaps are named", reading.covered.gaps.len());
    assert!(reading.items.len() <= 4096);
}

#[test]
fn twenty_thousand_names_that_are_refused_are_a_few_gaps_and_their_number() {
    let tree = Tree::new();
    for n in 0..20_000 {
        symlink("/etc/passwd", tree.path(&format!("var/log/pods/shop_pod-{n}_u"))).unwrap();
    }
    tree.write("var/log/pods/shop_api_u/app/0.log", LINE);
    let reading = tree.read("pods", &whole_day());
    let refused: Vec<_> = reading.covered.gaps.iter().filter(|g| g.reason == GapReason::RefusedUnsafePath).collect();
    assert!(refused.len() < 300 && refused.last().unwrap().count > Some(15_000), "{:?}", refused.last());
}

#[test]
fn names_of_one_file_give_its_lines_once() {
    let tree = Tree::new();
    let dir = "var/log/pods/shop_api_u/app";
    tree.write(&format!("{dir}/3.log"), LINE);
    for name in ["1.log", "2.log", "3.log.20261123-000001"] {
        fs::hard_link(tree.path(&format!("{dir}/3.log")), tree.path(&format!("{dir}/{name}"))).unwrap();
    }
    let reading = tree.read("pods", &whole_day());
    assert_eq!(reading.items[0].records.len(), 1);
    // A hard link is the file itself: there is nothing that tells it from the name that it was made from.
    tree.write("var/log/app.log", LINE);
    fs::hard_link(tree.path("var/log/app.log"), tree.path("var/log/app.log.1")).unwrap();
    assert_eq!(tree.read("files", &whole_day()).items[0].records.len(), 1);
}

#[test]
fn a_sparse_file_of_a_tebibyte_costs_no_more_than_what_is_in_it() {
    let tree = Tree::new();
    for path in ["var/log/pods/shop_api_u/app/0.log", "var/log/app.log"] {
        let file = File::create(tree.path(path)).unwrap();
        file.write_all_at(LINE.as_bytes(), 0).unwrap();
        file.write_all_at(LINE.replace(":01Z", ":02Z").as_bytes(), 1 << 40).unwrap();
        file.set_len((1 << 40) + (1 << 39)).unwrap();
    }
    for source in ["pods", "files"] {
        let reading = tree.read(source, &whole_day());
        assert_eq!(reading.items[0].records.len(), 2, "{:#?}", reading.items[0].gaps);
        assert!(reading.items[0].gap(GapReason::ParseFailed).unwrap().detail.contains("left out"));
    }
}

#[test]
fn utf_16_is_said_not_to_be_text_and_a_byte_order_mark_hides_no_line_but_its_own() {
    let tree = Tree::new();
    let wide: Vec<u8> = format!("\u{feff}{}", LINE.repeat(50)).encode_utf16().flat_map(u16::to_le_bytes).collect();
    tree.write("var/log/wide.log", &wide);
    tree.write("var/log/marked.log", format!("\u{feff}{}", LINE.repeat(3)));
    tree.write("var/log/pods/shop_api_u/app/0.log", &wide);
    let files = tree.read("files", &whole_day());
    assert!(files.gap(GapReason::ParseFailed).unwrap().detail.contains("wide.log is not text"), "{files:#?}");
    let marked = files.item("logs/files/var/log/marked.log");
    assert_eq!(marked.records.len(), 2);
    assert_eq!(marked.gap(GapReason::ParseFailed).unwrap().count, Some(1));
    let pods = tree.read("pods", &whole_day());
    assert!(pods.items[0].records.is_empty() && pods.items[0].gap(GapReason::ParseFailed).is_some());
}
