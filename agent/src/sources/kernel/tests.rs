//! The kernel source over kernel logs that are files: what is told, what is lost, what has no room.

use std::path::Path;

use super::*;

struct Log {
    dir: tempfile::TempDir,
    host: Host,
    source: Box<dyn Source>,
    out: Measurement,
}

fn log(text: &str) -> Log {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dev")).unwrap();
    std::fs::create_dir(dir.path().join("proc")).unwrap();
    std::fs::write(dir.path().join("dev/kmsg"), text).unwrap();
    std::fs::write(dir.path().join("proc/stat"), "cpu0 1 2 3 4 5 6 7\nbtime 1795438068\n").unwrap();
    let host = Host::new(dir.path()).unwrap();
    let Ok(Opened::Ready(source)) = open(&host) else { panic!() };
    Log { dir, host, source, out: Measurement::new(&METRICS) }
}

impl Log {
    fn measure(&mut self) -> Vec<(EventKind, String)> {
        self.out.begin();
        self.source.measure(&mut self.out).unwrap();
        self.out.events().iter().map(|event| (event.kind.clone(), event.text.clone())).collect()
    }

    fn append(&self, text: &str) {
        use std::io::Write as _;
        let path = self.dir.path().join("dev/kmsg");
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

fn said(seq: u64, facility: u8, level: u8, text: &str) -> (EventKind, String) {
    (EventKind::Kernel { seq: Some(seq), facility, level }, text.to_owned())
}

#[test]
fn each_record_is_an_event_once_and_keeps_its_facility() {
    let mut log = log("4,1,1000000,-;one\n12,2,2500000,-;two\n");
    assert_eq!(log.measure(), [said(1, 0, 4, "one"), said(2, 1, 4, "two")]);
    assert_eq!(log.out.events()[1].at.wall.to_string(), "2026-11-23T12:47:50.5Z");
    assert!(log.measure().is_empty());
    log.append("6,3,3000000,-;three\n SUBSYSTEM=x\n");
    assert_eq!(log.measure(), [said(3, 0, 6, "three")]);
    assert_eq!(log.out.find(MESSAGES.name, &["warning", "kernel"]), Some(1));
    assert_eq!(log.out.find(MESSAGES.name, &["warning", "user"]), Some(1));
    assert!(log.out.gaps().is_empty());
}

#[test]
fn refused_firmware_commands_are_counted_by_device_and_only_when_the_kernel_says_so() {
    let refused = |priority, seq, device| {
        format!(
            "{priority},{seq},1000000,-;mlx5_core {device}: mlx5_cmd_out_err:838:(pid 9): ACCESS_REG(0x805) op_mod(0x1) failed\n"
        )
    };
    let mut log = log(&[refused(3, 1, "0000:1a:00.0"), refused(11, 2, "0000:1a:00.1")].concat());
    let count = |log: &Log, device| log.host.stats().refusals.of(crate::pci::PciAddress::parse(device).unwrap());
    log.measure();
    assert_eq!((count(&log, "0000:1a:00.0"), count(&log, "0000:1a:00.1")), (1, 0));
    log.append(&refused(3, 3, "0000:1a:00.0"));
    log.measure();
    assert_eq!(count(&log, "0000:1a:00.0"), 2);
}

#[test]
fn a_hole_in_the_sequence_numbers_is_told_with_its_size() {
    let mut log = log("6,7,1,-;a\n");
    log.measure();
    log.append("6,11,2,-;b\n");
    let (lost, text) =
        (EventKind::Lost { count: Some(3) }, "3 records of the kernel log were overwritten before they could be read");
    assert_eq!(log.measure(), [(lost, text.to_owned()), said(11, 0, 6, "b")]);
    assert_eq!((log.out.gaps()[0].reason, log.out.gaps()[0].count), (GapReason::RotatedAway, Some(3)));
    assert_eq!(log.out.find(LOST.name, &[]), Some(3));
}

#[test]
fn what_does_not_fit_into_one_measurement_is_told_at_the_next() {
    let mut log = log("6,0,1,-;begin\n");
    log.measure();
    let room = super::super::measurement::MAX_EVENTS as u64;
    log.append(&(1..=room + 2).map(|i| format!("6,{i},{i},-;line {i}\n")).collect::<String>());
    assert_eq!(log.measure().len() as u64, room);
    assert_eq!(
        log.measure(),
        [said(room + 1, 0, 6, &format!("line {}", room + 1)), said(room + 2, 0, 6, &format!("line {}", room + 2))]
    );
    assert_eq!(log.out.find(LOST.name, &[]), Some(0));
}

#[test]
fn of_a_long_log_only_the_end_is_taken_along_at_the_start() {
    let mut log = log(&(1..=5000).map(|i| format!("6,{i},{i},-;line {i}\n")).collect::<String>());
    let told = log.measure();
    assert_eq!(told.len(), MAX_BACKLOG);
    assert_eq!(told.last().unwrap().1, "line 5000");
    assert!(log.out.gaps().is_empty());
}

#[test]
fn garbage_is_a_gap_and_the_records_beside_it_are_told() {
    let mut log = log("6,1,1,-;good\n\u{0}garbage\nno prefix\n6,2,2,-;also good\n");
    assert_eq!(log.measure(), [said(1, 0, 6, "good"), said(2, 0, 6, "also good")]);
    assert_eq!((log.out.gaps()[0].reason, log.out.gaps()[0].count), (GapReason::ParseFailed, Some(2)));
}

#[test]
fn what_the_boot_before_left_is_told_once_and_not_by_an_agent_that_is_started_again() {
    let pstore = |log: &Log| {
        let dir = log.dir.path().join("sys/fs/pstore");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("dmesg-efi-179540185001001"), "Panic#1 Part1\n<0>[ 9.2] Kernel panic\n").unwrap();
    };
    let mut first = log("6,1,1,-;hello\n");
    pstore(&first);
    let told: Vec<_> = first
        .measure()
        .into_iter()
        .map(|(kind, text)| (matches!(kind, EventKind::PreviousBoot { .. }), text))
        .collect();
    assert_eq!(told[2..], [(true, "<0>[ 9.2] Kernel panic".to_owned()), (false, "hello".to_owned())]);
    assert!(first.measure().is_empty());
    let again = Host::new(first.dir.path()).unwrap();
    again.stats().boot_was_recorded.store(true, Ordering::Relaxed);
    let Ok(Opened::Ready(source)) = open(&again) else { panic!() };
    let mut again = Log { source, ..first };
    assert_eq!(again.measure(), [said(1, 0, 6, "hello")]);
}

#[test]
fn no_kernel_log_in_a_tree_means_absent() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open(&Host::new(dir.path()).unwrap()), Ok(Opened::Absent { .. })));
}

#[test]
fn this_machine_is_read_or_says_why_not() {
    let host = Host::new(Path::new("/")).unwrap();
    if let Ok(Opened::Ready(mut source)) = open(&host) {
        let mut out = Measurement::new(&METRICS);
        out.begin();
        source.measure(&mut out).unwrap();
        assert!(out.events().len() <= MAX_BACKLOG + previous::MAX_LINES);
        assert!(out.find(LOST.name, &[]).is_some() || !out.gaps().is_empty());
    }
}
