//! A container's log in files as rotation leaves them, read by the log source itself, beside the simplest reader.

use std::cell::RefCell;
use std::ops::ControlFlow::{self, Continue};

use casefile_agent::host::Host;
use casefile_agent::logs::fuzzing::Given;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};

use super::gzip::packed;
use crate::input::Input;
use crate::scratch::Scratch;
use crate::{Target, none, reference};

pub(crate) const TARGET: Target = Target {
    name: "pods",
    about: "A container's log in rotated and compressed files (apart by \\xff), through the file system",
    run,
    seeds: none,
};

/// More files than this teach nothing new and cost time.
const MAX_FILES: usize = 6;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

#[derive(Default)]
struct Sink(Given, Vec<String>);

impl LogSink for Sink {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        self.1.push(head.path.to_string());
        self.0.begin(head)
    }
    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        assert!(!self.1.is_empty());
        self.0.record(at, bytes)
    }
    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        let _ = self.0.end(covered, gaps);
        Continue(())
    }
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let asked = input.asked();
    let packing = input.byte();
    let files: Vec<_> = input.parts(0xff).take(MAX_FILES).collect();
    SCRATCH.with_borrow(|scratch| {
        scratch.clear();
        let (newest, older) = files.split_last().unwrap();
        for (n, file) in older.iter().enumerate() {
            let name = format!("var/log/pods/shop_api_u/app/0.log.20261123-{n:06}");
            match packing >> n & 1 {
                0 => scratch.write(&name, file),
                _ => scratch.write(&format!("{name}.gz"), &packed(file)),
            };
        }
        scratch.write("var/log/pods/shop_api_u/app/0.log", newest);
        let host = Host::new(scratch.path()).unwrap();
        let ask = LogAsk { window: asked.window, budget: asked.budget, select: Selection::default() };
        let mut sink = Sink::default();
        let spec = ALL.iter().find(|s| s.name == "pods").unwrap();
        sink.0.covered = (spec.open)(&host, &LogConfig::default()).read(&ask, &mut sink);
        assert_eq!(sink.1, ["logs/pods/shop_api_u/app.log"]);
        assert!(sink.0.covered.gaps.is_empty(), "{:?}", sink.0.covered.gaps);
        reference::cri(&files).compare(asked, &sink.0);
    });
}
