//! `casefile show` and `casefile logs`: what is in a case file, for a person.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use casefile_proto::ids::NodeName;
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe_bytes;
use casefile_review::{logs, summary};
use serde::Serialize;

use crate::args::Format;
use crate::{Ended, output};

/// The summary.
pub(crate) fn run(file: &Path, format: Format) -> Result<Ended> {
    let casefile = open(file)?;
    let (incident, coverage) = (&casefile.incident, &casefile.coverage);
    let both =
        serde_json::json!({ "incident": incident, "coverage": coverage, "truncated": casefile.archive.truncated() });
    output::one(format, &both, || {
        let mut text = summary::render(incident, coverage);
        if casefile.archive.truncated() {
            text.insert_str(0, "THIS FILE ENDS EARLY: what is listed may not all be in it.\n\n");
        }
        text
    })?;
    Ok(Ended::Done)
}

/// Opens a case file, with the file named in the error.
pub(crate) fn open(file: &Path) -> Result<CaseFile> {
    CaseFile::open(file).with_context(|| format!("open the case file {}", file.display()))
}

#[derive(Serialize)]
struct Line<'a> {
    node: &'a NodeName,
    source: &'a str,
    entry: &'a str,
    line: u64,
    text: std::borrow::Cow<'a, str>,
}

/// Lines of logs.
pub(crate) fn logs(
    file: &Path,
    node: Option<NodeName>,
    source: Option<String>,
    grep: Option<regex::bytes::Regex>,
    format: Format,
) -> Result<Ended> {
    let mut casefile = open(file)?;
    let mut out = output::Stream::new(format);
    let mut failed = None;
    let mut entry = String::new();
    let found = logs::lines(&mut casefile, &logs::Selector { node, source, grep }, &mut |line| {
        if format == Format::Table && entry != line.entry.as_str() {
            entry = line.entry.to_string();
            if let Err(error) = out.push(&(), || format!("==> {entry} <==")) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        let row = Line {
            node: line.node,
            source: line.source,
            entry: line.entry.as_str(),
            line: line.number,
            text: String::from_utf8_lossy(line.bytes),
        };
        match out.push(&row, || safe_bytes(line.bytes)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    out.finish()?;
    if found == 0 {
        crate::output::talk!("no line matches (casefile show {} says which logs are in it)", file.display());
    }
    Ok(Ended::Done)
}
