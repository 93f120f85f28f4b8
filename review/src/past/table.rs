//! Rows with columns, as text for people and as data: what `vmstat`, `iostat` and `sar` share.
//!
//! As data every value is in its base unit under a name that says it; as text it is what the familiar tool shows.

use casefile_proto::time::WallTime;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Column;
use crate::display::safe;

/// What was not read.
pub const NOTHING: &str = "-";

/// A table of rows.
pub struct Table {
    /// What stands above the subjects: `Device`.
    pub heading: Option<&'static str>,
    /// The columns that it has.
    pub columns: Vec<&'static Column>,
    /// A row for each step and subject, in the order of time.
    pub rows: Vec<Row>,
    /// The same over all steps together: of a gauge the mean. Empty when there is one step.
    pub average: Vec<Row>,
    /// Columns of which nothing was recorded.
    pub left_out: Vec<&'static str>,
    /// When what is recorded begins: in that step a counter has nothing to be compared with.
    pub begins: Option<WallTime>,
}

/// What is said of one subject over one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The begin of the step.
    pub from: WallTime,
    /// Its end, which is not in it.
    pub until: WallTime,
    /// The label that says what it is about, and its value. Text from the node: escape before showing.
    pub subject: Option<(&'static str, String)>,
    /// The values in base units by the key of their column.
    pub values: Vec<(&'static str, Option<f64>)>,
}

impl Row {
    /// Whether anything of it was read.
    pub fn is_read(&self) -> bool {
        self.values.iter().any(|(_, value)| value.is_some())
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("from", &self.from)?;
        map.serialize_entry("until", &self.until)?;
        if let Some((label, value)) = &self.subject {
            map.serialize_entry(label, value)?;
        }
        for (key, value) in &self.values {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// How the rows of a table are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One after the other, each with its time, as `sar` and `vmstat -t` do.
    Lines,
    /// Those of one step together below its time, as `iostat -t` does.
    Blocks,
}

impl Table {
    /// Whether anything of it was read in every step; that in which the recording begins needs not say anything.
    pub fn is_whole(&self) -> bool {
        let steps = self.rows.chunk_by(|a, b| a.until == b.until);
        let mut read =
            steps.map(|step| (step.iter().any(Row::is_read), step.first().is_some_and(|row| self.is_first(row))));
        self.rows.iter().any(Row::is_read) && read.all(|(read, first)| read || first)
    }

    fn is_first(&self, row: &Row) -> bool {
        self.begins.is_some_and(|begins| row.from <= begins && begins < row.until)
    }

    /// The table as text. Steps of which nothing was read are one line.
    pub fn text(&self, layout: Layout) -> String {
        let mut lines = Aligned::new(usize::from(self.heading.is_some()) + 1);
        let mut cells: Vec<Line> = Vec::new();
        for step in self.rows.chunk_by(|a, b| a.until == b.until) {
            let Some(first) = step.first() else { continue };
            match cells.last_mut() {
                _ if step.iter().any(Row::is_read) => {
                    cells.extend(step.iter().map(|row| (None, self.cells(&time(row.until), row))));
                }
                _ if self.is_first(first) => cells.push((Some(Unread::First(first.until)), Vec::new())),
                Some((Some(Unread::Gap(_, until)), _)) => *until = first.until,
                _ => cells.push((Some(Unread::Gap(first.from, first.until)), Vec::new())),
            }
        }
        let average: Vec<_> = self.average.iter().map(|row| self.cells("Average:", row)).collect();
        let mut head = vec![String::new()];
        head.extend(self.heading.map(str::to_owned));
        head.extend(self.columns.iter().map(|column| column.heading.to_owned()));
        let read = cells.iter().filter(|(gap, _)| gap.is_none()).map(|(_, cells)| cells);
        std::iter::once(&head).chain(read).chain(&average).for_each(|row| lines.measure(row));
        match layout {
            Layout::Lines => self.in_lines(&lines, &head, &cells, &average),
            Layout::Blocks => Self::in_blocks(&lines, &head, &cells),
        }
    }

    fn in_lines(&self, lines: &Aligned, head: &[String], cells: &[Line], average: &[Vec<String>]) -> String {
        let mut out = self.groups(lines);
        out.push_str(&lines.line(head));
        for (gap, row) in cells {
            match gap {
                Some(gap) => out.push_str(&nothing_read(*gap)),
                None => out.push_str(&lines.line(row)),
            }
        }
        // One row has nothing to be averaged with.
        if cells.iter().filter(|(gap, _)| gap.is_none()).count() > self.average.len() {
            average.iter().for_each(|row| out.push_str(&lines.line(row)));
        }
        out
    }

    fn in_blocks(lines: &Aligned, head: &[String], cells: &[Line]) -> String {
        let mut out = String::new();
        let mut time = "";
        for (gap, row) in cells {
            let between = if out.is_empty() { "" } else { "\n" };
            match (gap, row.first()) {
                (Some(gap), _) => {
                    out.push_str(between);
                    out.push_str(&nothing_read(*gap));
                }
                (None, Some(at)) => {
                    if at != time {
                        out.extend([between, at, "\n", &lines.line_from(1, head)]);
                        time = at;
                    }
                    out.push_str(&lines.line_from(1, row));
                }
                (None, None) => {}
            }
        }
        out
    }

    fn cells(&self, time: &str, row: &Row) -> Vec<String> {
        let mut out = vec![time.to_owned()];
        out.extend(row.subject.as_ref().map(|(_, value)| safe(value)));
        let shown = |(column, (_, value)): (&&Column, &(_, Option<f64>))| number(*value, column.per, column.decimals);
        out.extend(self.columns.iter().zip(&row.values).map(shown));
        out
    }

    /// `procs -----memory----- ---swap--`, where columns have groups.
    fn groups(&self, lines: &Aligned) -> String {
        let before = 1 + usize::from(self.heading.is_some());
        if self.columns.iter().all(|column| column.group.is_empty()) {
            return String::new();
        }
        let width = |n: usize| lines.widths.get(n).copied().unwrap_or(0);
        let mut out = " ".repeat((0..before).map(|n| width(n) + 1).sum::<usize>());
        let mut n = 0;
        while let Some(first) = self.columns.get(n) {
            let count = self.columns[n..].iter().take_while(|column| column.group == first.group).count();
            let wide = (n..n + count).map(|n| width(before + n) + 1).sum::<usize>() - 1;
            let free = wide.saturating_sub(first.group.len());
            let (left, right) = (free / 2, free - free / 2);
            out.extend([&*"-".repeat(left), first.group, &*"-".repeat(right), " "]);
            n += count;
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// Why a step has no row.
#[derive(Debug, Clone, Copy)]
enum Unread {
    /// In it the recording begins.
    First(WallTime),
    /// Nothing was read from here to there.
    Gap(WallTime, WallTime),
}

/// The cells of a row, or why there is none.
type Line = (Option<Unread>, Vec<String>);

fn nothing_read(unread: Unread) -> String {
    match unread {
        Unread::First(until) => format!("{}  the recording begins\n", time(until)),
        Unread::Gap(from, until) => format!("{}  nothing was read since {}\n", time(until), time(from)),
    }
}

/// `03:11:42Z`: the day stands at the head of what is printed.
pub fn time(at: WallTime) -> String {
    let text = at.to_seconds_text();
    text.split_once('T').map_or(text.clone(), |(_, time)| time.to_owned())
}

/// A number as it is shown; `-` where there is none.
pub fn number(value: Option<f64>, per: f64, decimals: usize) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| format!("{:.decimals$}", value / per))
}

/// Bytes as `df -h` and `top` show them: `47G`, `4.0K`, `0`.
pub fn short_bytes(bytes: f64) -> String {
    let (mut value, mut unit) = (bytes, 0);
    const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 10.0);
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// Columns of one width each: words to the left, numbers to the right.
#[derive(Debug, Default)]
pub struct Aligned {
    /// How many columns at the beginning are words.
    words: usize,
    widths: Vec<usize>,
}

impl Aligned {
    /// With so many columns of words before those of numbers.
    pub fn new(words: usize) -> Self {
        Self { words, widths: Vec::new() }
    }

    /// Makes the columns wide enough for a row.
    pub fn measure(&mut self, row: &[String]) {
        self.widths.resize(self.widths.len().max(row.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// A row as a line.
    pub fn line(&self, row: &[String]) -> String {
        self.line_from(0, row)
    }

    fn line_from(&self, first: usize, row: &[String]) -> String {
        let mut out = String::new();
        for (n, (cell, width)) in row.iter().zip(&self.widths).enumerate().skip(first) {
            if n > first {
                out.push(' ');
            }
            let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
            if n < self.words { out.extend([cell, &*blanks]) } else { out.extend([&*blanks, cell]) }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// A table of words and numbers with its head.
pub fn aligned(words: usize, head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|text| (*text).to_owned()).collect();
    let mut lines = Aligned::new(words);
    std::iter::once(&head).chain(rows).for_each(|row| lines.measure(row));
    std::iter::once(&head).chain(rows).map(|row| lines.line(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short_and_a_number_that_is_none_is_a_dash() {
        for (bytes, text) in
            [(0.0, "0"), (512.0, "512"), (4096.0, "4.0K"), (47e9, "44G"), (1_024_000.0, "1000K"), (1_048_576.0, "1.0M")]
        {
            assert_eq!(short_bytes(bytes), text);
        }
        assert_eq!((number(None, 1.0, 2).as_str(), number(Some(2048.0), 1024.0, 1).as_str()), ("-", "2.0"));
    }
}
