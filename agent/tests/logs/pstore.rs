//! What a crash left in pstore: given with the window that it tells of, as it stands, and never with a time that nobody
//! wrote down.

use std::fs::File;
use std::time::{Duration, SystemTime};

use casefile_proto::gap::GapReason;

use crate::tree::{Reading, Tree, ask, at, window};

const BOOTED: &str = "2026-11-23T03:00:00Z";
/// In the name of a dump: the second of the crash (02:44:10), the part, the count.
const LAST_PART: &str = "dmesg-efi-179540185001001";
const FIRST_PART: &str = "dmesg-efi-179540185002001";

/// A machine that crashed at 02:44:10 and was up again at 03:00.
fn crashed() -> Tree {
    let tree = Tree::new();
    tree.write("proc/stat", format!("btime {}\n", at(BOOTED).nanos() / 1_000_000_000));
    tree.write("dev/kmsg", "5,0,0,-;Linux version 6.18\n");
    tree.write(&format!("sys/fs/pstore/{LAST_PART}"), "Panic#1 Part1\n<0>[ 99.5] Kernel panic - not syncing\n");
    tree.write(&format!("sys/fs/pstore/{FIRST_PART}"), "Panic#1 Part2\n<4>[ 99.1] before it\n<4>[ 99.2] half a li");
    tree
}

fn dated(tree: &Tree, path: &str, time: &str) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(at(time).nanos().unsigned_abs());
    File::options().write(true).open(tree.path(path)).unwrap().set_modified(time).unwrap();
}

fn dumps(reading: &Reading) -> Vec<&str> {
    let paths = reading.items.iter().map(|i| i.head.path.as_str());
    paths.filter_map(|p| p.strip_prefix("logs/pstore/")).collect()
}

#[test]
fn a_window_before_this_boot_has_the_dump_of_the_crash_and_says_that_its_lines_have_no_date() {
    let tree = crashed();
    let reading = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:45:00Z")));
    // In the order of the log: the last part is its end.
    assert_eq!(dumps(&reading), [FIRST_PART, LAST_PART]);
    let item = reading.item(&format!("logs/pstore/{LAST_PART}"));
    assert_eq!(item.text(), "Panic#1 Part1\n<0>[ 99.5] Kernel panic - not syncing\n");
    assert_eq!(
        item.head.method,
        format!("/sys/fs/pstore/{LAST_PART}, written at 2026-11-23T02:44:10Z, its lines as they are")
    );
    assert_eq!(item.covered, None);
    assert!(item.gap(GapReason::ClockUncertain).unwrap().detail.contains("seconds since its boot"));
    assert!(reading.item(&format!("logs/pstore/{FIRST_PART}")).text().ends_with("half a li\n"));
    assert!(reading.item("logs/kernel.log").gap(GapReason::NodeRebooted).is_some());
}

#[test]
fn a_window_after_the_boot_has_no_dump_and_misses_none() {
    let reading = crashed().read("kernel", &ask(window("2026-11-23T03:00:00Z", "2026-11-23T03:15:00Z")));
    assert_eq!(dumps(&reading), [""; 0]);
    assert!(reading.covered.gaps.is_empty(), "{:?}", reading.covered.gaps);
}

