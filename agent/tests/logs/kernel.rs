//! The kernel log: its text form, what the kernel no longer held, and what is no record.

use std::ops::ControlFlow::{Break, Continue};

use casefile_agent::host::Host;
use casefile_agent::logs::Stop;
use casefile_agent::sources::{Measurement, Opened};
use casefile_proto::event::EventKind;
use casefile_proto::gap::GapReason;

use crate::journal_file::{COMPACT, Writer, record};
use crate::tree::{Tree, ask, at, whole_day, window};

/// Booted at 2026-11-23T00:00:00Z.
fn machine(kmsg: &str) -> Tree {
    let tree = Tree::new();
    tree.write("proc/stat", format!("cpu 1 2 3\nbtime {}\n", at("2026-11-23T00:00:00Z").nanos() / 1_000_000_000));
    tree.write("dev/kmsg", kmsg);
    tree
}

#[test]
fn a_record_is_one_line_with_its_properties_below_and_says_who_wrote_it() {
    let tree = machine(
        "4,6801,6860814103,-;yes invoked oom-killer: order=0\n SUBSYSTEM=mem\n\
         12,6802,6860914103,-,caller=T1;Out of memory: Killed process 1 (fake)\\x0a4,1,1,-;x\n\
         187,6803,6861000000,-;local\n\
         6,6804,6861000001,c,caller=C3;begun and \n6,6805,6861000002,+,caller=C3;ended\n",
    );
    let reading = tree.read("kernel", &whole_day());
    let item = reading.item("logs/kernel.log");
    assert_eq!(
        item.text(),
        "2026-11-23T01:54:20.814103Z facility=kern level=warn seq=6801 user=false yes invoked oom-killer: order=0\n \
         SUBSYSTEM=mem\n\
         2026-11-23T01:54:20.914103Z facility=user level=warn seq=6802 caller=T1 user=true Out of memory: Killed process 1 (fake)\\x0a4,1,1,-;x\n\
         2026-11-23T01:54:21.000000Z facility=local7 level=err seq=6803 user=true local\n\
         2026-11-23T01:54:21.000001Z facility=kern level=info seq=6804 caller=C3 fragment=true user=false begun and \n\
         2026-11-23T01:54:21.000002Z facility=kern level=info seq=6805 caller=C3 fragment=true user=false ended\n"
    );
    assert_eq!(item.head.method, "/dev/kmsg, times computed from the time since boot");
}

#[test]
fn what_the_buffer_no_longer_held_is_a_gap_up_to_the_first_record() {
    let tree = machine("6,500,3600000000,-;first that is left\n6,503,7200000000,-;after a loss\n");
    let reading = tree.read("kernel", &whole_day());
    let item = reading.item("logs/kernel.log");
    let gaps: Vec<_> = item.gaps.iter().map(|g| (g.reason, g.interval, g.count)).collect();
    let lost = window("2026-11-23T01:00:00Z", "2026-11-23T02:00:00.000000001Z");
    let before = window("2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z");
    assert_eq!(gaps, [(GapReason::RotatedAway, Some(lost), Some(2)), (GapReason::RotatedAway, Some(before), None)]);
    assert_eq!(item.covered, Some(window("2026-11-23T01:00:00Z", "2026-11-24T00:00:00Z")));
    // A loss outside of the window is none of it.
    let later = tree.read("kernel", &ask(window("2026-11-23T03:00:00Z", "2026-11-23T04:00:00Z")));
    assert!(later.item("logs/kernel.log").gaps.is_empty());
}

#[test]
fn before_the_first_record_of_a_boot_the_machine_was_down() {
    let reading = machine("5,0,0,-;Linux version 6.18\n")
        .read("kernel", &ask(window("2026-11-22T23:00:00Z", "2026-11-23T01:00:00Z")));
    let gap = reading.item("logs/kernel.log").gap(GapReason::NodeRebooted).unwrap();
    assert_eq!(gap.interval, Some(window("2026-11-22T23:00:00Z", "2026-11-23T00:00:00Z")));
}

#[test]
fn what_is_no_record_is_counted_and_costs_no_other() {
    let tree =
        machine(&format!("6,0,1000000,-;one\ngarbage\n6,1,x,-;bad\n{}\n6,3,3000000,-;two\n", "y".repeat(100_000)));
    let reading = tree.read("kernel", &whole_day());
    let item = reading.item("logs/kernel.log");
    assert_eq!(item.records.len(), 2, "{}", item.text());
    assert!(item.gap(GapReason::ParseFailed).unwrap().count >= Some(3));
}

#[test]
fn a_machine_without_a_kernel_log_is_not_one_with_a_silent_kernel() {
    let tree = Tree::new();
    tree.write("proc/stat", "btime 1795392000\n");
    let reading = tree.read("kernel", &whole_day());
    assert!(reading.items.is_empty() && reading.covered.covered.is_empty());
    assert_eq!(reading.covered.gaps.iter().map(|g| g.reason).collect::<Vec<_>>(), [GapReason::SourceAbsent]);

    let tree = Tree::new();
    tree.write("dev/kmsg", "6,1,1,-;no date to be had\n");
    let reading = tree.read("kernel", &whole_day());
    assert!(reading.items.is_empty() && !reading.covered.gaps.is_empty());

    let tree = Tree::new();
    std::os::unix::fs::symlink("/dev/zero", tree.path("dev/kmsg")).unwrap();
    assert!(tree.read("kernel", &whole_day()).gap(GapReason::RefusedUnsafePath).is_some());
}

