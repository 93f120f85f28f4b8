//! The kernel log: records of `/dev/kmsg`, lines of `syslog(2)`, and a whole log through the log source.

use std::cell::RefCell;

use casefile_agent::host::Host;
use casefile_agent::kmsg::{parse_record, parse_syslog_line};
use casefile_agent::logs::fuzzing::Given;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, Selection};
use casefile_proto::time::NANOS_PER_SEC;

use crate::input::{BEGIN, Input};
use crate::scratch::Scratch;
use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "kmsg", about: "Records of /dev/kmsg and lines of syslog(2)", run, seeds: none };

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let asked = input.asked();
    let mut records = 0;
    for line in input.parts(b'\n') {
        if let Ok(record) = parse_record(line) {
            records += 1;
            assert!(record.level < 8 && record.seq.is_some() && record.micros.is_some());
            // Printed as the kernel would, it is the same record.
            let text: String = record.text.bytes().fold(String::new(), |mut all, b| {
                let plain = (b' '..=b'~').contains(&b) && b != b'\\';
                all.push_str(&if plain { char::from(b).to_string() } else { format!("\\x{b:02x}") });
                all
            });
            let (priority, seq) = (u16::from(record.facility) * 8 + u16::from(record.level), record.seq.unwrap());
            let flags = if record.fragment { "c" } else { "-" };
            let caller = record.caller.as_ref().map(|c| format!(",caller={c}")).unwrap_or_default();
            let printed = format!("{priority},{seq},{},{flags}{caller};{text}", record.micros.unwrap());
            if !caller.contains([',', ';']) {
                assert_eq!(parse_record(printed.as_bytes()).as_ref(), Ok(&record), "{printed}");
            }
        }
        if let Ok(record) = parse_syslog_line(line) {
            assert!(record.level < 8 && record.seq.is_none());
        }
    }
    SCRATCH.with_borrow(|scratch| {
        scratch.write("proc/stat", format!("btime {}\n", BEGIN.nanos() / NANOS_PER_SEC).as_bytes());
        scratch.write("dev/kmsg", input.rest);
        let host = Host::new(scratch.path()).unwrap();
        let ask = LogAsk { window: asked.window, budget: asked.budget, select: Selection::default() };
        let mut given = Given::default();
        let spec = ALL.iter().find(|s| s.name == "kernel").unwrap();
        given.covered = (spec.open)(&host, &LogConfig::default()).read(&ask, &mut given);
        assert!(given.records.len() <= records && given.records.len() as u64 == given.covered.records);
        for (at, text) in &given.records {
            assert!(asked.window.contains(*at) && text.ends_with(b"\n"), "{at}");
            // Whatever is in it, it can control no terminal and forge no line.
            assert!(text.split(|b| *b == b'\n').skip(1).all(|line| line.is_empty() || line[0] == b' '));
        }
        assert!(given.records.iter().map(|(_, b)| b.len() as u64).sum::<u64>() <= asked.budget.0);
    });
}