#[test]
fn what_systemd_moved_away_is_found_too_and_an_older_crash_is_left_out() {
    let tree = crashed();
    for name in [FIRST_PART, LAST_PART] {
        std::fs::remove_file(tree.path(&format!("sys/fs/pstore/{name}"))).unwrap();
    }
    let archive = "var/lib/systemd/pstore";
    tree.write(&format!("{archive}/1795401850/001/{LAST_PART}"), "Panic#1 Part1\nlast words\n");
    tree.write(&format!("{archive}/1795401850/001/dmesg.txt"), "last words\n");
    tree.write(&format!("{archive}/1695401850/001/dmesg.txt"), "of 2023\n");
    tree.write(&format!("{archive}/dmesg-ramoops-0"), "Oops#1 Part1\nwhen?\n");
    dated(&tree, &format!("{archive}/dmesg-ramoops-0"), "2026-11-23T03:00:20Z");
    tree.write(&format!("{archive}/dmesg-ramoops-1"), "Oops#1 Part1\nan older boot's\n");
    dated(&tree, &format!("{archive}/dmesg-ramoops-1"), "2026-11-01T03:00:20Z");
    let reading = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:40:00Z")));
    let dir = "archived/1795401850/001";
    assert_eq!(
        dumps(&reading),
        [format!("{dir}/{LAST_PART}"), format!("{dir}/dmesg.txt"), "archived/dmesg-ramoops-0".to_owned()]
    );
    let undated = &reading.item("logs/pstore/archived/dmesg-ramoops-0").head.method;
    assert!(undated.contains("written at an unknown time, 2026-11-23T03:00:20Z at the latest"), "{undated}");
}

#[test]
fn the_time_of_a_file_counts_where_the_kernel_sets_it_and_is_a_limit_where_it_does_not() {
    let tree = crashed();
    tree.write("sys/fs/pstore/dmesg-ramoops-0", "Oops#1 Part1\nx\n");
    dated(&tree, "sys/fs/pstore/dmesg-ramoops-0", "2026-11-23T02:43:00Z");
    tree.write("sys/fs/pstore/console-ramoops-0", "[ 99.5] x\n");
    dated(&tree, "sys/fs/pstore/console-ramoops-0", "2026-11-23T03:00:01Z");
    let reading = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:44:00Z")));
    let method = |name: &str| reading.item(&format!("logs/pstore/{name}")).head.method.clone();
    assert!(method("dmesg-ramoops-0").contains("written at 2026-11-23T02:43:00Z"));
    assert!(method("console-ramoops-0").contains("at an unknown time, 2026-11-23T03:00:01Z at the latest"));
}

#[test]
fn a_dump_that_cannot_be_read_is_named_and_costs_no_other() {
    let tree = crashed();
    tree.write("sys/fs/pstore/dmesg-efi-179540185003001.enc.z", b"\xff\xff\xff\xff");
    std::os::unix::fs::symlink("/etc/shadow", tree.path("sys/fs/pstore/dmesg-efi-179540185004001")).unwrap();
    let reading = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:45:00Z")));
    assert_eq!(dumps(&reading), [FIRST_PART, LAST_PART]);
    let reasons: Vec<_> = reading.covered.gaps.iter().map(|g| g.reason).collect();
    assert_eq!(reasons, [GapReason::RefusedUnsafePath, GapReason::ParseFailed]);
}

#[test]
fn a_machine_without_pstore_says_so_where_a_crash_would_matter() {
    let tree = Tree::new();
    tree.write("proc/stat", format!("btime {}\n", at(BOOTED).nanos() / 1_000_000_000));
    tree.write("dev/kmsg", "5,0,0,-;Linux version 6.18\n");
    let before = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:45:00Z")));
    assert_eq!(
        before.gap(GapReason::SourceAbsent).unwrap().detail,
        "neither /sys/fs/pstore nor /var/lib/systemd/pstore is there"
    );
    let after = tree.read("kernel", &ask(window("2026-11-23T03:30:00Z", "2026-11-23T03:45:00Z")));
    assert!(after.covered.gaps.is_empty());
}

#[test]
fn a_crash_is_told_even_where_this_boots_log_cannot_be_read() {
    let tree = crashed();
    std::fs::remove_file(tree.path("dev/kmsg")).unwrap();
    let reading = tree.read("kernel", &ask(window("2026-11-23T02:30:00Z", "2026-11-23T02:45:00Z")));
    assert_eq!(dumps(&reading), [FIRST_PART, LAST_PART]);
    assert!(reading.gap(GapReason::SourceAbsent).is_some());
}