#[test]
fn a_cancelled_reading_says_from_when_on_it_lacks_records() {
    let tree = machine("6,0,1000000,-;one\n6,1,2000000,-;two\n6,2,3000000,-;three\n");
    let mut left = 2;
    let reading = tree.read_with("kernel", &whole_day(), &mut |_, _| {
        left -= 1;
        if left < 0 { Break(Stop::Cancelled) } else { Continue(()) }
    });
    let item = reading.item("logs/kernel.log");
    assert_eq!(item.records.len(), 2);
    assert_eq!(item.gap(GapReason::Cancelled).unwrap().interval.unwrap().from(), at("2026-11-23T00:00:03Z"));
    assert_eq!(item.covered.unwrap().until(), at("2026-11-23T00:00:03Z"));
}

/// Runs where the tests run: as whoever that is, with or without the device and the permission.
#[test]
fn the_kernel_log_of_this_machine_is_read_or_says_why_not() {
    let now = casefile_agent::clock::system()().wall;
    let last_month =
        casefile_proto::time::Window::new(now.offset(-30 * 86_400_000_000_000), now.offset(1_000_000_000_000)).unwrap();
    let reading = crate::tree::read(std::path::Path::new("/"), "kernel", &ask(last_month), &mut |_, _| Continue(()));
    // Dumps of a crash of this month may be there too.
    let log: Vec<_> = reading.items.iter().filter(|i| i.head.path.as_str() == "logs/kernel.log").collect();
    match log.as_slice() {
        [] => assert!(!reading.covered.gaps.is_empty()),
        [item] => {
            let times: Vec<_> = item.records.iter().map(|(at, _)| *at).collect();
            assert!(times.iter().all(|at| *at <= now.offset(60_000_000_000)), "{:?} after {now}", times.iter().max());
            // The future is not covered.
            assert!(item.covered.is_none_or(|c| c.until() < last_month.until()));
        }
        _ => panic!("{reading:#?}"),
    }
}

/// What the metric source of the same name tells at an agent's first tick of a boot that began at this time.
fn told_of_the_previous_boot(tree: &Tree, booted: &str) -> Vec<(String, String, String)> {
    tree.write("proc/stat", format!("btime {}\n", at(booted).nanos() / 1_000_000_000));
    tree.write("dev/kmsg", "5,0,0,-;Linux version 6.18\n");
    let spec = casefile_agent::sources::ALL.iter().find(|s| s.name == "kernel").unwrap();
    let Opened::Ready(mut source) = (spec.open)(&Host::new(&tree.path("")).unwrap()).unwrap() else {
        panic!("no kernel log")
    };
    let mut out = Measurement::new(spec.metrics);
    out.begin();
    source.measure(&mut out).unwrap();
    assert!(out.gaps().is_empty(), "{:?}", out.gaps());
    let told = out.events().iter().filter_map(|event| match &event.kind {
        EventKind::PreviousBoot { found_in } => Some((event.at.wall.to_string(), found_in.clone(), event.text.clone())),
        _ => None,
    });
    told.collect()
}

#[test]
fn the_last_words_of_the_kernel_before_this_boot_are_taken_out_of_the_journal() {
    let tree = Tree::new();
    let mut journal = Writer::new(COMPACT, 1);
    // BEGIN is 02:44:10; what a service says is not the kernel's.
    for (seqnum, seconds, transport) in [(1, 0, "kernel"), (2, 60, "stdout"), (3, 61, "kernel")] {
        let message = format!("MESSAGE=line {seqnum}");
        let fields = [&format!("_TRANSPORT={transport}"), "SYSLOG_IDENTIFIER=kernel", "PRIORITY=3", &message];
        journal.entry(&record(seqnum, seconds, &fields));
    }
    // Of this boot, but for a boot that begins later.
    journal.entry(&record(
        4,
        700,
        &["_TRANSPORT=kernel", "SYSLOG_IDENTIFIER=kernel", "PRIORITY=3", "MESSAGE=up again"],
    ));
    tree.write("var/log/journal/0123/system.journal", &journal.bytes);
    let told = told_of_the_previous_boot(&tree, "2026-11-23T02:50:00Z");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].2.contains("in the journal, before the boot at 2026-11-23T02:50:00Z; the last 2 of its 2 lines"));
    assert_eq!((told[1].0.as_str(), told[2].0.as_str()), ("2026-11-23T02:44:10Z", "2026-11-23T02:45:11Z"));
    assert!(told[2].1 == "logs/journal/kernel.log" && told[2].2.ends_with("line 3"), "{told:?}");
    // Up to an hour before the boot, where the ten minutes before it hold nothing; never farther.
    assert_eq!(told_of_the_previous_boot(&tree, "2026-11-23T03:40:00Z").len(), 4);
    assert_eq!(told_of_the_previous_boot(&tree, "2026-11-23T09:00:00Z"), []);
}
