//! Exports: what a case file holds, in the forms of other people's tools. One file a form; each was tried with the tool that
//! it is for (`tests/exports/run`).
//!
//! Nothing is filled in and nothing invented: what was not read has no row, point or sample. Texts of nodes are made safe for
//! a terminal on their way out, line by line; the bytes themselves stay in the case file, where entry and line find them.
//!
//! How to add one: a file here with a `pub(super) static FORM`, one line in [`ALL`], and its consumer in `tests/exports/run`.

mod cells;
mod csv;
mod openmetrics;
#[cfg(feature = "parquet")]
mod parquet;
mod perfetto;
pub mod postmortem;
mod recorded;
mod tables;
mod timeline;
mod wire;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use regex::Regex;
use serde::Serialize;

use crate::casefile::{CaseFile, CaseFileError};
use crate::review::Review;
use crate::signatures::catalogue::catalogue;

/// Every form, in the order in which they are listed.
pub static ALL: &[&Form] = &[
    #[cfg(feature = "parquet")]
    &parquet::FORM,
    &csv::FORM,
    &openmetrics::FORM,
    &perfetto::FORM,
    &timeline::FORM,
    &postmortem::FORM,
];

/// What is held in memory of what must be sorted, before the disk is used.
const MEMORY: usize = 32 << 20;

/// The form of that name.
pub fn form(name: &str) -> Option<&'static Form> {
    ALL.iter().copied().find(|form| form.name == name)
}

/// A form in which a case file can be exported.
#[derive(Debug)]
pub struct Form {
    /// Its name: what `--to` takes.
    pub name: &'static str,
    /// What it holds, and for whom.
    pub about: &'static str,
    /// What to do with it then: a line to type. `PATH` stands for where it was written.
    pub then: &'static str,
    /// What is written.
    pub shape: Shape,
    /// Writes it.
    write: fn(&mut CaseFile, &Ask, &mut Target) -> Result<(), ExportError>,
}

/// What a form writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One file of this name.
    File(&'static str),
    /// Several files, in a directory of their own.
    Directory,
}

/// What of the case file is wanted; of the empty lists everything.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Of these nodes.
    pub nodes: Vec<NodeName>,
    /// Metrics whose name one of these matches.
    pub metrics: Vec<Regex>,
    /// Of this part of the window, on the collector's clock.
    pub range: Option<Window>,
    /// The most points in forms that are looked at as a whole; `None`: as many as the form thinks good.
    pub max_points: Option<usize>,
}

impl Ask {
    fn wants_node(&self, node: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }

    fn wants_metric(&self, name: &str) -> bool {
        self.metrics.is_empty() || self.metrics.iter().any(|re| re.is_match(name))
    }

    fn wants_time(&self, at: WallTime) -> bool {
        self.range.is_none_or(|range| range.contains(at))
    }

    /// The nodes of a case file that are wanted, in order of name.
    fn nodes_of(&self, casefile: &CaseFile) -> Vec<NodeName> {
        let mut nodes: Vec<_> = casefile.coverage.nodes.iter().map(|n| n.node.clone()).collect();
        nodes.extend(casefile.recordings(None).into_iter().map(|(node, _)| node));
        nodes.sort();
        nodes.dedup();
        nodes.retain(|node| self.wants_node(node));
        nodes
    }
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its name in the directory.
    pub file: String,
    /// What it holds: rows, samples, points, lines.
    pub rows: u64,
}

/// What was written, and what must be said besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The files.
    pub files: Vec<Written>,
    /// Entries of the case file that could not be read to their end, and why.
    pub damaged: Vec<(String, String)>,
    /// What was left out of the export on purpose, and why.
    pub left_out: Vec<String>,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The case file cannot be understood.
    #[error(transparent)]
    CaseFile(#[from] CaseFileError),
    /// The export cannot be written.
    #[error("write {file}")]
    Write {
        /// Which file.
        file: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl ExportError {
    fn write(file: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Write { file: file.to_owned(), source }
    }
}

/// Where a form writes: a directory, new and empty.
#[derive(Debug)]
struct Target {
    dir: PathBuf,
    done: Exported,
}

impl Target {
    /// A new file in it; the directories of its name are made.
    fn create(&self, name: &str) -> Result<BufWriter<File>, ExportError> {
        let parent = self.dir.join(name).parent().map_or(Ok(()), std::fs::create_dir_all);
        parent.map_err(ExportError::write(name))?;
        let file = OpenOptions::new().write(true).create_new(true).open(self.dir.join(name));
        file.map(|file| BufWriter::with_capacity(256 << 10, file)).map_err(ExportError::write(name))
    }

    /// A file is whole.
    fn finish(&mut self, name: &str, mut file: BufWriter<File>, rows: u64) -> Result<(), ExportError> {
        file.flush().map_err(ExportError::write(name))?;
        self.done.files.push(Written { file: name.to_owned(), rows });
        Ok(())
    }

    fn left_out(&mut self, what: impl Into<String>) {
        self.done.left_out.push(what.into());
    }
}

/// Exports a case file into an empty directory. The same case file gives the same bytes.
///
/// # Errors
/// When the directory cannot be written, or what must be sorted cannot be kept. Damage in the case file is no error: what was
/// whole is exported, and the rest named.
pub fn export(casefile: &mut CaseFile, form: &Form, ask: &Ask, dir: &Path) -> Result<Exported, ExportError> {
    let mut target = Target { dir: dir.to_owned(), done: Exported::default() };
    (form.write)(casefile, ask, &mut target)?;
    target.done.damaged.sort();
    target.done.damaged.dedup();
    Ok(target.done)
}

/// What the checks said when the case file was sealed; today's, where it was sealed without or what it has does not parse.
fn reviewed(casefile: &mut CaseFile, done: &mut Exported) -> Result<Review, ExportError> {
    Ok(Review::of_file(casefile, &catalogue().signatures, &mut done.damaged)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_name_of_its_own_and_says_what_it_is_for() {
        let mut names: Vec<_> = ALL.iter().map(|form| form.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for form in ALL {
            assert!(!form.about.is_empty() && form.then.contains("PATH"), "{}", form.name);
            assert!(super::form(form.name).is_some_and(|found| std::ptr::eq(found, *form)));
        }
    }
}
