//! Files that are not what they seem, bytes that are no log, and files that change while they are read: nothing blocks,
//! nothing foreign is read, no other log suffers, and what is missing is said.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use casefile_agent::logs::Stop;
use casefile_proto::gap::GapReason;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::tree::{Tree, ask, at, gzip, whole_day, window};

const POD: &str = "var/log/pods/shop_api_u";
const ITEM: &str = "logs/pods/shop_api_u/app.log";

fn line(second: usize, text: &str) -> String {
    format!("2026-11-23T{:02}:{:02}:{:02}Z stdout F {text}\n", second / 3600, second / 60 % 60, second % 60)
}

/// Long enough that no part of it is read by accident: one record a second, 1 KiB each.
fn long_log(seconds: std::ops::Range<usize>) -> String {
    seconds.map(|s| line(s, &"x".repeat(1000))).collect()
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_and_costs_no_other() {
    let tree = Tree::new();
    tree.write("etc/shadow", line(1, "root:secret"));
    tree.write(&format!("{POD}/app/0.log"), line(1, "mine"));
    symlink(tree.path("etc/shadow"), tree.path(&format!("{POD}/app/1.log"))).unwrap();
    symlink("0.log", tree.path(&format!("{POD}/app/2.log"))).unwrap();
    mknodat(CWD, tree.path(&format!("{POD}/app/3.log")), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::create_dir(tree.path(&format!("{POD}/app/4.log"))).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path(&format!("{POD}/app/5.log"))).unwrap();
    let mut refused = vec!["1.log", "2.log", "3.log", "4.log", "5.log"];
    // Only root may make a device; it is the endless one.
    if mknodat(CWD, tree.path(&format!("{POD}/app/6.log")), FileType::CharacterDevice, Mode::RUSR, makedev(1, 5))
        .is_ok()
    {
        refused.push("6.log");
    }
    // Directories on the way, too.
    symlink("app", tree.path(&format!("{POD}/linked"))).unwrap();
    symlink("shop_api_u", tree.path("var/log/pods/shop_other_u")).unwrap();
    tree.write("var/log/syslog", "2026-11-23T00:00:01Z mine\n");
    symlink("../../etc/shadow", tree.path("var/log/shadow.log")).unwrap();
    mknodat(CWD, tree.path("var/log/pipe.log"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::create_dir(tree.path("var/log/dir.log")).unwrap();

    let reading = tree.read("pods", &whole_day());
    assert_eq!(reading.items.len(), 1);
    let item = reading.item(ITEM);
    assert_eq!(item.text(), "2026-11-23T00:00:01Z stdout mine\n");
    for name in refused {
        let gap =
            item.gaps.iter().find(|g| g.detail.contains(name)).unwrap_or_else(|| panic!("{name}: {:?}", item.gaps));
        assert_eq!(gap.reason, GapReason::RefusedUnsafePath, "{gap:?}");
    }
    let outside: Vec<_> = reading.covered.gaps.iter().map(|g| (g.reason, g.detail.contains("link"))).collect();
    assert_eq!(outside, [(GapReason::RefusedUnsafePath, true); 2], "{:?}", reading.covered.gaps);

    let reading = tree.read("files", &whole_day());
    assert_eq!(reading.item("logs/files/var/log/syslog").text(), "2026-11-23T00:00:01Z mine\n");
    assert_eq!(reading.items.len(), 1);
    assert_eq!(reading.covered.gaps.iter().filter(|g| g.reason == GapReason::RefusedUnsafePath).count(), 3);
}

#[test]
fn a_base_directory_that_is_a_link_is_refused_and_one_that_is_missing_is_absent() {
    let tree = Tree::new();
    tree.write("data/shop_api_u/app/0.log", line(1, "x"));
    assert!(tree.read("pods", &whole_day()).gap(GapReason::SourceAbsent).is_some());
    assert!(tree.read("files", &whole_day()).gap(GapReason::SourceAbsent).is_some());
    symlink("../../data", tree.path("var/log/pods")).unwrap();
    let reading = tree.read("pods", &whole_day());
    assert!(reading.gap(GapReason::RefusedUnsafePath).is_some() && reading.covered.covered.is_empty());
}

#[test]
fn a_file_that_may_not_be_read_is_said_to_be_one() {
    let tree = Tree::new();
    tree.write(&format!("{POD}/app/0.log"), line(1, "secret"));
    tree.write(&format!("{POD}/side/0.log"), line(1, "open"));
    let set = |path: &str, mode| fs::set_permissions(tree.path(path), fs::Permissions::from_mode(mode)).unwrap();
    set(&format!("{POD}/app/0.log"), 0o000);
    set(".", 0o755);
    // Root may read everything, so this is done as somebody else, on a thread of its own.
    let reading = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65_534);
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            tree.read("pods", &whole_day())
        });
        other.join().unwrap()
    });
    assert_eq!(
        reading.gap(GapReason::PermissionDenied).map(|g| g.detail.contains("app/0.log")),
        Some(true),
        "{reading:#?}"
    );
    assert_eq!(reading.item("logs/pods/shop_api_u/side.log").records.len(), 1);
}

