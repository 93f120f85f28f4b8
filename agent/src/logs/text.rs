//! Plain text logs: a line with a time begins a record, lines without one belong to the record before. Pure.
//!
//! In the archive a record is its lines, to the byte, each with its line feed.

use std::ops::ControlFlow::Continue;
use std::time::Duration;

use casefile_evidence::logtime::style::{HostZone, Stamper, Style};
use casefile_proto::time::WallTime;

use super::lines::{LINE_CAP, Line};
use super::sink::{Flow, Item};
use super::window::Grammar;

/// What was recognised of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextForm {
    /// How its times are written; `None` for a file that is empty.
    pub(super) style: Option<Style>,
    /// A second style, where the log went over from one to another.
    pub(super) other: Option<Style>,
    /// When it was last changed, for times without a year.
    pub(super) changed: WallTime,
}

/// Joins lines to records.
#[derive(Debug)]
pub(super) struct Text {
    zone: HostZone,
    /// The one that read the last time first.
    stampers: [Option<Stamper>; 2],
    /// The time of the record that is being gathered.
    at: Option<WallTime>,
    record: Vec<u8>,
    left_out: u64,
    /// Bytes without a time before the first line that has one.
    orphaned: u64,
}

impl Text {
    /// For a host in this zone.
    pub(super) fn new(zone: HostZone) -> Self {
        Self { zone, stampers: [None, None], at: None, record: Vec::new(), left_out: 0, orphaned: 0 }
    }

    /// Gives what was held back when the log was read to its end.
    pub(super) fn finish(&mut self, item: &mut Item<'_, '_>) -> Flow {
        item.damaged(None, std::mem::take(&mut self.orphaned));
        self.break_off(item)
    }

    fn give(&mut self, item: &mut Item<'_, '_>) -> Flow {
        let Some(at) = self.at.filter(|_| !self.record.is_empty()) else { return Continue(()) };
        item.cut_record(at, std::mem::take(&mut self.left_out));
        let flow = item.record(at, &self.record);
        self.record.clear();
        flow
    }
}

impl Grammar for Text {
    type Form = TextForm;

    // The lines of a record follow each other.
    const APART: Duration = Duration::ZERO;

    fn enter(&mut self, form: &TextForm) {
        self.stampers = [form.style, form.other].map(|style| style.map(|s| Stamper::new(s, &self.zone, form.changed)));
    }

    fn stamp(&mut self, line: &[u8]) -> Option<WallTime> {
        let [first, second] = &mut self.stampers;
        first.as_mut()?.stamp(line).or_else(|| {
            let at = second.as_mut()?.stamp(line)?;
            std::mem::swap(first, second);
            Some(at)
        })
    }

    fn line(&mut self, at: Option<WallTime>, line: &Line<'_>, item: &mut Item<'_, '_>) -> Flow {
        if at.is_some() {
            self.give(item)?;
            self.at = at;
            item.damaged(at, std::mem::take(&mut self.orphaned));
        }
        let Some(at) = self.at else {
            self.orphaned += line.bytes.len() as u64 + line.left_out + line.zeros;
            return Continue(());
        };
        item.damaged(Some(at), line.zeros);
        // Zeros and nothing else are no line of the record: what a crash left behind the last one has not even an end.
        if !item.wants(at) || (line.bytes.is_empty() && line.zeros > 0) {
            return Continue(());
        }
        if self.record.len() + line.bytes.len() > LINE_CAP {
            // A record of many lines is given in parts, at line ends, rather than cut.
            self.give(item)?;
        }
        self.record.extend_from_slice(line.bytes);
        self.record.push(b'\n');
        self.left_out += line.left_out;
        Continue(())
    }

    fn unfinished(&self, _item: &Item<'_, '_>) -> bool {
        // What is gathered belongs to the window, and lines without a time may follow.
        !self.record.is_empty()
    }

    fn break_off(&mut self, item: &mut Item<'_, '_>) -> Flow {
        let flow = self.give(item);
        self.at = None;
        flow
    }
}
