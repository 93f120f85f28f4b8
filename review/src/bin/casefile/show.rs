//! `casefile show`: what is in a case file, for a person.

use anyhow::Result;
use casefile_review::review::Review;
use casefile_review::{summary, told};

use crate::args::Format;
use crate::args::source::SourceArgs;
use crate::{Ended, output, source};

/// The summary.
pub(crate) fn run(from: &SourceArgs, format: Format) -> Result<Ended> {
    let mut casefile = source::open(from)?;
    let mut unread = Vec::new();
    let review = Review::sealed(&mut casefile, &mut unread);
    source::tell_unread(&unread);
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