#[test]
fn a_line_of_three_mebibytes_is_cut_and_said_and_its_neighbours_are_whole() {
    let tree = Tree::new();
    let huge = "y".repeat(3 << 20);
    tree.write(&format!("{POD}/app/0.log"), [line(1, "before"), line(2, &huge), line(3, "after")].concat());
    // As a runtime writes it: in parts.
    let parts: String = (0..200).map(|_| line(2, &"y".repeat(16 << 10)).replace(" F ", " P ")).collect();
    tree.write(&format!("{POD}/parts/0.log"), [line(1, "before"), parts, line(3, "end"), line(4, "after")].concat());
    tree.write("var/log/syslog", [line(1, "before"), line(2, &huge), line(3, "after")].concat());
    let pods = tree.read("pods", &whole_day());
    let files = tree.read("files", &whole_day());
    for item in pods.items.iter().chain(&files.items) {
        let sizes: Vec<_> = item.records.iter().map(|(_, b)| b.len()).collect();
        assert!(sizes.len() == 3 && sizes[1] > (1 << 20) - 100 && sizes[1] <= (1 << 20) + 1, "{sizes:?}");
        assert!(item.text().ends_with("after\n"));
        let gap = item.gap(GapReason::Budget).unwrap();
        assert!(gap.detail.contains("longer than 1 MiB") && gap.count == Some(1), "{gap:?}");
        assert!(gap.interval.unwrap().contains(at("2026-11-23T00:00:02Z")));
    }
}

#[test]
fn lines_that_end_nothing_do_not_grow_without_bound_and_hold_nothing_back_for_ever() {
    let tree = Tree::new();
    // Standard output begins a line and never ends it, while standard error goes on.
    let begun = line(1, "never ended").replace(" F ", " P ");
    let others: String = (2..4000).map(|s| line(s, &"e".repeat(1000)).replace("stdout", "stderr")).collect();
    tree.write(&format!("{POD}/app/0.log"), [begun, others].concat());
    let reading = tree.read("pods", &whole_day());
    let item = reading.item(ITEM);
    assert_eq!(item.records.len(), 3999);
    assert!(item.records.iter().any(|(_, b)| b == b"2026-11-23T00:00:01Z stdout never ended\n"));
    let gap = item.gap(GapReason::NotRecorded).unwrap();
    assert!(gap.detail.starts_with("the line that stdout began at 2026-11-23T00:00:01Z"), "{item:#?}");
}

#[test]
fn bytes_of_all_kinds_are_kept_and_zeros_that_nobody_wrote_are_counted() {
    let tree = Tree::new();
    let mut bytes = vec![0; 100_000];
    bytes.extend_from_slice(b"2026-11-23T00:00:01Z stdout F \xff\xfe\x1b[31m\0 lone \r cr\n");
    bytes.extend_from_slice(b"2026-11-23T00:00:02Z stdout F 2026-11-23T00:00:03Z stderr F forged\n");
    bytes.extend_from_slice(&[0; 5000]);
    bytes.extend_from_slice(b"2026-11-23T00:00:04Z stderr F end\r\n");
    bytes.extend_from_slice(b"{\"log\":\"of docker\"}\n2026-11-23T00:00:05Z stdlog F x\n");
    bytes.extend_from_slice(b"2026-11-23T00:00:06Z stdout F no line end");
    tree.write(&format!("{POD}/app/0.log"), &bytes);
    let reading = tree.read("pods", &whole_day());
    let item = reading.item(ITEM);
    let expected = [
        &b"2026-11-23T00:00:01Z stdout \xff\xfe\x1b[31m\0 lone \r cr\n"[..],
        b"2026-11-23T00:00:02Z stdout 2026-11-23T00:00:03Z stderr F forged\n",
        b"2026-11-23T00:00:04Z stderr end\r\n",
        b"2026-11-23T00:00:06Z stdout no line end\n",
    ];
    assert_eq!(item.records.iter().map(|(_, b)| b.as_slice()).collect::<Vec<_>>(), expected);
    let gap = item.gap(GapReason::ParseFailed).unwrap();
    assert_eq!(gap.count, Some(4), "{gap:?}");
}

