//! CSV as RFC 4180 has it, for spreadsheets and for whatever reads nothing better: one file a table.
//!
//! A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, and an attacker may have written it: such a
//! text gets an apostrophe in front, as does what stands so behind a separator that another locale splits at. Numbers and
//! times are our own and stay as they are.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use casefile_proto::time::WallTime;

use crate::casefile::CaseFile;

use super::cells::{Cell, Rows};
use super::tables::GROUPS;
use super::{Ask, ExportError, Form, Shape, Target};

/// The form.
pub(super) static FORM: Form = Form {
    name: "csv",
    about: "every table as CSV, for spreadsheets; texts cannot act as formulas",
    then: "head PATH/*.csv",
    shape: Shape::Directory,
    write,
};

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    for group in GROUPS {
        if !(group.there)(casefile) {
            continue;
        }
        let mut files = Files { files: Vec::new(), line: Vec::new(), times: Times::default() };
        for table in group.tables {
            let name = format!("{}.csv", table.name);
            let mut file = target.create(&name)?;
            let header: Vec<_> = table.columns.iter().map(|(column, _)| *column).collect();
            write!(file, "{}\r\n", header.join(",")).map_err(ExportError::write(&name))?;
            files.files.push((name, file, 0));
        }
        (group.fill)(casefile, ask, &mut target.done, &mut files)?;
        for (name, file, rows) in files.files {
            target.finish(&name, file, rows)?;
        }
    }
    Ok(())
}

struct Files {
    files: Vec<(String, BufWriter<File>, u64)>,
    line: Vec<u8>,
    times: Times,
}

/// The texts of times: every series has the same ticks, and a time costs more to write than all else of a row.
#[derive(Default)]
struct Times(HashMap<WallTime, Box<str>>);

impl Times {
    /// Ticks of a quarter of a day at one a second; then it begins anew.
    const MAX: usize = 1 << 14;

    fn text(&mut self, at: WallTime) -> &str {
        if self.0.len() >= Self::MAX && !self.0.contains_key(&at) {
            self.0.clear();
        }
        self.0.entry(at).or_insert_with(|| at.to_string().into())
    }
}

impl Rows for Files {
    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> Result<(), ExportError> {
        let Some((name, file, rows)) = self.files.get_mut(table) else { return Ok(()) };
        self.line.clear();
        record(cells, &mut self.times, &mut self.line);
        *rows += 1;
        file.write_all(&self.line).map_err(ExportError::write(name))
    }
}

/// One line.
fn record(cells: &[Cell<'_>], times: &mut Times, out: &mut Vec<u8>) {
    for (n, cell) in cells.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        // Writing to a vector does not fail.
        let _infallible = match cell {
            Cell::None => Ok(()),
            Cell::Time(at) => out.write_all(times.text(*at).as_bytes()),
            Cell::Integer(number) => write!(out, "{number}"),
            Cell::Real(number) => write!(out, "{number}"),
            Cell::Text(text) => {
                if text.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'_')) || text.is_empty() {
                    quoted(&inert(text), out);
                    Ok(())
                } else {
                    out.write_all(text.as_bytes())
                }
            }
        };
    }
    out.extend_from_slice(b"\r\n");
}

/// What could begin a formula: also the full-width forms, which some spreadsheets read as the others.
const BEGINS: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// The text with an apostrophe before whatever a spreadsheet could take for a formula.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    let mut start = true;
    for (n, c) in text.chars().enumerate() {
        // A tab at the beginning is dropped by spreadsheets before they look.
        if (start && BEGINS.contains(&c)) || (n == 0 && matches!(c, '\t' | '\r')) {
            out.push('\'');
        }
        start = matches!(c, ';' | '\t' | '\n' | '\r') || (start && (c == ' ' || c == '"'));
        out.push(c);
    }
    out
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    let plain = !text.is_empty() && !text.contains(['"', ',', ';', '\r', '\n', '\t']) && !text.starts_with(' ');
    if plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::cells::Table;

    fn tables() -> impl Iterator<Item = &'static Table> {
        GROUPS.iter().flat_map(|group| group.tables)
    }

    fn line(cells: &[Cell<'_>]) -> String {
        let mut out = Vec::new();
        record(cells, &mut Times::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_as_rfc_4180_has_it_and_what_is_missing_is_empty() {
        let cells = [
            Cell::Time(WallTime::from_nanos(1_795_405_450_000_000_001)),
            Cell::None,
            Cell::Text("a \"quoted\", text"),
            Cell::Text(""),
            Cell::Integer(-3),
            Cell::Real(-0.5),
            Cell::Text("two\nlines"),
        ];
        assert_eq!(
            line(&cells),
            "2026-11-23T03:44:10.000000001Z,,\"a \"\"quoted\"\", text\",\"\",-3,-0.5,\"two\nlines\"\r\n"
        );
    }

    #[test]
    fn no_text_is_a_formula_in_any_locale() {
        for (text, shown) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1+2", "'-1+2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t'=1"),
            ("  =1", "  '=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a;=1", "a;'=1"),
            ("a\n=1\n\t@b", "a\n'=1\n\t'@b"),
            ("\"=1", "\"'=1"),
            ("a=b -c @d", "a=b -c @d"),
            ("", ""),
        ] {
            assert_eq!(inert(text), shown, "{text:?}");
        }
    }

    #[test]
    fn tables_and_columns_have_names_of_their_own() {
        let mut names: Vec<_> = tables().map(|table| table.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tables().count());
        for table in tables() {
            let mut columns: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
            columns.sort_unstable();
            columns.dedup();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
        }
    }
}
