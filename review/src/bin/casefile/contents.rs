//! `casefile ls`, `cat` and `extract`: the entries themselves.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use casefile_evidence::archive::extract;
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::{Archive, EntryInfo};
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;
use casefile_review::display::safe;
use serde::Serialize;

use crate::args::Format;
use crate::{Ended, output};

#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    size: u64,
}

/// Lists the entries.
pub(crate) fn ls(file: &Path, format: Format) -> Result<Ended> {
    let archive = Archive::open(file, Limits::default())?;
    let rows: Vec<_> = archive.entries().iter().map(row).collect();
    output::list(format, &["SIZE", "ENTRY"], &rows, |r| {
        vec![format!("{:>11}", Bytes(r.size).to_string()), r.path.to_owned()]
    })?;
    if archive.truncated() {
        crate::output::talk!("this file ends early: the last entry may be cut, and others may be missing");
        return Ok(Ended::Damage);
    }
    Ok(Ended::Done)
}

fn row(entry: &EntryInfo) -> Row<'_> {
    Row { path: entry.path.as_str(), size: entry.size }
}

/// Writes one entry to standard output.
pub(crate) fn cat(file: &Path, entry: &EntryPath) -> Result<Ended> {
    let mut archive = Archive::open(file, Limits::default())?;
    let mut read = archive.entry(entry)?;
    let mut out = std::io::stdout().lock();
    std::io::copy(&mut read, &mut out).and_then(|_| out.flush()).with_context(|| format!("write {entry}"))?;
    Ok(Ended::Done)
}

/// Unpacks into a new directory.
pub(crate) fn extract(file: &Path, into: &Path, format: Format) -> Result<Ended> {
    let mut archive = Archive::open(file, Limits::default())?;
    let done = extract::extract(&mut archive, into)?;
    let report = serde_json::json!({ "directory": done.dir, "files": done.files, "bytes": done.bytes, "problems": done.problems });
    output::one(format, &report, || {
        format!("{}: {} files, {}\n", safe(&done.dir.display().to_string()), done.files, Bytes(done.bytes))
    })?;
    for problem in &done.problems {
        let entry = problem.entry.as_deref().unwrap_or("(the file itself)");
        crate::output::talk!("{}: {}", safe(entry), safe(&problem.what));
    }
    Ok(if done.problems.is_empty() { Ended::Done } else { Ended::Damage })
}