#[test]
fn what_bears_no_time_is_named_and_not_guessed_at() {
    let tree = Tree::new();
    tree.write("var/log/binary.log", (0..5000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    tree.write("var/log/plain.log", "no times\nin here\n".repeat(100));
    tree.write("var/log/empty.log", "");
    tree.write("var/log/auth.log", "2026-11-23T00:00:01Z who logged in\n");
    tree.write("var/log/orphan.log", "\tat the end of a record\n2026-11-23T00:00:01Z x\n");
    let reading = tree.read("files", &whole_day());
    let said: Vec<_> = reading.covered.gaps.iter().map(|g| (g.reason, g.detail.as_str())).collect();
    assert_eq!(
        said,
        [
            (GapReason::ParseFailed, "/var/log/plain.log bears no times that are understood"),
            (GapReason::ParseFailed, "/var/log/binary.log is not text"),
        ]
    );
    let paths: Vec<_> = reading.items.iter().map(|i| i.head.path.as_str()).collect();
    assert_eq!(paths, ["logs/files/var/log/empty.log", "logs/files/var/log/orphan.log"]);
    assert!(reading.items[0].gap(GapReason::NotRecorded).is_some());
    assert_eq!(reading.items[1].text(), "2026-11-23T00:00:01Z x\n");
    assert!(reading.items[1].gap(GapReason::ParseFailed).is_some());
    // Whatever a file holds that was not touched since the window began, it is nothing of the window.
    let later = tree.read("files", &ask(window("2200-01-01T00:00:00Z", "2200-01-02T00:00:00Z")));
    assert!(later.covered.gaps.is_empty(), "{:?}", later.covered.gaps);
}

#[test]
fn a_clock_that_was_set_back_costs_no_record() {
    let tree = Tree::new();
    // Twenty minutes, back by ten, and twenty more.
    let lines = [long_log(0..1200), long_log(600..1800)].concat();
    tree.write(&format!("{POD}/app/0.log"), &lines);
    tree.write("var/log/syslog", &lines);
    for (from, until) in [(0, 1800), (590, 1210), (700, 800), (1100, 1190), (1195, 1300), (300, 400), (1500, 1600)] {
        let [from, until] = [from, until].map(|s| at("2026-11-23T00:00:00Z").offset(s * 1_000_000_000));
        let asked = ask(casefile_proto::time::Window::new(from, until).unwrap());
        let expected = lines.lines().filter(|l| asked.window.contains(at(&l[..20]))).count();
        for source in ["pods", "files"] {
            let reading = tree.read(source, &asked);
            let item = &reading.items[0];
            assert_eq!(item.records.len(), expected, "{source} {}", asked.window);
            let mut kept: Vec<_> = item.records.iter().map(|(at, _)| *at).collect();
            kept.sort();
            assert!(kept.iter().all(|k| asked.window.contains(*k)));
            // Between 10 and 20 minutes every time occurred twice.
            let twice = asked.window.intersect(&window("2026-11-23T00:10:00Z", "2026-11-23T00:19:59Z"));
            assert_eq!(
                item.gap(GapReason::ClockUncertain).map(|g| g.interval.unwrap()),
                twice,
                "{source} {}",
                asked.window
            );
            assert!(item.head.method.ends_with("not in order of time, read whole"), "{}", item.head.method);
        }
    }
}

#[test]
fn a_step_back_that_only_reading_can_see_costs_no_record() {
    let tree = Tree::new();
    // A minute and a half within five hours: between two probes of the grid lie twenty minutes.
    let short = |seconds: std::ops::Range<usize>| seconds.map(|s| line(s, "shorter than the step")).collect::<String>();
    let lines = [short(0..9000), short(8910..18_000)].concat();
    tree.write(&format!("{POD}/app/0.log"), &lines);
    for (from, until) in [(8950, 8980), (8905, 8995), (8990, 9010), (8920, 9200), (8800, 9000)] {
        let [from, until] = [from, until].map(|s| at("2026-11-23T00:00:00Z").offset(s * 1_000_000_000));
        let asked = ask(casefile_proto::time::Window::new(from, until).unwrap());
        let expected = lines.lines().filter(|l| asked.window.contains(at(&l[..20]))).count();
        let reading = tree.read("pods", &asked);
        assert_eq!(reading.item(ITEM).records.len(), expected, "{}", asked.window);
        assert!(reading.item(ITEM).gap(GapReason::ClockUncertain).is_some());
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_said_to_have_lost_its_rest() {
    let tree = Tree::new();
    let path = tree.path(&format!("{POD}/app/0.log"));
    fs::write(&path, long_log(0..1000)).unwrap();
    let mut first = true;
    let reading = tree.read_with("pods", &whole_day(), &mut |_, _| {
        if std::mem::take(&mut first) {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(300_000).unwrap();
        }
        Continue(())
    });
    let item = reading.item(ITEM);
    assert!(item.records.len() < 300, "{}", item.records.len());
    let gap = item.gap(GapReason::RotatedAway).unwrap();
    assert!(gap.detail.contains("was truncated while it was read"), "{gap:?}");
    assert_eq!(gap.interval.unwrap().from(), item.records.last().unwrap().0);
}

#[test]
fn a_file_that_grows_faster_than_it_is_read_comes_to_an_end() {
    let tree = Tree::new();
    let path = tree.path(&format!("{POD}/app/0.log"));
    fs::write(&path, [long_log(0..300), "2026-11-23T00:05:00Z stdout F half of ".to_owned()].concat()).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let mut first = true;
    let reading = tree.read_with("pods", &whole_day(), &mut |_, _| {
        if std::mem::take(&mut first) {
            file.write_all(b"a line\n").unwrap();
        }
        file.write_all(long_log(400..403).as_bytes()).unwrap();
        Continue(())
    });
    let item = reading.item(ITEM);
    // The line that was being written is whole, and nothing after it is there.
    assert_eq!(item.records.len(), 301);
    assert!(item.text().ends_with("2026-11-23T00:05:00Z stdout half of a line\n"));
}

#[test]
fn rotation_while_it_is_read_loses_nothing() {
    let tree = Tree::new();
    let dir = format!("{POD}/app");
    tree.write(&format!("{dir}/0.log.20261123-000500"), long_log(0..300));
    tree.write(&format!("{dir}/0.log"), long_log(300..600));
    let path = |name: &str| tree.path(&format!("{dir}/{name}"));
    let mut count = 0;
    let reading = tree.read_with("pods", &whole_day(), &mut |_, _| {
        count += 1;
        if count == 10 {
            fs::write(path("0.log.20261123-000500.gz"), gzip(&fs::read(path("0.log.20261123-000500")).unwrap()))
                .unwrap();
            fs::remove_file(path("0.log.20261123-000500")).unwrap();
            fs::rename(path("0.log"), path("0.log.20261123-001000")).unwrap();
            fs::write(path("0.log"), long_log(600..700)).unwrap();
        }
        Continue(())
    });
    let item = reading.item(ITEM);
    let expected: Vec<_> = long_log(0..600).lines().map(|l| at(&l[..20])).collect();
    assert_eq!(item.records.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected);
    assert!(item.gaps.is_empty() || item.covered.unwrap().until() == whole_day().window.until());
}

#[test]
fn damaged_compressed_files_give_what_they_hold_and_say_what_they_do_not() {
    let tree = Tree::new();
    let (first, second) = (long_log(0..300), long_log(300..600));
    let whole = gzip(first.as_bytes());
    let dir = format!("{POD}/app");
    tree.write(&format!("{dir}/0.log"), &second);
    let name = format!("{dir}/0.log.20261123-000500.gz");
    for cut in [0, 5, 15, whole.len() / 2, whole.len() - 1] {
        tree.write(&name, &whole[..cut]);
        let reading = tree.read("pods", &whole_day());
        let item = reading.item(ITEM);
        assert!(item.records.len() >= 300 && item.records.len() <= 600, "{cut}: {}", item.records.len());
        let gap = item.gap(GapReason::ParseFailed).unwrap_or_else(|| panic!("{cut}: {:?}", item.gaps));
        assert!(gap.detail.contains("000500.gz is damaged"), "{gap:?}");
        assert_eq!(gap.interval.map(|i| i.until()), Some(at("2026-11-23T00:05:00Z")), "{cut}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x55;
    tree.write(&name, &flipped);
    let reading = tree.read("pods", &whole_day());
    assert!(reading.item(ITEM).gap(GapReason::ParseFailed).is_some());
    // What lies well before the damage is not lost with it.
    assert!(reading.item(ITEM).records.len() > 300 + 100, "{}", reading.item(ITEM).records.len());
    // More than one member is one file.
    let half = first.len() / 2;
    tree.write(&name, [gzip(&first.as_bytes()[..half]), gzip(&first.as_bytes()[half..])].concat());
    assert_eq!(tree.read("pods", &whole_day()).item(ITEM).records.len(), 600);
}

#[test]
fn a_sparse_file_and_a_stop_while_nothing_is_found() {
    let tree = Tree::new();
    let path = tree.path(&format!("{POD}/app/0.log"));
    let file = File::create(&path).unwrap();
    file.write_all_at(line(1, "before").as_bytes(), 0).unwrap();
    file.write_all_at(line(2, "after").as_bytes(), 1 << 38).unwrap();
    let reading = tree.read("pods", &whole_day());
    assert_eq!(reading.item(ITEM).records.len(), 2);
    assert!(reading.item(ITEM).gap(GapReason::ParseFailed).unwrap().detail.contains("GiB left out"));
    let reading = tree.read_with("pods", &whole_day(), &mut |_, _| Break(Stop::Cancelled));
    assert!(reading.item(ITEM).gap(GapReason::Cancelled).is_some());
}

#[test]
fn a_log_whose_current_file_is_not_there_is_found_by_its_rotated_files() {
    let tree = Tree::new();
    tree.write("var/log/app.log.1", "2026-11-23T00:00:02Z b\n");
    tree.write("var/log/app.log.2.gz", gzip(b"2026-11-23T00:00:01Z a\n"));
    // Left out by its name, whatever rotation made of it.
    tree.write("var/log/auth.log.1", "2026-11-23T00:00:02Z secret\n");
    let reading = tree.read("files", &whole_day());
    assert_eq!(reading.items.len(), 1);
    assert_eq!(reading.item("logs/files/var/log/app.log").text(), "2026-11-23T00:00:01Z a\n2026-11-23T00:00:02Z b\n");
}

#[test]
fn a_directory_with_very_many_files_is_read_as_far_as_the_cap() {
    let tree = Tree::new();
    for n in 0..200 {
        tree.write(&format!("{POD}/app/{n}.log"), line(n, "x"));
    }
    let reading = tree.read("pods", &whole_day());
    let item = reading.item(ITEM);
    assert_eq!(item.records.len(), 64);
    assert_eq!(item.records[0].0, at("2026-11-23T00:02:16Z"));
    assert!(item.gap(GapReason::Budget).unwrap().detail.starts_with("136 older files"));
}

#[test]
fn the_zone_of_the_host_is_where_its_localtime_points() {
    let tree = Tree::new();
    tree.write("var/log/syslog", "2026-11-23 02:44:10 x\n");
    let method = |tree: &Tree| tree.read("files", &whole_day()).items[0].head.method.clone();
    assert!(method(&tree).contains("UTC inferred"), "{}", method(&tree));
    symlink("/usr/share/zoneinfo/Europe/Nowhere", tree.path("etc/localtime")).unwrap();
    assert!(method(&tree).contains("UTC (the rules of zone Europe/Nowhere could not be read)"), "{}", method(&tree));
    // Version 1 of RFC 8536: one zone, two hours east, and no change of it.
    let mut rules = b"TZif".to_vec();
    rules.extend([0; 16]);
    for count in [0_u32, 0, 0, 0, 1, 4] {
        rules.extend(count.to_be_bytes());
    }
    rules.extend(7200_i32.to_be_bytes());
    rules.extend([0, 0]);
    rules.extend(b"XST\0");
    tree.write("usr/share/zoneinfo/Europe/Nowhere", &rules);
    let reading = tree.read("files", &whole_day());
    assert!(reading.items[0].head.method.contains("Europe/Nowhere inferred"), "{}", reading.items[0].head.method);
    assert_eq!(reading.items[0].records[0].0, at("2026-11-23T00:44:10Z"));
}
