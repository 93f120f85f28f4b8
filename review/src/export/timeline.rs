//! The timeline as JSON lines: with Timesketch's three fields, and beside it the format with which lnav reads it in columns and
//! colours. What a case file has of it is written again, so that no text in it steers a terminal.

use std::io::Write;

use crate::casefile::CaseFile;
use crate::display::safe;
use crate::timeline::Row;

use super::cells::{json, lines};
use super::tables::wants_row;
use super::{Ask, ExportError, Form, Shape, Target, reviewed};

/// The rows. Timesketch goes by the ending, and lnav by the whole name.
const FILE: &str = "timeline.jsonl";

/// Where lnav looks for formats below a directory that it is given with `-I`.
const FORMAT_FILE: &str = "formats/casefile/casefile.json";

/// How lnav reads it: <https://docs.lnav.org/en/latest/formats.html>.
const FORMAT: &str = include_str!("timeline/lnav.json");

/// The form.
pub(super) static FORM: Form = Form {
    name: "timeline",
    about: "what happened as JSON lines, for lnav (its format lies beside it) and Timesketch",
    then: "lnav -I PATH PATH/timeline.jsonl",
    shape: Shape::Directory,
    write,
};

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    let review = reviewed(casefile, &mut target.done)?;
    let mut file = target.create(FILE)?;
    let mut rows = 0;
    for row in review.timeline.iter().filter(|row| wants_row(ask, row)) {
        let line = json(&shown(row)).and_then(|line| writeln!(file, "{line}"));
        line.map_err(ExportError::write(FILE))?;
        rows += 1;
    }
    target.finish(FILE, file, rows)?;
    let mut file = target.create(FORMAT_FILE)?;
    file.write_all(FORMAT.as_bytes()).map_err(ExportError::write(FORMAT_FILE))?;
    target.finish(FORMAT_FILE, file, 1)
}

/// The row with texts that are safe to show: JSON escapes what a terminal obeys, and a reader of JSON takes that off again.
fn shown(row: &Row) -> Row {
    let part = |part: &Option<String>| part.as_deref().map(safe);
    Row {
        datetime: row.datetime,
        timestamp_desc: row.timestamp_desc,
        message: lines(row.message.as_bytes()),
        node: safe(&row.node),
        severity: safe(&row.severity),
        id: safe(&row.id),
        evidence: part(&row.evidence),
        finding: part(&row.finding),
        until: row.until,
        entry: part(&row.entry),
        line: row.line,
    }
}
