//! The parsers of the log sources as functions of bytes, for those who try them with any bytes: the targets of `fuzz/`, and
//! nothing else. What lies in files elsewhere lies in memory here; what must hold is asserted by the targets.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::ControlFlow::{self, Continue};

use casefile_evidence::logtime::style::{HostZone, Stamper, detect};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::cri::Cri;
use super::inflate::{GzipFeed, head};
use super::lines::{Fed, Feed, Lines, Next};
use super::sink::{Before, Giving, Item};
use super::text::{Text, TextForm};
use super::window::{Approach, Begin, Grammar, Order, scan};
use super::{Covered, FilesConfig, LogAsk, LogSink, Selection, Stop, files, item_path, rotation};

/// Bytes in memory, given out in pieces of at most so many.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Feed for Pieces<'_> {
    fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed> {
        let bytes = self.size.max(1).min(self.rest.len()).min(into.len());
        into[..bytes].copy_from_slice(&self.rest[..bytes]);
        self.rest = &self.rest[bytes..];
        Ok(Fed { bytes, hole: 0 })
    }
}

/// One line as it was cut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutLine {
    /// Where it begins.
    pub offset: u64,
    /// It, without its line feed.
    pub bytes: Vec<u8>,
    /// Bytes of it that were left out.
    pub left_out: u64,
    /// Zero bytes that were passed over before it.
    pub zeros: u64,
}

/// The lines of these bytes when they arrive in pieces of this size.
pub fn lines(bytes: &[u8], piece: usize) -> Vec<CutLine> {
    let mut lines = Lines::new(Pieces { rest: bytes, size: piece }, 0, u64::MAX);
    let mut out = Vec::new();
    loop {
        let offset = lines.offset();
        match lines.next() {
            Ok(Next::Line(l)) => {
                out.push(CutLine { offset, bytes: l.bytes.to_vec(), left_out: l.left_out, zeros: l.zeros });
            }
            Ok(Next::Busy) => {}
            // Memory gives no error.
            Ok(Next::End) | Err(_) => return out,
        }
    }
}

/// What reading one log gave.
#[derive(Debug, Default)]
pub struct Given {
    /// Records, in the order in which they came.
    pub records: Vec<(WallTime, Vec<u8>)>,
    /// What the item was ended with.
    pub interval: Option<Window>,
    /// What the item was ended with.
    pub gaps: Vec<Gap>,
    /// The row of the coverage.
    pub covered: Covered,
}

impl LogSink for Given {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        Continue(())
    }
    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        self.records.push((at, bytes.to_vec()));
        Continue(())
    }
    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        (self.interval, self.gaps) = (covered, gaps);
        Continue(())
    }
}

/// What is asked of one log in memory.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The window.
    pub window: Window,
    /// The most that is given.
    pub budget: Bytes,
    /// In pieces of this size the bytes arrive.
    pub piece: usize,
}

/// Reads these bytes from end to end as one log, as if probes had found nothing wrong with its order.
fn read<G: Grammar>(
    bytes: &[u8],
    asked: Asked,
    mut grammar: G,
    form: &G::Form,
    finish: impl FnOnce(&mut G, &mut Item<'_, '_>),
) -> Given {
    let mut given = Given::default();
    let ask = LogAsk { window: asked.window, budget: asked.budget, select: Selection::default() };
    let mut giving = Giving::new("fuzz", &ask, None, 1, &mut given);
    let covered = match giving.item(item_path("fuzz"), String::new()) {
        Some(mut item) => {
            let mut order = Order::of(Begin { offset: 0, in_order: true });
            grammar.enter(form);
            let mut lines = Lines::new(Pieces { rest: bytes, size: asked.piece }, 0, u64::MAX);
            // However it ended, the item knows.
            let _ = scan(&mut lines, Approach::Line, &mut order, &mut grammar, &mut item);
            finish(&mut grammar, &mut item);
            item.end(order.oldest, Before::NotRecorded);
            giving.finish(0)
        }
        None => giving.finish(1),
    };
    given.covered = covered;
    given
}

/// Container logs.
pub fn cri(bytes: &[u8], asked: Asked) -> Given {
    read(bytes, asked, Cri::default(), &(), |cri, item| {
        let _ = cri.finish(item);
    })
}

/// One line of a container log as the parser sees it.
#[derive(Debug, Clone, Copy)]
pub struct CriLine<'a> {
    /// Its time.
    pub at: WallTime,
    /// Its time as it stands there.
    pub stamp: &'a [u8],
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Whether its text goes on.
    pub partial: bool,
    /// Its text.
    pub text: &'a [u8],
}

/// The time at the begin of a line of a container log, and the line itself where it is one.
pub fn cri_line(line: &[u8]) -> Option<(WallTime, Option<CriLine<'_>>)> {
    let mut cri = Cri::default();
    let at = cri.stamp(line)?;
    Some((at, cri.rest_of(line)))
}

/// A plain text log that was last changed then; `None`: no style of time is recognised in its beginning.
pub fn text(bytes: &[u8], changed: WallTime, asked: Asked) -> Option<Given> {
    let style = detect(&bytes[..bytes.len().min(super::history::SAMPLE)])?;
    let form = TextForm { style: Some(style), other: None, changed };
    Some(read(bytes, asked, Text::new(HostZone::utc("UTC")), &form, |text, item| {
        let _ = text.finish(item);
    }))
}

/// The times of these lines in the style that is recognised in the beginning of `bytes`.
pub fn stamps(bytes: &[u8], lines: &[&[u8]], changed: WallTime) -> Option<Vec<Option<WallTime>>> {
    let zone = HostZone::utc("UTC");
    let style = detect(&bytes[..bytes.len().min(super::history::SAMPLE)])?;
    let mut stamper = Stamper::new(style, &zone, changed);
    Some(lines.iter().map(|line| stamper.stamp(line)).collect())
}

/// Inflates a file as a rotated log is: `each` is given what comes, until it says stop.
pub fn inflate(file: &File, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
    let mut feed = GzipFeed::new(file);
    let mut buf = vec![0; 64 << 10];
    loop {
        match feed.feed(&mut buf)? {
            Fed { bytes: 0, .. } => return Ok(()),
            fed if each(&buf[..fed.bytes]).is_break() => return Ok(()),
            _ => {}
        }
    }
}

/// What a rotated log begins with.
pub fn inflated_head(file: &File, into: &mut [u8]) -> usize {
    head(file, into)
}

/// Which restart of a container a file's name says, and whether it is packed.
pub fn container_log(name: &OsStr) -> Option<(u32, bool)> {
    rotation::container_log(name).map(|p| (p.group, p.packed))
}

/// Names of container logs, oldest first.
pub fn oldest_first(names: &[&OsStr]) -> Vec<usize> {
    let mut places: Vec<_> =
        names.iter().enumerate().filter_map(|(i, n)| Some((rotation::container_log(n)?, i))).collect();
    places.sort();
    places.into_iter().map(|(_, i)| i).collect()
}

/// Whether a name is one that rotation gives to a file of this log, and whether it is packed.
pub fn rotated(log: &OsStr, name: &OsStr) -> Option<bool> {
    rotation::rotated_name(log, name).map(|p| p.packed)
}

/// What is wrong with a family of files.
pub fn check_glob(family: &FilesConfig) -> Result<(), Gap> {
    files::check(family)
}
