//! `casefile demo`: the recorded demonstration, a synthetic incident that is made here and labelled as what it is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use casefile_review::casefile::CaseFile;
use casefile_review::page::documents::Documents;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::told;

use crate::Ended;
use crate::args::demo::DemoArgs;
use crate::output::{self, talk};
use crate::review;

/// Makes it, looks at it, says what it is.
pub(crate) fn run(args: &DemoArgs) -> Result<Ended> {
    let file = write(args)?;
    let mut casefile = CaseFile::open(&file).context("open the demonstration")?;
    let review = Review::of(&mut casefile, &catalogue().signatures, None).context("look at the demonstration")?;
    talk!("SYNTHETIC: nothing in {} happened anywhere.", file.display());
    output::one(args.output.format, &review.document, || told::verdict(&review, &casefile.incident))?;
    talk!("\nnext:");
    talk!("  casefile timeline {} --least warning", file.display());
    talk!("  casefile show {}", file.display());
    if args.no_page {
        return Ok(Ended::Done);
    }
    let documents = Documents::of(review).context("write the review as JSON")?;
    review::show(casefile, documents, &args.page)
}

fn write(args: &DemoArgs) -> Result<PathBuf> {
    let dir = match &args.into {
        Some(dir) => dir.clone(),
        // A name of its own each time: a well-known one in a directory that all may write to could be anybody's.
        None => tempfile::Builder::new().prefix("casefile-demo-").tempdir().context("make a directory for it")?.keep(),
    };
    casefile_demo::write(&dir).context("make the demonstration")
}
