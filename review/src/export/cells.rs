//! Cells, columns and tables: what the forms that are made of rows have in common. A table is filled once and written by
//! whoever takes its rows (`csv`, `parquet`).

use std::io;

use casefile_proto::time::WallTime;

use crate::casefile::CaseFile;
use crate::display::{safe, safe_json, safe_text};

use super::{Ask, ExportError, Exported};

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    /// There is none: missing is not zero.
    None,
    /// A time, UTC.
    Time(WallTime),
    /// A text, already safe to show.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
}

impl<'a> Cell<'a> {
    /// A text that may not be there.
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::None, Self::Text)
    }

    /// A time that may not be there.
    pub(super) fn time(at: Option<WallTime>) -> Self {
        at.map_or(Self::None, Self::Time)
    }

    /// A count; one beyond 2^63 is none.
    pub(super) fn count(count: impl TryInto<i64>) -> Self {
        Self::Integer(count.try_into().unwrap_or(i64::MAX))
    }

    /// A count that may not be there.
    pub(super) fn counted(count: Option<u64>) -> Self {
        count.map_or(Self::None, Self::count)
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Time,
    Text,
    Integer,
    Real,
}

/// One column: its name and what it holds. Every cell of it may be [`Cell::None`].
pub(super) type Column = (&'static str, Kind);

/// One table.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name: that of its file and of its view.
    pub(super) name: &'static str,
    /// What a row is.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "views.sql says it, and nothing else does"))]
    pub(super) about: &'static str,
    /// Its columns.
    pub(super) columns: &'static [Column],
}

/// Tables that are filled in one pass over the case file.
pub(super) struct Group {
    /// The tables.
    pub(super) tables: &'static [Table],
    /// Whether the case file has what they are made of. Where it has not there is no table: an empty one would say that
    /// somebody looked and found nothing.
    pub(super) there: fn(&CaseFile) -> bool,
    /// Fills them.
    pub(super) fill: fn(&mut CaseFile, &Ask, &mut Exported, &mut dyn Rows) -> Result<(), ExportError>,
}

/// Whoever takes rows.
pub(super) trait Rows {
    /// One row of the table with this position in its group; a cell for each of its columns.
    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> Result<(), ExportError>;
}

/// A record's text: each of its lines safe to show, the line ends kept.
pub(super) fn lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        out.push_str(&safe_text(line));
    }
    out
}

/// Labels with their values as a JSON object, safe to show; keys in the order of their names.
pub(super) fn labels<'a>(named: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let map: std::collections::BTreeMap<_, _> = named.map(|(name, value)| (safe(name), value)).collect();
    json(&map).unwrap_or_else(|_| "{}".to_owned())
}

/// JSON that is safe to show.
pub(super) fn json<T: serde::Serialize>(value: &T) -> io::Result<String> {
    Ok(safe_json(serde_json::to_string(value)?))
}

/// The word that serde writes for an enum without data.
pub(super) fn word<T: serde::Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
