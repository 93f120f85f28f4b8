//! Globs of the configuration: whatever one says, nothing outside of the host's root is read, and what it finds it matches.

use std::cell::RefCell;
use std::ops::ControlFlow::{self, Continue};
use std::os::unix::fs::symlink;

use casefile_agent::host::Host;
use casefile_agent::logs::fuzzing::check_glob;
use casefile_agent::logs::{ALL, FilesConfig, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use casefile_proto::units::Bytes;

use crate::input::{BEGIN, Input};
use crate::scratch::Scratch;
use crate::{Target, none};

pub(crate) const TARGET: Target = Target {
    name: "globs",
    about: "A glob of the configuration and its exceptions (apart by \\x00) over a tree that lies outside too",
    run,
    seeds: none,
};

thread_local! {
    static TREE: RefCell<Scratch> = RefCell::new(tree());
}

/// The host is `host`; beside it lies what nobody may read.
fn tree() -> Scratch {
    let scratch = Scratch::new();
    let line = |text: &str| format!("2026-11-23T00:00:01Z {text}\n").into_bytes();
    for path in ["var/log/syslog", "var/log/syslog.1", "var/log/a.log", "var/log/app/b.log", "srv/x/y/c.log"] {
        scratch.write(&format!("host/{path}"), &line("inside"));
    }
    scratch.write("outside/var/log/a.log", &line("SECRET"));
    for (link, target) in [("var/log/link.log", "../../../outside/var/log/a.log"), ("srv/out", "../../outside")] {
        symlink(target, scratch.path().join("host").join(link)).unwrap();
    }
    scratch
}

struct Inside(u64);

impl LogSink for Inside {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        assert!(head.path.as_str().starts_with("logs/files/"), "{}", head.path);
        Continue(())
    }
    fn record(&mut self, _at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        assert!(bytes.ends_with(b" inside\n"), "{}", bytes.escape_ascii());
        self.0 += 1;
        Continue(())
    }
    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        Continue(())
    }
}

fn run(bytes: &[u8]) {
    let mut texts = Input::new(bytes).parts(0).map(|t| String::from_utf8_lossy(t).into_owned());
    let family = FilesConfig {
        glob: texts.next().unwrap_or_default(),
        except: texts.take(4).collect(),
        ..FilesConfig::default()
    };
    let right = check_glob(&family).is_ok();
    TREE.with_borrow(|tree| {
        let host = Host::new(&tree.path().join("host")).unwrap();
        let window = Window::new(BEGIN, BEGIN.offset(10 * NANOS_PER_SEC)).unwrap();
        let ask = LogAsk { window, budget: Bytes::mib(1), select: Selection::default() };
        let spec = ALL.iter().find(|s| s.name == "files").unwrap();
        let mut sink = Inside(0);
        let covered = (spec.open)(&host, &LogConfig { files: vec![family] }).read(&ask, &mut sink);
        assert_eq!(covered.records, sink.0);
        assert!(right || (sink.0 == 0 && !covered.gaps.is_empty()), "a wrong glob is told and finds nothing");
    });
}
