//! `casefile show`: what is in a case file, for a person.

use std::path::Path;

use anyhow::{Context, Result};
use casefile_review::casefile::CaseFile;
use casefile_review::review::Review;
use casefile_review::{summary, told};

use crate::args::Format;
use crate::{Ended, output};

/// The summary.
pub(crate) fn run(file: &Path, format: Format) -> Result<Ended> {
    let mut casefile = open(file)?;
    // One that is damaged is not shown; casefile verify says so.
    let review = Review::sealed(&mut casefile).unwrap_or_default();
    let (incident, coverage) = (&casefile.incident, &casefile.coverage);
    let both = serde_json::json!({ "incident": incident, "coverage": coverage, "truncated": casefile.entries.truncated(), "verdict": review.as_ref().map(|r| &r.document.verdict) });
    output::one(format, &both, || {
        let mut text = summary::render(incident, coverage);
        if let Some(review) = &review {
            text.insert_str(0, &(told::on_top(review) + "\n"));
        }
        if casefile.entries.truncated() {
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
