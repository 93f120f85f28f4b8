//! What the tests of the log sources have in common: a tree of files to read, a sink that keeps what it is given, and
//! the asking itself.

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::{Path, PathBuf};

use casefile_agent::host::Host;
use casefile_agent::logs::{ALL, Covered, LogAsk, LogConfig, LogSink, LogSource, Selection, Stop};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

/// A host root to be filled with files.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(path), bytes).unwrap();
    }

    pub(crate) fn read(&self, source: &str, ask: &LogAsk) -> Reading {
        read(self.dir.path(), source, ask, &mut |_, _| Continue(()))
    }

    /// The same, with stanzas of an operator after those that every agent knows.
    pub(crate) fn read_configured(&self, stanzas: &str, ask: &LogAsk) -> Reading {
        let mut config = LogConfig::builtin();
        config.files.extend(toml::from_str::<LogConfig>(stanzas).unwrap().files);
        read_as(self.dir.path(), &config, "files", ask, &mut |_, _| Continue(()))
    }

    /// The same; `each` is called with every record and may do things to the tree or stop.
    pub(crate) fn read_with(&self, source: &str, ask: &LogAsk, each: Each<'_>) -> Reading {
        read(self.dir.path(), source, ask, each)
    }
}

pub(crate) type Each<'a> = &'a mut dyn FnMut(WallTime, &[u8]) -> ControlFlow<Stop>;

/// What one item was given.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) head: ItemHead,
    pub(crate) records: Vec<(WallTime, Vec<u8>)>,
    pub(crate) covered: Option<Window>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) ended: bool,
}

impl Item {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.records.iter().map(|(_, b)| b.as_slice()).collect::<Vec<_>>().concat())
            .into_owned()
    }

    pub(crate) fn gap(&self, reason: GapReason) -> Option<&Gap> {
        self.gaps.iter().find(|g| g.reason == reason)
    }
}

/// What one reading gave.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) items: Vec<Item>,
    pub(crate) covered: Covered,
}

impl Reading {
    pub(crate) fn item(&self, path: &str) -> &Item {
        self.items.iter().find(|i| i.head.path.as_str() == path).unwrap_or_else(|| panic!("no {path} in {self:#?}"))
    }

    /// Every record of every item.
    pub(crate) fn records(&self) -> Vec<(WallTime, Vec<u8>)> {
        self.items.iter().flat_map(|i| i.records.clone()).collect()
    }

    pub(crate) fn gap(&self, reason: GapReason) -> Option<&Gap> {
        self.covered.gaps.iter().find(|g| g.reason == reason)
    }

    /// What holds of every reading, whatever was read.
    pub(crate) fn holds(&self, source: &str, ask: &LogAsk) {
        assert!(self.items.iter().all(|i| i.ended && i.head.source == source));
        assert_eq!(self.covered.items, self.items.len() as u64);
        assert_eq!(self.covered.records, self.records().len() as u64);
        let bytes: usize = self.records().iter().map(|(_, b)| b.len()).sum();
        assert_eq!(self.covered.cost.bytes, bytes as u64);
        assert!(bytes as u64 <= ask.budget.0);
        assert!(self.records().iter().all(|(at, bytes)| ask.window.contains(*at) && bytes.ends_with(b"\n")));
        let within = |w: &Window| ask.window.intersect(w) == Some(*w);
        assert!(self.covered.covered.iter().all(within));
        assert!(self.covered.covered.windows(2).all(|w| w[0].until() < w[1].from()));
        for item in &self.items {
            assert!(
                item.covered.iter().all(within) && item.gaps.iter().filter_map(|g| g.interval.as_ref()).all(within)
            );
            assert!(
                item.covered == Some(ask.window) || !item.gaps.is_empty(),
                "not covered and not said why: {item:#?}"
            );
        }
    }
}

struct Keep<'a> {
    items: Vec<Item>,
    each: Each<'a>,
}

impl LogSink for Keep<'_> {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        assert!(
            self.items.iter().all(|i| i.ended && i.head.path != head.path),
            "{head:?} begun before the last one ended"
        );
        self.items.push(Item { head, records: Vec::new(), covered: None, gaps: Vec::new(), ended: false });
        Continue(())
    }

    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        if let Break(stop) = (self.each)(at, bytes) {
            return Break(stop);
        }
        self.items.last_mut().unwrap().records.push((at, bytes.to_vec()));
        Continue(())
    }

    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        let item = self.items.last_mut().unwrap();
        assert!(!item.ended);
        (item.covered, item.gaps, item.ended) = (covered, gaps, true);
        Continue(())
    }
}

pub(crate) fn read(root: &Path, source: &str, ask: &LogAsk, each: Each<'_>) -> Reading {
    read_as(root, &LogConfig::builtin(), source, ask, each)
}

fn read_as(root: &Path, config: &LogConfig, source: &str, ask: &LogAsk, each: Each<'_>) -> Reading {
    let reading = gather(&mut *open_as(root, config, source), ask, each);
    reading.holds(source, ask);
    reading
}

/// A log source over a tree, as the agent opens it.
pub(crate) fn open(root: &Path, source: &str) -> Box<dyn LogSource> {
    open_as(root, &LogConfig::builtin(), source)
}

fn open_as(root: &Path, config: &LogConfig, source: &str) -> Box<dyn LogSource> {
    let spec = ALL.iter().find(|s| s.name == source).unwrap();
    (spec.open)(&Host::new(root).unwrap(), config)
}

/// Reads from a log source that may be any, and believes nothing of it.
pub(crate) fn gather(opened: &mut dyn LogSource, ask: &LogAsk, each: Each<'_>) -> Reading {
    let mut keep = Keep { items: Vec::new(), each };
    let covered = opened.read(ask, &mut keep);
    Reading { items: keep.items, covered }
}

pub(crate) fn at(text: &str) -> WallTime {
    text.parse().unwrap()
}

pub(crate) fn window(from: &str, until: &str) -> Window {
    Window::new(at(from), at(until)).unwrap()
}

pub(crate) fn ask(window: Window) -> LogAsk {
    LogAsk { window, budget: Bytes(1 << 40), select: Selection::default() }
}

/// The window that all handwritten logs of the tests lie in.
pub(crate) fn whole_day() -> LogAsk {
    ask(window("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
